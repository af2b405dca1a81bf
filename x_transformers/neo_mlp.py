"""The import path of 2.0.1 for NeoMLP."""

from x_transformers.layers import Encoder
from x_transformers.models.neo_mlp import NeoMLP, RandomFourierEmbed
from x_transformers.toolbox import default, exists

__all__ = ['Encoder', 'NeoMLP', 'RandomFourierEmbed', 'default', 'exists']
