"""Checks of what a user gives to a model. Each raises one sentence that names the argument and what was expected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from x_transformers.errors import InputError


def askable(t: Tensor) -> bool:
    """Whether a question to a tensor is free: elsewhere it would stop the device, or break a compiled graph."""
    return t.device.type == 'cpu' and not torch.compiler.is_compiling()


def expect(name: str, t: Any, shape: tuple[int | None, ...], dtype: str | None = None, hint: str = '') -> None:
    """`t` must be a tensor of this shape (None: any size) and kind: 'bool', 'int' or 'float'."""
    if not isinstance(t, Tensor):
        raise InputError(f'{name} must be a tensor, got {type(t).__name__}{_also(hint)}')
    if t.ndim != len(shape) or any(want is not None and have != want for have, want in zip(t.shape, shape, strict=True)):
        spelled = ', '.join('any' if size is None else str(size) for size in shape)
        raise InputError(f'{name} has shape {tuple(t.shape)}, expected ({spelled}){_also(hint)}')
    if dtype is not None:
        expect_kind(name, t, dtype, hint)


def expect_kind(name: str, t: Tensor, kind: str, hint: str = '') -> None:
    """`t` must hold booleans ('bool'), whole numbers ('int') or floating point numbers ('float')."""
    whole = t.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    fits = {'bool': t.dtype == torch.bool, 'int': whole, 'float': t.is_floating_point()}[kind]
    if not fits:
        expected = {'bool': 'torch.bool, True where something is', 'int': 'whole numbers (torch.long)', 'float': 'floating point numbers'}[
            kind
        ]
        raise InputError(f'{name} has dtype {t.dtype}, expected {expected}{_also(hint)}')


def expect_optional(name: str, t: Any, shape: tuple[int | None, ...], dtype: str | None = None, hint: str = '') -> None:
    """As `expect`, for an argument that may be left out."""
    if t is not None:
        expect(name, t, shape, dtype, hint)


def _also(hint: str) -> str:
    return f'; {hint}' if hint else ''


def expect_broadcast(name: str, t: Tensor, shape: tuple[int, ...]) -> None:
    """`t` must be of `shape`, or have 1 or no axis where it is the same throughout."""
    fits = t.ndim <= len(shape) and all(have in (1, want) for have, want in zip(reversed(t.shape), reversed(shape), strict=False))
    if not fits:
        raise InputError(f'{name} has shape {tuple(t.shape)}, which does not fit {shape}')
