"""Whole random configurations, several flags at once in any kind of model, are refused or obey every law.

Hypothesis draws them and shrinks what fails to the fewest flags. CONFIGURATIONS says how many are tried; without it the same few each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import judged
from subjects import KINDS, MODEL_FLAGS, STACK_FLAGS, Case

from x_transformers import Decoder
from x_transformers.errors import FlagError

TRIED = int(os.environ.get('CONFIGURATIONS', '60'))


def configurations() -> st.SearchStrategy[Case]:
    """A kind of model and up to six of its flags."""
    names = {kind: sorted([*STACK_FLAGS, *(MODEL_FLAGS if kind == 'model' else ())]) for kind in KINDS}
    flags = lambda kind: st.lists(st.sampled_from(names[kind]), min_size=2, max_size=6, unique=True)
    return st.sampled_from(sorted(KINDS)).flatmap(lambda kind: flags(kind).map(lambda chosen: Case(kind, tuple(chosen))))


@settings(
    max_examples=TRIED,
    derandomize='CONFIGURATIONS' not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(configurations())
def test_a_random_configuration_is_refused_or_obeys_every_law(case: Case) -> None:
    judged(case)


@settings(max_examples=2 * TRIED, derandomize='CONFIGURATIONS' not in os.environ, deadline=None, database=None)
@given(st.lists(st.sampled_from(sorted(STACK_FLAGS)), min_size=3, max_size=8, unique=True))
def test_what_is_refused_does_not_depend_on_the_order_of_keywords(names: list[str]) -> None:
    case = Case('decoder', tuple(names))
    there, back = (built(dict(order)) for order in (case.stack.items(), reversed(case.stack.items())))
    assert there == back


def built(keywords: dict[str, object]) -> object:
    """The config of a decoder, or why there is none."""
    try:
        return Decoder(**keywords).config
    except FlagError as error:
        return str(error)
