"""Forget gates against sums written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from x_transformers import Attention
from x_transformers.errors import FlagError
from x_transformers.positions.forgetting import naive_forgetting, naive_forgetting_per_row
from x_transformers.x_transformers import DataDependentAlibi, PerRowDataDependentAlibi

F64 = {'dtype': torch.float64}


def same_with_gradients(out: torch.Tensor, want: torch.Tensor, given: list[torch.Tensor]) -> None:
    torch.testing.assert_close(out, want)
    weight = torch.randn_like(want)
    gradients = (torch.autograd.grad((t * weight).sum(), given) for t in (out, want))
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_bias_of_a_pair_is_the_sum_of_log_gates_between_them() -> None:
    gates, x = DataDependentAlibi(dim=8, heads=2, post_log_scale=0.5).double(), torch.randn(2, 6, 8, **F64, requires_grad=True)
    log_gates = 0.5 * F.logsigmoid(gates.to_forget_gates[0](x)).transpose(1, 2)
    same_with_gradients(gates(x), naive_forgetting(log_gates), [x, *gates.parameters()])


def test_looking_both_ways_later_keys_have_gates_of_their_own() -> None:
    gates, x = DataDependentAlibi(dim=8, heads=2, causal=False).double(), torch.randn(2, 6, 8, **F64, requires_grad=True)
    forward, backward = F.logsigmoid(gates.to_forget_gates[0](x)).transpose(1, 2).chunk(2, dim=1)
    past = torch.ones(6, 6, dtype=torch.bool).tril()
    want = torch.where(past, naive_forgetting(forward), -naive_forgetting(backward))
    same_with_gradients(gates(x), want, [x, *gates.parameters()])
    assert (gates(x) <= 0).all()


def test_each_row_has_its_own_gates_up_to_but_without_itself() -> None:
    gates = PerRowDataDependentAlibi(dim=8, heads=2, dim_head=4, post_log_scale=0.5).double()
    x = torch.randn(2, 6, 8, **F64, requires_grad=True)
    q, k = gates.to_forget_gates[0](x).view(2, 6, 2, 2, 4).permute(2, 0, 3, 1, 4)
    log_gates = 0.5 * F.logsigmoid(q @ k.transpose(-1, -2) * 4**-0.5)
    same_with_gradients(gates(x), naive_forgetting_per_row(log_gates), [x, *gates.parameters()])


def test_gates_start_open() -> None:
    assert (DataDependentAlibi(dim=8, heads=2, bias_init=7.0).to_forget_gates[0].bias == 7).all()


def test_gates_by_row_are_a_kind_of_forget_gates_as_in_2_0_1() -> None:
    attention = Attention(dim=8, heads=2, causal=True, data_dependent_alibi=True, data_dependent_alibi_per_row=True)
    assert isinstance(attention.data_dependent_alibi, PerRowDataDependentAlibi)
    assert attention.state_dict()['data_dependent_alibi.to_forget_gates.0.weight'].shape == (2 * 2 * 8, 8)
    with pytest.raises(FlagError, match=r'of which there are none.*Set data_dependent_alibi=True'):
        Attention(dim=8, causal=True, data_dependent_alibi_per_row=True)


def test_gates_by_row_refuse_to_look_ahead() -> None:
    with pytest.raises(FlagError, match=r'data_dependent_alibi_per_row=True is not possible here.*Use a Decoder'):
        Attention(dim=8, data_dependent_alibi=True, data_dependent_alibi_per_row=True)


def test_gates_take_the_place_of_another_bias_with_a_warning() -> None:
    attention, x = Attention(dim=8, heads=2, dim_head=4, causal=True, data_dependent_alibi=True), torch.randn(1, 5, 8)
    with pytest.warns(UserWarning, match='data_dependent_alibi takes the place of attn_bias'):
        out = attention(x, attn_bias=torch.randn(2, 5, 5))
    assert torch.equal(out, attention(x))
