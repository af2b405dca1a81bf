"""The import path of 2.0.1 for next-token training and generation."""

from x_transformers.decoding.generate import align_right
from x_transformers.decoding.sampling import FILTER_LOGITS_FN, contrastive_decode_fn, min_p, top_a, top_k, top_p
from x_transformers.training.autoregressive import AutoregressiveWrapper, eval_decorator

__all__ = [
    'FILTER_LOGITS_FN',
    'AutoregressiveWrapper',
    'align_right',
    'contrastive_decode_fn',
    'eval_decorator',
    'min_p',
    'top_a',
    'top_k',
    'top_p',
]
