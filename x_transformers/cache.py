"""The cache of 2.0.1: a call may bring the whole sequence so far, or only its new part. Here the one becomes the other."""

from __future__ import annotations

from torch import Tensor

from x_transformers.errors import InputError, quoted
from x_transformers.state import StackState


def new_tokens(n: int, state: StackState, cache_age: int | None = None) -> int:
    """How many of `n` given tokens are new: what a whole sequence has beyond what is remembered, or as many as `cache_age` says."""
    if cache_age is not None and not isinstance(cache_age, int):
        raise InputError(f'cache_age={quoted(cache_age)} is not possible: it is how many of the given tokens are new')
    new = cache_age if cache_age is not None else n - state.remembered if n > state.remembered else n
    return new if 0 < new < n else n


def latest(t: Tensor | None, n: int, new: int, axis: int = -1) -> Tensor | None:
    """The last `new` entries of what has one for each of `n` tokens; anything else as it is."""
    if t is None or new == n or t.ndim < abs(axis) or t.shape[axis] != n:
        return t
    return t.narrow(axis, n - new, new)
