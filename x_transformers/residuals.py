"""How a branch joins the stream it read from: sum, scaled sum (2110.09456), gate (1910.06764), ResiDual (2304.14802),
hyper-connections (2409.19606).

A residual `prepare`s the stream, giving the branch its input, and then joins the branch's output to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from x_transformers.call import Depth
from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.flags import Config, Rules, at_most_one, demands, flag, keywords_of, pick
from x_transformers.inputs import expect, expect_features, expect_settings, expect_sizes, expect_sum, whole

Prepared = tuple[Tensor, Tensor, dict[str, Any]]  # branch input, residual, keywords for joining


class Residual(nn.Module):
    """Stream plus branch, the stream optionally scaled: per feature learned (2110.09456), or by a constant (2203.00555)."""

    def __init__(self, dim: int, scale_residual: bool = False, scale_residual_constant: float = 1.0):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(switches={'scale_residual': scale_residual})
        self.residual_scale = nn.Parameter(torch.ones(dim)) if scale_residual else None
        self.scale_residual_constant = scale_residual_constant

    def prepare(self, x: Tensor, depth: Depth | None = None) -> Prepared:
        return x, x, {}

    def forward(self, x: Tensor, residual: Tensor, **_: Any) -> Tensor:
        expect_sum(x, residual)
        if self.residual_scale is not None:
            residual = residual * self.residual_scale
        if self.scale_residual_constant != 1:
            residual = residual * self.scale_residual_constant
        return x + residual


class GRUGating(nn.Module):
    """A gated recurrent unit decides what of the branch enters the stream (Parisotto et al. 2019, 1910.06764)."""

    def __init__(self, dim: int, scale_residual: bool = False, **_ignored: object):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(switches={'scale_residual': scale_residual})
        self.dim = dim
        self.gru = nn.GRUCell(dim, dim)
        self.residual_scale = nn.Parameter(torch.ones(dim)) if scale_residual else None

    def prepare(self, x: Tensor, depth: Depth | None = None) -> Prepared:
        return x, x, {}

    def forward(self, x: Tensor, residual: Tensor, **_: Any) -> Tensor:
        expect_features(x, self.dim, self)
        if x is not residual:
            expect('residual', residual, tuple(x.shape), 'float', 'it is the stream that x joins')
        if self.residual_scale is not None:
            residual = residual * self.residual_scale
        rows = self.gru(x.flatten(0, -2), residual.flatten(0, -2))  # each token is a row of its own
        return rows.view_as(x)


class ResiDual(Residual):
    """Sum into the normed stream, and beside it into one that is never normed (Xie et al. 2023, 2304.14802).

    x <- LN(x + f(x)) and d <- d + s f(x), with d = s x before the first layer; the norm is the layer's.
    """

    def __init__(self, dim: int, scale: float = 1.0, **scaling: Any):
        super().__init__(dim, **scaling)
        self.scale = scale

    def prepare(self, x: Tensor, depth: Depth | None = None) -> Prepared:
        if depth is None:
            raise InputError('depth is missing: ResiDual carries its second stream in the depth of a layer stack; give prepare(x, depth)')
        if depth.dual is None:
            depth.dual = self.scale * x
        return x, x, {'depth': depth}

    def forward(self, x: Tensor, residual: Tensor, *, depth: Depth, **_: Any) -> Tensor:  # type: ignore[override]
        assert depth.dual is not None
        depth.dual = depth.dual + self.scale * x
        return super().forward(x, residual)


class HyperConnection(nn.Module):
    """Several streams; each branch reads a learned mix of them and is written back to all (Zhu et al. 2024, 2409.19606).

    The stream is (b S, n, dim), S = `num_residual_streams` fastest. For each token the S streams R and their norm N give

        A = a f(N A_dyn) + A_stat  (S, V + S),    B = c f(N b_dyn) + b_stat  (S),    f = tanh

    The first V = `num_input_views` columns of A mix what the branch reads, (b, n, dim) or (V, b, n, dim); the other S
    mix the streams that stay, to which B spreads the output of the branch.
    """

    def __init__(self, dim: int, *, layer_index: int, num_residual_streams: int, num_input_views: int = 1, tanh: bool = True):
        super().__init__()
        expect_sizes(dim=dim, num_residual_streams=num_residual_streams, num_input_views=num_input_views)
        expect_settings(switches={'tanh': tanh})
        if whole(layer_index) is None:
            raise FlagError(f'layer_index={quoted(layer_index)} is not possible: expected the number of the layer')
        s, v = num_residual_streams, num_input_views
        self.dim = dim
        self.num_residual_streams, self.num_input_views = s, v
        self.act = nn.Tanh() if tanh else nn.Identity()
        reads = torch.zeros(s, v)
        reads[layer_index % s] = 1.0

        self.static_beta = nn.Parameter(torch.ones(s))
        self.static_alpha = nn.Parameter(torch.cat((reads, torch.eye(s)), dim=1))
        self.dynamic_alpha_fn = nn.Parameter(torch.zeros(dim, s + v))
        self.dynamic_alpha_scale = nn.Parameter(torch.tensor(1e-2))
        self.dynamic_beta_fn = nn.Parameter(torch.zeros(dim))
        self.dynamic_beta_scale = nn.Parameter(torch.tensor(1e-2))
        self.norm = nn.LayerNorm(dim, bias=False)

    def prepare(self, x: Tensor, depth: Depth | None = None) -> Prepared:
        expect_features(x, self.dim, self)
        if x.ndim != 3 or x.shape[0] % self.num_residual_streams:
            raise InputError(
                f'x has shape {tuple(x.shape)}, expected (b S, n, {self.dim}) with S = num_residual_streams={self.num_residual_streams}'
            )
        streams = rearrange(x, '(b s) n d -> b n s d', s=self.num_residual_streams)
        normed = self.norm(streams)
        alpha = self.act(normed @ self.dynamic_alpha_fn) * self.dynamic_alpha_scale + self.static_alpha  # b n s v+s
        beta = self.act(normed @ self.dynamic_beta_fn) * self.dynamic_beta_scale + self.static_beta  # b n s
        mixed = alpha.transpose(-1, -2) @ streams  # b n v+s d
        views, kept = mixed[..., : self.num_input_views, :], mixed[..., self.num_input_views :, :]
        inputs = views.squeeze(-2) if self.num_input_views == 1 else rearrange(views, 'b n v d -> v b n d')
        return inputs, kept, {'beta': beta}

    def forward(self, x: Tensor, residual: Tensor, *, beta: Tensor) -> Tensor:
        return rearrange(x[:, :, None] * beta[..., None] + residual, 'b n s d -> (b s) n d')


def spread_streams(x: Tensor, stream_emb: Tensor) -> Tensor:
    """(b, n, d) to S streams (b S, n, d), told apart by `stream_emb` (S, d)."""
    return (x[:, None] + stream_emb[:, None]).flatten(0, 1)


def sum_streams(x: Tensor, streams: int) -> Tensor:
    """(b S, n, d) to (b, n, d)."""
    return reduce(x, '(b s) n d -> b n d', 'sum', s=streams) if streams > 1 else x


RESIDUALS: dict[str, Callable[..., nn.Module]] = {'gate_residual': GRUGating, 'resi_dual': ResiDual}
SCALES: dict[str, type] = {'scale_residual': bool, 'scale_residual_constant': float}


def keywords_taken(cfg: Any) -> dict[str, type]:
    """What the residual class of these flags takes besides what a layer stack decides."""
    if cfg.num_residual_streams > 1:
        return {'tanh': bool}
    return {**SCALES, 'scale': float} if cfg.resi_dual else SCALES


@dataclass(frozen=True, kw_only=True)
class ResidualFlags(Config):
    """How branches join the stream."""

    gate_residual: bool = flag(False, 'A GRU cell joins branch and stream.', paper='1910.06764')
    scale_residual: bool = flag(False, 'Learned scale of the stream, per feature.', paper='2110.09456')
    scale_residual_constant: float = flag(
        1.0, 'Constant scale of the stream.', paper='2203.00555', example={'scale_residual_constant': 0.8}
    )
    softclamp_output: bool = flag(False, 'Bound the last stream by a scaled tanh before the final norm.', paper='2408.00118')
    softclamp_output_value: float = flag(
        30.0,
        'Bound of the soft clamp of the stream.',
        paper='2408.00118',
        example={'softclamp_output': True, 'softclamp_output_value': 2.0},
        at_least=1e-6,
    )
    num_residual_streams: int = flag(
        1,
        'So many residual streams, mixed for each branch by learned hyper-connections (in place of scaled residuals).',
        paper='2409.19606',
        example={'num_residual_streams': 2},
        at_least=1,
    )
    qkv_receive_diff_residuals: bool = flag(
        False,
        'Queries, keys and values of self-attention each read a mix of their own.',
        paper='2409.19606',
        example={'num_residual_streams': 2, 'qkv_receive_diff_residuals': True},
    )
    residual_fn_kwargs: dict = flag(
        {}, 'Further keywords for the residual class.', example={'residual_fn_kwargs': {'scale_residual_constant': 0.5}}
    )

    rules: ClassVar[Rules] = (
        at_most_one('gate_residual', 'resi_dual', 'num_residual_streams'),
        keywords_of('residual_fn_kwargs', keywords_taken, 'gate_residual', 'resi_dual', 'num_residual_streams'),
        demands(
            'qkv_receive_diff_residuals',
            lambda c: c.num_residual_streams > 1,
            'with {prefix}num_residual_streams=1 there is nothing to mix. Raise it.',
        ),
    )


def make_residual(cfg: Any, kind: str, index: int) -> nn.Module:
    """A new residual of the kind the flags choose, for the built layer number `index`."""
    make: Any
    if cfg.num_residual_streams > 1:
        views = 3 if kind == 'a' and cfg.qkv_receive_diff_residuals else 1
        make, keywords = HyperConnection, {'layer_index': index, 'num_residual_streams': cfg.num_residual_streams, 'num_input_views': views}
    else:
        make = pick(cfg, RESIDUALS, default=Residual)
        keywords = {'scale_residual': cfg.scale_residual, 'scale_residual_constant': cfg.scale_residual_constant}
        keywords |= {'scale': cfg.resi_dual_scale} if make is ResiDual else {}
    return make(cfg.dim, **{**keywords, **cfg.residual_fn_kwargs})
