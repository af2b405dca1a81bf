"""The import path of 2.0.1 for the core of attention."""

from x_transformers.attention.attend import Attend, Intermediates
from x_transformers.attention.normalise import one_hot_straight_through, sparse_topk_attn
from x_transformers.attention.scores import softclamp

__all__ = ['Attend', 'Intermediates', 'one_hot_straight_through', 'softclamp', 'sparse_topk_attn']
