"""docs/combinations.md: which flags go together. Written from what `pairs.py` found; parts of it are checked against the code by tests."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from laws import LAWS
from pairs import FOUND, ROOT, cases, every_pair, fingerprint, judged, known, refusal, same_as, singles
from subjects import KINDS, MODEL_FLAGS, STACK_FLAGS, Case

PAGE = ROOT / 'docs' / 'combinations.md'
HEAD = """# What goes together

Written by `make test-all`; do not edit. Any flags that are not listed as refused below work together, in pairs: each that was judged (see
Counts) obeys every law. A combination is answered at once by building it:

    python -m x_transformers.flags --pair attn_selective rotary_xpos

Kinds of model: a **decoder**, an **encoder**, an **encoder-decoder** (`XTransformer`) with the flags in both halves, or in the decoder
alone where the encoder refuses them, and a **model** around a decoder (an encoder with CLS tokens), whose own flags are paired with one
another and with those of the stack. Each flag is on as in its example in [flags.md](flags.md). Pairs of which one flag needs the other
are that flag alone.
"""
Refusals = dict[str, dict[str, set[tuple[str, ...]]]]  # by reason and kind


def page(found: dict[str, dict[str, Any]], misuses: int) -> str:
    """The whole page of what was found, by case."""
    return '\n'.join([HEAD, counts(found, misuses), laws(), table(found), refused_alone(found), refused_pairs(found)])


# ---------------------------------------------------------------------- counts


def counts(found: dict[str, dict[str, Any]], misuses: int) -> str:
    by_kind = dict.fromkeys(KINDS, (0, 0))
    for case, record in everything(found):
        if len(case.flags) == 2:
            pairs, refused = by_kind[case.kind]
            by_kind[case.kind] = (pairs + 1, refused + ('refused' in record))
    lines = ['## Counts', '', '| kind of model | flags | pairs | of them refused |', '| --- | --- | --- | --- |']
    lines += [f'| {kind} | {len(singles(kind)) - 1} | {pairs} | {refused} |' for kind, (pairs, refused) in by_kind.items()]
    total, refused = (sum(each) for each in zip(*by_kind.values()))
    flags = len(STACK_FLAGS) + len(MODEL_FLAGS)
    lines += ['', f'{flags} flags, {total} pairs, {len(LAWS)} laws, {refused} refusals, {misuses} misuses.']
    judged = sum('unjudged' not in record for record in found.values())
    lines += [
        '',
        f'Judged by the laws: {"all" if judged == len(found) else judged} of {len(found)} cases. A case is what can be on at once: pairs '
        'that switch on the same are one, and so is each flag alone. Flags are those of the catalogue that have an example; pairs and '
        'refusals are counted by `tests/laws/pairs.py`, laws stand in `tests/laws/laws.py`, misuses are the tests in `tests/errors`.',
        '',
    ]
    return '\n'.join(lines)


def count_misuses() -> int:
    """How many tests there are in tests/errors."""
    command = [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-p', 'no:cacheprovider', 'tests/errors']
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)}).stdout
    return int(re.search(r'(\d+) tests? collected', told)[1])  # type: ignore[index]


# ---------------------------------------------------------------------- laws, and what they say nothing of


def laws() -> str:
    return '\n'.join(['## Laws', '', *(f'- **{law.name}**: {law.sentence}' for law in LAWS.values()), ''])


def table(found: dict[str, dict[str, Any]]) -> str:
    """Flag by law: the kinds of model in which it holds, or a number for the reason why it says nothing there."""
    reasons: dict[str, int] = {}
    alone = {(case.kind, *case.flags): record for case, record in everything(found) if len(case.flags) == 1}
    rows = []
    for flag in (*STACK_FLAGS, *MODEL_FLAGS):
        records = {kind: alone[kind, flag] for kind in KINDS if (kind, flag) in alone}
        said = lambda record, law: 'refused' if 'refused' in record else record['laws'][law]
        cells = [cell({kind: said(record, law) for kind, record in records.items()}, reasons) for law in LAWS]
        rows.append(f'| `{flag}` | {" | ".join(cells)} |')
    marks = 'D holds in a decoder, E in an encoder, B in both halves of an encoder-decoder, M in a model; – refused when built'
    lines = ['## Flag by law', '', f'{marks}; a number says why a law says nothing of it.', '']
    lines += [f'| flag | {" | ".join(LAWS)} |', '| --- ' * (len(LAWS) + 1) + '|', *rows, '']
    return '\n'.join([*lines, *(f'{number}. {reason}.' for reason, number in reasons.items()), ''])


LETTERS = {'decoder': 'D', 'encoder': 'E', 'encoder-decoder': 'B', 'model': 'M'}


def cell(said: dict[str, str | None], reasons: dict[str, int]) -> str:
    """`D B E1`: letters with a number where the law says nothing."""
    shown = lambda why: '' if why is None else '–' if why == 'refused' else str(reasons.setdefault(why, len(reasons) + 1))
    return ' '.join(LETTERS[kind] + shown(why) for kind, why in said.items())


# ---------------------------------------------------------------------- refusals


def everything(found: dict[str, dict[str, Any]]) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Every case with its record; those that switch on the same share one."""
    by_keywords = {same_as(case): found[str(case)] for case in cases()}
    for kind in KINDS:
        for case in (*singles(kind), *every_pair(kind)):
            yield case, by_keywords[same_as(case)]


