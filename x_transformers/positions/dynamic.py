"""Dynamic position bias: a small network from distance to bias (CrossFormer 2108.00154, SwinV2 2111.09883)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from x_transformers.errors import FlagError, quoted
from x_transformers.inputs import expect_settings, expect_sizes, whole
from x_transformers.norms import LayerNorm
from x_transformers.positions.distance import DistanceBias
from x_transformers.precision import run_single


class DynamicPositionBias(DistanceBias):
    """An MLP of the distance, or of its signed logarithm, gives each head its bias.

    >>> DynamicPositionBias(dim=16, heads=4, depth=2)(5, 5).shape
    torch.Size([4, 5, 5])
    """

    def __init__(self, dim: int, *, heads: int, depth: int, log_distance: bool = False, norm: bool = False):
        super().__init__()
        expect_sizes(dim=dim, heads=heads)
        expect_settings(switches={'log_distance': log_distance, 'norm': norm})
        if (whole(depth) or 0) < 1:
            raise FlagError(f'depth={quoted(depth)} is not possible: a dynamic position bias needs at least one hidden layer')
        self.log_distance = log_distance
        self.total_heads = heads
        hidden = lambda width, made: nn.Sequential(nn.Linear(width, dim), made if norm else nn.Identity(), nn.SiLU())
        self.mlp = nn.ModuleList([hidden(1, LayerNorm(dim))])  # 2.0.1 checkpoints: the first norm is bias-free, later ones are not
        self.mlp.extend(hidden(dim, nn.LayerNorm(dim)) for _ in range(depth - 1))
        self.mlp.append(nn.Linear(dim, heads))

    def at(self, distance: Tensor) -> Tensor:
        weight = self.mlp[-1].weight
        t = distance.to(torch.promote_types(weight.dtype, torch.float32))[..., None]  # type: ignore[arg-type]
        if self.log_distance:
            t = t.sign() * torch.log(t.abs() + 1)
        for layer in self.mlp:
            t = run_single(layer, t)
        return t
