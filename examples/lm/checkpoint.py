"""Checkpoints: one complete folder per step, and a file `latest` that names the newest.

    runs/first/
      latest                     step-000450
      step-000450/
        config.json              the model, as `model.save` writes it: its flags
        model.safetensors        and its weights
        training.json            settings, step, curves
        training.safetensors     state of the optimizer

A folder is written under another name, flushed to disk and then renamed; only then `latest` moves to it. So a kill at any moment
leaves either the old checkpoint or the new one. Nothing is pickled.
"""
import json
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from lm import Problem
from lm.workers import Workers
from x_transformers import AutoregressiveWrapper

ALONE = Workers()
FILES = ('config.json', 'model.safetensors', 'training.json', 'training.safetensors')


def save(folder: Path, step: int, model: Any, training: dict[str, Any], optimizer: Optimizer, workers: Workers = ALONE) -> Path:
    """Write the checkpoint of `step` and make it the latest; the ones before it are removed.

    Where several processes train, all call this, and the first writes what they hold together.
    """
    state = optimizer.state_dict()['state']
    memory = {f'{index}.{name}': workers.whole(value) for index, entry in state.items() for name, value in entry.items()}
    model = workers.whole_model(model)
    whole = folder / f'step-{step:06}'
    if not workers.first:
        return whole
    if latest(folder) == whole.name:                # a step is saved once: writing it again could only lose it
        return whole
    part = whole.with_suffix('.tmp')
    shutil.rmtree(part, ignore_errors=True)
    model.save(part)
    save_file(memory, part / 'training.safetensors')
    (part / 'training.json').write_text(json.dumps(training))
    for path in (*part.iterdir(), part):
        flush(path)
    shutil.rmtree(whole, ignore_errors=True)
    part.rename(whole)
    write_atomically(folder / 'latest', whole.name.encode())
    for other in folder.glob('step-*'):
        if other != whole:
            shutil.rmtree(other)
    return whole


def write_atomically(path: Path, content: bytes) -> None:
    """Under another name first, so that nobody ever reads half of it."""
    part = path.with_name(path.name + '.tmp')
    part.write_bytes(content)
    flush(part)
    part.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    if path.is_dir() and os.name == 'nt':        # Windows cannot flush a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find(folder: Path) -> Path:
    """The checkpoint that `folder` is, or the latest in it."""
    if (folder / 'config.json').is_file():
        return folder
    name = latest(folder)
    if name is None:
        raise Problem(f'{folder} holds no checkpoint: it has no file named latest. Name the folder that a run of train_lm.py left.')
    return folder / name


def latest(folder: Path) -> str | None:
    """The name of the newest complete checkpoint in `folder`."""
    try:
        return (folder / 'latest').read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def load(checkpoint: Path) -> AutoregressiveWrapper:
    """The model of a checkpoint, with its weights."""
    return AutoregressiveWrapper.load(checkpoint)


def load_training(checkpoint: Path) -> dict[str, Any]:
    """Settings, step and curves."""
    path = checkpoint / 'training.json'
    training = read_json(path)
    lacking = {'step', 'settings', 'corpus', 'losses', 'held_out'} - training.keys()
    if lacking:
        raise damaged(path, f'it has no {sorted(lacking)[0]}')
    return training


def load_optimizer(checkpoint: Path, optimizer: Optimizer, workers: Workers = ALONE) -> None:
    """Put back what the optimizer remembers of each parameter; each process takes its part."""
    path = checkpoint / 'training.safetensors'
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    try:
        for key, value in load_file(path).items():
            index, name = key.split('.')
            state[int(index)][name] = value
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, error) from error
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    for index, entry in state.items():
        if index >= len(parameters) or any(value.ndim and value.shape != parameters[index].shape for value in entry.values()):
            raise Problem(f'{path} does not fit {checkpoint / "model.safetensors"}. Put back the two files that were saved together.')
        for name, value in entry.items():
            entry[name] = workers.loaded(value, parameters[index]) if value.ndim else value
    optimizer.load_state_dict(dict(state=state, param_groups=optimizer.state_dict()['param_groups']))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise damaged(path, 'it is not a JSON object')
    return content


def damaged(path: Path, error: object) -> Problem:
    return Problem(f'{path} is missing or damaged ({error}). A checkpoint is complete only with {", ".join(FILES)}: '
                   'take it from a copy, or another checkpoint.')
