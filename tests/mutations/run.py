"""The mutation check: `python tests/mutations/run.py [NAME ...]` breaks one line at a time and expects a law to fail.

Each mutation is applied to a copy of the package, and only the laws that it names are run, against that copy. At the end the laws that
failed are run against a copy in which nothing is broken, where they must pass. Exit status 1 where a mutation survives. A run of all
writes RESULTS.md beside this file.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, NamedTuple

from mutation_table import MUTATIONS, ROOT, Mutation, broken

HERE, LAWS = Path(__file__).parent, ROOT / 'tests' / 'laws'
WORKERS, SECONDS = 2, 900
ASSERTED = ('AssertionError', 'Failed')  # what a law raises; anything else is a crash, which would be found without laws


class Run(NamedTuple):
    """What pytest says of some tests."""

    code: int
    ran: int
    failed: list[tuple[str, str]]  # tests and what they raised
    said: str


class Result(NamedTuple):
    mutation: Mutation
    verdict: str  # 'caught', or why not
    law: str  # the test that failed first
    seconds: float

    @property
    def where(self) -> str:
        before, _ = (ROOT / 'x_transformers' / self.mutation.file).read_text(encoding='utf-8').split(self.mutation.text)
        return f'{self.mutation.file}:{before.count(chr(10)) + 1}'


class Watch:
    """A plugin of pytest that notes what fails."""

    def __init__(self) -> None:
        self.ran, self.failed = 0, []

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        self.failed.append((node.nodeid.removeprefix('tests/'), call.excinfo.typename))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.ran += report.when == 'call'


def laws_of_copy(arguments: list[str], edit: Callable[[Path], None] = lambda package: None) -> Run:
    """Laws run against an edited copy of the package, in this process: it must be one that has not imported the package."""
    assert 'x_transformers' not in sys.modules
    import pytest

    with tempfile.TemporaryDirectory(prefix='mutation-') as folder:
        package = Path(shutil.copytree(ROOT / 'x_transformers', Path(folder, 'x_transformers')))  # bytecode too: it goes by dates
        edit(package)
        sys.path.insert(0, folder)
        os.environ['PYTHONPATH'] = folder
        os.chdir(folder)
        signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(SECONDS)
        watch, said = Watch(), io.StringIO()
        with redirect_stdout(said):
            options = ['-q', '-p', 'no:cacheprovider', '--rootdir', str(ROOT), '-c', str(ROOT / 'pyproject.toml')]
            code = pytest.main([*options, *arguments], [watch])
        signal.alarm(0)
        imported = sys.modules.get('x_transformers')
        assert imported is None or Path(imported.__file__ or '').parent == package, f'{imported} is not the copy {package}'
        os.chdir(ROOT)
    return Run(int(code), watch.ran, watch.failed, said.getvalue()[-800:])


def out_of_time(*_: Any) -> None:
    raise TimeoutError(f'no end within {SECONDS} seconds')


def check(mutation: Mutation) -> Result:
    began = time.monotonic()

    def edit(package: Path) -> None:
        target = package / mutation.file
        target.write_text(broken(mutation, package), encoding='utf-8')
        Path(cache_from_source(str(target))).unlink(missing_ok=True)

    run = laws_of_copy(['-x', *(str(LAWS / name) for name in mutation.laws.split()), '-k', mutation.k], edit)
    return Result(mutation, *judged(run, mutation.laws.startswith('../errors/')), time.monotonic() - began)


def judged(run: Run, of_errors: bool) -> tuple[str, str]:
    """The verdict, and the law that failed; where an error is missing, whatever else is raised in its place fails the law."""
    if run.code == 0:
        return f'SURVIVED {run.ran} tests', ''
    if run.code != 1 or not run.failed:
        return f'NOT JUDGED, pytest ended with {run.code}: {run.said}', ''
    law, how = run.failed[0]
    return ('caught' if of_errors or how in ASSERTED else f'CRASHED with {how}'), law


def row(result: Result) -> str:
    told = result.law or result.verdict.splitlines()[0]
    return f'| {result.mutation.name} | {result.where} | {told} | {result.seconds:.0f} |'.replace('[', '\\[')


def written(results: list[Result]) -> str:
    caught = sum(result.verdict == 'caught' for result in results)
    head = [
        '# The mutation check',
        '',
        'Written by `make mutations`: each row is a line of the library that was broken (`mutation_table.py` says how), and the first law',
        'that failed because of it. The same laws pass on the library as it is.',
        '',
        '| broken | line | caught by | seconds |',
        '|---|---|---|---|',
    ]
    return '\n'.join([*head, *map(row, results), '', f'{caught} of {len(results)} caught.', ''])


def checked(chosen: list[Mutation]) -> list[Result]:
    """Every mutation in a process of its own, which starts with torch and pytest imported and the package not."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'pytest', 'einops', 'loguru'])
    results = []
    with context.Pool(WORKERS, maxtasksperchild=1) as pool:
        for result in pool.imap(check, chosen, chunksize=1):
            results.append(result)
            print(f'{result.mutation.name:32} {result.where:32} {result.verdict:8} {result.law} {result.seconds:.0f} s', flush=True)
        laws = sorted({result.law for result in results if result.law})
        whole = pool.apply(laws_of_copy, ([str(ROOT / 'tests' / law) for law in laws],)) if laws else Run(0, 0, [], '')
    if whole.code not in (0, 1) or whole.ran < len(laws):
        raise SystemExit(f'the laws could not be run on the package as it is: {whole.said}')
    always = {law for law, _ in whole.failed}
    return [result._replace(verdict='FAILS ANYWAY') if result.law in always else result for result in results]


def main(names: list[str]) -> int:
    if unknown := sorted(set(names) - {mutation.name for mutation in MUTATIONS}):
        raise SystemExit(f'unknown mutations {unknown}; expected names of tests/mutations/mutation_table.py')
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    try:
        for mutation in chosen:
            broken(mutation, ROOT / 'x_transformers')
    except LookupError as error:
        raise SystemExit(str(error)) from None
    began = time.monotonic()
    results = checked(chosen)
    lost = [result for result in results if result.verdict != 'caught']
    print(f'\n{len(results) - len(lost)} of {len(results)} caught, {(time.monotonic() - began) / 60:.1f} minutes')
    for result in lost:
        print(f'not caught: {result.mutation.name}: {result.verdict}; strengthen {result.mutation.laws} (-k {result.mutation.k!r})')
    if not names:
        new = HERE / 'RESULTS.new'
        new.write_text(written(results), encoding='utf-8')
        new.replace(HERE / 'RESULTS.md')
    return 1 if lost else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
