"""Transformers made of flags: a clean-room successor of x-transformers 2.0.1."""

import torch
from loguru import logger

from x_transformers.attention import Attention
from x_transformers.feedforward import FeedForward
from x_transformers.layers import CrossAttender, Decoder, Encoder, PrefixDecoder
from x_transformers.models.continuous import ContinuousTransformerWrapper
from x_transformers.models.multi_input import MultiInputTransformerWrapper
from x_transformers.models.neo_mlp import NeoMLP
from x_transformers.models.transformer import TransformerWrapper
from x_transformers.models.vision import ViTransformerWrapper
from x_transformers.models.xval import XValTransformerWrapper
from x_transformers.norms import AdaptiveRMSNorm, RMSNorm
from x_transformers.storable import load
from x_transformers.training.autoregressive import AutoregressiveWrapper
from x_transformers.training.continuous import ContinuousAutoregressiveWrapper
from x_transformers.training.dpo import DPO
from x_transformers.training.encoder_decoder import XTransformer
from x_transformers.training.nonautoregressive import NonAutoregressiveWrapper
from x_transformers.training.xl import XLAutoregressiveWrapper
from x_transformers.training.xval import XValAutoregressiveWrapper
from x_transformers.version import __version__, check_torch

check_torch(torch.__version__)
logger.disable('x_transformers')  # a library is silent until asked: logger.enable('x_transformers')

__all__ = [
    'DPO',
    'AdaptiveRMSNorm',
    'Attention',
    'AutoregressiveWrapper',
    'ContinuousAutoregressiveWrapper',
    'ContinuousTransformerWrapper',
    'CrossAttender',
    'Decoder',
    'Encoder',
    'FeedForward',
    'MultiInputTransformerWrapper',
    'NeoMLP',
    'NonAutoregressiveWrapper',
    'PrefixDecoder',
    'RMSNorm',
    'TransformerWrapper',
    'ViTransformerWrapper',
    'XLAutoregressiveWrapper',
    'XTransformer',
    'XValAutoregressiveWrapper',
    'XValTransformerWrapper',
    '__version__',
    'load',
]
