"""The language model example trains alike by one process and by several, and any number of them goes on with its runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from parallel_work import EXAMPLES, run_example
from processes import Processes

SMALL = ['--set', 'dim=24', 'depth=2', 'heads=2', 'attn_dim_head=8', '--seq-len', '16', '--batch', '6', '--steps', '4', '--warmup', '2']
SMALL += ['--accumulate', '2', '--eval-every', '2', '--eval-windows', '8', '--save-every', '3', '--sample', '9', '--device', 'cpu']
SMALL += ['--data', str(EXAMPLES / 'train_lm.py')]


@pytest.fixture(scope='module')
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a single process."""
    folder = tmp_path_factory.mktemp('alone')
    assert run_example(0, [*SMALL, '--out', str(folder)])[0] == 0
    return folder


def curve(folder: Path) -> list[float]:
    """Losses of all steps, then bits per byte on held-out text."""
    from lm import checkpoint

    training = checkpoint.load_training(checkpoint.find(folder))
    return [*training['losses'], *(bits for _, bits in training['held_out'])]


def same(one: Path, other: Path) -> bool:
    return curve(one) == pytest.approx(curve(other), rel=1e-5)


@pytest.mark.parametrize('strategy', ['ddp', 'fsdp', 'tp'])
def test_two_processes_have_the_curve_of_one_and_three_go_on_with_it(
    strategy: str, alone: Path, processes: Processes, tmp_path: Path
) -> None:
    folder, longer = tmp_path / 'together', tmp_path / 'longer'
    told = processes.run(2, run_example, [*SMALL, '--parallel', strategy, '--out', str(folder)])
    assert [status for status, _, _ in told] == [0, 0]
    assert 'by 2 processes' in told[0][1] and 'bits per byte, on 8 windows' in told[0][1] and told[1][1] == ''
    assert same(folder, alone)

    shutil.copytree(alone, longer)
    assert run_example(0, ['--resume', str(longer), '--steps', '6'])[0] == 0
    told = processes.run(3, run_example, ['--resume', str(folder), '--steps', '6', '--parallel', 'ddp'])
    assert [status for status, _, _ in told] == [0, 0, 0]
    assert same(folder, longer)


def test_a_run_of_one_goes_on_in_parts_of_three(alone: Path, processes: Processes, tmp_path: Path) -> None:
    folder, longer = shutil.copytree(alone, tmp_path / 'together'), shutil.copytree(alone, tmp_path / 'longer')
    told = processes.run(3, run_example, ['--resume', str(folder), '--steps', '6', '--parallel', 'fsdp'])
    assert [status for status, _, _ in told] == [0, 0, 0]
    assert run_example(0, ['--resume', str(longer), '--steps', '6'])[0] == 0
    assert same(folder, longer)


def test_a_batch_that_cannot_be_split_is_refused_once(processes: Processes) -> None:
    told = processes.run(2, run_example, [*SMALL, '--batch', '5', '--parallel', 'ddp'])
    assert [status for status, _, _ in told] == [2, 2]
    assert '--batch 5 cannot be split among 2 processes' in told[0][2] and told[1][2] == ''


def test_torchrun_starts_it(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', str(EXAMPLES / 'train_lm.py')]
    command += [*SMALL, '--steps', '2', '--parallel', 'fsdp', '--out', str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('Saved in') == 1 and (tmp_path / 'loss.png').exists()
