"""A checkpoint goes on with any strategy and any number of processes, and in one without a group."""

from __future__ import annotations

from pathlib import Path

import pytest
from parallel_cases import apart
from parallel_work import goes_on, language_model, make_optimizer, refuses, saves, train, trained
from processes import Processes

from x_transformers.parallel import load_checkpoint, save_checkpoint


@pytest.mark.parametrize('strategy, others', [('ddp', ('fsdp',)), ('fsdp', ('tp', 'fsdp')), ('tp', ('tp', 'ddp'))])
def test_what_two_processes_save_goes_on_in_one_and_in_three(
    strategy: str, others: tuple[str, ...], processes: Processes, tmp_path: Path
) -> None:
    folder = tmp_path / 'step 2'
    processes.run(2, saves, str(folder), strategy, 2)
    assert [path.name for path in tmp_path.iterdir()] == ['step 2']
    for other in others:
        assert processes.run(3, goes_on, str(folder), other, 3) == [''] * 3
    model = language_model(seed=9)
    optimizer = make_optimizer(model)
    assert load_checkpoint(folder, model, optimizer) == {'step': 2}
    assert apart(model.state_dict(), trained(0, 1)[0].state_dict()) == ''
    train(model, optimizer, slice(None), 2)
    assert apart(model.state_dict(), trained(0, 1, 2)[0].state_dict()) == ''


def test_what_one_saves_goes_on_in_two(processes: Processes, tmp_path: Path) -> None:
    model = language_model()
    optimizer = make_optimizer(model)
    train(model, optimizer, slice(None), 0, 1)
    save_checkpoint(tmp_path / 'alone', model, optimizer, extra={'step': 2})
    assert processes.run(2, goes_on, str(tmp_path / 'alone'), 'tp', 2) == [''] * 2


def test_folders_that_do_not_fit_are_refused_by_all(processes: Processes, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / 'whole', language_model())
    assert processes.run(2, refuses, str(tmp_path / 'whole')) == [[]] * 2
    assert [path.name for path in tmp_path.iterdir()] == ['whole']
