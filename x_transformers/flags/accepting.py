"""What a flag accepts: its type and bounds, and how both are spelt in errors and tables."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from x_transformers.errors import FlagError, quoted
from x_transformers.flags.cataloguing import Entry
from x_transformers.flags.declaring import Flag

NAMES = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a string', type(None): 'None', Callable: 'a function'}

LARGEST = 2**63  # what tensors count with


def checked(name: str, value: Any, entry: Entry) -> Any:
    """The value in its one form (tuples for lists), or a FlagError that quotes it under the public `name`."""
    kinds = union(entry.type)
    if not any(fits(value, kind) for kind in kinds):
        raise FlagError(f'{name}={quoted(value)} is not possible: expected {in_words(kinds)}. {entry.doc}')
    for number in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(number, Real) and not isinstance(number, bool):
            _within(name, value, number, entry.flag)
    if kinds == (bool,):
        return bool(value)
    return settled(value)


def settled(value: Any) -> Any:
    """Tuples for lists, in dicts and tuples too."""
    if isinstance(value, dict):
        return {key: settled(each) for key, each in value.items()}
    return tuple(map(settled, value)) if isinstance(value, list) or type(value) is tuple else value


def _within(name: str, value: Any, number: Any, about: Flag) -> None:
    if about.at_least is not None and not number >= about.at_least:
        raise FlagError(f'{name}={value!r} is too small: expected at least {about.at_least}. {about.doc}')
    if not -LARGEST < number < LARGEST and isinstance(number, Integral):
        raise FlagError(f'{name}={value!r} is too large: expected a number of 64 bits. {about.doc}')
    if about.at_most is not None and not number <= about.at_most:
        raise FlagError(f'{name}={value!r} is too large: expected at most {about.at_most}. {about.doc}')


def union(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type alone."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else (kind,)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type that is no union."""
    if kind is Any:
        return True
    if kind is bool:
        return isinstance(value, bool) or isinstance(value, Integral) and value in (0, 1)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    origin = typing.get_origin(kind) or kind
    if origin is tuple:
        inner = typing.get_args(kind)[:1]
        return isinstance(value, (tuple, list)) and all(any(fits(v, k) for k in union(i)) for v in value for i in inner)
    if origin is Callable:
        return callable(value)
    if origin is typing.Literal:
        return isinstance(value, (str, int)) and value in typing.get_args(kind)
    return isinstance(value, origin)


def in_words(kinds: tuple[Any, ...]) -> str:
    """`a whole number or None`."""
    return ' or '.join(NAMES.get(typing.get_origin(k) or k, NAMES.get(k, str(getattr(k, '__name__', k)))) for k in kinds)


def in_code(kind: Any) -> str:
    """`int | None`, the same under every version of Python."""
    if len(union(kind)) > 1:
        return ' | '.join(map(in_code, union(kind)))
    if kind is type(None):
        return 'None'
    if kind is Ellipsis:
        return '...'
    if isinstance(kind, (str, int)):  # of a Literal
        return repr(kind)
    origin = typing.get_origin(kind)
    name = getattr(origin or kind, '__name__', None) or str(kind)
    return name if origin is None else f'{name}[{", ".join(map(in_code, typing.get_args(kind)))}]'
