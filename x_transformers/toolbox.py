"""Small functions that code around 2.0.1 imports: of optional values, of dictionaries, of masked tensors, of a module's mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from einops import pack, unpack
from torch import Tensor, nn

T = TypeVar('T')

LinearNoBias = partial(nn.Linear, bias=False)

# ------------------------------------------------------------------------------------------------ values


def exists(value: Any) -> bool:
    """Whether a value was given."""
    return value is not None


def default(value: T | None, other: T) -> T:
    """The value, or the other where it was not given."""
    return other if value is None else value


def first(values: Sequence[T]) -> T:
    return values[0]


def is_empty(values: Any) -> bool:
    return len(values) == 0


def identity(value: T, *args: Any, **kwargs: Any) -> T:
    """The first argument, whatever else is given."""
    return value


def cast_tuple(value: Any, length: int = 1) -> tuple[Any, ...]:
    """A tuple as it is, anything else repeated."""
    return value if isinstance(value, tuple) else (value,) * length


def compact(values: Iterable[T | None]) -> list[T]:
    """The values that were given."""
    return [value for value in values if value is not None]


def join(parts: Iterable[str], delimiter: str = ', ') -> str:
    return delimiter.join(parts)


def divisible_by(number: int, by: int) -> bool:
    return number % by == 0


def at_most_one_of(*statements: Any) -> bool:
    return sum(map(bool, statements)) <= 1


def maybe(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that leaves None alone."""

    @wraps(fn)
    def inner(value: Any, *args: Any, **kwargs: Any) -> Any:
        return None if value is None else fn(value, *args, **kwargs)

    return inner


def once(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that only its first call runs."""
    called = False

    @wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        nonlocal called
        if called:
            return None
        called = True
        return fn(*args, **kwargs)

    return inner


class always:
    """A function of anything that gives one value."""

    def __init__(self, val: Any):
        self.val = val

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.val


class equals(always):
    """Whether a value is this one."""

    def __call__(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        return value == self.val


class not_equals(always):
    """Whether a value is another than this one."""

    def __call__(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        return value != self.val


# ------------------------------------------------------------------------------------------------ dictionaries


def pick_and_pop(keys: Iterable[str], d: dict[str, Any]) -> dict[str, Any]:
    """Take these entries out of a dictionary."""
    return {key: d.pop(key) for key in list(keys)}


def group_dict_by_key(condition: Callable[[str], bool], d: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries whose key meets a condition, and the others."""
    met = {key: value for key, value in d.items() if condition(key)}
    return met, {key: value for key, value in d.items() if key not in met}


def string_begins_with(prefix: str, text: str) -> bool:
    return text.startswith(prefix)


def group_by_key_prefix(prefix: str, d: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries whose key starts with a prefix, and the others."""
    return group_dict_by_key(partial(string_begins_with, prefix), d)


def groupby_prefix_and_trim(prefix: str, d: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same, with the prefix taken off.

    >>> groupby_prefix_and_trim('enc_', {'enc_depth': 2, 'dim': 8})
    ({'depth': 2}, {'dim': 8})
    """
    own, others = group_by_key_prefix(prefix, d)
    return {key.removeprefix(prefix): value for key, value in own.items()}, others


# ------------------------------------------------------------------------------------------------ tensors


def log(t: Tensor, eps: float = 1e-20) -> Tensor:
    """Logarithm that stays finite at zero."""
    return t.clamp(min=eps).log()


def max_neg_value(t: Tensor) -> float:
    """The smallest finite number of the tensor's kind."""
    return -torch.finfo(t.dtype).max


def or_reduce(masks: Sequence[Tensor]) -> Tensor:
    """True where any mask is."""
    result = masks[0]
    for mask in masks[1:]:
        result = result | mask
    return result


def masked_mean(t: Tensor, mask: Tensor | None = None, dim: int = 1) -> Tensor:
    """Mean along `dim` over what a mask (of the leading axes) keeps; zero where it keeps nothing."""
    if mask is None:
        return t.mean(dim=dim)
    mask = mask.reshape(*mask.shape, *(1,) * (t.ndim - mask.ndim))
    return t.masked_fill(~mask, 0.0).sum(dim=dim) / mask.sum(dim=dim).clamp(min=1)


def pad_at_dim(t: Tensor, pad: tuple[int, int], dim: int = -1, value: float = 0.0) -> Tensor:
    """Entries of one value before and after along one axis.

    >>> pad_at_dim(torch.ones(1, 2), (1, 0), dim=0)
    tensor([[0., 0.],
            [1., 1.]])
    """
    if pad == (0, 0):
        return t
    behind = t.ndim - dim - 1 if dim >= 0 else -dim - 1
    return F.pad(t, (*(0, 0) * behind, *pad), value=value)


def shift(t: Tensor, amount: int, mask: Tensor | None = None) -> Tensor:
    """(..., n, d) moved by `amount` tokens, later where positive, zeros in their place; masked tokens (b, n) are zeroed before."""
    if mask is not None:
        t = t.masked_fill(~mask[..., None], 0.0)
    amount = max(-t.shape[-2], min(amount, t.shape[-2]))
    return pad_at_dim(t, (amount, -amount), dim=-2)


def create_causal_mask(i: int, j: int, device: torch.device) -> Tensor:
    """(i, j) bool, True where a query, of the last i of j keys, may not look."""
    return torch.ones((i, j), dtype=torch.bool, device=device).triu(j - i + 1)


def pack_one(t: Tensor, pattern: str) -> tuple[Tensor, Any]:
    """Axes flattened as the einops pattern says, and what undoes it."""
    return pack([t], pattern)


def unpack_one(t: Tensor, shapes: Any, pattern: str) -> Tensor:
    return unpack(t, shapes, pattern)[0]


# ------------------------------------------------------------------------------------------------ modules


def Sequential(*modules: nn.Module | None) -> nn.Sequential:
    """The modules that were given, one after the other."""
    return nn.Sequential(*compact(modules))


def init_zero_(layer: nn.Module) -> None:
    """Zero a layer's weight, and its bias where it has one."""
    for parameter in (layer.weight, layer.bias):
        if isinstance(parameter, Tensor):
            nn.init.zeros_(parameter)


class evaluating:
    """Evaluation mode for a while; every submodule gets its own mode back, also after an error. Can be entered again."""

    def __init__(self, *modules: nn.Module):
        self.parts = [part for module in modules for part in module.modules()]

    def __enter__(self) -> None:
        self.in_training = [part for part in self.parts if part.training]
        for part in self.in_training:
            object.__setattr__(part, 'training', False)  # what nn.Module's own does in the end: every token pays for this

    def __exit__(self, *error: Any) -> None:
        for part in self.in_training:
            object.__setattr__(part, 'training', True)


def eval_decorator(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A method that runs in evaluation mode."""

    @wraps(fn)
    def inner(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with evaluating(self):
            return fn(self, *args, **kwargs)

    return inner
