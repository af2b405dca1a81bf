"""Any two flags together either are refused when built, with one of them named, or obey the laws.

A seeded sample of pairs runs with the other tests; `make pairs` (PAIRS=all) runs every pair.
"""

from __future__ import annotations

import os
import random
from itertools import combinations
from typing import Any

import pytest
import torch
from law_cases import DECODERS, ENCODERS, LENGTH, Case, build_stack, context_of, embeddings, in_pieces, so_far

from x_transformers import Decoder, Encoder
from x_transformers.errors import FlagError

SAMPLE = {Decoder: 500, Encoder: 120}
SECOND = slice(1, 2)


def joined(one: Case, other: Case) -> Case | None:
    """Both flags, unless their examples contradict each other."""
    both = {**one.stack, **other.stack}
    agree = all(one.stack.get(name, value) == value for name, value in other.stack.items())
    return Case(f'{one} + {other}', both) if agree else None


def pairs(kind: type, cases: list[Case]) -> list[Case]:
    """All pairs, or the same seeded ones in every process."""
    single = [case for case in cases if case.name in case.stack]
    every = [pair for one, other in combinations(single, 2) if (pair := joined(one, other)) is not None]
    return every if os.environ.get('PAIRS') == 'all' else random.Random(0).sample(every, SAMPLE[kind])


def built(kind: type, case: Case, **more: Any) -> Any:
    """The stack, or None where the pair is refused by name."""
    try:
        return build_stack(kind, case, **more)
    except FlagError as error:
        assert any(f'{name}=' in str(error) for name in case.stack), error
        return None


def fuses(case: Case) -> dict[str, bool]:
    """The keyword that asks for the reference, where the case does not choose."""
    return {} if any(name.endswith('attn_flash') for name in case.stack) else {'attn_flash': False}


def trains(stack: Any, case: Case, inputs: dict[str, Any]) -> None:
    """Its config rebuilds it, and gradients reach every parameter of the layers that run."""
    assert type(stack)(**stack.config.keywords()).config == stack.config
    stack.train()
    if 'dropout' in case.name:  # what it leaves out has no gradient, but nothing breaks
        torch.manual_seed(0)
        random.seed(0)
        for _ in range(3):
            stack.zero_grad()
            loss = stack(embeddings(), **inputs).square().sum()
            if loss.requires_grad:
                loss.backward()
            assert loss.isfinite() and all(p.grad.isfinite().all() for p in stack.parameters() if p.grad is not None)
        stack.eval()
    stack(embeddings(), **inputs).square().sum().backward()
    run = tuple(f'layers.{index}.' for index in stack.plan.order)
    reached = [
        (name, p) for name, p in stack.named_parameters() if p.requires_grad and (not name.startswith('layers.') or name.startswith(run))
    ]
    assert [name for name, p in reached if p.grad is None] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in reached)


@pytest.mark.parametrize('case', pairs(Decoder, DECODERS), ids=str)
def test_a_pair_in_a_decoder_is_refused_or_obeys_the_laws(case: Case) -> None:
    stack = built(Decoder, case)
    if stack is None:
        return
    x, inputs, alone = embeddings(), context_of(case), context_of(case, SECOND)
    padded = {**inputs, 'seq_start_pos': torch.tensor([0, 4])}
    with torch.no_grad():
        whole, behind = stack(x, **inputs), stack(x, **padded)
        assert (stack(x[:, :5], **so_far(inputs, 5)) - whole[:, :5]).abs().max() < 1e-10
        assert (behind[SECOND, 4:] - stack(x[SECOND, 4:], **alone)).abs().max() < 1e-10
        if stack.can_cache_kv:
            pieces, _ = in_pieces(stack, x, (5, 1, 1, 4, 1), stack.empty_state(capacity=LENGTH), **inputs)
            assert (pieces - whole).abs().max() < 1e-10
            pieces, states = in_pieces(stack, x, (2, 3, 1, 6), **padded)
            assert (pieces[1, 4:] - behind[1, 4:]).abs().max() < 1e-10
            turned = {name: t.flip(0) for name, t in padded.items()}
            swapped, _ = stack(x[:, 6:].flip(0), state=states[2].reorder(torch.tensor([1, 0])), return_state=True, **turned)
            assert (swapped.flip(0) - behind[:, 6:]).abs().max() < 1e-10
        assert (build_stack(Decoder, case, **fuses(case))(x, **padded) - behind).abs().max() < 1e-10
    trains(stack, case, inputs)


@pytest.mark.parametrize('case', pairs(Encoder, ENCODERS), ids=str)
def test_a_pair_in_an_encoder_is_refused_or_obeys_the_laws(case: Case) -> None:
    stack = built(Encoder, case)
    if stack is None:
        return
    x, inputs = embeddings(), context_of(case)
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [7]])
    with torch.no_grad():
        padded = stack(x, mask=mask, **inputs)
        if 'shift_tokens' not in case.stack:  # its feed-forwards read neighbours whatever the mask says, as in 2.0.1
            assert (padded[SECOND, :7] - stack(x[SECOND, :7], **context_of(case, SECOND, slice(7)))).abs().max() < 1e-10
        assert (stack(x[SECOND], **context_of(case, SECOND)) - stack(x, **inputs)[SECOND]).abs().max() < 1e-10
        assert (build_stack(Encoder, case, **fuses(case))(x, mask=mask, **inputs) - padded).abs().max() < 1e-10
    trains(stack, case, inputs)
