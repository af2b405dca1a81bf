"""A causal stack never looks ahead: changing a token moves nothing before it, and no gradient comes back from there."""

from __future__ import annotations

import pytest
import torch
from law_cases import (
    BASE,
    DECODERS,
    ENCODERS,
    LENGTH,
    Case,
    build_model,
    build_stack,
    context_of,
    embeddings,
    so_far,
    tokens,
    wrapper_cases,
)

from x_transformers import Decoder, Encoder, PrefixDecoder


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_nothing_before_a_changed_token_moves(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch.no_grad():
        whole = stack(x, **inputs)
        for t in (1, 5, LENGTH - 1):
            changed = x.clone()
            changed[:, t] += 1 + torch.arange(BASE['dim'])  # not the same for all features: a norm would undo that
            out = stack(changed, **inputs)
            assert (out[:, :t] - whole[:, :t]).abs().max() < 1e-12
            assert (out[:, t] - whole[:, t]).abs().max() > 1e-6


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_no_gradient_comes_from_later_tokens(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings().requires_grad_(), context_of(case)
    (gradient,) = torch.autograd.grad(stack(x, **inputs)[:, :5].square().sum(), x)
    assert gradient[:, 5:].abs().max() == 0
    assert gradient[:, :5].abs().max() > 0


@pytest.mark.parametrize('case', wrapper_cases(), ids=str)
def test_nothing_a_model_says_moves_before_a_changed_token(case: Case) -> None:
    net, x = build_model(case).net, tokens()
    with torch.no_grad():
        whole = net(x)
        for t in (1, 5, LENGTH - 1):
            changed = x.clone()
            changed[:, t] = (changed[:, t] + 1) % 7
            out = net(changed)
            assert (out[:, :t] - whole[:, :t]).abs().max() < 1e-12
            assert (out[:, t] - whole[:, t]).abs().max() > 1e-6


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_later_tokens_may_as_well_be_missing(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch.no_grad():
        whole = stack(x, **inputs)
        for n in (1, 4, LENGTH - 1):
            assert (stack(x[:, :n], **so_far(inputs, n)) - whole[:, :n]).abs().max() < 1e-12


@pytest.mark.parametrize('case', ENCODERS, ids=str)
def test_an_encoder_looks_both_ways_where_it_attends(case: Case) -> None:
    stack, x = build_stack(Encoder, case), embeddings().requires_grad_()
    (gradient,) = torch.autograd.grad(stack(x, **context_of(case))[:, :5].square().sum(), x)
    seen = gradient.abs().amax(dim=(0, 2)) > 0
    assert seen[:5].all()
    assert seen[5:].any() == ('a' in stack.layer_types or any(stack.plan.shifts))


@pytest.mark.parametrize('prefix', [1, 4, torch.tensor([2, 6])], ids=str)
def test_a_prefix_decoder_looks_ahead_within_its_prefix_alone(prefix: int | torch.Tensor) -> None:
    stack, x = build_stack(PrefixDecoder, Case('')), embeddings()
    lengths = torch.as_tensor(prefix).expand(2)
    with torch.no_grad():
        whole = stack(x, prefix_attn_len=prefix)
        for t in range(1, LENGTH):
            changed = x.clone()
            changed[:, t] += 1 + torch.arange(BASE['dim'])
            moved = (stack(changed, prefix_attn_len=prefix) - whole).abs().amax(dim=-1) > 1e-12
            for row, length in zip(moved, lengths.tolist(), strict=True):
                assert row[:t].all() if t < length else not row[:t].any()
