"""The import path of 2.0.1 for direct preference optimisation."""

from x_transformers.models.transformer import TransformerWrapper
from x_transformers.toolbox import exists
from x_transformers.training.dpo import DPO, freeze_all_layers_, log_prob_from_model_and_seq, masked_mean, maybe_and_mask

__all__ = [
    'DPO', 'TransformerWrapper', 'exists', 'freeze_all_layers_', 'log_prob_from_model_and_seq', 'masked_mean', 'maybe_and_mask',
]  # fmt: skip
