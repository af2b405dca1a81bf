"""How a branch joins the stream it read from: sum, scaled sum (2110.09456), gate (1910.06764), ResiDual (2304.14802).

A residual `prepare`s the stream, giving the branch its input, and then joins the branch's output to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.call import Depth
from x_transformers.errors import FlagError
from x_transformers.flags import Config, Rules, at_most_one, flag, pick

Prepared = tuple[Tensor, Tensor, dict[str, Any]]  # branch input, residual, keywords for joining


class Residual(nn.Module):
    """Stream plus branch, the stream optionally scaled: per feature learned (2110.09456), or by a constant (2203.00555)."""

    def __init__(self, dim: int, scale_residual: bool = False, scale_residual_constant: float = 1.0):
        super().__init__()
        self.residual_scale = nn.Parameter(torch.ones(dim)) if scale_residual else None
        self.scale_residual_constant = scale_residual_constant

    def prepare(self, x: Tensor, depth: Depth | None = None) -> Prepared:
        return x, x, {}

    def forward(self, x: Tensor, residual: Tensor, **_: Any) -> Tensor:
        if self.residual_scale is not None:
            residual = residual * self.residual_scale
        if self.scale_residual_constant != 1:
            residual = residual * self.scale_residual_constant
        return x + residual


class GRUGating(nn.Module):
    """A gated recurrent unit decides what of the branch enters the stream (Parisotto et al. 2019, 1910.06764)."""

    def __init__(self, dim: int, scale_residual: bool = False, **_ignored: object):
        super().__init__()
        self.gru = nn.GRUCell(dim, dim)
        self.residual_scale = nn.Parameter(torch.ones(dim)) if scale_residual else None

    def prepare(self, x: Tensor, depth: Depth | None = None) -> Prepared:
        return x, x, {}

    def forward(self, x: Tensor, residual: Tensor, **_: Any) -> Tensor:
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
            raise TypeError('ResiDual needs the depth of a layer stack to carry its second stream')
        if depth.dual is None:
            depth.dual = self.scale * x
        return x, x, {'depth': depth}

    def forward(self, x: Tensor, residual: Tensor, *, depth: Depth, **_: Any) -> Tensor:  # type: ignore[override]
        assert depth.dual is not None
        depth.dual = depth.dual + self.scale * x
        return super().forward(x, residual)


RESIDUALS: dict[str, Callable[..., nn.Module]] = {'gate_residual': GRUGating, 'resi_dual': ResiDual}


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
    residual_fn_kwargs: dict = flag(
        {}, 'Further keywords for the residual class.', example={'residual_fn_kwargs': {'scale_residual_constant': 0.5}}
    )

    rules: ClassVar[Rules] = (at_most_one('gate_residual', 'resi_dual'),)


def make_residual(cfg: Any, dim: int) -> nn.Module:
    """A new residual of the kind the flags choose."""
    kind: Any = pick(cfg, RESIDUALS, default=Residual)
    own = {'scale': cfg.resi_dual_scale} if kind is ResiDual else {}
    scaling = {'scale_residual': cfg.scale_residual, 'scale_residual_constant': cfg.scale_residual_constant}
    try:
        return kind(dim, **own, **{**scaling, **cfg.residual_fn_kwargs})
    except TypeError as error:
        raise FlagError(f'residual_fn_kwargs={cfg.residual_fn_kwargs!r} do not fit {kind.__name__}: {error}') from error
