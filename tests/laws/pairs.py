"""Every pair of flags, in every kind of model: refused when built, for a reason that names what clashes, or subject to all laws.

`python tests/laws/pairs.py` runs what `make test-all` runs and writes one line of JSON per case, so that a run that was cut off
goes on where it was; `python tests/laws/combinations.py` makes docs/combinations.md of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import torch
from laws import verdict
from sizes import make_small
from subjects import KINDS, MODEL_FLAGS, STACK_FLAGS, Case

from x_transformers.errors import FlagError

ROOT = Path(__file__).parents[2]
FOUND = ROOT / '.pairs'  # verdicts of the code as it is; not under version control


def singles(kind: str) -> list[Case]:
    """One case for no flag at all, and for each."""
    names = MODEL_FLAGS if kind == 'model' else STACK_FLAGS
    return [Case(kind, ()), *(Case(kind, (name,)) for name in names)]


def every_pair(kind: str) -> Iterator[Case]:
    """Each pair of flags once; flags of the model around a stack are paired with each other and with those of the stack."""
    if kind == 'model':
        own = [*combinations(MODEL_FLAGS, 2), *product(MODEL_FLAGS, STACK_FLAGS)]
    else:
        own = list(combinations(STACK_FLAGS, 2))
    yield from (Case(kind, pair) for pair in own)


def cases() -> list[Case]:
    """All of them but those that switch on what another does: flags whose example needs another are its pair with that other."""
    every = (case for kind in KINDS for case in (*singles(kind), *every_pair(kind)))
    found: dict[Any, Case] = {}
    for case in every:
        found.setdefault(same_as(case), case)
    return list(found.values())


def same_as(case: Case) -> Any:
    """What cases have in common that switch on the same."""
    return case.kind, frozenset((name, spelt(value)) for name, value in case.keywords.items())


def spelt(value: Any) -> str:
    return type(value).__name__ if isinstance(value, torch.nn.Module) else repr(value)


def judged(case: Case) -> dict[str, Any]:
    """What is found of a case: laws that hold, or why it is refused. Anything else is raised."""
    try:
        return {'laws': verdict(case)}
    except FlagError as error:
        named = tuple(name for name in case.flags if speaks_of(str(error), case.kind, name))
        if not named or not refused(case.kind, named):
            raise AssertionError(f'{case} is refused for what {named} do not explain: {error}') from error
        return {'refused': str(error)}


def speaks_of(message: str, kind: str, name: str) -> bool:
    """Whether a refusal names a flag or what switches it on. What is said of cross-attention may be inherited; where CLS tokens
    are on, the stack is an encoder, which names itself.
    """
    return name in ('use_cls_token', 'num_cls_tokens') or any(key in message for key in Case(kind, (name,)).keywords)


@cache
def refused(kind: str, flags: tuple[str, ...]) -> bool:
    """Whether these flags are refused whatever else is on."""
    return refusal(Case(kind, flags)) is not None


def refusal(case: Case) -> str | None:
    """Why a case cannot be built, or None."""
    try:
        KINDS[case.kind](case)
    except FlagError as error:
        return str(error)
    return None


def sample(count: int, seed: int = 0) -> list[Case]:
    """The same cases in every process: a share of the pairs of each kind."""
    draw = random.Random(seed)
    by_kind = [[case for case in cases() if case.kind == kind and len(case.flags) == 2] for kind in KINDS]
    return [case for each in by_kind for case in draw.sample(each, count * len(each) // sum(map(len, by_kind)))]


# ---------------------------------------------------------------------- running all of them


def fingerprint() -> str:
    """Of the code that verdicts are of."""
    files = sorted([*(ROOT / 'x_transformers').rglob('*.py'), *Path(__file__).parent.glob('*.py')])
    return hashlib.sha256(b''.join(file.read_bytes() for file in files)).hexdigest()[:12]


def known(folder: Path) -> dict[str, dict[str, Any]]:
    """What was found so far, by case."""
    lines = [line for file in sorted(folder.glob('*.jsonl')) for line in file.read_text().splitlines()]
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # cut off while it was written
            continue
        found[record['case']] = record
    return found


def work(folder: Path, part: int, parts: int, flags: set[str]) -> None:
    """One process: judges its part of the cases that are not known yet, in an order that soon meets every flag."""
    torch.set_num_threads(1)
    make_small()
    todo, done = [case for case in cases() if not flags or flags & set(case.flags)], known(folder)
    random.Random(0).shuffle(todo)
    with (folder / f'{part}.jsonl').open('a') as out:
        for case in todo[part::parts]:
            before = done.get(str(case))
            if before is not None and 'broken' not in before:
                continue
            began = time.process_time()
            try:
                record = judged(case)
            except Exception as error:  # what breaks is told at the end, with all the rest
                record = {'broken': f'{type(error).__name__}: {error}'}
            out.write(json.dumps({'case': str(case), **record, 'seconds': round(time.process_time() - began, 4)}) + '\n')
            out.flush()


def run(folder: Path, workers: int, flags: str) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, '--folder', str(folder), '--workers', str(workers), '--flags', flags, '--part']
    started = [subprocess.Popen([*command, str(part)]) for part in range(workers)]
    ended = [process.wait() for process in started]
    if any(ended):
        raise SystemExit('a process of pairs ended early; run it again to go on')
    return known(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workers', type=int, default=2, help='processes')
    parser.add_argument('--folder', type=Path, default=FOUND / fingerprint(), help='where verdicts are kept; by default those of this code')
    parser.add_argument('--flags', default='', metavar='NAME,NAME', help='only pairs with one of these flags')
    parser.add_argument('--part', type=int, help='be one of the processes')
    asked = parser.parse_args()
    if asked.part is not None:
        work(asked.folder, asked.part, asked.workers, set(filter(None, asked.flags.split(','))))
        return 0
    found = run(asked.folder, asked.workers, asked.flags)
    broken = [f'{record["case"]}: {record["broken"]}' for record in found.values() if 'broken' in record]
    sys.stdout.write('\n'.join([*broken, f'{len(found)} cases, {len(broken)} broken']) + '\n')
    return int(bool(broken))


if __name__ == '__main__':
    sys.exit(main())
