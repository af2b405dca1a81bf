"""The import path of 2.0.1 for next-token training and generation; `import *` also brings what it brought there."""

from math import ceil

import torch
import torch.nn.functional as F
from einops import pack, rearrange, unpack
from torch import Tensor, nn
from torch.nn import Module

from x_transformers.decoding.prompts import align_right
from x_transformers.decoding.sampling import FILTER_LOGITS_FN, contrastive_decode_fn, min_p, top_a, top_k, top_p
from x_transformers.toolbox import cast_tuple, default, eval_decorator, exists, identity, join
from x_transformers.training.autoregressive import AutoregressiveWrapper

__all__ = [
    'FILTER_LOGITS_FN', 'AutoregressiveWrapper', 'F', 'Module', 'Tensor', 'align_right', 'cast_tuple', 'ceil', 'contrastive_decode_fn',
    'default', 'eval_decorator', 'exists', 'identity', 'join', 'min_p', 'nn', 'pack', 'rearrange', 'top_a', 'top_k', 'top_p', 'torch',
    'unpack',
]  # fmt: skip
