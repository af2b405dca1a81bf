"""docs/combinations.md is of the code as it is: its flags and laws, all that is refused alone, and a sample of what is refused together."""

from __future__ import annotations

import random
import re

from combinations import PAGE, grouped, laws, told
from laws import LAWS
from pairs import every_pair, refusal, singles
from subjects import KINDS, MODEL_FLAGS, STACK_FLAGS

TEXT = PAGE.read_text()
STALE = 'docs/combinations.md is not of this code: run make test-all'


def test_the_page_has_the_flags_and_laws_that_there_are() -> None:
    rows = re.findall(r'^\| `(\w+)` \|', TEXT, re.MULTILINE)
    assert rows == [*STACK_FLAGS, *MODEL_FLAGS], STALE
    assert laws() in TEXT, STALE
    assert f'{len(rows)} flags, {sum(len(list(every_pair(kind))) for kind in KINDS)} pairs, {len(LAWS)} laws, ' in TEXT, STALE


def test_the_page_tells_what_is_refused() -> None:
    alone, together = told(TEXT)
    found = {(case.kind, *case.flags) for kind in KINDS for case in singles(kind) if refusal(case) is not None}
    assert alone == found, STALE
    pairs = [case for kind in KINDS for case in every_pair(kind)]
    listed = [case for case in pairs if (case.kind, *case.flags) in together]
    assert len(listed) == len(together), STALE
    draw = random.Random(0)
    for case in (*draw.sample(pairs, 600), *draw.sample(listed, 200)):
        with_reason = (case.kind, *case.flags) in together or any((case.kind, name) in alone for name in case.flags)
        assert with_reason == (refusal(case) is not None), f'{case}: {STALE}'


def test_pairs_are_told_in_few_words_and_none_is_lost() -> None:
    pairs = {('a', 'x'), ('a', 'y'), ('b', 'x'), ('b', 'y'), ('c', 'x')}
    assert grouped(pairs) == [(['a', 'b'], ['x', 'y']), (['c'], ['x'])]
