"""The import path of 2.0.1 for models over vectors."""

from x_transformers.layers import AttentionLayers
from x_transformers.models.continuous import ContinuousTransformerWrapper
from x_transformers.norms import LayerNorm
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding
from x_transformers.toolbox import always, default, exists, masked_mean, pad_at_dim
from x_transformers.training.continuous import ContinuousAutoregressiveWrapper

__all__ = [
    'AbsolutePositionalEmbedding', 'AttentionLayers', 'ContinuousAutoregressiveWrapper', 'ContinuousTransformerWrapper', 'LayerNorm',
    'ScaledSinusoidalEmbedding', 'always', 'default', 'exists', 'masked_mean', 'pad_at_dim',
]  # fmt: skip
