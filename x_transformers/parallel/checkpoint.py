"""Checkpoints of parallel training, on torch.distributed.checkpoint: every process writes what it holds.

Names are those of the plain model, whatever the strategy, so a checkpoint goes on with any other, with any number of processes,
and in a single one without a process group. The folder appears in one step, complete.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.optim import Optimizer

from x_transformers.errors import CheckpointError, InputError, quoted
from x_transformers.files.atomic import UNFINISHED, flush_folder, unwritable
from x_transformers.files.fitting import Fit
from x_transformers.parallel.parts import part_like, whole

EXTRA = 'extra.json'
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
Folder = str | os.PathLike[str]


def save_checkpoint(folder: Folder, model: nn.Module, optimizer: Optimizer | None = None, *, extra: dict[str, Any] | None = None) -> None:
    """Write model, optimizer and `extra` (numbers, texts, lists and dicts of them) into a new folder that all processes can reach.

    All processes call this. The folder is there when it is complete, and not before; one that is there is not written over.
    """
    folder = check_arguments(folder, model, optimizer)
    text = as_json(extra)
    part = Path(by_first(lambda: str(begin(folder))))
    state = states(model, optimizer)
    try:
        with one_or_many():
            save(mapped(state, in_order), checkpoint_id=part)
    except CheckpointException as error:
        by_first(lambda: shutil.rmtree(part, ignore_errors=True))
        raise CheckpointError(f'{folder} cannot be written ({reason_of(error)}); make room, or name another folder') from error
    by_first(lambda: finish(part, folder, text))


def load_checkpoint(folder: Folder, model: nn.Module, optimizer: Optimizer | None = None) -> dict[str, Any]:
    """Take the numbers of a checkpoint into a model of the same flags, parallel or not, and into its optimizer; returns `extra`.

    All processes call this, if there are several. Names and shapes are compared before any number is changed. Load what you trust:
    PyTorch keeps the list of what a checkpoint holds, and settings of optimizers, as pickles.
    """
    folder = check_arguments(folder, model, optimizer)
    state = states(model, optimizer)
    check_fit(folder, state['model'], type(model).__name__, optimizer is not None)
    loaded = mapped(state, in_order)
    try:
        with one_or_many():
            load(loaded, checkpoint_id=folder, planner=DefaultLoadPlanner(allow_partial_load=True))
    except CheckpointException as error:
        raise CheckpointError(f'{folder} cannot be read ({reason_of(error)}); take it from a copy, or another checkpoint') from error
    set_model_state_dict(model, paired(loaded['model'], state['model']))
    if optimizer is not None:
        set_optimizer_state_dict(model, optimizer, paired(loaded['optimizer'], state['optimizer']))
    return json.loads((folder / EXTRA).read_text())


def gather(model: nn.Module, optimizer: Optimizer | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """All numbers of the model, by the names of the plain one, and the state of the optimizer, by the names of its parameters.

    They are on the CPU of the first process; elsewhere both are empty. All processes call this.
    """
    memory = {} if optimizer is None else get_optimizer_state_dict(model, optimizer, options=WHOLE)
    return get_model_state_dict(model, options=WHOLE), memory


def states(model: nn.Module, optimizer: Optimizer | None) -> dict[str, Any]:
    """What is written, as each process holds it."""
    found: dict[str, Any] = {'model': get_model_state_dict(model)}
    return found if optimizer is None else {**found, 'optimizer': get_optimizer_state_dict(model, optimizer)}


def check_arguments(folder: Any, model: Any, optimizer: Any) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise InputError(f'folder={quoted(folder)} is not possible; expected a path')
    if not isinstance(model, nn.Module):
        raise InputError(f'model={quoted(model)} is not possible; expected a module')
    if not (optimizer is None or isinstance(optimizer, Optimizer)):
        raise InputError(f'optimizer={quoted(optimizer)} is not possible; expected a torch.optim.Optimizer')
    return Path(folder)


# ------------------------------------------------------------------------------------------------ parts in order


def mapped(state: Any, change: Callable[[Any], Any]) -> Any:
    """The same dicts and lists, with `change` of what they hold."""
    if isinstance(state, dict):
        return {name: mapped(value, change) for name, value in state.items()}
    return [mapped(value, change) for value in state] if isinstance(state, list) else change(state)


def in_order(t: Any) -> Any:
    """A tensor whose parts are several runs, in one run per process: what a checkpoint can describe (parts.py)."""
    if not isinstance(t, DTensor) or not isinstance(t.placements[0], _StridedShard):
        return t
    dim, mesh = t.placements[0].dim, t.device_mesh
    own = whole(t.detach()).chunk(mesh.size(), dim)[mesh.get_local_rank()].contiguous()
    return DTensor.from_local(own, mesh, [Shard(dim)], run_check=False, shape=t.shape, stride=t.stride())


def paired(loaded: Any, held: Any) -> Any:
    """What was loaded in order, as it is held."""
    if isinstance(loaded, dict):
        return {name: paired(value, held.get(name)) for name, value in loaded.items()}
    if not isinstance(held, DTensor) or not isinstance(held.placements[0], _StridedShard):
        return loaded
    return part_like(whole(loaded), held)


# ------------------------------------------------------------------------------------------------ folders


def as_json(extra: Any) -> str:
    try:
        text = json.dumps({} if extra is None else extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f'extra cannot be kept ({error}); expected numbers, texts, and lists and dicts of them') from None
    if not text.startswith('{'):
        raise InputError(f'extra={quoted(extra)} is not possible; expected a dict')
    return text


def begin(folder: Path) -> Path:
    """Where the checkpoint is written until it is complete."""
    if folder.exists():
        raise CheckpointError(f'{folder} is there already, and a checkpoint is not written over; name a new folder')
    part = folder.with_name(f'.{folder.name}.{secrets.token_hex(8)}{UNFINISHED}')
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return part


def finish(part: Path, folder: Path, text: str) -> None:
    try:
        (part / EXTRA).write_text(text)
        flush_folder(part)
        part.rename(folder)
        flush_folder(folder.parent)
    except OSError as error:
        raise unwritable(folder, error) from error


@contextmanager
def one_or_many() -> Iterator[None]:
    """Without a group there is one process, which PyTorch takes to be worth a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'torch.distributed is disabled')
        yield


