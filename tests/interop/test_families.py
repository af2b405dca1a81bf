"""Models of `transformers` and ours that are made of them say the same, and come back as they were: for every family and case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from family_cases import CASES, Outputs

from x_transformers import load
from x_transformers.interop.huggingface import from_huggingface, to_huggingface
from x_transformers.interop.huggingface.converting import given_by
from x_transformers.interop.huggingface.families import FAMILIES
from x_transformers.interop.huggingface.family import Family
from x_transformers.interop.huggingface.tensors import Row, expanded

pytestmark = pytest.mark.filterwarnings('ignore:.*concerns training only')
every = pytest.mark.parametrize('name', CASES)
writing = pytest.mark.parametrize('name', [name for name, case in CASES.items() if case.kind.ours_write])

SYNONYMS = ('rope_parameters', 'original_max_position_embeddings')  # fields that say one thing in several ways


@cache
def theirs_of(name: str) -> Any:
    return CASES[name].made()


@cache
def what_they_say(name: str) -> Outputs:
    with torch.no_grad():
        return CASES[name].kind.theirs(theirs_of(name))


def family_of(name: str) -> str:
    return theirs_of(name).config.model_type


def test_every_family_has_a_case() -> None:
    assert {family_of(name) for name in CASES} == FAMILIES.keys()


@every
@torch.no_grad()
def test_outputs_are_theirs(name: str) -> None:
    found = CASES[name].kind.ours(from_huggingface(theirs_of(name)))
    for given, expected in what_they_say(name).items():
        assert expected.abs().max() > 0.1, 'numbers that say something'
        torch.testing.assert_close(found[given], expected, rtol=0, atol=1e-4, msg=lambda text, given=given: f'{given}: {text}')


@writing
@pytest.mark.parametrize('ragged', [False, True], ids=['even', 'ragged'])
def test_what_is_written_is_what_theirs_write(name: str, ragged: bool) -> None:
    kind, theirs = CASES[name].kind, theirs_of(name)
    assert kind.theirs_write and kind.ours_write
    assert torch.equal(kind.ours_write(from_huggingface(theirs), ragged), kind.theirs_write(theirs, ragged))


@every
@torch.no_grad()
def test_a_model_comes_back_as_it_was(name: str) -> None:
    theirs, family = theirs_of(name), FAMILIES[family_of(name)]
    ours: Any = from_huggingface(theirs)
    back = to_huggingface(ours, family.name)
    assert type(back) is type(theirs) and not back.training
    before, after = (family.with_body(type(theirs).__name__, model.state_dict()) for model in (theirs, back))
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key]) and not key.startswith(family.left_out)] == []
    before, after = given_by(theirs.config, theirs), given_by(back.config, back)
    said = family.fields_of(family.shape.flags_of(ours) or {}).keys() - {*family.training_only, *SYNONYMS}
    if not family.headless(type(theirs).__name__):
        assert [field for field in said if before.get(field) is not None and before[field] != after[field]] == []
    for given, expected in what_they_say(name).items():
        assert torch.equal(CASES[name].kind.theirs(back)[given], expected)


@every
def test_nothing_of_theirs_is_inside(name: str) -> None:
    ours = from_huggingface(theirs_of(name))
    assert all(type(part).__module__.startswith(('x_transformers.', 'torch.nn.')) for part in ours.modules())


@every
def test_files_keep_what_they_became(name: str, tmp_path: Path) -> None:
    ours = from_huggingface(theirs_of(name))
    ours.save(tmp_path)
    again = load(tmp_path)
    same = zip(ours.state_dict().items(), again.state_dict().items(), strict=True)
    assert repr(again) == repr(ours) and all(a == b and torch.equal(t, u) for (a, t), (b, u) in same)


@every
def test_a_config_alone_makes_a_new_model_of_that_shape(name: str) -> None:
    theirs, ours = theirs_of(name), from_huggingface(theirs_of(name))
    config = type(theirs.config).from_dict(theirs.config.to_dict())
    config.architectures = [type(theirs).__name__]
    if theirs.get_output_embeddings() is not None:
        config.tie_word_embeddings = given_by(theirs.config, theirs)['tie_word_embeddings']
    new = from_huggingface(config)
    shapes = lambda model: {key: tensor.shape for key, tensor in model.state_dict().items()}
    assert shapes(new) == shapes(ours) and new.training
    assert sum(p.numel() for p in new.parameters()) == sum(p.numel() for p in ours.parameters()), 'the same are tied'


@pytest.mark.parametrize('family', FAMILIES)
def test_every_entry_of_the_tables_counts(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one entry, or any one step of a row, some case of the family fails: what is in a table is tested by being there."""
    cases, whole = [name for name in CASES if family_of(name) == family], FAMILIES[family]
    for entry, rest in with_one_less(whole, cases):
        monkeypatch.setitem(FAMILIES, family, rest)
        assert any(map(fails, cases)), f'{entry} can be left out, and nothing is noticed'


def fails(name: str) -> bool:
    try:
        test_outputs_are_theirs(name)
        test_a_model_comes_back_as_it_was(name)
    except Exception:
        return True
    return False


def with_one_less(family: Family, cases: list[str]) -> Iterator[tuple[Any, Family]]:
    """Each entry that concerns one of the cases, and the family without it. What only refuses, or says nothing, concerns none."""
    config = given_by(theirs_of(cases[0]).config)
    for at, field in enumerate(family.fields):
        if field.training:
            continue
        if field.flags(config) or field.fields(family.shape.full({'dim': 16, 'depth': 2, 'num_tokens': 8, 'max_seq_len': 8})):
            yield field, replace(family, fields=(*family.fields[:at], *family.fields[at + 1 :]))
    for at, row in enumerate(family.rows):
        if any(concerns(row, family, name) for name in cases):
            shorter = (replace(row, steps=(*row.steps[:step], *row.steps[step + 1 :])) for step in range(len(row.steps)))
            for changed in ((), *((short,) for short in shorter)):
                yield row, replace(family, rows=(*family.rows[:at], *changed, *family.rows[at + 1 :]))


def concerns(row: Row, family: Family, name: str) -> bool:
    """Whether a model has tensors of a row that are no other name of another one."""
    tensors = family.with_body(CASES[name].model, theirs_of(name).state_dict())
    places = [tensor.data_ptr() for tensor in tensors.values()]
    alone = {key for key, tensor in tensors.items() if places.count(tensor.data_ptr()) == 1}
    return any(key in alone for each in expanded((row,), {*tensors}) for key in each.theirs)
