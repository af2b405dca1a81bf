"""A stack is the formula of its flags: for every flag it gives what the papers say, written anew pair by pair."""

from __future__ import annotations

import pytest
import torch
from by_the_papers import stack_by_the_papers
from law_cases import DECODERS, ENCODERS, Case, build_stack, context_of, embeddings

from x_transformers import Decoder, Encoder

STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_a_stack_is_what_the_papers_say(kind: type, case: Case) -> None:
    stack, x, inputs = build_stack(kind, case), embeddings(), context_of(case)
    bound = 1e-6 if stack.config.uses_rotary else 1e-9  # frequencies are kept in single precision
    with torch.no_grad():
        assert (stack(x, **inputs) - stack_by_the_papers(stack, x, **inputs)).abs().max() < bound


PLACED = ('rotary', 'alibi', 'rel_pos', 'dynamic_pos')


@pytest.mark.parametrize('case', [case for case in DECODERS if case.name.startswith(PLACED)], ids=str)
def test_positions_of_ones_own_are_what_the_papers_take(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    pos = torch.tensor([[0, 1, 2, 4, 5, 7, 8, 9, 12, 13, 14, 20], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    with torch.no_grad():
        assert (stack(x, pos=pos) - stack_by_the_papers(stack, x, pos=pos)).abs().max() < 1e-6
