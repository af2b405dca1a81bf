"""Data-dependent ALiBi: tokens decide how fast what came before them is forgotten (Forgetting Transformer, 2503.02130).

Each token gives every head a forget gate; the bias of a pair is the sum of the log gates between its two tokens.
Gates are records of the keys, so that a sequence run in pieces sums the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from x_transformers.errors import FlagError
from x_transformers.flags import Config, Rules, demands, flag, keywords_of
from x_transformers.inputs import expect, expect_dtype, expect_settings, expect_sizes
from x_transformers.precision import run_single, single
from x_transformers.toolbox import create_causal_mask


def keywords_taken(cfg: Any) -> dict[str, type]:
    """What the gates of these flags take besides what attention decides."""
    if cfg.data_dependent_alibi_per_row:
        return {'post_log_scale': float}
    return {'bias_init': float, 'post_log_scale': float} if cfg.data_dependent_alibi else {}


@dataclass(frozen=True, kw_only=True)
class ForgettingFlags(Config):
    """Forget gates of self-attention."""

    data_dependent_alibi: bool = flag(False, 'Tokens decide how fast each head forgets.', paper='2503.02130', scope='self')
    data_dependent_alibi_per_row: bool = flag(
        False,
        'Each query has forget gates of its own.',
        paper='2503.02130',
        example={'data_dependent_alibi': True, 'data_dependent_alibi_per_row': True},
        scope='self',
    )
    data_dependent_alibi_per_row_dim_head: int = flag(
        8,
        'Features of the products that make these gates.',
        paper='2503.02130',
        example={'data_dependent_alibi': True, 'data_dependent_alibi_per_row': True, 'data_dependent_alibi_per_row_dim_head': 4},
        scope='self',
        at_least=1,
    )
    data_dependent_alibi_kwargs: dict = flag(
        {},
        'Further keywords for the gates: `bias_init`, `post_log_scale`.',
        paper='2503.02130',
        example={'data_dependent_alibi': True, 'data_dependent_alibi_kwargs': {'post_log_scale': 0.5}},
        scope='self',
    )

    rules: ClassVar[Rules] = (
        keywords_of('data_dependent_alibi_kwargs', keywords_taken),
        demands(
            'data_dependent_alibi_per_row',
            lambda c: c.data_dependent_alibi,
            'it is a kind of forget gates, of which there are none (2.0.1 says nothing). Set {prefix}data_dependent_alibi=True.',
        ),
        demands(
            'data_dependent_alibi_per_row',
            lambda c: c.causal,
            'its gates are sums over the keys before a query. Use a Decoder, causal=True outside of a layer stack, or '
            '{prefix}data_dependent_alibi=True alone.',
        ),
    )


class DataDependentAlibi(nn.Module):
    """A forget gate per token and head; in both directions, where attention looks both ways.

    `forward(x (b, n, dim))` returns the bias (b, heads, n, n): for a key before the query the sum of the log gates
    after the key up to the query; for a later key, of those after the query up to the key.

    >>> DataDependentAlibi(dim=32, heads=4)(torch.randn(2, 8, 32)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, dim: int, heads: int, causal: bool = True, bias_init: float = 5.0, post_log_scale: float = 1.0):
        super().__init__()
        expect_sizes(dim=dim, heads=heads)
        expect_settings(bias_init=bias_init, post_log_scale=post_log_scale, switches={'causal': causal})
        self.dim, self.causal = dim, causal
        self.post_log_scale = post_log_scale
        linear = nn.Linear(dim, heads * (1 if causal else 2))
        nn.init.constant_(linear.bias, bias_init)
        self.to_forget_gates = nn.Sequential(linear, nn.LogSigmoid())

    def forward(self, x: Tensor) -> Tensor:
        expect('x', x, (None, None, self.dim), 'float', f'{type(self).__name__} takes tokens (b, n, dim)')
        expect_dtype('x', x, self)
        return self.bias(x, self.record(x), None)

    def record(self, x: Tensor) -> Tensor:
        """(b, n, dim) -> (b, h or 2 h, n, 1): log gates, in no less than single precision, as they will be summed."""
        return rearrange(run_single(self.to_forget_gates, x) * self.post_log_scale, 'b n h -> b h n 1')

    def bias(self, x: Tensor, gates: Tensor, counts: Tensor | None) -> Tensor:
        """(b, h, i, j) for tokens `x` that are the last of the keys, whose log gates (b, h, j, 1) are given.

        Keys where `counts` (b, j) is False are no tokens: nothing is forgotten there.
        """
        i, kept = x.shape[1], kept_since_first(gates, counts)
        between = lambda t: t[:, :, -i:] - t.transpose(-1, -2)
        if self.causal:
            return between(kept)
        forward, backward = kept.chunk(2, dim=1)
        later = create_causal_mask(i, gates.shape[-2], x.device)
        return torch.where(later, -between(backward), between(forward))

    def factors(self, x: Tensor, gates: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
        """(b, h, i, 2) and (b, h, j, 2), whose products are the bias of causal gates: for kernels that only multiply."""
        kept = kept_since_first(gates, counts)
        ones = torch.ones_like(kept)
        return torch.cat((kept, ones), dim=-1)[:, :, -x.shape[1] :], torch.cat((ones, -kept), dim=-1)


def kept_since_first(gates: Tensor, counts: Tensor | None) -> Tensor:
    """Log gates (b, h, j, 1) summed from the first key on, where `counts` (b, j) does not say that a key is no token."""
    if counts is not None:
        gates = gates.masked_fill(~counts[:, None, :, None], 0.0)
    return gates.cumsum(dim=-2)


class PerRowDataDependentAlibi(nn.Module):
    """A forget gate per pair and head: each query decides for itself what it forgets on the way to a key.

    `forward(x (b, n, dim))` returns the bias (b, heads, n, n): the sum of the query's log gates from the key up to,
    but not including, the query; zero for later keys.

    >>> PerRowDataDependentAlibi(dim=32, heads=4)(torch.randn(2, 8, 32)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, dim: int, heads: int, causal: bool = True, dim_head: int = 8, post_log_scale: float = 1.0):
        super().__init__()
        expect_sizes(dim=dim, heads=heads, dim_head=dim_head)
        expect_settings(post_log_scale=post_log_scale, switches={'causal': causal})
        if not causal:
            raise FlagError('causal=False is not possible with data_dependent_alibi_per_row; use data_dependent_alibi, which has both ways')
        self.dim, self.heads = dim, heads
        self.scale = dim_head**-0.5
        self.post_log_scale = post_log_scale
        self.to_forget_gates = nn.Sequential(nn.Linear(dim, 2 * heads * dim_head, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        expect('x', x, (None, None, self.dim), 'float', f'{type(self).__name__} takes tokens (b, n, dim)')
        expect_dtype('x', x, self)
        return self.bias(x, self.record(x), None)

    def project(self, x: Tensor) -> Tensor:
        """Queries and keys of the gates: (2, b, h, n, d)."""
        return rearrange(self.to_forget_gates(x), 'b n (two h d) -> two b h n d', two=2, h=self.heads)

    def record(self, x: Tensor) -> Tensor:
        """(b, n, dim) -> (b, h, n, d): the keys of the gates."""
        return self.project(x)[1]

    def bias(self, x: Tensor, keys: Tensor, counts: Tensor | None) -> Tensor:
        """As in `DataDependentAlibi`, from the keys of the gates (b, h, j, d)."""
        sim = self.project(x)[0] @ keys.transpose(-1, -2) * self.scale
        gates = F.logsigmoid(single(sim)) * self.post_log_scale
        i, j = sim.shape[-2:]
        gates = gates.tril(j - i - 1)  # only keys before the query
        if counts is not None:
            gates = gates.masked_fill(~counts[:, None, None, :], 0.0)
        return gates.flip(-1).cumsum(dim=-1).flip(-1)


Forgetting = DataDependentAlibi | PerRowDataDependentAlibi


def make_forgetting(cfg: Any) -> Forgetting | None:
    """The forget gates that the flags choose."""
    common = {'dim': cfg.dim, 'heads': cfg.heads, 'causal': cfg.causal}
    if not cfg.data_dependent_alibi:
        return None
    if cfg.data_dependent_alibi_per_row:
        return PerRowDataDependentAlibi(**common, dim_head=cfg.data_dependent_alibi_per_row_dim_head, **cfg.data_dependent_alibi_kwargs)
    return DataDependentAlibi(**common, **cfg.data_dependent_alibi_kwargs)


def naive_forgetting(log_gates: Tensor) -> Tensor:
    """log gates (b, h, n) -> (b, h, n, n): sums from after the key to the query, pair by pair; minus those for later keys."""
    n = log_gates.shape[-1]
    pair = lambda q, k: log_gates[..., k + 1 : q + 1].sum(dim=-1) if k <= q else -log_gates[..., q + 1 : k + 1].sum(dim=-1)
    return torch.stack([torch.stack([pair(q, k) for k in range(n)], dim=-1) for q in range(n)], dim=-2)


def naive_forgetting_per_row(log_gates: Tensor) -> Tensor:
    """log gates of pairs (b, h, n, n) -> (b, h, n, n): row q's sums from the key to before the query; zero for later keys."""
    n = log_gates.shape[-1]
    pair = lambda q, k: log_gates[..., q, k:q].sum(dim=-1)
    return torch.stack([torch.stack([pair(q, k) for k in range(n)], dim=-1) for q in range(n)], dim=-2)
