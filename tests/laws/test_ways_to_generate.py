"""However tokens are made, they are those of the model: proposed by a draft, behind a prefix, several from one prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from law_cases import DECODERS, Case, build_model, context_of, tokens
from test_decoding import GENERATORS

from x_transformers.decoding.speculative import prompt_lookup

PLAIN: dict[str, Any] = {'temperature': 0.0}


def almost(case: Case) -> Any:
    """A draft that is often right: the same model, slightly off."""
    draft, generator = build_model(case), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype))
    return draft


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_a_draft_changes_no_token(case: Case) -> None:
    model, draft, prompt, inputs = build_model(case), almost(case), tokens(6), context_of(case)
    lens = torch.tensor([3, 6])
    whole = model.generate(prompt, 12, prompt_lens=lens, **PLAIN, **inputs)
    for proposes, count in ((draft, 3), (model, 4), (prompt_lookup, 2)):
        made = model.generate(prompt, 12, prompt_lens=lens, draft=proposes, draft_tokens=count, **PLAIN, **inputs)
        assert torch.equal(made, whole), count


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_behind_a_prefix_everything_is_as_behind_the_whole(case: Case) -> None:
    model, prompt, inputs = build_model(case), tokens(7), context_of(case)
    first, alone = prompt[:1, :4], context_of(case, slice(0, 1))
    prefix = model.remember(first, **alone)
    again = {name: t.expand(3, *t.shape[1:]) for name, t in alone.items()}
    for rows in (tokens(3)[:1], tokens(3, seed=8).repeat(2, 1)[:3]):  # two batches go on from one prefix
        both = torch.cat((first.expand(len(rows), -1), rows), dim=1)
        whole = model.generate(both, 8, **PLAIN, **{name: t[: len(rows)] for name, t in again.items()})
        for way in ({}, {'prefill_chunk': 2}):
            assert torch.equal(model.generate(rows, 8, prefix=prefix, **way, **PLAIN), whole)
    whole = model.generate(prompt, 8, **PLAIN, **inputs)
    longer = model.remember(prompt[:, 2:5], prefix=model.remember(prompt[:, :2], **inputs), prefill_chunk=2)
    assert torch.equal(model.generate(prompt[:, 5:], 8, prefix=longer, **PLAIN), whole)
    assert torch.equal(model.generate(prompt[:, 5:], 8, prefix=longer, draft=prompt_lookup, num_return_sequences=2, **PLAIN)[:, 1], whole)


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_several_sequences_are_those_of_as_many_prompts(case: Case) -> None:
    model, prompt, inputs, lens = build_model(case), tokens(6), context_of(case), torch.tensor([3, 6])
    again = {name: t.repeat_interleave(2, dim=0) for name, t in inputs.items()}
    draw = lambda *given, **more: model.generate(*given, 6, generator=torch.Generator().manual_seed(1), temperature=2.0, **more)
    made = draw(prompt, prompt_lens=lens, num_return_sequences=2, **inputs)
    apart = draw(prompt.repeat_interleave(2, dim=0), prompt_lens=lens.repeat_interleave(2), **again)
    assert torch.equal(made.flatten(0, 1), apart)


def test_every_decoder_that_decodes_is_here() -> None:
    assert {case.name for case in DECODERS if not case.per_token} <= {case.name for case in GENERATORS}
