"""Edits of the score matrix, between query-key products and their normalisation.

Talking heads (2003.02436), residual attention (2012.11747), soft clamp (2408.00118), distances for products (2006.04710).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from x_transformers.flags import Config, flag

MATRIX = 'it rewrites the score matrix, which fused kernels never form'


@dataclass(frozen=True, kw_only=True)
class ScoreFlags(Config):
    """What happens to scores before they are normalised."""

    pre_talking_heads: bool = flag(False, 'Mix scores across heads.', paper='2003.02436', unfusable=MATRIX)
    softclamp_logits: bool = flag(False, 'Bound scores by a scaled tanh.', paper='2408.00118', unfusable=MATRIX)
    logit_softclamp_value: float = flag(
        50.0,
        'Bound of the soft clamp of scores.',
        paper='2408.00118',
        example={'softclamp_logits': True, 'logit_softclamp_value': 1.0},
        at_least=1e-6,
    )
    l2_distance: bool = flag(False, 'Negative squared distance of query and key instead of their product.', paper='2006.04710')


def mix_heads(heads: int) -> nn.Conv2d:
    """A map across heads that starts as the identity."""
    mixer = nn.Conv2d(heads, heads, 1, bias=False)
    nn.init.dirac_(mixer.weight)
    return mixer


def softclamp(t: Tensor, value: float) -> Tensor:
    """`t` bounded smoothly by `value` on both sides."""
    return (t / value).tanh() * value


def group_queries(q: Tensor, groups: int) -> Tensor:
    """(b, h, i, d) -> (b, h / g, g, i, d). Query head r shares key head r mod g: 2.0.1 checkpoints depend on it."""
    return rearrange(q, 'b (r g) i d -> b r g i d', g=groups)


def products(q: Tensor, k: Tensor) -> Tensor:
    """q (b, h, i, d), k (b, g, j, d) -> (b, h, i, j)."""
    if q.shape[1] == k.shape[1]:
        return q @ k.transpose(-1, -2)
    return (group_queries(q, k.shape[1]) @ k[:, None].transpose(-1, -2)).flatten(1, 2)


def negative_squared_distances(q: Tensor, k: Tensor) -> Tensor:
    """-|q - k|^2 for every pair, shapes as in `products`."""
    q_square = q.square().sum(dim=-1, keepdim=True)
    k_square = k.square().sum(dim=-1)[:, None].repeat(1, q.shape[1] // k.shape[1], 1, 1).flatten(1, 2)[:, :, None]
    distance = q_square + k_square - 2 * products(q, k)
    return -distance.clamp(min=0)


def with_distance_features(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys whose products are half the negative squared distances: for kernels that only multiply."""
    ones = lambda t: torch.ones_like(t[..., :1])
    half = lambda t: -0.5 * t.square().sum(dim=-1, keepdim=True)
    return torch.cat((q, half(q), ones(q)), dim=-1), torch.cat((k, ones(k), half(k)), dim=-1)


def weigh(weights: Tensor, v: Tensor) -> Tensor:
    """weights (b, h, i, j), v (b, g, j, d) -> (b, h, i, d)."""
    if weights.shape[1] == v.shape[1]:
        return weights @ v
    return (group_queries(weights, v.shape[1]) @ v[:, None]).flatten(1, 2)
