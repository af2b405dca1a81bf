"""Biases by distance in strips equal the readable form, with gradients, and form nothing of the size of all pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import functional_call

from x_transformers import Decoder
from x_transformers.attention import strips
from x_transformers.attention.naive import naive_attention
from x_transformers.attention.strips import bias_row, strip_attention
from x_transformers.errors import InputError

F64 = {'dtype': torch.float64}


@pytest.mark.parametrize('learns', [False, True])
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('n, strip, learning', [(12, 4, 3), (13, 5, 4), (7, 9, 9), (1, 2, 2)])
def test_strips_equal_the_readable_form_with_gradients(
    n: int, strip: int, learning: int, causal: bool, learns: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(strips, 'STRIP', strip)
    monkeypatch.setattr(strips, 'LEARNING', learning)
    inputs = [torch.randn(2, 3, n, 8, **F64, requires_grad=True) for _ in range(3)]
    table = torch.randn(2 * n - 1, 3, **F64, requires_grad=learns)  # at distances from 1 - n on
    distance = torch.arange(n)[:, None] - torch.arange(n)
    allowed = distance >= 0 if causal else torch.ones(n, n, dtype=torch.bool)
    expected = naive_attention(*inputs, allowed, table[distance + n - 1].permute(2, 0, 1)[None], 0.3)
    out = strip_attention(*inputs, bias_row(table[n - 1 :] if causal else table, n, causal), causal, 0.3)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    probe, wanted = torch.randn_like(out), [*inputs, *([table] if learns else [])]
    for got, want in zip(torch.autograd.grad(out, wanted, probe), torch.autograd.grad(expected, wanted, probe), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('flag', ['alibi_pos_bias', 'rel_pos_bias', 'dynamic_pos_bias'])
@pytest.mark.parametrize('kind', ['heads', 'grouped heads', 'distances'])
def test_a_stack_in_strips_equals_the_reference(flag: str, kind: str) -> None:
    more = {'heads': {}, 'grouped heads': {'attn_kv_heads': 2, 'rotary_pos_emb': True}, 'distances': {'attn_l2_distance': True}}[kind]
    x = torch.randn(1, strips.LEAST + 3, 16, **F64)
    outs = []
    for flash in (None, False):
        torch.manual_seed(0)
        stack = Decoder(dim=16, depth=2, heads=4, attn_dim_head=8, attn_flash=flash, **{flag: True}, **more).double()
        out = stack(x)
        out.square().mean().backward()
        outs.append([out, *(p.grad for p in stack.parameters())])
    for got, want in zip(*outs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


def at_real_size(**flags: Any) -> Decoder:
    torch.manual_seed(0)
    return Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, **flags)


def test_a_second_derivative_is_refused_by_name() -> None:
    x = torch.randn(1, strips.LEAST, 16, requires_grad=True)
    with pytest.raises(InputError, match=r'no second derivative .* attn_flash=False'):
        torch.autograd.grad(at_real_size(rel_pos_bias=True)(x).square().sum(), x, create_graph=True)


def test_exponential_values_in_half_precision_take_the_bias_in_single() -> None:
    assert at_real_size(attn_laser=True, alibi_pos_bias=True).half()(torch.randn(1, strips.LEAST, 16).half()).isfinite().all()


def test_torch_func_takes_the_bias_as_one() -> None:
    stack, x = at_real_size(rel_pos_bias=True), torch.randn(1, strips.LEAST, 16)
    loss = lambda parameters: functional_call(stack, parameters, (x,)).mul(x).sum()
    found = torch.func.grad(loss)(dict(stack.named_parameters()))
    loss(dict(stack.named_parameters())).backward()
    assert all((p.grad - found[name]).abs().max() < 1e-4 for name, p in stack.named_parameters())


def test_gradients_of_a_bias_in_half_precision_are_not_lost_in_rounding() -> None:
    stack = at_real_size(dynamic_pos_bias=True).bfloat16()
    exact, x, t = at_real_size(dynamic_pos_bias=True).double(), torch.randn(1, 300, 16).bfloat16(), torch.randn(1, 300, 16)
    exact.load_state_dict({name: p.double() for name, p in stack.state_dict().items()})
    (stack(x).float() * t).sum().backward()
    (exact(x.double()) * t).sum().backward()
    ours, theirs = (model.rel_pos.mlp[0][0].weight.grad.double() for model in (stack, exact))
    assert (ours - theirs).norm() < 0.3 * theirs.norm()
