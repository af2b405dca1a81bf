"""Layer scale against its formula, alone and in a stack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from x_transformers import Decoder
from x_transformers.attention import Attention
from x_transformers.branch import Scale
from x_transformers.errors import InputError
from x_transformers.feedforward import FeedForward
from x_transformers.layerscale import AdaptiveLayerScale, LayerScale
from x_transformers.shift import ShiftTokens


@pytest.mark.parametrize('unit_offset', [False, True])
def test_a_layer_scale_starts_from_its_value_however_it_is_stored(unit_offset: bool) -> None:
    fn, x = nn.Linear(8, 8), torch.randn(2, 3, 8)
    scale = LayerScale(fn, 8, init_value=0.25, unit_offset=unit_offset)
    assert torch.all(scale.gamma == 0.25 - unit_offset)
    torch.testing.assert_close(scale(x), fn(x) * 0.25)


@pytest.mark.parametrize('shape', [(2, 5), (2, 3, 5)], ids=['per row', 'per token'])
def test_an_adaptive_scale_is_a_gate_of_the_condition(shape: tuple[int, ...]) -> None:
    fn, x, condition = nn.Linear(8, 8), torch.randn(2, 3, 8), torch.randn(shape)
    scale = AdaptiveLayerScale(fn, 8, dim_condition=5, init_bias_value=-1.0)
    torch.testing.assert_close(scale(x, condition=condition), fn(x) * torch.tensor(-1.0).sigmoid())
    nn.init.normal_(scale.to_gamma.weight)
    gate = (condition @ scale.to_gamma.weight.T + scale.to_gamma.bias).sigmoid()
    torch.testing.assert_close(scale(x, condition=condition), fn(x) * gate.view(2, -1, 8))


def test_of_a_tuple_only_the_first_is_scaled() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor, more: float) -> tuple[torch.Tensor, float]:
            return x, more

    x = torch.randn(2, 3, 8)
    out, more = LayerScale(Pair(), 8, init_value=0.5)(x, more=3.0)
    assert torch.equal(out, x * 0.5) and more == 3.0
    out, more = AdaptiveLayerScale(Pair(), 8)(x, condition=torch.zeros(2, 8), more=3.0)
    torch.testing.assert_close(out, x * torch.tensor(-2.0).sigmoid())
    assert more == 3.0


def test_an_adaptive_scale_alone_says_what_it_needs() -> None:
    with pytest.raises(InputError, match='needs a condition'):
        AdaptiveLayerScale(nn.Identity(), 8)(torch.zeros(1, 1, 8))


@pytest.mark.parametrize('flags, scale', [({'use_layerscale': True}, LayerScale), ({'use_adaptive_layerscale': True}, AdaptiveLayerScale)])
def test_scale_shift_and_half_stand_around_the_branch_in_this_order(flags: dict[str, Any], scale: type) -> None:
    layer = Decoder(dim=16, depth=1, macaron=True, shift_tokens=1, **flags).layers[0]
    assert isinstance(layer.branch, scale)
    assert isinstance(layer.branch.fn, ShiftTokens)
    assert isinstance(layer.branch.fn.fn, Scale)
    assert isinstance(layer.branch.fn.fn.fn, FeedForward)
    plain = Decoder(dim=16, depth=1, layerscale_init_value=0.1, norm_add_unit_offset=False, **flags).layers[0]
    assert isinstance(plain.branch.fn, Attention)
    assert torch.all(plain.branch.gamma == 0.1) if scale is LayerScale else plain.branch.to_gamma.weight.shape == (16, 16)
