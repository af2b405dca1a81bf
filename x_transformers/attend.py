"""The import path of 2.0.1 for the core of attention."""

from x_transformers.attention.attend import Attend, Intermediates
from x_transformers.attention.normalise import one_hot_straight_through, sparse_topk_attn
from x_transformers.attention.scores import softclamp
from x_transformers.toolbox import at_most_one_of, compact, default, exists, once, pack_one, unpack_one

print_once = once(print)

__all__ = ['Attend', 'Intermediates', 'one_hot_straight_through', 'softclamp', 'sparse_topk_attn']
__all__ += ['at_most_one_of', 'compact', 'default', 'exists', 'once', 'pack_one', 'print_once', 'unpack_one']
