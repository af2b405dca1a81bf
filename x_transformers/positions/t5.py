"""T5's relative position bias: a learned number per head and bucket of distances (Raffel et al. 2019, 1910.10683)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from x_transformers.errors import FlagError, quoted
from x_transformers.inputs import expect_settings, expect_sizes, whole
from x_transformers.positions.distance import DistanceBias


def t5_bucket(distance: Tensor, causal: bool, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of each distance: exact when near, logarithmic up to `max_distance`; keys ahead have their own half."""
    if causal:
        base, reach = torch.zeros_like(distance), distance.clamp(min=0)
    else:
        num_buckets //= 2
        base, reach = (distance < 0).long() * num_buckets, distance.abs()
    exact = num_buckets // 2
    growth = torch.log(reach.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (growth * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return base + torch.where(reach < exact, reach, far)


class RelativePositionBias(DistanceBias):
    """`scale` times the learned bias of each distance's bucket.

    >>> RelativePositionBias(scale=8.0, causal=True, heads=4)(3, 5).shape
    torch.Size([4, 3, 5])
    """

    in_buckets = True

    def __init__(self, scale: float, causal: bool = False, num_buckets: int = 32, max_distance: int = 128, heads: int = 8):
        super().__init__()
        expect_sizes(heads=heads)
        expect_settings(scale=scale, switches={'causal': causal})
        exact = (whole(num_buckets) or 0) // (2 if causal else 4)
        if not 1 <= exact < (whole(max_distance) or 0):
            raise FlagError(
                f'num_buckets={quoted(num_buckets)} is not possible with max_distance={quoted(max_distance)}: half of the buckets of each '
                'direction are for one distance each, of which there must be one, and fewer than max_distance'
            )
        self.scale = scale
        self.total_heads = heads
        self.causal = causal
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.relative_attention_bias = nn.Embedding(num_buckets, heads)

    def at(self, distance: Tensor) -> Tensor:
        bucket = t5_bucket(distance, self.causal, self.num_buckets, self.max_distance)
        return self.relative_attention_bias(bucket) * self.scale
