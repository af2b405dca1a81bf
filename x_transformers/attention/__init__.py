"""Attention as a pipeline: project, place, remember, score, normalise, put out. One file per verb."""

from x_transformers.attention.attend import Attend, Intermediates
from x_transformers.attention.attention import Attention

__all__ = ['Attend', 'Attention', 'Intermediates']
