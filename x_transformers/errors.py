"""What a user can get wrong, one class per kind. Every message names the argument, its value and the way out."""

import textwrap
from typing import Any


class FlagError(ValueError):
    """A keyword is unknown, has an impossible value, or clashes with another."""


class BackendError(FlagError):
    """The attention backend that was asked for cannot run the recipe that the flags make."""


class InputError(ValueError):
    """A tensor given to a model does not fit: its shape, dtype, length or values."""


class DecodeError(RuntimeError):
    """Decoding in pieces is not possible: the model refuses rather than returning other numbers."""


class CheckpointError(ValueError):
    """A file or folder cannot be written, or holds no model that can be trusted to be the one that was saved."""


def quoted(value: Any) -> str:
    """A value as it stands in one sentence: `repr` on one line, and of what holds many numbers only its shape."""
    shape, shown = getattr(value, 'shape', ()), ' '.join(repr(value).split())
    return (
        f'{type(value).__name__} of shape {tuple(shape)}' if shape and len(shown) > 60 else textwrap.shorten(shown, 120, placeholder=' ...')
    )
