"""Compiled generation equals generation, in two graphs however long it gets; a prompt in chunks equals the prompt."""

from __future__ import annotations

import os
import random
from functools import partial
from typing import Any

import pytest
import torch
from law_cases import DECODERS, TOGETHER, Case, build_model, context_of, tokens

GENERATORS = [case for case in DECODERS if not case.per_token]  # what belongs to tokens to come is unknown
COMBINED = [case for case in GENERATORS if case.name in TOGETHER]
TRACED = COMBINED if os.environ.get('PAIRS') == 'all' else random.Random(0).sample(COMBINED, 5)  # tracing takes seconds each


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs that are traced; each runs as it is, which is quick."""
    torch.compiler.reset()
    made: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend=backend, fullgraph=True))
    return made


@pytest.mark.parametrize('case', TRACED, ids=str)
def test_compiled_generation_is_two_graphs_and_the_same_tokens(case: Case, graphs: list[Any]) -> None:
    model, prompt, inputs = build_model(case), tokens(6), context_of(case)
    with torch._dynamo.config.patch(allow_rnn=True):  # PyTorch's own switch for an LSTM beside attention
        made = model.generate(prompt, 10, temperature=0.0, compile=True, **inputs)
        assert torch.equal(made, model.generate(prompt, 10, temperature=0.0, **inputs))
        assert 1 <= len(graphs) <= 2
        model.generate(prompt, 16, temperature=0.0, compile=True, **inputs)
    assert len(graphs) <= 2


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_a_prompt_in_chunks_equals_the_prompt(case: Case) -> None:
    model, prompt, inputs = build_model(case), tokens(7), context_of(case)
    mask = torch.ones_like(prompt, dtype=torch.bool)
    mask[1, 2] = False
    for given in (inputs, {**inputs, 'mask': mask}):
        whole = model.generate(prompt, 6, temperature=0.0, **given)
        for size in (1, 3, 20):
            assert torch.equal(model.generate(prompt, 6, temperature=0.0, prefill_chunk=size, **given), whole)


def test_a_compiled_window_slides_in_one_more_graph_whatever_is_done_to_its_logits(graphs: list[Any]) -> None:
    model = build_model(Case('', {'rotary_pos_emb': True}), max_seq_len=8)
    again = lambda out, logits: logits + 2.0 * torch.nn.functional.one_hot(out[:, 0], logits.shape[-1])
    given: dict[str, Any] = {'temperature': 0.0, 'logits_processors': [again], 'num_return_sequences': 2}
    made = model.generate(tokens(6), 20, compile=True, **given)
    assert torch.equal(made, model.generate(tokens(6), 20, **given))
    assert len(graphs) <= 3
