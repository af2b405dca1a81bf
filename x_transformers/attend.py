"""The import path of 2.0.1 for the core of attention."""

from x_transformers.attention.attend import Attend, Intermediates
from x_transformers.attention.normalise import one_hot_straight_through, sparse_topk_attn
from x_transformers.attention.scores import qk_l2_dist_squared, selective_attn, softclamp
from x_transformers.toolbox import at_most_one_of, compact, create_causal_mask, default, exists, once, pack_one, unpack_one

print_once = once(print)
onnx_create_causal_mask = create_causal_mask  # here every mask can be exported

__all__ = ['Attend', 'Intermediates', 'one_hot_straight_through', 'qk_l2_dist_squared', 'selective_attn', 'softclamp', 'sparse_topk_attn']
__all__ += ['at_most_one_of', 'compact', 'create_causal_mask', 'default', 'exists', 'once', 'onnx_create_causal_mask', 'pack_one']
__all__ += ['print_once', 'unpack_one']