def refused_alone(found: dict[str, dict[str, Any]]) -> str:
    by_reason: Refusals = defaultdict(lambda: defaultdict(set))
    for case, record in everything(found):
        if 'refused' in record and len(case.flags) == 1:
            by_reason[reason_of(record['refused'])][case.kind].add(case.flags)
    lines = ['## Refused whatever else is on', '']
    for reason, kinds in sorted(by_reason.items()):
        lines += [f'**{reason}**', '', *(f'- {kind}: {spelt(flag for (flag,) in flags)}' for kind, flags in kinds.items()), '']
    return '\n'.join(lines)


def refused_pairs(found: dict[str, dict[str, Any]]) -> str:
    """Grouped by reason; flags that are refused with the same others stand together."""
    alone = {(case.kind, *case.flags) for case, record in everything(found) if 'refused' in record and len(case.flags) == 1}
    by_reason: Refusals = defaultdict(lambda: defaultdict(set))
    for case, record in everything(found):
        if 'refused' in record and len(case.flags) == 2 and not any((case.kind, name) in alone for name in case.flags):
            by_reason[reason_of(record['refused'])][case.kind].add(case.flags)
    lines = ['## Refused together', '']
    for reason, kinds in sorted(by_reason.items()):
        lines += [f'**{reason}**', '']
        same: dict[frozenset[tuple[str, ...]], list[str]] = defaultdict(list)
        for kind, pairs in kinds.items():
            same[frozenset(pairs)].append(kind)
        for pairs, where in same.items():
            lines += [f'- {", ".join(where)}: {spelt(left)} with {spelt(right)}' for left, right in grouped(pairs)]
        lines.append('')
    return '\n'.join(lines)


def grouped(pairs: Iterable[tuple[str, ...]]) -> list[tuple[list[str], list[str]]]:
    """Pairs as few products: (flags, what each of them is refused with)."""
    partners: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        partners[one].add(other)
    same: dict[frozenset[str], list[str]] = defaultdict(list)
    for one, others in partners.items():
        same[frozenset(others)].append(one)
    return sorted((sorted(ones), sorted(others)) for others, ones in same.items())


def reason_of(message: str) -> str:
    """The reason of a refusal, without the flags and values in front of it."""
    message = re.sub(r'\b(enc|dec)_', '', message)
    told = re.search(r'(?:cannot be combined(?: with [^:]*)?|is not possible here[^:]*): (.*)', message, re.DOTALL)
    reason = told[1] if told else message
    return re.sub(r'=(\{.*?\}|\(.*?\)|[\d.]+\b)', '=…', ' '.join(reason.replace('cross_attn_', 'attn_').split()))


def spelt(names: Iterable[str]) -> str:
    return ', '.join(f'`{name}`' for name in sorted(names))


# ---------------------------------------------------------------------- reading and writing


def told(text: str) -> tuple[set[tuple[str, str]], set[tuple[str, str, str]]]:
    """What a page says is refused: (kind, flag) and (kind, flag, flag)."""
    alone, together = set(), set()
    for line in text.splitlines():
        kinds, _, flags = line.removeprefix('- ').partition(': ')
        if not line.startswith('- ') or not set(kinds.split(', ')) <= KINDS.keys():
            continue
        left, _, right = (re.findall(r'`(\w+)`', part) for part in flags.partition(' with '))
        for kind in kinds.split(', '):
            alone |= {(kind, name) for name in left if not right}
            together |= {(kind, one, other) for one in left for other in right}
    return alone, together


def write(text: str) -> None:
    """In one step: whoever reads meanwhile finds the old page or the new one."""
    new = PAGE.with_suffix('.new')
    new.write_text(text)
    new.replace(PAGE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--folder', type=Path, default=FOUND / fingerprint(), help='where verdicts are kept; by default those of this code')
    parser.add_argument('--partial', action='store_true', help='write the page of a run that goes on; it says how many cases are judged')
    asked = parser.parse_args()
    found = known(asked.folder)
    missing = [case for case in cases() if 'broken' in found.get(str(case), {'broken': ''})]
    if missing and not asked.partial:
        sys.stderr.write(f'{len(missing)} cases are not judged or broken, such as {missing[0]}; run tests/laws/pairs.py to the end first\n')
        return 1
    found |= {str(case): built(case) for case in missing}
    text = page({str(case): found[str(case)] for case in cases()}, count_misuses())
    write(text)
    minutes = sum(record['seconds'] for record in found.values()) / 60
    sys.stdout.write(next(line for line in text.splitlines() if ' refusals, ' in line) + f' {minutes:.0f} CPU minutes.\n')
    return 0


def built(case: Case) -> dict[str, Any]:
    """What is known of a case that laws have not judged: pairs are only built, single flags are judged."""
    if len(case.flags) < 2:
        return {**judged(case), 'seconds': 0.0}
    why = refusal(case)
    return {'seconds': 0.0, **({'unjudged': True, 'laws': dict.fromkeys(LAWS)} if why is None else {'refused': why})}


if __name__ == '__main__':
    sys.exit(main())
