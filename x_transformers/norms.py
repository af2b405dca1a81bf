"""Normalisations and the flags that choose and place them.

LayerNorm (1607.06450) without bias, ScaleNorm (1910.05895), RMSNorm (1910.07467), SimpleRMSNorm (2307.14995), and
adaptive norms, whose gains follow a condition (2212.09748).
Gains are stored as an offset from one when `unit_offset` is set, so that weight decay pulls them to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.errors import InputError
from x_transformers.flags import Config, Rules, at_most_one, demands, excludes, flag, pick

LEAST = {torch.float16: 1e-3}  # length below which a vector counts as zero; 1e-12, torch's own, is none in float16


def unit(x: Tensor) -> Tensor:
    """Unit length of the last axis; zeros stay zeros."""
    return F.normalize(x, dim=-1, eps=LEAST.get(x.dtype, 1e-12))


class LayerNorm(nn.Module):
    """Zero mean and unit variance over features, times a learned gain.

    >>> LayerNorm(32)(torch.randn(2, 8, 32)).shape
    torch.Size([2, 8, 32])
    """

    def __init__(self, dim: int, unit_offset: bool = False):
        super().__init__()
        self.unit_offset = unit_offset
        self.gamma = nn.Parameter(torch.full((dim,), 1.0 - unit_offset))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weight=self.gamma + float(self.unit_offset))


class ScaleNorm(nn.Module):
    """Unit length times one learned number (Nguyen & Salazar 2019, 1910.05895)."""

    def __init__(self, dim: int, unit_offset: bool = False):
        super().__init__()
        self.unit_offset = unit_offset
        self.scale = dim**0.5
        self.g = nn.Parameter(torch.full((1,), 1.0 - unit_offset))

    def forward(self, x: Tensor) -> Tensor:
        return unit(x) * (self.scale * (self.g + float(self.unit_offset)))


class RMSNorm(nn.Module):
    """Unit root mean square times a learned gain (Zhang & Sennrich 2019, 1910.07467)."""

    def __init__(self, dim: int, unit_offset: bool = False):
        super().__init__()
        self.unit_offset = unit_offset
        self.scale = dim**0.5
        self.g = nn.Parameter(torch.full((dim,), 1.0 - unit_offset))

    def forward(self, x: Tensor) -> Tensor:
        return unit(x) * (self.scale * (self.g + float(self.unit_offset)))


class SimpleRMSNorm(nn.Module):
    """Unit root mean square, nothing learned (Qin et al. 2023, 2307.14995)."""

    def __init__(self, dim: int, **_ignored: object):
        super().__init__()
        self.scale = dim**0.5

    def forward(self, x: Tensor) -> Tensor:
        return unit(x) * self.scale


class MultiheadRMSNorm(nn.Module):
    """RMSNorm of (b, heads, n, dim) with gains of each head's own (Dong et al. 2024, 2411.13676)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.rmsnorm = SimpleRMSNorm(dim)
        self.gamma = nn.Parameter(torch.zeros(heads, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.rmsnorm(x) * (self.gamma + 1.0)


class AdaptiveGain(nn.Module):
    """A gain per feature that a condition decides; one at the start (Peebles & Xie 2022, 2212.09748)."""

    def __init__(self, dim: int, dim_condition: int | None = None):
        super().__init__()
        self.to_gamma = nn.Linear(dim_condition or dim, dim, bias=False)
        nn.init.zeros_(self.to_gamma.weight)

    def gain(self, condition: Tensor | None) -> Tensor:
        """(b, dim_condition) or (b, n, dim_condition) to (b, 1, dim) or (b, n, dim)."""
        if condition is None:
            raise InputError(f'{type(self).__name__} needs a condition: give condition=(b, dim_condition) or (b, n, dim_condition)')
        return self.to_gamma(condition[:, None] if condition.ndim == 2 else condition) + 1.0


class AdaptiveLayerNorm(AdaptiveGain):
    """LayerNorm whose gains follow a condition, (b, dim_condition) or (b, n, dim_condition).

    >>> AdaptiveLayerNorm(32, dim_condition=8)(torch.randn(2, 16, 32), condition=torch.randn(2, 8)).shape
    torch.Size([2, 16, 32])
    """

    def forward(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.gain(condition)


class AdaptiveRMSNorm(AdaptiveGain):
    """RMSNorm whose gains follow a condition, (b, dim_condition) or (b, n, dim_condition)."""

    def __init__(self, dim: int, dim_condition: int | None = None):
        super().__init__(dim, dim_condition)
        self.scale = dim**0.5

    def forward(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        return unit(x) * self.scale * self.gain(condition)


class Unchanged(nn.Module):
    """The absent part: gives its first argument back."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        return x


ADAPTIVE_NORMS: dict[str, Callable[..., nn.Module]] = {
    'use_adaptive_layernorm': AdaptiveLayerNorm,
    'use_adaptive_rmsnorm': AdaptiveRMSNorm,
}
NORMS: dict[str, Callable[..., nn.Module]] = {
    'use_scalenorm': ScaleNorm,
    'use_rmsnorm': RMSNorm,
    'use_simple_rmsnorm': SimpleRMSNorm,
    **ADAPTIVE_NORMS,
}


@dataclass(frozen=True, kw_only=True)
class NormFlags(Config):
    """Which norm, and where in a layer it stands."""

    pre_norm: bool = flag(
        True, 'Norm before each branch; False: after each residual, as in 1706.03762.', paper='2002.04745', example={'pre_norm': False}
    )
    pre_norm_has_final_norm: bool = flag(True, 'Accepted as in 2.0.1, where it has no effect: pre-norm stacks always end in a norm.')
    sandwich_norm: bool = flag(False, 'A second norm on the output of each branch.', paper='2105.13290')
    use_scalenorm: bool = flag(False, 'ScaleNorm instead of LayerNorm.', paper='1910.05895')
    use_rmsnorm: bool = flag(False, 'RMSNorm instead of LayerNorm.', paper='1910.07467')
    use_simple_rmsnorm: bool = flag(False, 'RMSNorm without a learned gain.', paper='2307.14995')
    use_adaptive_layernorm: bool = flag(False, 'LayerNorm with gains that follow a condition.', paper='2212.09748', inputs=('condition',))
    use_adaptive_rmsnorm: bool = flag(False, 'RMSNorm with gains that follow a condition.', paper='2212.09748', inputs=('condition',))
    dim_condition: int | None = flag(
        None,
        'Width of the condition; `dim` by default.',
        paper='2212.09748',
        example={'use_adaptive_rmsnorm': True, 'dim_condition': 24},
        inputs=('condition',),
        at_least=1,
    )
    adaptive_condition_mlp: bool = flag(
        False,
        'A linear map and SiLU widen the condition before norms and scales read it.',
        paper='2212.09748',
        example={'use_adaptive_layernorm': True, 'adaptive_condition_mlp': True},
        inputs=('condition',),
    )
    adaptive_condition_mlp_expansion: int = flag(
        4,
        'How many times wider the condition becomes.',
        example={'use_adaptive_layernorm': True, 'adaptive_condition_mlp': True, 'adaptive_condition_mlp_expansion': 2},
        inputs=('condition',),
        at_least=1,
    )
    norm_add_unit_offset: bool = flag(
        True,
        'Store gains as an offset from one.',
        paper='https://medium.com/@ohadrubin/'
        'exploring-weight-decay-in-layer-normalization-challenges-and-a-reparameterization-solution-ad4d12c24950',
        example={'norm_add_unit_offset': False},
    )
    resi_dual: bool = flag(False, 'Post-norm stream beside an un-normed sum of all branches, joined at the end.', paper='2304.14802')
    resi_dual_scale: float = flag(
        1.0,
        'Scale of the un-normed sum, against overflow in half precision.',
        paper='2304.14802',
        example={'resi_dual': True, 'resi_dual_scale': 0.1},
    )

    rules: ClassVar[Rules] = (
        at_most_one(*NORMS),
        demands('sandwich_norm', lambda c: c.pre_norm, 'it adds to the norm before a branch. Leave {prefix}pre_norm=True.'),
        excludes('sandwich_norm', 'resi_dual', 'ResiDual norms the stream after each branch, not the branch. Keep one.'),
        excludes('pre_norm', 'resi_dual', 'ResiDual decides where norms stand. Leave {prefix}pre_norm out.'),
    )

    @property
    def norms_first(self) -> bool:
        """Whether each branch reads a normed stream."""
        return self.pre_norm and not self.resi_dual

    @property
    def adaptive_norms(self) -> bool:
        """Whether norms take a condition."""
        return self.use_adaptive_layernorm or self.use_adaptive_rmsnorm

    @property
    def condition_given(self) -> int:
        """Width of the condition that a user gives."""
        return self.dim_condition or self.dim  # type: ignore[attr-defined]

    @property
    def condition_read(self) -> int:
        """Width of the condition that norms and scales read."""
        return self.condition_given * (self.adaptive_condition_mlp_expansion if self.adaptive_condition_mlp else 1)


def make_norm(cfg: NormFlags, dim: int) -> nn.Module:
    """A new norm of the kind the flags choose."""
    own = {'dim_condition': cfg.condition_read} if cfg.adaptive_norms else {'unit_offset': cfg.norm_add_unit_offset}
    return pick(cfg, NORMS, default=LayerNorm)(dim, **own)


def norm_slots(cfg: NormFlags, dim: int) -> nn.ModuleList:
    """The three places of a layer: before the branch, after the branch, after the residual."""
    wanted = (cfg.norms_first, cfg.sandwich_norm, not cfg.norms_first)
    return nn.ModuleList(make_norm(cfg, dim) if place else Unchanged() for place in wanted)


def followed(adaptive: bool, condition: Tensor | None) -> dict[str, Any]:
    """What norms take besides tokens: adaptive ones the condition, others nothing."""
    return {'condition': condition} if adaptive else {}


def make_condition_mlp(cfg: NormFlags) -> nn.Module:
    """From the condition that is given to the one that norms and scales read."""
    if not cfg.adaptive_condition_mlp:
        return Unchanged()
    return nn.Sequential(nn.Linear(cfg.condition_given, cfg.condition_read, bias=False), nn.SiLU())
