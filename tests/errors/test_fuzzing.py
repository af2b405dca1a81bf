"""Whatever is given to whatever is public, the answer is a result or one sentence of ours: a seeded share here, all with PAIRS=all."""

from __future__ import annotations

import os
import random
import warnings
from typing import Any

import pytest
import torch
from fuzzing import Target, calls, cases, constructors, is_known, is_ours, outcome

SHARE = 1.0 if os.environ.get('PAIRS') == 'all' else 0.12
NAMES = [*constructors(), *calls()]


@pytest.fixture(scope='module')
def targets() -> dict[str, Target]:
    return {**constructors(), **calls()}


@pytest.mark.parametrize('name', NAMES)
def test_wrong_arguments_never_reach_the_inside(name: str, targets: dict[str, Target]) -> None:
    target, chance, found = targets[name], random.Random(name), []
    for argument, kind, value in cases(target):
        if chance.random() < SHARE:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                error = outcome(target, argument, value)
            if error is not None and not is_ours(error) and not is_known(name, argument, kind, error):
                found.append(f'{argument} = {kind}: {type(error).__name__}: {error}')
    assert not found, '\n'.join(found)


@pytest.mark.parametrize('name', NAMES)
def test_what_the_wrong_arguments_replace_works(name: str, targets: dict[str, Target]) -> None:
    target: Any = targets[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert outcome(target, None, None) is None
