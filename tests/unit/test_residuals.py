"""Residuals against their formulas, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from x_transformers import Decoder, Encoder
from x_transformers.residuals import GRUGating, ResiDual, Residual

DOUBLE = {'dtype': torch.float64}


def test_a_residual_is_branch_plus_scaled_stream() -> None:
    y, x = torch.randn(2, 3, 8, **DOUBLE), torch.randn(2, 3, 8, **DOUBLE)
    assert torch.equal(Residual(8)(y, x), y + x)
    scaled = Residual(8, scale_residual=True, scale_residual_constant=0.5).double()
    scaled.residual_scale.data.normal_()
    torch.testing.assert_close(scaled(y, x), y + x * scaled.residual_scale * 0.5)


def test_a_gated_residual_is_the_gru_of_the_paper() -> None:
    y, x = torch.randn(2, 3, 8, **DOUBLE), torch.randn(2, 3, 8, **DOUBLE)
    gate = GRUGating(8, scale_residual=True).double()
    gate.residual_scale.data.normal_()
    h, cell = x * gate.residual_scale, gate.gru
    from_branch = (y @ cell.weight_ih.T + cell.bias_ih).chunk(3, dim=-1)
    from_stream = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, dim=-1)
    reset, update = ((from_branch[k] + from_stream[k]).sigmoid() for k in (0, 1))
    candidate = (from_branch[2] + reset * from_stream[2]).tanh()
    torch.testing.assert_close(gate(y, x), (1 - update) * candidate + update * h)


@pytest.mark.parametrize('scale', [1.0, 0.1])
def test_resi_dual_is_the_recursion_of_the_paper(scale: float) -> None:
    stack = Encoder(dim=16, depth=2, heads=2, resi_dual=True, resi_dual_scale=scale, rel_pos_bias=True).double().eval()
    for gain in (p for name, p in stack.named_parameters() if name.endswith('gamma')):
        gain.data.normal_()
    start = torch.randn(2, 5, 16, **DOUBLE)

    def branch_of(index: int, x: Tensor) -> Tensor:
        branch = stack.layers[index].branch
        return branch(x, attn_bias=stack.rel_pos(5, 5)) if index % 2 == 0 else branch(x)

    x, dual = start, scale * start
    for index, layer in enumerate(stack.layers):
        y = branch_of(index, x)
        x, dual = layer.norms[2](x + y), dual + scale * y
    torch.testing.assert_close(stack(start), x + stack.final_norm(dual))


def test_resi_dual_alone_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match='depth of a layer stack'):
        ResiDual(8).prepare(torch.zeros(1, 1, 8))


def test_the_stream_is_clamped_before_the_last_norm() -> None:
    stack = Decoder(dim=16, depth=1, heads=2, softclamp_output=True, softclamp_output_value=0.5).double().eval()
    plain = Decoder(dim=16, depth=1, heads=2).double().eval()
    plain.load_state_dict(stack.state_dict())
    x = torch.randn(1, 4, 16, **DOUBLE)
    _, seen = plain(x, return_hiddens=True)
    stream = seen.layer_hiddens[-1]
    torch.testing.assert_close(stack(x), plain.final_norm((stream / 0.5).tanh() * 0.5))
