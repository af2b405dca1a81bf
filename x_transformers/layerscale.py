"""Layer scale: the output of a branch times a gain per feature, learned (2103.17239) or decided by a condition (2212.09748)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.branch import run_branch, scaled, takes_call
from x_transformers.call import Call, Depth
from x_transformers.errors import InputError
from x_transformers.flags import Config, Rules, at_most_one, flag
from x_transformers.inputs import expect_condition, expect_features, expect_settings, expect_sizes


@dataclass(frozen=True, kw_only=True)
class LayerScaleFlags(Config):
    """Gains on the output of branches."""

    use_layerscale: bool = flag(False, 'Learned gain per feature on the output of each branch.', paper='2103.17239')
    layerscale_init_value: float = flag(
        0.0, 'What those gains start from.', paper='2103.17239', example={'use_layerscale': True, 'layerscale_init_value': 0.1}
    )
    use_adaptive_layerscale: bool = flag(
        False, 'Gain per feature on the output of each branch, decided by a condition.', paper='2212.09748', inputs=('condition',)
    )

    rules: ClassVar[Rules] = (at_most_one('use_layerscale', 'use_adaptive_layerscale'),)


class LayerScale(nn.Module):
    """`fn` times a learned gain per feature (Touvron et al. 2021, 2103.17239); of a tuple, only its first element.

    >>> LayerScale(nn.Linear(32, 32), 32, init_value=0.1)(torch.randn(2, 8, 32)).shape
    torch.Size([2, 8, 32])
    """

    def __init__(self, fn: nn.Module, dim: int, init_value: float = 0.0, unit_offset: bool = False):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(init_value=init_value, switches={'unit_offset': unit_offset})
        self.fn = fn
        self.unit_offset = unit_offset
        self.gamma = nn.Parameter(torch.full((dim,), init_value - float(unit_offset)))

    @property
    def takes_call(self) -> bool:
        return takes_call(self.fn)

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        expect_features(x, len(self.gamma), self)
        return scaled(self.fn(x, **kwargs), self.gamma + float(self.unit_offset))


class AdaptiveLayerScale(nn.Module):
    """`fn` times a gain between 0 and 1 that a condition decides (Peebles & Xie 2022, 2212.09748).

    Alone, `forward(x (b, n, dim), condition=(b, dim_condition) or (b, n, dim_condition), **kwargs)`; of a tuple that
    `fn` returns, only the first element is scaled. In a layer stack the condition comes with the call.
    """

    takes_call = True

    def __init__(self, fn: nn.Module, dim: int, dim_condition: int | None = None, init_bias_value: float = -2.0):
        super().__init__()
        self.fn = fn
        dim_condition = dim if dim_condition is None else dim_condition
        expect_sizes(dim=dim, dim_condition=dim_condition)
        expect_settings(init_bias_value=init_bias_value)
        self.dim, self.dim_condition = dim, dim_condition
        self.to_gamma = nn.Linear(self.dim_condition, dim)
        nn.init.zeros_(self.to_gamma.weight)
        nn.init.constant_(self.to_gamma.bias, init_bias_value)

    def forward(
        self,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        call: Call | None = None,
        depth: Depth | None = None,
        state: Any = None,
        **kwargs: Any,
    ) -> Any:
        if call is None:
            expect_features(x, self.dim, self)
            return scaled(self.fn(x, **kwargs), self.gain(condition, x))
        return scaled(run_branch(self.fn, x, call, depth, state), self.gain(call.condition, x))

    def gain(self, condition: Tensor | None, x: Tensor) -> Tensor:
        """(b, dim_condition) or (b, n, dim_condition) to (b, 1, dim) or (b, n, dim)."""
        if condition is None:
            raise InputError('AdaptiveLayerScale needs a condition: give condition=(b, dim_condition) or (b, n, dim_condition)')
        expect_condition(condition, self.dim_condition, self, x)
        return self.to_gamma(condition[:, None] if condition.ndim == 2 else condition).sigmoid()


def with_layerscale(branch: nn.Module, cfg: Any) -> nn.Module:
    """The branch with the scale that the flags put on it."""
    if cfg.use_layerscale:
        return LayerScale(branch, cfg.dim, cfg.layerscale_init_value, unit_offset=cfg.norm_add_unit_offset)
    return AdaptiveLayerScale(branch, cfg.dim, cfg.condition_read) if cfg.use_adaptive_layerscale else branch
