"""Recorded numbers of x-transformers 2.0.1: outputs, gradients and state-dict keys of the same models here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from check_goldens import check

HERE = Path(__file__).parent
CASES = {case['name']: case for case in json.loads((HERE / 'index.json').read_text())['cases']}


@cache
def arrays() -> dict[str, Any]:
    with np.load(HERE / 'arrays.npz') as store:
        return {name: store[name] for name in store.files}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', CASES)
def test_the_numbers_of_2_0_1_come_out(name: str) -> None:
    torch.set_num_threads(1)
    stage, problems = check(CASES[name], arrays(), strict_keys=True)
    assert not stage, (stage, problems)
