"""Models of `transformers` and ours that are made of them say the same, and come back as they were."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from family_cases import DECODERS, LENGTH, TOKENS, Case
from torch import Tensor

from x_transformers import AutoregressiveWrapper
from x_transformers.interop.huggingface import from_huggingface, to_huggingface

TOLERANCE = {'rtol': 0, 'atol': 1e-4}
PADDING = torch.tensor([0, 5])  # tokens in front of each row

pytestmark = pytest.mark.filterwarnings('ignore:.*concerns training only')
decoders = pytest.mark.parametrize('case', [pytest.param(case, id=name) for name, case in DECODERS.items()])


def ids(length: int = LENGTH) -> Tensor:
    return torch.randint(0, TOKENS, (2, length), generator=torch.Generator().manual_seed(1))


def visible(length: int = LENGTH) -> Tensor:
    """(b, n) bool: what is no padding."""
    return torch.arange(length) >= PADDING[:, None]


@decoders
@torch.no_grad()
def test_a_decoder_gives_their_logits(case: Case) -> None:
    theirs = case.made()
    ours: Any = from_huggingface(theirs)
    torch.testing.assert_close(ours(ids()), theirs(ids()).logits, **TOLERANCE)


@decoders
@torch.no_grad()
def test_padding_in_front_is_seen_by_neither(case: Case) -> None:
    theirs = case.made()
    ours: Any = from_huggingface(theirs)
    mask = visible()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = theirs(ids(), attention_mask=mask.long(), position_ids=positions).logits
    found = ours(ids(), seq_start_pos=PADDING)
    torch.testing.assert_close(found[mask], expected[mask], **TOLERANCE)


@decoders
@pytest.mark.parametrize('ragged', [False, True], ids=['even', 'ragged'])
def test_a_decoder_writes_what_theirs_writes(case: Case, ragged: bool) -> None:
    theirs = case.made()
    ours = AutoregressiveWrapper(from_huggingface(theirs))
    mask = visible() if ragged else torch.ones(2, LENGTH, dtype=torch.bool)
    written = theirs.generate(ids(), attention_mask=mask.long(), max_new_tokens=10, do_sample=False, pad_token_id=0)[:, LENGTH:]
    assert torch.equal(ours.generate(ids(), 10, temperature=0.0, **({'seq_start_pos': PADDING} if ragged else {})), written)


@decoders
@torch.no_grad()
def test_a_model_comes_back_as_it_was(case: Case) -> None:
    theirs = case.made()
    back = to_huggingface(from_huggingface(theirs), theirs.config.model_type)
    assert type(back) is type(theirs) and not back.training
    there = back.state_dict()
    assert there.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(there[name], tensor), name
    assert torch.equal(back(ids()).logits, theirs(ids()).logits)


@decoders
def test_nothing_of_theirs_is_inside(case: Case) -> None:
    ours = from_huggingface(case.made())
    assert not [part for part in ours.modules() if type(part).__module__.startswith('transformers')]
    assert 'transformers' in sys.modules
