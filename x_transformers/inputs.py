"""Checks of what a user gives to a model. Each raises one sentence that names the argument and what was expected."""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from x_transformers.errors import FlagError, InputError, quoted

SPARSE = {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
_everywhere: bool | None = {'1': True, '0': False}.get(os.environ.get('X_TRANSFORMERS_CHECK_VALUES', ''))


@contextmanager
def check_values(everywhere: bool = True) -> Iterator[None]:
    """Ask about the numbers in tensors too, such as the range of token ids: on every device, or (False) nowhere.

    Left alone they are asked where that is free: on the CPU. On an accelerator each question waits for the device, so it is for
    finding a mistake. The environment variable X_TRANSFORMERS_CHECK_VALUES=1 (or 0) says the same for a whole run. Compiled and
    exported graphs never ask.
    """
    global _everywhere
    before, _everywhere = _everywhere, everywhere
    try:
        yield
    finally:
        _everywhere = before


def askable(t: Tensor) -> bool:
    """Whether numbers may be asked for: elsewhere than on the CPU it would stop the device, in a compiled graph break it, and under
    vmap there is no single answer."""
    if torch.compiler.is_compiling() or t.device.type == 'meta' or is_functorch_wrapped_tensor(t):
        return False
    return t.device.type == 'cpu' if _everywhere is None else _everywhere


def expect(name: str, t: Any, shape: tuple[int | None, ...], dtype: str | None = None, hint: str = '') -> None:
    """`t` must be a tensor of this shape (None: any size) and kind: 'bool', 'int' or 'float'."""
    if not isinstance(t, Tensor):
        raise InputError(f'{name} must be a tensor, got {type(t).__name__}{_also(hint)}')
    if t.layout in SPARSE:
        raise InputError(f'{name} is {t.layout}, expected a dense tensor; give {name}.to_dense()')
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
        raise InputError(
            f'{name} has shape {tuple(t.shape)}, which does not fit {shape}: expected the same sizes, or 1 where all are alike'
        )


def first_parameter(module: nn.Module) -> Tensor | None:
    """The first of `module.parameters()`, without walking the module for it."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    parts = (part for part in module._modules.values() if part is not None)
    return next((found for part in parts if (found := first_parameter(part)) is not None), None)


def expect_dtype(name: str, t: Tensor, module: nn.Module) -> None:
    """Nothing converts or moves tokens for the parameters, except autocast, and parameters that are quantised, sharded or offloaded."""
    first = t if torch.compiler.is_compiling() else first_parameter(module)
    if first is None or t.dtype == first.dtype and t.device == first.device:
        return
    device, parameters = t.device.type, list(module.parameters())
    if not all(type(p) is nn.Parameter and p.numel() for p in parameters):
        return
    if all(p.device != t.device and p.device.type != 'meta' for p in parameters):
        raise InputError(f'{name} is on {t.device}, but the parameters are on {first.device}; give {name}.to({str(first.device)!r})')
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return
    if all(p.dtype != t.dtype for p in parameters):
        held = first.dtype
        raise InputError(
            f'{name} has dtype {t.dtype}, but the parameters are {held}; give {name}.to({held}), convert the model with '
            f'.to({t.dtype}), or run under torch.autocast'
        )


def expect_place(given: Mapping[str, Any], x: Tensor, name_of_x: str = 'x') -> None:
    """Tensors beside x must be on its device."""
    device = x.device
    for name, t in given.items():
        if t is not None and isinstance(t, Tensor) and t.device != device:
            raise InputError(f'{name} is on {t.device}, but {name_of_x} is on {device}; give {name}.to({str(device)!r})')


def expect_features(x: Any, width: int, part: nn.Module, name: str = 'x') -> None:
    """A part takes floating point numbers (..., width). Layers ask this too, so it costs no more than a look."""
    if isinstance(x, Tensor) and x.ndim and x.shape[-1] == width and x.is_floating_point():
        return
    expect_numbers(name, x, f'{type(part).__name__} takes floating point numbers (..., {width})')
    raise InputError(f'{name} has shape {tuple(x.shape)}, expected (..., {width}), as wide as {type(part).__name__} was built')


def expect_condition(condition: Any, width: int, part: nn.Module, x: Tensor) -> None:
    """A part follows a condition per row (b, width) or per token (b, n, width) of x (..., b, n, d)."""
    expect_features(condition, width, part, 'condition')
    b, n = x.shape[-3:-1] if x.ndim > 2 else (1, x.shape[0])
    if (
        condition.ndim not in (2, 3)
        or x.ndim > 2
        and (condition.shape[0] not in (1, b) or condition.ndim == 3 and condition.shape[1] not in (1, n))
    ):
        raise InputError(f'condition has shape {tuple(condition.shape)}, expected ({b}, {width}) or ({b}, {n}, {width})')
    if condition.dtype != x.dtype:
        expect_dtype('condition', condition, part)


def expect_sum(x: Any, residual: Any) -> None:
    """A branch and the stream that it joins."""
    if isinstance(x, Tensor) and isinstance(residual, Tensor) and x.shape == residual.shape:
        return
    expect_numbers('residual', residual)
    expect_numbers('x', x, f'it is added to the residual {tuple(residual.shape)}')
    if x.ndim > residual.ndim:
        x, residual = residual, x
    expect_broadcast('x', x, tuple(residual.shape))


def expect_places(x: Any, pos: Any, begins: Any) -> None:
    """What absolute positions are counted on: x (b, n, ...), positions (n,) or (b, n), padding (b,)."""
    if not isinstance(x, Tensor) or x.ndim < 2:
        raise InputError(f'x {_got(x)}, expected (b, n) tokens or (b, n, d) embeddings, which are counted')
    b, n = x.shape[:2]
    if pos is not None:
        expect_positions('pos', pos, b, (n, 1))
        expect_kind('pos', pos, 'int', 'it holds an index for each token')
    if begins is not None:
        expect('seq_start_pos', begins, (b,), 'int', 'it is the number of padding tokens of each row')
    expect_place({'pos': pos, 'seq_start_pos': begins}, x)


def _got(t: Any) -> str:
    return f'has shape {tuple(t.shape)}' if isinstance(t, Tensor) else f'is a {type(t).__name__}'


def expect_numbers(name: str, t: Any, hint: str = '') -> None:
    """`t` must be a tensor of floating point numbers, of any shape."""
    if not isinstance(t, Tensor):
        raise InputError(f'{name} must be a tensor, got {type(t).__name__}{_also(hint)}')
    expect_kind(name, t, 'float', hint)


def expect_sizes(**sizes: Any) -> None:
    """What a part is built with must be whole numbers of at least 1."""
    for name, size in sizes.items():
        number = whole(size)
        if number is None or not 1 <= number < 2**63:
            raise FlagError(f'{name}={quoted(size)} is not possible: expected a whole number of at least 1')


def expect_settings(*, switches: Mapping[str, Any] = {}, **numbers: Any) -> None:
    """What a part is built with besides sizes: numbers that are finite, and switches."""
    for name, number in numbers.items():
        if isinstance(number, Tensor) or not within(number, -1e18, 1e18):
            raise FlagError(f'{name}={quoted(number)} is not possible: expected a number')
    for name, value in switches.items():
        if not isinstance(value, (bool, Integral)):
            raise FlagError(f'{name}={quoted(value)} is not possible: expected True or False')


def expect_switch(name: str, value: Any) -> None:
    """What is asked for or not: True or False."""
    if not (value is None or isinstance(value, (bool, Integral))):
        raise InputError(f'{name}={quoted(value)} is not possible: expected True or False')


def whole(number: Any) -> Any:
    """A whole number of any library; None where it is none."""
    if number is None or isinstance(number, (int, torch.SymInt)):
        return None if isinstance(number, bool) else number
    try:
        return operator.index(number)
    except TypeError:
        return None


def real(number: Any) -> float | None:
    """A number, or a tensor of one, as float; None where it is none."""
    single = isinstance(number, (int, float, Real)) and not isinstance(number, bool) or isinstance(number, Tensor) and number.numel() == 1
    try:
        return float(number) if single else None
    except (TypeError, RuntimeError, OverflowError):  # a complex number, one without a value, one too large
        return None


def within(number: Any, least: float, below: float = float('inf')) -> bool:
    """Whether it is a number, of any library, from `least` to what is below `below`."""
    found = real(number)
    return found is not None and least <= found < below


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
