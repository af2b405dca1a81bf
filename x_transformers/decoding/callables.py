"""What users give a generation as plain functions: processors of logits, and what says that a row has ended.

A processor is `f(tokens so far (b, t), logits (b, v)) -> logits (b, v)`; those of `decoding/processors.py` are made ready, and
those of transformers have the same shape. Tokens are the prompts and what was made since; in front of ragged prompts stands
padding (zeros), and a processor with `takes_start = True` is also given `start=`, how much of it (b,), or None.

A stopping criterion is `f(tokens so far (b, t)) -> bool`, for all rows, or (b,) bool. One of transformers, which takes scores
too, is given None for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from x_transformers.decoding.sources import Around, Copies, Source
from x_transformers.errors import InputError, quoted
from x_transformers.inputs import askable

Processor = Callable[..., Tensor]


def functions(name: str, given: Any, shape: str) -> list[Callable[..., Any]]:
    """The functions of a list of them."""
    listed = [] if given is None else given
    if not isinstance(listed, (list, tuple)) or not all(callable(each) for each in listed):
        raise InputError(f'{name}={quoted(given)} is not possible; expected a list of functions {shape}')
    return list(listed)


def processors_of(given: Any) -> list[Processor]:
    return functions('logits_processors', given, '(tokens so far, logits) -> logits')


def stops_of(given: Any) -> list[Stop]:
    listed = functions('stopping_criteria', given, '(tokens so far) -> bool, or one for each row')
    return [Stop(each, takes_scores(each)) for each in listed]


class Processed(Around):
    """Logits as processors hand them on, one after the other."""

    def __init__(self, source: Source, processors: Sequence[Processor]):
        super().__init__(source)
        self.processors = processors

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        logits = self.source.logits(out, start, count)
        first = out.shape[1] - count + 1
        return torch.stack([self.process(out[:, : first + at], start, row) for at, row in enumerate(logits.unbind(dim=1))], dim=1)

    def process(self, out: Tensor, start: Tensor | None, logits: Tensor) -> Tensor:
        """Those (b, v) behind the tokens (b, t)."""
        for each in self.processors:
            made = each(out, logits, start=start) if getattr(each, 'takes_start', False) else each(out, logits)
            if not isinstance(made, Tensor) or made.shape != logits.shape or not made.is_floating_point():
                got = f'{made.dtype} of shape {tuple(made.shape)}' if isinstance(made, Tensor) else f'a {type(made).__name__}'
                raise InputError(
                    f'logits_processors: {named(each)} returned {got}, expected logits {tuple(logits.shape)}, those it was given, changed'
                )
            logits = made
        if askable(logits) and not bool((logits > -torch.inf).any(dim=-1).all()):
            raise InputError('logits_processors leave a row no token that is possible; rule out less')
        return logits


def surrounded(source: Any, processors: Sequence[Processor], copies: int | None = None) -> Any:
    """A source with what changes its logits, and for several sequences of each prompt."""
    source = Processed(source, processors) if processors else source
    return source if copies is None else Copies(source, copies)


@dataclass(frozen=True)
class Stop:
    """A stopping criterion."""

    says: Callable[..., Any]
    takes_scores: bool

    def __call__(self, out: Tensor) -> Tensor:
        """(b,) bool, or () for all rows."""
        said = self.says(out, None) if self.takes_scores else self.says(out)
        if isinstance(said, bool):
            return torch.full_like(out[:, 0], said, dtype=torch.bool)
        if isinstance(said, Tensor) and said.dtype == torch.bool and tuple(said.shape) in ((), (len(out),)):
            return said
        got = f'{said.dtype} of shape {tuple(said.shape)}' if isinstance(said, Tensor) else quoted(said)
        raise InputError(f'stopping_criteria: {named(self.says)} returned {got}, expected True or False, or a bool tensor ({len(out)},)')


def takes_scores(criterion: Callable[..., Any]) -> bool:
    """Whether it must be given a second input, as those of transformers."""
    try:
        inspect.signature(criterion).bind(None)
    except TypeError:
        return True
    except ValueError:  # builtins that do not say what they take
        return False
    return False


def named(function: Any) -> str:
    return getattr(function, '__name__', type(function).__name__)
