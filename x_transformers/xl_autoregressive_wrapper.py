"""The import path of 2.0.1 for training over segments."""

from x_transformers.decoding.sampling import top_k, top_p
from x_transformers.toolbox import divisible_by, eval_decorator, exists
from x_transformers.training.xl import XLAutoregressiveWrapper

__all__ = ['XLAutoregressiveWrapper', 'divisible_by', 'eval_decorator', 'exists', 'top_k', 'top_p']
