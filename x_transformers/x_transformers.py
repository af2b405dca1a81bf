"""The import path of 2.0.1: names from where they live now."""

import torch
import torch.nn.functional as F
from einops import pack, rearrange, reduce, repeat, unpack
from torch import Tensor, einsum, nn
from torch.nn import Module, ModuleDict, ModuleList

from x_transformers.attention import Attend, Attention, Intermediates
from x_transformers.attention.hybrid import FoldAxially
from x_transformers.attention.project import l2norm
from x_transformers.attention.scores import softclamp
from x_transformers.branch import Scale
from x_transformers.context import dropout_seq
from x_transformers.feedforward import GLU, FeedForward, ReluSquared
from x_transformers.layers import AttentionLayers, CrossAttender, Decoder, Encoder, LayerIntermediates, PrefixDecoder
from x_transformers.layerscale import AdaptiveLayerScale, LayerScale
from x_transformers.models.heads import calc_entropy, calc_z_loss
from x_transformers.models.transformer import TransformerWrapper
from x_transformers.models.vision import ViTransformerWrapper
from x_transformers.norms import AdaptiveLayerNorm, AdaptiveRMSNorm, LayerNorm, MultiheadRMSNorm, RMSNorm, ScaleNorm, SimpleRMSNorm
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.cope import CoPE
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding, TokenEmbedding
from x_transformers.positions.forgetting import DataDependentAlibi, PerRowDataDependentAlibi
from x_transformers.positions.rotary import RotaryEmbedding, apply_rotary_pos_emb, rotate_half
from x_transformers.positions.t5 import RelativePositionBias
from x_transformers.residuals import GRUGating, HyperConnection, Residual
from x_transformers.shift import ShiftTokens
from x_transformers.skips import ConcatCombine
from x_transformers.toolbox import (
    LinearNoBias,
    Sequential,
    always,
    at_most_one_of,
    cast_tuple,
    default,
    divisible_by,
    equals,
    exists,
    first,
    group_by_key_prefix,
    group_dict_by_key,
    groupby_prefix_and_trim,
    init_zero_,
    is_empty,
    log,
    masked_mean,
    max_neg_value,
    maybe,
    not_equals,
    or_reduce,
    pad_at_dim,
    pick_and_pop,
    shift,
    string_begins_with,
)
from x_transformers.training.autoregressive import AutoregressiveWrapper
from x_transformers.training.encoder_decoder import XTransformer

DEFAULT_DIM_HEAD = 64

__all__ = [
    'DEFAULT_DIM_HEAD', 'GLU', 'AbsolutePositionalEmbedding', 'AdaptiveLayerNorm', 'AdaptiveLayerScale', 'AdaptiveRMSNorm',
    'AlibiPositionalBias', 'Attend', 'Attention', 'AttentionLayers', 'AutoregressiveWrapper', 'CoPE', 'ConcatCombine', 'CrossAttender',
    'DataDependentAlibi', 'Decoder', 'DynamicPositionBias', 'Encoder', 'FeedForward', 'FoldAxially', 'GRUGating', 'HyperConnection',
    'Intermediates', 'LayerIntermediates', 'LayerNorm', 'LayerScale', 'MultiheadRMSNorm', 'PerRowDataDependentAlibi', 'PrefixDecoder',
    'RMSNorm', 'RelativePositionBias', 'ReluSquared', 'Residual', 'RotaryEmbedding', 'Scale', 'ScaleNorm', 'ScaledSinusoidalEmbedding',
    'ShiftTokens', 'SimpleRMSNorm', 'TokenEmbedding', 'TransformerWrapper', 'ViTransformerWrapper', 'XTransformer',
    'apply_rotary_pos_emb', 'calc_entropy', 'calc_z_loss', 'dropout_seq', 'l2norm', 'rotate_half', 'softclamp',
]  # fmt: skip
__all__ += [  # small functions
    'LinearNoBias', 'Sequential', 'always', 'at_most_one_of', 'cast_tuple', 'default', 'divisible_by', 'equals', 'exists',
    'first', 'group_by_key_prefix', 'group_dict_by_key', 'groupby_prefix_and_trim', 'init_zero_', 'is_empty', 'log', 'masked_mean',
    'max_neg_value', 'maybe', 'not_equals', 'or_reduce', 'pad_at_dim', 'pick_and_pop', 'shift', 'string_begins_with',
]  # fmt: skip
__all__ += [  # names of torch and einops that came along
    'F', 'Module', 'ModuleDict', 'ModuleList', 'Tensor', 'einsum', 'nn', 'pack', 'rearrange', 'reduce', 'repeat', 'torch', 'unpack',
]  # fmt: skip
