"""However tokens are made, they are those of the model: proposed by a draft, behind a prefix, several from one prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from law_cases import CANNOT_REWIND, Case, build_model, context_of, part, tokens
from test_decoding import GENERATORS
from torch import Tensor

from x_transformers.decoding.speculative import prompt_lookup

FORGETTING = [case for case in GENERATORS if {*CANNOT_REWIND, 'attn_max_attend_past'} & set(case.stack)]
SOME = [*FORGETTING, *(case for case in part(GENERATORS, 10) if case not in FORGETTING)]
PLAIN: dict[str, Any] = {'temperature': 0.0}


def almost(case: Case) -> Any:
    """A draft that is often right: the same model, slightly off."""
    draft, generator = build_model(case), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype))
    return draft


def logits_of(model: Any, *given: Any, **more: Any) -> Tensor:
    """All that tokens were chosen by, (k, b, v)."""
    seen: list[Tensor] = []
    model.generate(*given, **more, **PLAIN, logits_processors=[lambda out, logits: seen.append(logits) or logits])
    return torch.stack(seen)


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_a_draft_changes_no_token(case: Case) -> None:
    model, prompt, inputs, lens = build_model(case), tokens(6), context_of(case), torch.tensor([3, 6])
    whole = model.generate(prompt, 8, prompt_lens=lens, **PLAIN, **inputs)
    assert torch.equal(model.generate(prompt, 8, prompt_lens=lens, draft=almost(case), draft_tokens=3, **PLAIN, **inputs), whole)


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_behind_a_prefix_everything_is_as_behind_the_whole(case: Case) -> None:
    model, first, alone = build_model(case), tokens(4)[:1], context_of(case, slice(0, 1))
    prefix = model.remember(first, **alone)
    for rows, lens in ((tokens(3, seed=8), torch.tensor([3, 1])), (tokens(2)[:1], None)):  # two batches go on from one prefix
        b = len(rows)
        given = {name: t.expand(b, *t.shape[1:]) for name, t in alone.items()}
        both = torch.cat((first.expand(b, -1), rows), dim=1)
        whole = logits_of(model, both, 4, prompt_lens=None if lens is None else 4 + lens, **given)
        assert (logits_of(model, rows, 4, prompt_lens=lens, prefix=prefix) - whole).abs().max() < 1e-9


@pytest.mark.parametrize('case', SOME, ids=str)
def test_all_of_it_together(case: Case) -> None:
    model, prompt, inputs = build_model(case), tokens(7), context_of(case)
    whole = model.generate(prompt, 12, **PLAIN, **inputs)
    prefix = model.remember(prompt[:, 2:5], prefix=model.remember(prompt[:, :2], **inputs), prefill_chunk=2)
    for draft, count in ((model, 4), (almost(case), 1), (prompt_lookup, 3)):
        more: dict[str, Any] = {'prefix': prefix, 'num_return_sequences': 2, 'draft': draft, 'draft_tokens': count, 'prefill_chunk': 1}
        made = model.generate(prompt[:, 5:], 12, **more, **PLAIN)
        assert torch.equal(made, whole[:, None].expand(-1, 2, -1)), count


@pytest.mark.parametrize('case', SOME, ids=str)
def test_several_sequences_are_those_of_as_many_prompts(case: Case) -> None:
    model, prompt, inputs, lens = build_model(case), tokens(6), context_of(case), torch.tensor([3, 6])
    again = {name: t.repeat_interleave(2, dim=0) for name, t in inputs.items()}
    draw = lambda *given, **more: model.generate(*given, 6, generator=torch.Generator().manual_seed(1), temperature=2.0, **more)
    made = draw(prompt, prompt_lens=lens, num_return_sequences=2, **inputs)
    apart = draw(prompt.repeat_interleave(2, dim=0), prompt_lens=lens.repeat_interleave(2), **again)
    assert torch.equal(made.flatten(0, 1), apart)
