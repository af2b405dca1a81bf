"""Padding is invisible: a padded row gives what the row alone gives, and rows do not see each other."""

from __future__ import annotations

import pytest
import torch
from law_cases import DECODERS, ENCODERS, LENGTH, Case, build_model, build_stack, context_of, embeddings, tokens, wrapper_cases

from x_transformers import Decoder, Encoder

SECOND = slice(1, 2)


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_left_padding_changes_nothing(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    with torch.no_grad():
        padded = stack(x, seq_start_pos=torch.tensor([0, 4]), **context_of(case))
        alone = stack(x[SECOND, 4:], **context_of(case, SECOND))
    assert (padded[SECOND, 4:] - alone).abs().max() < 1e-10
    assert padded.isfinite().all()


@pytest.mark.parametrize('case', [case for case in wrapper_cases() if 'return_only_embed' not in case.model], ids=str)
def test_left_padded_tokens_change_nothing(case: Case) -> None:
    net, x = build_model(case).net, tokens()
    with torch.no_grad():
        padded = net(x, seq_start_pos=torch.tensor([0, 4]))
        alone = net(x[SECOND, 4:])
    assert (padded[SECOND, 4:] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', [case for case in ENCODERS if 'shift_tokens' not in case.stack], ids=str)
def test_right_padding_changes_nothing(case: Case) -> None:
    """Bidirectional token shift reads its neighbours whatever the mask says in feed-forwards, as in 2.0.1."""
    stack, x = build_stack(Encoder, case), embeddings()
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [7]])
    with torch.no_grad():
        padded = stack(x, mask=mask, **context_of(case))
        alone = stack(x[SECOND, :7], **context_of(case, SECOND))
    assert (padded[SECOND, :7] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_gradients_through_padding_are_finite(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings().requires_grad_()
    stack(x, seq_start_pos=torch.tensor([0, 4]), **context_of(case)).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stack.parameters())


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_rows_do_not_see_each_other(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    with torch.no_grad():
        both = stack(x, **context_of(case))
        alone = stack(x[SECOND], **context_of(case, SECOND))
    assert (both[SECOND] - alone).abs().max() < 1e-12
