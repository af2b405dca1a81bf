"""Checks of what a user gives to a model. Each raises one sentence that names the argument and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from x_transformers.errors import InputError


def askable(t: Tensor) -> bool:
    """Whether a question to a tensor is free: elsewhere it would stop the device, break a compiled graph, or have no single answer."""
    return t.device.type == 'cpu' and not torch.compiler.is_compiling() and not is_functorch_wrapped_tensor(t)


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


def expect_dtype(name: str, t: Tensor, module: nn.Module) -> None:
    """Nothing converts tokens for the parameters, except autocast, and parameters that are quantised or sharded."""
    if torch.compiler.is_compiling() or t.dtype == next((p.dtype for p in module.parameters()), t.dtype):
        return
    device, parameters = t.device.type, list(module.parameters())
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return
    if all(type(p) is nn.Parameter and p.dtype != t.dtype for p in parameters):
        held = parameters[0].dtype
        raise InputError(
            f'{name} has dtype {t.dtype}, but the parameters are {held}; give {name}.to({held}), convert the model with '
            f'.to({t.dtype}), or run under torch.autocast'
        )


def expect_positions(name: str, pos: Any, b: int, lengths: Sequence[int]) -> None:
    """`pos` must be (n,) or (1|b, n) numbers, with one of these lengths."""
    if not isinstance(pos, Tensor):
        raise InputError(f'{name} must be a tensor, got {type(pos).__name__}; it holds a position for each token')
    if pos.ndim not in (1, 2) or pos.shape[-1] not in lengths or (pos.ndim == 2 and pos.shape[0] not in (1, b)):
        spelled = ' or '.join(f'({n},) or ({b}, {n})' for n in dict.fromkeys(lengths))
        raise InputError(f'{name} has shape {tuple(pos.shape)}, expected {spelled}: a position for each of {lengths[0]} tokens')
    if pos.dtype == torch.bool:
        raise InputError(f'{name} has dtype torch.bool, expected numbers: a position for each token')


def expect_angles(name: str, pair: Any, n: int, dim_head: int) -> None:
    """`pair` must be what `RotaryEmbedding.forward` returns: angles ((1|b), n or more, r) and a scale."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], Tensor):
        raise InputError(f'{name} must be a pair (angles, scale) as RotaryEmbedding.forward_from_seq_len(n) returns, got a {_spelt(pair)}')
    freqs, scale = pair
    wide = freqs.shape[-1] if freqs.ndim in (2, 3) else 0
    if not 0 < wide <= dim_head or wide % 2 or freqs.shape[-2] < n:
        raise InputError(
            f'{name} has angles of shape {tuple(freqs.shape)}, expected ({n}, r) or (b, {n}, r) for {n} tokens, with an even r of at '
            f'most {dim_head}, the features of a head'
        )
    if isinstance(scale, Tensor) and scale.ndim and scale.shape[-2:] != freqs.shape[-2:]:
        raise InputError(f'{name} has a scale of shape {tuple(scale.shape)}, expected a number, or that of its angles {tuple(freqs.shape)}')


def _spelt(value: Any) -> str:
    """`tuple of 3`: what kind of thing it is."""
    return f'{type(value).__name__} of {len(value)}' if isinstance(value, (tuple, list)) else type(value).__name__


def expect_pairs(name: str, t: Any, shape: tuple[int, int, int, int], rows: Sequence[int], columns: Sequence[int] | None) -> None:
    """`t` must be (i, j), (h, i, j) or (b|1, h|1, i, j) for `shape` (b, h, i, j), with one of these numbers of rows and columns.

    Without `columns` it may have more of them than `j`, ahead of those.
    """
    b, h, i, j = shape
    if not isinstance(t, Tensor):
        raise InputError(f'{name} must be a tensor, got {type(t).__name__}; it has an entry for each pair of {i} queries and {j} keys')
    fits = 2 <= t.ndim <= 4 and t.shape[-2] in rows and (t.shape[-1] >= j if columns is None else t.shape[-1] in columns)
    if not fits:
        raise InputError(
            f'{name} has shape {tuple(t.shape)}, expected ({i}, {j}), ({h}, {i}, {j}) or ({b}, {h}, {i}, {j}): {h} heads, {i} queries '
            f'and {j} keys'
        )
    expect_broadcast(name, t, (b, h, *t.shape[-2:]))


def refuse_unknown(name: str, names: Sequence[str], taker: str, taken: Sequence[str]) -> None:
    """`name` is none of `names`: the nearest of them is meant, or one of those that `taker` has."""
    near = difflib.get_close_matches(name, names, 1, cutoff=0.6)
    hint = f'did you mean {near[0]!r}?' if near else f'it takes {", ".join(taken)}'
    raise InputError(f'unknown input {name!r} of {taker}; {hint}')
