"""Reading a model from files that nobody vouches for: nothing is executed, and nothing allocated that the files cannot fill."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from x_transformers.errors import CheckpointError, FlagError
from x_transformers.files.contents import ENTRY, WEIGHTS, Described, check_digest, describe_folder, digest_of, read_config
from x_transformers.files.fitting import Fit, compare, kept, named_tensors, numel, refuse
from x_transformers.files.meta import build_empty, check_bounds, make_derived_again, put
from x_transformers.files.tensors import Feed, Header, feed_all, opened, read_header, read_tensor
from x_transformers.flags.plain import Recipe, build, read
from x_transformers.flags.public import CLASSES
from x_transformers.precision import Exact, exact

Folder = str | os.PathLike[str]


def load(
    folder: Folder,
    *,
    strict: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    verify: bool = True,
    classes: Sequence[type] = (),
    expected: type | None = None,
    **flags: Any,
) -> Any:
    """The model that `save(folder)` wrote, in training mode.

    strict: the file must hold every tensor of the model, and no other; without it what fits is taken, the rest is as in a new
    model, and a warning lists it. dtype: of all numbers (by default each is as it was saved). device: where they go, each
    straight away. verify: compare the digest of everything that was saved. classes: of your own, that the file may name.
    expected: what it must be. Other keywords are flags: those that were left out when saving, and any that shall differ.
    """
    folder = Path(folder)
    check_wishes(folder, dtype, device, classes)
    place = torch.get_default_device() if device is None else torch.device(device)
    config = read_config(folder)
    with opened(folder / WEIGHTS) as (file, size):
        header = read_header(file, size, folder / WEIGHTS)
        described = describe_folder(folder, config, header)
        recipe = recipe_of(described, header, classes, expected)
        model = built(described, recipe, flags, len(header.tensors))
        fit = compare(named_tensors(model), header)
        if not fit:
            if strict:
                raise refuse(fit, folder / WEIGHTS, model)
            model = built_whole(recipe, flags, fit, model, place)
            warnings.warn(f'{folder / WEIGHTS} was taken in part by {type(model).__name__}; {fit}', stacklevel=3)
        digest = digest_of(header, header.metadata[ENTRY]) if verify and ENTRY in header.metadata else None
        fill(model, fit, Source(file, header, folder / WEIGHTS, digest), place, dtype)
    make_derived_again(model, place, dtype or commonest(model))
    return model


@dataclass(frozen=True)
class Source:
    """An open file, and what has to see all its numbers before they are believed."""

    file: BinaryIO
    header: Header
    path: Path
    digest: Any = None

    def read(self, name: str, feed: Feed | None = None) -> Tensor:
        return read_tensor(self.file, self.header, name, self.path, feed)

    def check(self) -> None:
        """Read all numbers, and compare the digest."""
        if self.digest is not None:
            feed_all(self.file, self.header, self.digest.update)
            check_digest(self.header, self.path, self.digest)


def fill(model: nn.Module, fit: Fit, source: Source, place: torch.device, dtype: torch.dtype | None) -> None:
    """Put the numbers of a file into a model, one tensor at a time in the order of the file, each under all its names."""
    tensors, filled, taken, unrounded = named_tensors(model), {}, set(fit.taken), Exact.buffers_of(model)

    def wanted(name: str, tensor: Tensor) -> torch.dtype | None:
        if dtype is None or not tensor.is_floating_point():
            return None
        return exact(dtype) if name in unrounded else dtype

    feed = source.digest.update if source.digest is not None and fit else None  # all are read: once is enough
    if feed is None:
        source.check()
    for name in (name for name in source.header.tensors if name in taken):
        tensor, old = source.read(name, feed), tensors[name]
        filled[id(old)] = put(model, name, tensor.to(place, wanted(name, tensor)), old)
    if feed is not None:
        check_digest(source.header, source.path, source.digest)
    for name in tensors.keys() - taken:
        old = tensors[name]
        if id(old) in filled:
            put(model, name, filled[id(old)], old)
        else:  # what a new model has there
            filled[id(old)] = put(model, name, old.detach().to(place, wanted(name, old)), old)


def check_wishes(folder: Path, dtype: Any, device: Any, classes: Any) -> None:
    if not folder.is_dir():
        raise CheckpointError(f'{folder} is no folder. Name one that save(folder) wrote, with its {WEIGHTS}.')
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise CheckpointError(f'dtype={dtype!r} is not possible: expected one of numbers, such as torch.bfloat16')
    if not isinstance(classes, (tuple, list)) or not all(hasattr(cls, 'config_class') for cls in classes):
        raise CheckpointError(f'classes={classes!r} is not possible: expected a list of classes derived from those of the library')
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition('\n')[0]
        raise CheckpointError(f'device={device!r} cannot be used here ({reason}). Name another, such as device="cpu".') from error


def recipe_of(described: Described, header: Header, classes: Sequence[type], expected: type | None) -> Recipe:
    """What the folder says is to be built, checked without building anything."""
    named: dict[str, Any] = {cls.__name__: cls for cls in (*classes, *([expected] if expected else ()))}
    try:
        recipe = read(described.model, {**CLASSES, **{name: cls for name, cls in named.items() if name not in CLASSES}})
        check_bounds(recipe, {name: tensor.shape for name, tensor in header.tensors.items()})
    except (CheckpointError, FlagError, RecursionError) as error:
        raise CheckpointError(f'{described.path} describes no model that can be built: {shown_error(error)}') from error
    if expected is not None and not issubclass(recipe.cls, expected):
        raise CheckpointError(
            f'{described.path} describes a {recipe.cls.__name__}, and {expected.__name__} was asked for. Use x_transformers.load.'
        )
    return recipe


def built(described: Described, recipe: Recipe, flags: dict[str, Any], tensors: int) -> nn.Module:
    """The model without numbers. Whatever a strange combination of values makes a constructor raise is one error."""
    try:
        return build_empty(recipe, flags, tensors)
    except Exception as error:
        raise CheckpointError(
            f'{described.path} describes a {recipe.cls.__name__} that cannot be built with the flags given here: {shown_error(error)}'
        ) from error


def built_whole(recipe: Recipe, flags: dict[str, Any], fit: Fit, empty: nn.Module, place: torch.device) -> nn.Module:
    """A new model, of which a file will fill a part; that must be the larger one, for the rest is memory that a file asks for."""
    tensors = kept(named_tensors(empty))
    there = numel(tensor for name, tensor in tensors.items() if name in fit.taken)
    if numel(tensors.values()) > 2 * there:
        raise CheckpointError(
            f'more is missing from the file than there is of a {type(empty).__name__}; {fit}. Build the model yourself, and let it take '
            'what fits: model.load_weights(folder, strict=False).'
        )
    with place:
        model: nn.Module = build(recipe, flags)
    return model


def shown_error(error: BaseException) -> str:
    text = ' '.join((str(error) or type(error).__name__).split())
    return text if len(text) <= 400 else f'{text[:396]} ...'


def commonest(model: nn.Module) -> torch.dtype:
    """The dtype of most of the model's numbers."""
    counts: dict[torch.dtype, int] = {}
    for tensor in model.parameters():
        if tensor.is_floating_point():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    return max(counts, key=lambda dtype: counts[dtype], default=torch.get_default_dtype())


def load_weights(model: nn.Module, path: Folder, *, strict: bool = True, verify: bool = True) -> Fit:
    """Give a model that you built the numbers of a file, `path` or the `model.safetensors` in it, as `load_state_dict` would.

    Dtypes and devices stay those of the model. Everything is checked before the first number is changed. Without `strict` what
    fits is taken; the `Fit` that is returned lists what did not.
    """
    path = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    with opened(path) as (file, size):
        header = read_header(file, size, path)
        tensors = named_tensors(model)
        fit = compare(tensors, header)
        if strict and not fit:
            raise refuse(fit, path, model)
        digest = digest_of(header, header.metadata[ENTRY]) if verify and ENTRY in header.metadata else None
        source = Source(file, header, path, digest)
        source.check()
        with torch.no_grad():
            for name in fit.taken:
                tensors[name].copy_(source.read(name))
    return fit
