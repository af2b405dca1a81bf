"""The import path of 2.0.1 for models over several aligned sequences."""

from x_transformers.layers import AttentionLayers, LayerIntermediates
from x_transformers.models.multi_input import MultiInputTransformerWrapper
from x_transformers.norms import LayerNorm
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding
from x_transformers.toolbox import always, default, exists, is_empty, pad_at_dim

__all__ = [
    'AbsolutePositionalEmbedding', 'AttentionLayers', 'LayerIntermediates', 'LayerNorm', 'MultiInputTransformerWrapper',
    'ScaledSinusoidalEmbedding', 'always', 'default', 'exists', 'is_empty', 'pad_at_dim',
]  # fmt: skip
