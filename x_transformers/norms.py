"""Normalisations and the flags that choose and place them.

LayerNorm (1607.06450) without bias, ScaleNorm (1910.05895), RMSNorm (1910.07467), SimpleRMSNorm (2307.14995).
Gains are stored as an offset from one when `unit_offset` is set, so that weight decay pulls them to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.flags import Config, Rules, at_most_one, demands, excludes, flag, pick


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
        return F.normalize(x, dim=-1) * (self.scale * (self.g + float(self.unit_offset)))


class RMSNorm(nn.Module):
    """Unit root mean square times a learned gain (Zhang & Sennrich 2019, 1910.07467)."""

    def __init__(self, dim: int, unit_offset: bool = False):
        super().__init__()
        self.unit_offset = unit_offset
        self.scale = dim**0.5
        self.g = nn.Parameter(torch.full((dim,), 1.0 - unit_offset))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * (self.scale * (self.g + float(self.unit_offset)))


class SimpleRMSNorm(nn.Module):
    """Unit root mean square, nothing learned (Qin et al. 2023, 2307.14995)."""

    def __init__(self, dim: int, **_ignored: object):
        super().__init__()
        self.scale = dim**0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * self.scale


class MultiheadRMSNorm(nn.Module):
    """RMSNorm with a gain per head: (b, heads, n, dim); the gain is stored as an offset from one."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.rmsnorm = SimpleRMSNorm(dim)
        self.gamma = nn.Parameter(torch.zeros(heads, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.rmsnorm(x) * (self.gamma + 1.0)


class Unchanged(nn.Module):
    """The absent part: gives its first argument back."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        return x


NORMS: dict[str, Callable[..., nn.Module]] = {'use_scalenorm': ScaleNorm, 'use_rmsnorm': RMSNorm, 'use_simple_rmsnorm': SimpleRMSNorm}


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
        demands('sandwich_norm', lambda c: c.pre_norm, 'it adds to the norm before a branch. Leave pre_norm=True.'),
        excludes('sandwich_norm', 'resi_dual', 'ResiDual norms the stream after each branch, not the branch. Keep one.'),
        excludes('pre_norm', 'resi_dual', 'ResiDual decides where norms stand. Leave pre_norm out.'),
    )

    @property
    def norms_first(self) -> bool:
        """Whether each branch reads a normed stream."""
        return self.pre_norm and not self.resi_dual


def make_norm(cfg: NormFlags, dim: int) -> nn.Module:
    """A new norm of the kind the flags choose."""
    return pick(cfg, NORMS, default=LayerNorm)(dim, unit_offset=cfg.norm_add_unit_offset)


def norm_slots(cfg: NormFlags, dim: int) -> nn.ModuleList:
    """The three places of a layer: before the branch, after the branch, after the residual."""
    wanted = (cfg.norms_first, cfg.sandwich_norm, not cfg.norms_first)
    return nn.ModuleList(make_norm(cfg, dim) if place else Unchanged() for place in wanted)
