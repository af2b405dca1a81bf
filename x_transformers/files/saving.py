"""Writing a model: everything is checked, then written beside what was there, then takes its place in one step."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from x_transformers.errors import CheckpointError, FlagError
from x_transformers.files.atomic import commit, prepare, sweep, unwritable
from x_transformers.files.contents import CONFIG, DIGEST, ENTRY, WEIGHTS, about, as_text, digest_of, read_config
from x_transformers.files.fitting import compare, kept, named_tensors
from x_transformers.files.meta import build_empty, check_bounds, emptied
from x_transformers.files.tensors import feed_tensors, lay_out, write_header
from x_transformers.flags.plain import Recipe, describe_part, read
from x_transformers.flags.public import CLASSES


def save(model: nn.Module, folder: str | os.PathLike[str], *, leave_out: Collection[str] = ()) -> None:
    """Write `model` into `folder`, so that `load(folder)` gives it back: its flags and its numbers, whatever device they are on.

    leave_out: names of flags that cannot be written, functions and modules of your own; `load` is given them again. What the
    folder held is there until the new model is complete, and then replaced in one step, wherever the process may be killed.
    """
    folder, out = Path(folder), frozenset([leave_out] if isinstance(leave_out, str) else leave_out)
    tensors = stored_tensors(model)
    described = described_model(model, out, tensors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, CONFIG):
            if (folder / name).is_dir():
                raise CheckpointError(f'{folder / name} is a folder, and a file must stand there; remove it, or name another folder')
        sweep(folder)
        config = read_config(folder)
        replaced = None if config is None else hashlib.sha256(config).hexdigest()
        text = as_text(described).encode()
        entry = json.dumps({**about(described), 'replaces': replaced})
        parts = []
        try:
            parts.append(prepare(folder / WEIGHTS, lambda file: write_model(file, tensors, entry)))
            parts.append(prepare(folder / CONFIG, lambda file: file.write(text)))
            commit(parts[0], folder / WEIGHTS)  # from here on the folder holds the new model
            commit(parts[1], folder / CONFIG)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def write_model(file: BinaryIO, tensors: dict[str, Tensor], entry: str) -> None:
    """The file of a model: its digest stands before the numbers, so they are gone through twice."""
    header = lay_out(tensors)
    digest = digest_of(header, entry)
    feed_tensors(tensors, header, digest.update)
    write_header(file, header, {'format': 'pt', ENTRY: entry, DIGEST: digest.hexdigest()})
    feed_tensors(tensors, header, file.write)


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What of a model goes into a file, each tensor once."""
    tensors = kept(named_tensors(model))
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise CheckpointError(f'{name} is on the meta device: there are no numbers to save. Load or initialise the model first.')
        if type(tensor.detach()) is not torch.Tensor:
            kind = type(tensor.detach()).__name__
            raise CheckpointError(
                f'{name} is a {kind}, a part of a tensor or a wrapped one: make it whole before you save (x_transformers.parallel.gather)'
            )
    return tensors


def described_model(model: nn.Module, leave_out: frozenset[str], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The flags of a model, after building it from them once (without memory) to see that it is what they say."""
    owner = type(model).__name__
    described = describe_part(model, leave_out)
    classes = {**CLASSES, **{type(part).__name__: type(part) for part in model.modules() if hasattr(type(part), 'config_class')}}
    recipe, supplied, parts = read(described, classes), {}, {id(part) for part in model.modules()}
    for each, config in zip(recipe.walk(), configs(model, recipe), strict=True):
        if type(config).of(None, (), config.keywords()) != config:
            raise FlagError(f'this {each.cls.__name__} is a part of a larger model, which decides some of its flags; save the whole model')
        values = config.keywords()
        supplied.update({name: emptied(values[name]) for name in each.given})
        replaced = [name for name in each.parts if id(values[name]) not in parts]
        if replaced:
            raise CheckpointError(
                f'{replaced[0]} of {each.cls.__name__} was replaced after the model was built, so its flags no longer say what it is. '
                f'Build a new {each.cls.__name__} around the new part, and save that.'
            )
    unused = leave_out - supplied.keys()
    if unused:
        raise FlagError(f'leave_out={sorted(unused)} names no flag that is set in this {owner}; leave it out of leave_out')
    check_bounds(recipe, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    try:
        twin = build_empty(recipe, supplied, len(tensors))
    except Exception as error:  # of a constructor that is not ours
        reason = ' '.join(str(error).split())
        raise CheckpointError(
            f'this {owner} cannot be built from its flags ({reason}), so it could not be loaded. A class of your own takes them as '
            'keywords, __init__(self, **flags), and hands them on; or save the state dict alone.'
        ) from error
    fit = compare(named_tensors(twin), lay_out(tensors))
    if not fit:
        raise CheckpointError(
            f'this {owner} is no longer what its flags say, so they could not rebuild it; {fit}. Build a new one with flags that fit, and '
            'give it these numbers (load_state_dict); or save the state dict alone.'
        )
    return described


def configs(model: Any, recipe: Recipe) -> list[Any]:
    """The config of every class in a recipe, in the order of `Recipe.walk`."""
    values = model.config.keywords()
    return [model.config, *(config for name, part in recipe.parts.items() for config in configs(values[name], part))]
