"""Whether the tensors of a file are those of a model, said in one sentence that lists what is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.errors import CheckpointError, quoted
from x_transformers.files.tensors import NAMES, Header

FEW = 8


@dataclass(frozen=True)
class Fit:
    """What of a file does not fit a model; all empty where everything does."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()  # each with both shapes
    retyped: tuple[str, ...] = ()  # each with both dtypes: numbers for whole numbers, or the other way round
    taken: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped or self.retyped)

    def __str__(self) -> str:
        found = {
            'missing': self.missing,
            'unexpected': self.unexpected,
            'of another shape': self.reshaped,
            'of another dtype': self.retyped,
        }
        return '; '.join(f'{what}: {listed(names)}' for what, names in found.items() if names)


def listed(names: tuple[str, ...]) -> str:
    """The first few, and how many more."""
    rest = f' and {len(names) - FEW} more' if len(names) > FEW else ''
    return ', '.join(names[:FEW]) + rest


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by the names of the state dict, which must be those of modules; tied ones under each name."""
    found = model.state_dict(keep_vars=True)
    strange = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f'{strange[0]} of {type(model).__name__} is a {type(found[strange[0]]).__name__}: only tensors go into files')
    return dict(found)


def kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of tensors with several names, the first."""
    seen: dict[int, str] = {}
    return {name: tensor for name, tensor in tensors.items() if seen.setdefault(id(tensor), name) == name}


def compare(tensors: Mapping[str, Tensor], header: Header) -> Fit:
    """A model's tensors with those of a file."""
    stored, reshaped, retyped, taken = header.tensors, [], [], []
    for name in tensors.keys() & stored.keys():
        ours, theirs = tensors[name], stored[name]
        if tuple(ours.shape) != theirs.shape:
            reshaped.append(f'{name} is {theirs.shape}, the model has {tuple(ours.shape)}')
        elif kind(ours.dtype) != kind(theirs.dtype):
            retyped.append(f'{name} is {NAMES[theirs.dtype]}, the model has {ours.dtype}')
        else:
            taken.append(name)
    there = {id(tensors[name]) for name in tensors.keys() & stored.keys()}
    missing = [name for name, tensor in kept(tensors).items() if id(tensor) not in there]
    unexpected = [quoted(name)[1:-1] for name in stored if name not in tensors]
    return Fit(*(tuple(sorted(names)) for names in (missing, unexpected, reshaped, retyped, taken)))


def kind(dtype: torch.dtype) -> str:
    """Numbers may be converted to one another; whole numbers and truths stay what they are."""
    return 'float' if dtype.is_floating_point else str(dtype)


def refuse(fit: Fit, path: Path, model: Any) -> CheckpointError:
    return CheckpointError(
        f'{path} does not fit {type(model).__name__}; {fit}. To take what fits, and leave the rest as a new model has it, use strict=False.'
    )


def numel(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
