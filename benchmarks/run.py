"""Measures this library against others, and against the same work written by hand.

    python benchmarks/run.py                                      # every workload, every opponent
    python benchmarks/run.py --workload decode,train --against x-transformers==2.0.1,transformers,reference --threads 1 --repeats 5
    python benchmarks/run.py --page                               # docs/benchmarks.md from the results that are there

Each contestant is a process of its own, with the same torch, and waits until it is told to go: only one computes at a time, and they
go in turns (A B A B ...), so that what else the machine does falls on all of them. A ratio is the median of the ratios of the turns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environments import HERE, ROOT, Contestant, contestant
from report import show, write_page
from workloads import OURS, WORKLOADS, Case, Workload, bytes_read, flag_cases, operations

AGAINST = 'x-transformers==2.0.1,transformers,reference'


class Running:
    """A contestant's process."""

    def __init__(self, who: Contestant, threads: int):
        self.who, self.process = who, subprocess.Popen(
            who.command(threads), env=who.environment(threads), cwd='/', text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command) + '\n')
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ''
        return json.loads(line) if line else {'error': 'its process ended (out of memory, or it cannot be imported)'}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def running(contestants: Sequence[Contestant], threads: int) -> Iterator[dict[str, Running]]:
    started = {who.name: Running(who, threads) for who in contestants}
    try:
        yield started
    finally:
        for each in started.values():
            each.close()


def measure(case: Case, started: dict[str, Running], repeats: int, device: str, clock: str = 'wall') -> dict[str, Any]:
    """Seconds of each turn of each contestant that can do it, and what the others said."""
    size, seconds, errors = {**case.size, 'device': device}, {}, {}
    for name, one in started.items():
        answer = one.ask(prepare=[case.kind, size])
        answer = answer if 'error' in answer else one.ask(go=True)  # the first time is not counted
        if 'error' in answer:
            errors[name] = answer['error']
        else:
            seconds[name] = []
    for _ in range(repeats):
        for name, times in seconds.items():
            times.append(started[name].ask(go=True).get(clock, math.nan))
    return {'seconds': seconds, 'errors': errors}


def peak(case: Case, who: Contestant, threads: int, device: str) -> float | None:
    """MiB that running once adds to a fresh process, in which the same ran before at a tenth of the length."""
    with running([who], threads) as started:
        one, size = started[who.name], {**case.size, 'device': device}
        small = {**size, 'length': 256} if case.kind == 'stack' else {**size, 'vocabulary': 64, 'length': 64}
        for warm in ({'prepare': [case.kind, small]}, {'go': True}):
            one.ask(**warm)
        before, after = one.ask(prepare=[case.kind, size]), one.ask(go=True)
    return None if 'error' in before or 'error' in after else after['peak'] - (0 if device == 'cuda' else before['peak'])


