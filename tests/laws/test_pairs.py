"""Any two flags together either are refused when built, with what clashes named, or obey every law.

A seeded sample of pairs, in every kind of model, runs with the other tests; `make test-all` runs every pair.
"""

from __future__ import annotations

import pytest
from laws import LAWS
from pairs import judged, sample
from subjects import KINDS, Case

SAMPLE = 800  # of some 40,000


@pytest.mark.parametrize('case', sample(SAMPLE), ids=str)
def test_a_pair_is_refused_by_name_or_obeys_every_law(case: Case) -> None:
    found = judged(case)
    assert found.get('refused') or found['laws'].keys() == LAWS.keys()


@pytest.mark.parametrize('kind', KINDS)
def test_every_law_says_something_of_a_model_without_flags_or_why_not(kind: str) -> None:
    found = judged(Case(kind, ()))['laws']
    assert {name for name, reason in found.items() if reason is None} >= {'rebuilt', 'rows', 'hidden', 'backends', 'repeated', 'reached'}
    assert all(reason is None or len(reason) > 10 for reason in found.values())
