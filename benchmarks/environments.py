"""A virtual environment for each opponent, with the torch that everybody has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
# torch first and pinned, then the package alone, then the few things it needs: nothing may bring another torch
NEEDS = {'x-transformers': ['einops', 'einx', 'loguru', 'packaging', 'numpy'], 'transformers': []}
MODULES = {
    'ours': 'flags_api',
    'x-transformers': 'flags_api',
    'transformers': 'transformers_api',
    'reference': 'reference',
    'limits': 'limits',
}


@dataclass(frozen=True)
class Contestant:
    """Who takes part: `name` is that of workloads.py, `label` that of tables."""

    name: str
    label: str
    python: str
    path: str

    def command(self, threads: int) -> list[str]:
        return [self.python, str(HERE / 'worker.py'), MODULES[self.name], str(threads)]

    def environment(self, threads: int) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'PYTHONDONTWRITEBYTECODE')}
        return {**kept, 'PYTHONPATH': self.path, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads), 'HF_HUB_OFFLINE': '1'}


def contestant(spec: str, envs: Path) -> Contestant:
    """`ours`, `reference`, `limits`, or a package like `x-transformers==2.0.1`."""
    name = re.split(r'[=<>~!]', spec)[0]
    if name not in MODULES:
        raise SystemExit(f'{spec!r} is unknown; expected one of {", ".join(n for n in MODULES if n != "limits")}, with a version perhaps')
    if name in NEEDS:
        return Contestant(name, spec, str(built(spec, name, envs)), str(HERE))
    return Contestant(name, name, sys.executable, f'{ROOT}:{HERE}')


def built(spec: str, name: str, envs: Path) -> Path:
    """The interpreter of the environment of `spec`, made when it is not there."""
    where = envs / re.sub(r'[^\w.]+', '-', spec)
    python = where / 'bin' / 'python'
    if (where / '.ready').exists():
        return python
    print(f'building {where} (once)', file=sys.stderr)
    subprocess.run([sys.executable, '-m', 'venv', str(where)], check=True)
    pip = [str(python), '-m', 'pip', 'install', '-qq', '--disable-pip-version-check', '-c', str(ROOT / 'constraints.txt')]
    subprocess.run([*pip, 'torch'], check=True)
    subprocess.run([*pip, '--no-deps', spec] if NEEDS[name] else [*pip, spec], check=True)
    if NEEDS[name]:
        subprocess.run([*pip, *NEEDS[name]], check=True)
    (where / '.ready').touch()
    return python