def row(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """Medians, and the ratios of ours to each other's turn by turn with their quartiles."""
    seconds, made = found['seconds'], {'case': case.name, 'errors': found['errors'], 'at': case.at}
    made['ms'] = {name: round(1000 * statistics.median(times), 3) for name, times in seconds.items()}
    made['ratio'] = {}
    for name, times in seconds.items():
        if name != OURS and OURS in seconds:
            ratios = sorted(a / b for a, b in zip(seconds[OURS], times))
            quarter = len(ratios) // 4
            made['ratio'][name] = [round(x, 3) for x in (statistics.median(ratios), ratios[quarter], ratios[-1 - quarter])]
    return made


def exponents(rows: list[dict[str, Any]], what: str) -> dict[str, float]:
    """The slope of log `what` by log length, of each contestant that has three lengths."""
    made = {}
    for name in {name for r in rows for name in r.get(what, {})}:
        points = [(math.log(r['at']), math.log(r[what][name])) for r in rows if r['at'] and r.get(what, {}).get(name, 0) > 0]
        if len(points) > 2:
            x, y = zip(*points)
            made[name] = round(statistics.linear_regression(x, y).slope, 2)
    return made


def limits(threads: int, device: str, clock: str) -> dict[str, float]:
    """Operations and bytes per second that this machine reaches, the best of several turns."""
    with running([contestant('limits', HERE)], threads) as started:
        best = {}
        n = {'matmul': 8192 if device == 'cuda' else 1024, 'read': 8192}
        for kind, amount in (('matmul', 2 * n['matmul'] ** 3), ('read', 4 * n['read'] ** 2)):
            found = measure(Case(kind, kind, {'n': n[kind]}), started, 7, device, clock)
            best[kind] = amount / min(found['seconds']['limits'])
    return best


def of_limit(case: Case, limit: str, ms: dict[str, float], reached: dict[str, float]) -> dict[str, float]:
    """The share of what the machine allows that each contestant reaches."""
    if limit == 'matmul':
        return {name: round(operations(case) / reached['matmul'] / (t / 1000), 3) for name, t in ms.items()}
    return {name: round(bytes_read(case) * case.size['new'] / reached['read'] / (t / 1000), 3) for name, t in ms.items()}


def run(workload: Workload, contestants: Sequence[Contestant], options: argparse.Namespace, reached: dict[str, float]) -> dict[str, Any]:
    repeats, rows = options.repeats or workload.repeats, []
    cases = workload.cases or flag_cases()
    with running(contestants, options.threads) as started:
        for case in cases:
            found = measure(case, {name: one for name, one in started.items() if name in case.by}, repeats, options.device, options.clock)
            rows.append(row(case, found))
            if workload.limit:
                rows[-1]['of_limit'] = of_limit(case, workload.limit, rows[-1]['ms'], reached)
    if workload.memory:
        for case, made in zip(cases, rows):
            peaks = {who.name: peak(case, who, options.threads, options.device) for who in contestants if who.name in made['ms']}
            made['mib'] = {name: round(mib, 1) for name, mib in peaks.items() if mib is not None}
    told = {name: getattr(workload, name) for name in ('shows', 'bar', 'base')}
    made = {'workload': workload.name, **told, 'clock': options.clock, 'repeats': repeats, 'rows': rows}
    grows = {what: exponents(rows, what) for what in ('ms', 'mib')}
    return {**made, 'exponents': {what: found for what, found in grows.items() if found}}


def machine(threads: int, device: str, reached: dict[str, float]) -> dict[str, Any]:
    """What the numbers depend on; no name of the machine and no path."""
    code = 'import json, torch; print(json.dumps([torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else None]))'
    torch, gpu = json.loads(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())
    facts = {'cpu': cpu, 'cores': os.cpu_count(), 'threads': threads, 'torch': torch}
    facts |= {'python': platform.python_version()}
    facts |= {'matmul_gflops': round(reached['matmul'] / 1e9, 1), 'read_gb_s': round(reached['read'] / 1e9, 1)}
    return facts | ({'gpu': gpu} if device == 'cuda' else {})


def main() -> None:
    names = [w.name for w in WORKLOADS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workload', default=','.join(names), help=f'some of {", ".join(names)}')
    parser.add_argument('--against', default=AGAINST, help='opponents: packages with a version perhaps, and reference')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--repeats', type=int, help='turns of each contestant; by default as many as the workload says')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--clock', choices=('wall', 'cpu'), default='wall', help='cpu: processor time, where others use the machine')
    parser.add_argument('--envs', type=Path, default=HERE / '.envs', help='where the environments of opponents are')
    parser.add_argument('--results', type=Path, default=HERE / 'results', help='where results go')
    parser.add_argument('--page', action='store_true', help='measure nothing: write docs/benchmarks.md anew')
    options = parser.parse_args()
    if not options.page:
        unknown = set(options.workload.split(',')) - set(names)
        if unknown:
            raise SystemExit(f'unknown workload {sorted(unknown)[0]!r}; expected some of {", ".join(names)}')
        contestants = [contestant(spec, options.envs) for spec in (OURS, *filter(None, options.against.split(',')))]
        reached = limits(options.threads, options.device, options.clock)
        facts = machine(options.threads, options.device, reached)
        print(*(f'{name}: {value}' for name, value in facts.items()), sep='\n')
        options.results.mkdir(parents=True, exist_ok=True)
        for workload in WORKLOADS:
            if workload.name in options.workload.split(','):
                found = {**run(workload, contestants, options, reached), 'machine': facts, 'labels': {c.name: c.label for c in contestants}}
                suffix = '' if (options.device, options.threads) == ('cpu', 1) else f'-{options.device}-{options.threads}'
                (options.results / f'{workload.name}{suffix}.json').write_text(json.dumps(found, indent=1) + '\n')
                print(show(found), flush=True)
    if options.results == HERE / 'results':
        write_page(ROOT / 'docs' / 'benchmarks.md', options.results, names)


if __name__ == '__main__':
    main()
