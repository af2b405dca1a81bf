"""Normalisations and the flags that choose and place them.

LayerNorm (1607.06450), ScaleNorm (1910.05895), RMSNorm (1910.07467), SimpleRMSNorm (2307.14995), and adaptive norms,
whose gains follow a condition (2212.09748).
Gains are stored as an offset from one when `unit_offset` is set, so that weight decay pulls them to one.
`eps` joins the mean of squares under the root. Without one, LayerNorm's is 1e-5, and norms by length divide by the length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.flags import Config, Rules, at_most_one, demands, excludes, flag, pick
from x_transformers.inputs import expect_condition, expect_features, expect_settings, expect_sizes, within
from x_transformers.precision import at_length, at_square

LAYER_NORM_EPS = 1e-5
LEAST_EPS = 1e-12  # of less, the gradient of a row of zeros would leave single precision


def expect_eps(eps: float | None) -> None:
    """What is added under the root of a norm, if anything is."""
    if eps is not None and (isinstance(eps, Tensor) or not within(eps, LEAST_EPS)):
        raise FlagError(f'eps={quoted(eps)} is not possible: expected a number of at least {LEAST_EPS}, or None')


def unit_square(x: Tensor, scale: float, eps: float | None) -> Tensor:
    """Unit root mean square; `scale` is the root of the number of features."""
    return at_length(x, scale) if eps is None else at_square(x, eps)


class LayerNorm(nn.Module):
    """Zero mean and unit variance over features, times a learned gain, plus a learned bias with `bias`.

    >>> LayerNorm(32)(torch.randn(2, 8, 32)).shape
    torch.Size([2, 8, 32])
    """

    def __init__(self, dim: int, unit_offset: bool = False, *, eps: float | None = None, bias: bool = False):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(switches={'unit_offset': unit_offset, 'bias': bias})
        expect_eps(eps)
        self.dim, self.unit_offset = dim, unit_offset
        self.eps = LAYER_NORM_EPS if eps is None else eps
        self.gamma = nn.Parameter(torch.full((dim,), 1.0 - unit_offset))
        self.beta = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        expect_features(x, self.dim, self)
        gain = self.gamma + 1.0 if self.unit_offset else self.gamma
        return torch.layer_norm(x, x.shape[-1:], gain, self.beta, self.eps)  # F.layer_norm asks Python first


class ScaleNorm(nn.Module):
    """Unit length times one learned number (Nguyen & Salazar 2019, 1910.05895)."""

    def __init__(self, dim: int, unit_offset: bool = False, *, eps: float | None = None):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(switches={'unit_offset': unit_offset})
        expect_eps(eps)
        self.dim, self.unit_offset, self.scale, self.eps = dim, unit_offset, dim**0.5, eps
        self.g = nn.Parameter(torch.full((1,), 1.0 - unit_offset))

    def forward(self, x: Tensor) -> Tensor:
        expect_features(x, self.dim, self)
        return unit_square(x, self.scale, self.eps) * (self.g + 1.0 if self.unit_offset else self.g)


class RMSNorm(nn.Module):
    """Unit root mean square times a learned gain (Zhang & Sennrich 2019, 1910.07467)."""

    def __init__(self, dim: int, unit_offset: bool = False, *, eps: float | None = None):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(switches={'unit_offset': unit_offset})
        expect_eps(eps)
        self.dim, self.unit_offset, self.scale, self.eps = dim, unit_offset, dim**0.5, eps
        self.g = nn.Parameter(torch.full((dim,), 1.0 - unit_offset))

    def forward(self, x: Tensor) -> Tensor:
        expect_features(x, self.dim, self)
        return unit_square(x, self.scale, self.eps) * (self.g + 1.0 if self.unit_offset else self.g)


class SimpleRMSNorm(nn.Module):
    """Unit root mean square, nothing learned (Qin et al. 2023, 2307.14995)."""

    def __init__(self, dim: int, *, eps: float | None = None, **_ignored: object):
        super().__init__()
        expect_sizes(dim=dim)
        expect_eps(eps)
        self.dim, self.scale, self.eps = dim, dim**0.5, eps

    def forward(self, x: Tensor) -> Tensor:
        expect_features(x, self.dim, self)
        return unit_square(x, self.scale, self.eps)


class MultiheadRMSNorm(nn.Module):
    """RMSNorm of (b, heads, n, dim) with gains of each head's own (Dong et al. 2024, 2411.13676)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        expect_sizes(dim=dim, heads=heads)
        self.rmsnorm = SimpleRMSNorm(dim)
        self.gamma = nn.Parameter(torch.zeros(heads, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.rmsnorm(x) * (self.gamma + 1.0)


class AdaptiveGain(nn.Module):
    """A gain per feature that a condition decides; one at the start (Peebles & Xie 2022, 2212.09748)."""

    def __init__(self, dim: int, dim_condition: int | None = None, *, eps: float | None = None):
        super().__init__()
        dim_condition = dim if dim_condition is None else dim_condition
        expect_sizes(dim=dim, dim_condition=dim_condition)
        expect_eps(eps)
        self.dim, self.dim_condition, self.eps = dim, dim_condition, eps
        self.to_gamma = nn.Linear(self.dim_condition, dim, bias=False)
        nn.init.zeros_(self.to_gamma.weight)

    def gain(self, condition: Tensor | None, x: Tensor) -> Tensor:
        """(b, dim_condition) or (b, n, dim_condition) to (b, 1, dim) or (b, n, dim)."""
        if condition is None:
            raise InputError(f'{type(self).__name__} needs a condition: give condition=(b, dim_condition) or (b, n, dim_condition)')
        expect_condition(condition, self.dim_condition, self, x)
        return self.to_gamma(condition[:, None] if condition.ndim == 2 else condition) + 1.0


class AdaptiveLayerNorm(AdaptiveGain):
    """LayerNorm whose gains follow a condition, (b, dim_condition) or (b, n, dim_condition).

    >>> AdaptiveLayerNorm(32, dim_condition=8)(torch.randn(2, 16, 32), condition=torch.randn(2, 8)).shape
    torch.Size([2, 16, 32])
    """

    def forward(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        expect_features(x, self.dim, self)
        return F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS if self.eps is None else self.eps) * self.gain(condition, x)


class AdaptiveRMSNorm(AdaptiveGain):
    """RMSNorm whose gains follow a condition, (b, dim_condition) or (b, n, dim_condition)."""

    def __init__(self, dim: int, dim_condition: int | None = None, *, eps: float | None = None):
        super().__init__(dim, dim_condition, eps=eps)
        self.scale = dim**0.5

    def forward(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        expect_features(x, self.dim, self)
        return unit_square(x, self.scale, self.eps) * self.gain(condition, x)


class Unchanged(nn.Module):
    """The absent part: gives its first argument back."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        return x


def part(module: nn.Module, x: Tensor, *more: Any, **given: Any) -> Tensor:
    """`module(x, *more, **given)`; absent parts are not even called, unless somebody looks on."""
    if type(module) is not Unchanged or module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return module(x, *more, **given)
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
    norm_first_layer: bool = flag(
        True,
        'Whether the first layer norms what it reads; False where embeddings are normed already.',
        paper='2412.13663',
        example={'norm_first_layer': False},
    )
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
    norm_eps: float | None = flag(
        None,
        'What norms add to the mean of squares under the root; by default 1e-5 in LayerNorm, and nothing in others.',
        paper='1607.06450',
        example={'norm_eps': 0.1},
        at_least=LEAST_EPS,
        at_most=1e6,
    )
    norm_bias: bool = flag(False, 'A learned bias in LayerNorm.', paper='1607.06450')
    resi_dual: bool = flag(False, 'Post-norm stream beside an un-normed sum of all branches, joined at the end.', paper='2304.14802')
    resi_dual_scale: float = flag(
        1.0,
        'Scale of the un-normed sum, against overflow in half precision.',
        paper='2304.14802',
        example={'resi_dual': True, 'resi_dual_scale': 0.1},
    )

    rules: ClassVar[Rules] = (
        at_most_one(*NORMS),
        *(excludes('norm_bias', other, 'only LayerNorm has a bias. Leave one out.') for other in NORMS),
        demands('sandwich_norm', lambda c: c.pre_norm, 'it adds to the norm before a branch. Leave {prefix}pre_norm=True.'),
        excludes('sandwich_norm', 'resi_dual', 'ResiDual norms the stream after each branch, not the branch. Keep one.'),
        *(
            excludes(
                'norm_first_layer',
                other,
                'norms stand behind branches, and there is none to leave out. Leave {prefix}norm_first_layer out.',
            )
            for other in ('pre_norm', 'resi_dual')
        ),
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
    own |= {'bias': True} if cfg.norm_bias else {}
    return pick(cfg, NORMS, default=LayerNorm)(dim, eps=cfg.norm_eps, **own)


def make_layer_norm(cfg: NormFlags, dim: int) -> LayerNorm:
    """A LayerNorm beside the stream, as the flags of the stream's norms have it."""
    return LayerNorm(dim, eps=cfg.norm_eps, bias=cfg.norm_bias)


def norm_slots(cfg: NormFlags, dim: int, before: bool = True) -> nn.ModuleList:
    """The three places of a layer: before the branch (unless it has none), after the branch, after the residual."""
    wanted = (cfg.norms_first and before, cfg.sandwich_norm, not cfg.norms_first)
    return nn.ModuleList(make_norm(cfg, dim) if place else Unchanged() for place in wanted)


def followed(adaptive: bool, condition: Tensor | None) -> dict[str, Any]:
    """What norms take besides tokens: adaptive ones the condition, others nothing."""
    return {'condition': condition} if adaptive else {}


def make_condition_mlp(cfg: NormFlags) -> nn.Module:
    """From the condition that is given to the one that norms and scales read."""
    if not cfg.adaptive_condition_mlp:
        return Unchanged()
    return nn.Sequential(nn.Linear(cfg.condition_given, cfg.condition_read, bias=False), nn.SiLU())
