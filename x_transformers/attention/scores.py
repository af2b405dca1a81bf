"""Edits of the score matrix, between query-key products and their normalisation.

Talking heads (2003.02436), residual attention (2012.11747), soft clamp (2408.00118), distances for products (2006.04710),
selective attention (2410.02703).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.attention.project import group_queries
from x_transformers.call import Span
from x_transformers.errors import InputError, quoted
from x_transformers.flags import Config, Rules, demands, flag
from x_transformers.inputs import expect_numbers
from x_transformers.precision import no_autocast, single

MATRIX = 'it rewrites the score matrix, which fused kernels never form'


@dataclass(frozen=True, kw_only=True)
class ScoreFlags(Config):
    """What happens to scores before they are normalised."""

    scale: float | None = flag(
        None,
        'What products of queries and keys are multiplied by; dim_head ** -0.5 by default.',
        paper='1706.03762',
        example={'scale': 0.5},
        at_least=1e-9,
        at_most=1e9,
    )
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
    selective: bool = flag(
        False, 'Tokens tell all later ones what they need not attend to.', paper='2410.02703', unfusable=MATRIX, scope='self'
    )

    rules: ClassVar[Rules] = (
        demands(
            'selective',
            lambda c: c.causal,
            'tokens deselect keys for those that come after them. Use a Decoder, or causal=True outside of a layer stack.',
        ),
    )


class HeadMix(nn.Conv2d):
    """A map across heads (b, h, i, j) that starts as the identity; it keeps the precision of what it mixes."""

    def __init__(self, heads: int):
        super().__init__(heads, heads, 1, bias=False)
        nn.init.dirac_(self.weight)

    def forward(self, t: Tensor) -> Tensor:
        with no_autocast(t):
            return F.conv2d(t, self.weight.to(t.dtype))


def softclamp(t: Tensor, value: float) -> Tensor:
    """`t` bounded smoothly by `value` on both sides."""
    expect_numbers('t', t)
    if not (isinstance(value, (int, float)) and 0 < value < 1e18 or isinstance(value, Tensor) and value.numel() == 1):
        raise InputError(f'value={quoted(value)} is not possible; expected a bound above 0')
    return (t / value).tanh() * value


@dataclass
class Selection:
    """What selective attention needs to know of the keys, and what it tells of them."""

    exempt: Tensor  # (b|1, 1, i|1, j) bool: keys that a query cannot deselect: memory, the first token, the query itself
    deselected: Tensor | None = None  # (b, 1, j, 1) by queries of earlier calls; afterwards by those of this call as well


def selection_of(queries: Span, keys: Span, begins: Tensor | None, lead: int, device: torch.device) -> Selection:
    """For queries on keys of which the first `lead` belong to no token; memory has a negative order."""
    k, begin = keys.order(device), begins if keys.document is None else keys.document
    first = 0 if begin is None else begin.reshape(len(begin), 1, 1, -1)
    exempt = (k <= first) | (k >= queries.order(device)[:, None])
    return Selection(F.pad(exempt[(None,) * (4 - exempt.ndim)], (lead, 0), value=True))


def select(sim: Tensor, selection: Selection) -> Tensor:
    """Scores (b, h, i, j) less what earlier queries deselected: the first head's positive scores (2410.02703, §3)."""
    by_query = sim[:, :1].relu().masked_fill(selection.exempt, 0.0)
    before = F.pad(by_query, (0, 0, 1, -1)).cumsum(dim=-2)
    total = by_query.sum(dim=-2)[..., None]  # b 1 j 1
    if selection.deselected is not None:
        before = before + selection.deselected.transpose(-1, -2)
        total = total + selection.deselected
    selection.deselected = total
    return sim - before


def selective_attn(sim: Tensor) -> Tensor:
    """`select` for causal scores (b, h, i, j) whose queries are the last of the keys; earlier keys are memory."""
    i, j = sim.shape[-2:]
    return select(sim, selection_of(Span(0, i), Span(i - j, j), None, 0, sim.device))


def naive_select(sim: Tensor) -> Tensor:
    """The same for a whole sequence (b, h, n, n) of scores, pair by pair: the twin written to be read."""
    out = sim.clone()
    n = sim.shape[-1]
    for i in range(n):
        for j in range(1, i):  # the first token is never deselected
            for query in range(j + 1, i):  # nor does a token deselect itself
                out[:, :, i, j] = out[:, :, i, j] - sim[:, :1, query, j].relu()
    return out


def products(q: Tensor, k: Tensor) -> Tensor:
    """q (b, h, i, d), k (b, g, j, d) -> (b, h, i, j)."""
    if q.shape[1] == k.shape[1]:
        return q @ k.transpose(-1, -2)
    return (group_queries(q, k.shape[1]) @ k[:, None].transpose(-1, -2)).flatten(1, 2)


def negative_squared_distances(q: Tensor, k: Tensor) -> Tensor:
    """-|q - k|^2 for every pair, shapes as in `products`, in no less than single precision: it is a difference of large numbers."""
    q_square = single(q).square().sum(dim=-1, keepdim=True)
    k_square = single(k).square().sum(dim=-1)[:, None].repeat(1, q.shape[1] // k.shape[1], 1, 1).flatten(1, 2)[:, :, None]
    distance = q_square + k_square - 2 * products(q, k)
    return -distance.clamp(min=0)


def qk_l2_dist_squared(q: Tensor, k: Tensor) -> Tensor:
    """|q - k|^2 for every pair, shapes as in `products`."""
    return -negative_squared_distances(q, k).to(q.dtype)


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
