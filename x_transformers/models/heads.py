"""From embeddings to logits, and what is measured on logits and attention scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TiedLogits(nn.Module):
    """Logits by the token embedding's own table (1608.05859). It holds no weight, so copies follow their own model."""

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return F.linear(x, table)


def calc_z_loss(pre_softmax_attns: Sequence[Tensor], mask: Tensor | None = None, weight: float = 1.0) -> Tensor:
    """Mean square of each head's log-sum-exp of scores, summed over layers before squaring and over heads (2202.08906).

    pre_softmax_attns: (b, h, i, j) per layer. mask (b, i): the queries that count.
    """
    total = torch.stack([scores.logsumexp(dim=-1) for scores in pre_softmax_attns]).sum(dim=0)  # b h i
    loss = total.square().sum(dim=1)
    if mask is None:
        return loss.mean() * weight
    return loss.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1e-5) * weight


def calc_entropy(t: Tensor, is_prob: bool = False) -> Tensor:
    """Entropy in nats over the last axis of logits, or of probabilities."""
    prob = t if is_prob else t.softmax(dim=-1)
    return -(prob * prob.clamp(min=1e-20).log()).sum(dim=-1)
