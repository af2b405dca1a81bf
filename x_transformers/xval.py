"""The import path of 2.0.1 for models over tokens and numbers."""

from x_transformers.decoding.sampling import top_k, top_p
from x_transformers.layers import AttentionLayers
from x_transformers.models.xval import XValTransformerWrapper
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding, TokenEmbedding
from x_transformers.toolbox import always, default, exists
from x_transformers.training.xval import GenerateReturn, LossBreakdown, XValAutoregressiveWrapper

__all__ = [
    'AbsolutePositionalEmbedding', 'AttentionLayers', 'GenerateReturn', 'LossBreakdown', 'ScaledSinusoidalEmbedding', 'TokenEmbedding',
    'XValAutoregressiveWrapper', 'XValTransformerWrapper', 'always', 'default', 'exists', 'top_k', 'top_p',
]  # fmt: skip
