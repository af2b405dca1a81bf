"""Norms equal their formulas, and stand where the flags say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Encoder
from x_transformers.norms import LayerNorm, RMSNorm, ScaleNorm, SimpleRMSNorm, Unchanged


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def root_mean_square(x: Tensor) -> Tensor:
    return x / x.square().mean(dim=-1, keepdim=True).sqrt()


FORMULAS = [(LayerNorm, layer_norm), (ScaleNorm, root_mean_square), (RMSNorm, root_mean_square), (SimpleRMSNorm, root_mean_square)]


@pytest.mark.parametrize('unit_offset', [False, True])
@pytest.mark.parametrize('norm, formula', FORMULAS)
def test_a_norm_is_its_formula_times_its_gain(norm: Any, formula: Any, unit_offset: bool) -> None:
    x, made = torch.randn(2, 3, 16, dtype=torch.float64), norm(16, unit_offset=unit_offset).double()
    torch.testing.assert_close(made(x), formula(x))
    for gain in made.parameters():
        assert torch.all(gain == 1.0 - unit_offset)
        nn.init.normal_(gain)
        torch.testing.assert_close(made(x), formula(x) * (gain + unit_offset))


@pytest.mark.parametrize('norm', [norm for norm, _ in FORMULAS])
def test_a_zero_row_stays_finite(norm: Any) -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    norm(4)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(
    'flags, slots, final',
    [
        ({}, (LayerNorm, Unchanged, Unchanged), LayerNorm),
        ({'pre_norm': False}, (Unchanged, Unchanged, LayerNorm), Unchanged),
        ({'sandwich_norm': True}, (LayerNorm, LayerNorm, Unchanged), LayerNorm),
        ({'resi_dual': True}, (Unchanged, Unchanged, LayerNorm), LayerNorm),
        ({'use_rmsnorm': True}, (RMSNorm, Unchanged, Unchanged), RMSNorm),
        ({'use_scalenorm': True, 'sandwich_norm': True}, (ScaleNorm, ScaleNorm, Unchanged), ScaleNorm),
        ({'use_simple_rmsnorm': True, 'pre_norm': False}, (Unchanged, Unchanged, SimpleRMSNorm), Unchanged),
    ],
)
def test_norms_stand_where_the_flags_say(flags: dict[str, Any], slots: tuple[type, ...], final: type) -> None:
    stack = Encoder(dim=16, depth=1, heads=2, **flags)
    for layer in stack.layers:
        assert tuple(map(type, layer.norms)) == slots
    assert type(stack.final_norm) is final


def test_a_sandwich_norm_norms_the_branch_before_it_joins() -> None:
    stack = Encoder(dim=16, custom_layers='f', sandwich_norm=True).double().eval()
    x = torch.randn(1, 4, 16, dtype=torch.float64)
    expected = layer_norm(x + layer_norm(stack.layers[0].branch(layer_norm(x))))
    torch.testing.assert_close(stack(x), expected)
