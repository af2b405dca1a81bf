"""The import path of 2.0.1 for filling in masked tokens."""

from x_transformers.models.transformer import TransformerWrapper
from x_transformers.toolbox import default, exists
from x_transformers.training.nonautoregressive import (
    Losses,
    NonAutoregressiveWrapper,
    SelfCritic,
    coin_flip,
    cosine_schedule,
    get_mask_subset_prob,
    gumbel_noise,
    gumbel_sample,
    linear_schedule,
    log,
    sample_prob,
    top_k,
)

__all__ = [
    'Losses', 'NonAutoregressiveWrapper', 'SelfCritic', 'TransformerWrapper', 'coin_flip', 'cosine_schedule', 'default', 'exists',
    'get_mask_subset_prob', 'gumbel_noise', 'gumbel_sample', 'linear_schedule', 'log', 'sample_prob', 'top_k',
]  # fmt: skip
