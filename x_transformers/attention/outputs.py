"""From weighed values to the layer's output: scales and gates of heads, and the last projection.

Head scale (NormFormer, 2110.09456), gates of heads (2306.12929) and values (AlphaFold2), attention on attention (1908.06954),
LASER's exponential values (2411.03493).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.attention.scores import softclamp
from x_transformers.flags import Config, flag
from x_transformers.precision import single

GATE_OPEN = 10.0  # bias at which a gate starts: sigmoid(10) lets all but everything through


@dataclass(frozen=True, kw_only=True)
class OutputFlags(Config):
    """What happens to attention's result."""

    head_scale: bool = flag(False, 'Learned scale of each head.', paper='2110.09456')
    gate_value_heads: bool = flag(False, 'Tokens gate each head.', paper='2306.12929')
    gate_values: bool = flag(False, 'Tokens gate each feature of the merged heads.', paper='https://doi.org/10.1038/s41586-021-03819-2')
    swiglu_values: bool = flag(
        False, 'That gate is SiLU instead of sigmoid.', paper='2002.05202', example={'gate_values': True, 'swiglu_values': True}
    )
    on_attn: bool = flag(False, 'A gated linear unit as the last projection.', paper='1908.06954')
    laser: bool = flag(False, 'Weigh the exponentials of values, and take the logarithm.', paper='2411.03493')
    laser_softclamp_value: float = flag(
        15.0,
        'Bound of the soft clamp of values before their exponential.',
        paper='2411.03493',
        example={'laser': True, 'laser_softclamp_value': 2.0},
        at_least=1e-6,
    )
    out_bias: bool = flag(False, 'A bias of the last projection.', paper='1810.04805')
    zero_init_output: bool = flag(False, 'Start the last projection at zero.')


class HeadGate(nn.Linear):
    """Scales each head by a sigmoid of the token."""

    def __init__(self, dim: int, heads: int):
        super().__init__(dim, heads)
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, GATE_OPEN)

    def forward(self, out: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        gate = F.linear(x, self.weight, self.bias).sigmoid()
        return out * gate.transpose(1, 2)[..., None]  # b h n d


class ValueGate(nn.Linear):
    """Scales each feature by a sigmoid, or SiLU, of the token."""

    def __init__(self, dim: int, width: int, swiglu: bool):
        super().__init__(dim, width)
        self.activation = F.silu if swiglu else F.sigmoid
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, GATE_OPEN)

    def forward(self, out: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return out * self.activation(F.linear(x, self.weight, self.bias))


LEAST = 1e-20  # of a sum of exponentials, before its logarithm


def laser_values(v: Tensor, bound: float) -> Tensor:
    """What LASER weighs in place of values: in single precision, where that of `v` has not the range of e^-bound to e^bound."""
    return softclamp(v if bound < math.log(torch.finfo(v.dtype).max) else single(v), bound).exp()


def laser_output(out: Tensor) -> Tensor:
    """Back from weighed exponentials."""
    return out.clamp(min=max(LEAST, torch.finfo(out.dtype).tiny)).log()


def naive_laser(weights: Tensor, v: Tensor) -> Tensor:
    """weights (b, h, i, j), v (b, h, j, d) -> (b, h, i, d): the paper's equation 6, a log-sum-exp of weighed values."""
    return torch.logsumexp(weights.log()[..., None] + v[:, :, None], dim=-2)


def make_output(inner: int, dim: int, gated: bool, zero: bool, bias: bool) -> nn.Module:
    """The last projection; attention on attention makes it a gated linear unit."""
    project = nn.Linear(inner, dim * 2 if gated else dim, bias=bias)
    for parameter in project.parameters() if zero else ():
        nn.init.zeros_(parameter)
    return nn.Sequential(project, nn.GLU()) if gated else project
