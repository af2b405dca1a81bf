"""Transformers made of flags: a clean-room successor of x-transformers 2.0.1."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from loguru import logger

from x_transformers.attention import Attention
from x_transformers.feedforward import FeedForward
from x_transformers.layers import CrossAttender, Decoder, Encoder, PrefixDecoder
from x_transformers.models.transformer import TransformerWrapper
from x_transformers.norms import AdaptiveRMSNorm, RMSNorm
from x_transformers.storable import load
from x_transformers.training.autoregressive import AutoregressiveWrapper
from x_transformers.version import __version__, check_torch

if TYPE_CHECKING:
    from x_transformers.models.continuous import ContinuousTransformerWrapper
    from x_transformers.models.multi_input import MultiInputTransformerWrapper
    from x_transformers.models.neo_mlp import NeoMLP
    from x_transformers.models.vision import ViTransformerWrapper
    from x_transformers.models.xval import XValTransformerWrapper
    from x_transformers.training.continuous import ContinuousAutoregressiveWrapper
    from x_transformers.training.dpo import DPO
    from x_transformers.training.encoder_decoder import XTransformer
    from x_transformers.training.nonautoregressive import NonAutoregressiveWrapper
    from x_transformers.training.xl import XLAutoregressiveWrapper
    from x_transformers.training.xval import XValAutoregressiveWrapper

check_torch(torch.__version__)
logger.disable('x_transformers')  # a library is silent until asked: logger.enable('x_transformers')

WHEN_ASKED = {  # imported when somebody asks for the name: most programs need none of them, and they are a fifth of the time
    'ContinuousAutoregressiveWrapper': 'training.continuous',
    'ContinuousTransformerWrapper': 'models.continuous',
    'DPO': 'training.dpo',
    'MultiInputTransformerWrapper': 'models.multi_input',
    'NeoMLP': 'models.neo_mlp',
    'NonAutoregressiveWrapper': 'training.nonautoregressive',
    'ViTransformerWrapper': 'models.vision',
    'XLAutoregressiveWrapper': 'training.xl',
    'XTransformer': 'training.encoder_decoder',
    'XValAutoregressiveWrapper': 'training.xval',
    'XValTransformerWrapper': 'models.xval',
}


def __getattr__(name: str) -> Any:
    if name not in WHEN_ASKED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = found = getattr(import_module(f'{__name__}.{WHEN_ASKED[name]}'), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