def by_first(do: Callable[[], Any]) -> Any:
    """What the first process does while the others wait, and its result; its error is the error of all."""
    if not dist.is_available() or not dist.is_initialized():
        return do()
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer[0] = do()
        except CheckpointError as error:
            answer[1] = error
    dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def check_fit(folder: Path, model: dict[str, Tensor], owner: str, with_optimizer: bool) -> None:
    """Whether a checkpoint holds this model, by names and shapes, and an optimizer where one is wanted."""
    try:
        held = FileSystemReader(folder).read_metadata().state_dict_metadata
        json.loads((folder / EXTRA).read_text())
    except Exception as error:  # whatever a damaged pickle may raise
        raise CheckpointError(
            f'{folder} holds no complete checkpoint ({quoted(str(error))}); name a folder that save_checkpoint wrote'
        ) from error
    tensors = {name: about for name, about in held.items() if isinstance(about, TensorStorageMetadata)}
    stored = {name.removeprefix('model.'): tuple(about.size) for name, about in tensors.items() if name.startswith('model.')}
    wanted = {name: tuple(t.shape) for name, t in model.items()}
    reshaped = (f'{name} is {stored[name]}, the model has {shape}' for name, shape in wanted.items() if stored.get(name, shape) != shape)
    fit = Fit(tuple(sorted(wanted.keys() - stored.keys())), tuple(sorted(stored.keys() - wanted.keys())), tuple(reshaped))
    if not fit:
        raise CheckpointError(f'{folder} does not fit {owner}; {fit}. Build the model with the flags it was saved with.')
    if with_optimizer and not any(name.startswith('optimizer.') for name in held):
        raise CheckpointError(f'{folder} holds no optimizer; leave optimizer out, or take a checkpoint that was saved with one')


def reason_of(error: BaseException) -> str:
    """What a process said, of all that PyTorch says about it."""
    failures = getattr(error, 'failures', None)
    first = next(iter(failures.values()))[0] if failures else error
    return quoted(str(first))
