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
