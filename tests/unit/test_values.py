"""What is done to values: exponentials around attention, and the first layer's values mixed in."""

from __future__ import annotations

import pytest
import torch

from x_transformers import Attention, Decoder
from x_transformers.attention.keys import ValueMix, mix_values
from x_transformers.attention.outputs import laser_output, laser_values, naive_laser
from x_transformers.errors import FlagError, InputError

F64 = {'dtype': torch.float64}


def test_exponentials_around_attention_are_a_log_sum_exp_with_gradients() -> None:
    weights = torch.randn(2, 3, 4, 5, **F64).softmax(dim=-1).requires_grad_()
    v = torch.randn(2, 3, 5, 6, **F64, requires_grad=True)
    out, want = laser_output(weights @ laser_values(v, 1e9)), naive_laser(weights, v)
    torch.testing.assert_close(out, want)
    for got, wanted in zip(torch.autograd.grad(out.sum(), (weights, v)), torch.autograd.grad(want.sum(), (weights, v)), strict=True):
        torch.testing.assert_close(got, wanted)


def test_values_are_bounded_before_their_exponential() -> None:
    torch.testing.assert_close(laser_values(torch.tensor([1e6]), 2.0), torch.tensor([2.0]).exp())


def test_half_of_the_first_values_unless_the_share_is_learned() -> None:
    v, first = torch.randn(2, 3, 4, 5, **F64), torch.randn(2, 3, 4, 5, **F64)
    torch.testing.assert_close(mix_values(v, first, 0.5), (v + first) / 2)
    share = torch.rand(2, 3, 4, 1, **F64)
    torch.testing.assert_close(mix_values(v, first, share), share * v + (1 - share) * first)


def test_key_heads_take_the_mean_share_of_the_query_heads_that_use_them() -> None:
    mix, x = ValueMix(8, heads=4, key_heads=2).double(), torch.randn(2, 5, 8, **F64)
    share = mix[0](x).sigmoid()
    torch.testing.assert_close(mix(x)[:, 1, :, 0], (share[..., 1] + share[..., 3]) / 2)


def test_memories_of_other_lengths_stay_as_they_are() -> None:
    v, first = torch.randn(1, 2, 6, 3), torch.randn(1, 2, 4, 3)
    mixed = mix_values(v, first, 0.5)
    assert torch.equal(mixed[:, :, :2], v[:, :, :2])
    torch.testing.assert_close(mixed[:, :, 2:], (v[:, :, 2:] + first) / 2)
    torch.testing.assert_close(mix_values(first, v, 0.5), (first + v[:, :, 2:]) / 2)


def test_later_layers_learn_their_share_and_the_first_has_none() -> None:
    stack = Decoder(dim=16, depth=3, add_value_residual=True)
    assert [stack.layers[i][1].to_value_residual_mix is not None for i in (0, 2, 4)] == [False, True, True]
    fixed = Decoder(dim=16, depth=3, add_value_residual=True, learned_value_residual_mix=False)
    assert not any('to_value_residual_mix' in name for name in fixed.state_dict())


def test_values_may_be_given_to_attention_alone() -> None:
    attention, x = Attention(dim=8, heads=2, dim_head=4, value_dim_head=3).double(), torch.randn(1, 5, 8, **F64)
    _, seen = attention(x, return_intermediates=True)
    torch.testing.assert_close(attention(x, value_residual=seen.values), attention(x))
    with pytest.raises(InputError, match=r'value_residual has shape \(1, 2, 4, 3\), expected \(1, 2, 5, 3\)'):
        attention(x, value_residual=seen.values[:, :, 1:])


def test_a_context_has_no_shares_of_its_own() -> None:
    with pytest.raises(FlagError, match="'cross_attn_learned_value_residual_mix' concerns self-attention only"):
        Decoder(dim=16, depth=1, cross_attend=True, cross_attn_learned_value_residual_mix=True)
