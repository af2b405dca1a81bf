"""Any two flags together either are refused when built, with both named, or obey the laws."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
import torch
from law_cases import DECODERS, LENGTH, Case, build_stack, context_of, embeddings, in_pieces

from x_transformers import Decoder
from x_transformers.errors import BackendError, FlagError

SAMPLE = 240
SINGLE = [case for case in DECODERS if case.name in case.stack]


def joined(one: Case, other: Case) -> Case | None:
    """Both flags, unless their examples contradict each other."""
    both = {**one.stack, **other.stack}
    agree = all(one.stack.get(name, value) == value for name, value in other.stack.items())
    return Case(f'{one} + {other}', both) if agree else None


def sampled() -> list[Case]:
    """The same seeded pairs in every process."""
    pairs = [joined(one, other) for one, other in combinations(SINGLE, 2)]
    return random.Random(0).sample([pair for pair in pairs if pair is not None], SAMPLE)


def built(case: Case) -> Decoder | None:
    try:
        return build_stack(Decoder, case)
    except (FlagError, BackendError) as error:
        named = [name for name in case.stack if f'{name}=' in str(error)]
        assert named, error
        return None


@pytest.mark.parametrize('case', sampled(), ids=str)
def test_a_pair_is_refused_or_obeys_the_laws(case: Case) -> None:
    stack = built(case)
    if stack is None:
        return
    x, inputs, alone = embeddings(), context_of(case), context_of(case, slice(1, 2))
    padded = {**inputs, 'seq_start_pos': torch.tensor([0, 4])}
    with torch.no_grad():
        whole, behind = stack(x, **inputs), stack(x, **padded)
        pieces, _ = in_pieces(stack, x, (5, 1, 1, 4, 1), stack.empty_state(capacity=LENGTH), **inputs)
        pieces_behind, _ = in_pieces(stack, x, (2, 3, 1, 6), **padded)
        assert (pieces - whole).abs().max() < 1e-10
        assert (pieces_behind[1, 4:] - behind[1, 4:]).abs().max() < 1e-10
        assert (behind[1:, 4:] - stack(x[1:, 4:], **alone)).abs().max() < 1e-10
        assert (stack(x[:, :5], **inputs) - whole[:, :5]).abs().max() < 1e-10
        if not any(name.endswith('attn_flash') for name in case.stack):
            assert (build_stack(Decoder, case, attn_flash=False)(x, **padded) - behind).abs().max() < 1e-10
    assert Decoder(**stack.config.keywords()).config == stack.config
    if 'dropout' not in case.name:
        stack.train()
    stack(x, **inputs).square().sum().backward()
    run = {f'layers.{index}.' for index in stack.plan.order}
    reached = {
        name: p.grad
        for name, p in stack.named_parameters()
        if p.requires_grad and (not name.startswith('layers.') or name.startswith(tuple(run)))
    }
    assert [name for name, gradient in reached.items() if gradient is None] == []
    assert all(gradient is not None and gradient.isfinite().all() for gradient in reached.values())
