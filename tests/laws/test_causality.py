"""A causal stack never looks ahead: changing a token moves nothing before it, and no gradient comes back from there."""

from __future__ import annotations

import pytest
import torch
from law_cases import BASE, DECODERS, LENGTH, Case, build_stack, context_of, embeddings

from x_transformers import Decoder, Encoder


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


def test_an_encoder_looks_both_ways() -> None:
    stack, x = build_stack(Encoder, Case('')), embeddings().requires_grad_()
    (gradient,) = torch.autograd.grad(stack(x)[:, :5].square().sum(), x)
    assert (gradient.abs().amax(dim=(0, 2)) > 0).all()
