"""Processors of logits, ready made: `generate(..., logits_processors=[RepetitionPenalty(1.2), NoRepeatNgrams(3)])`.

Each is a function of the tokens so far (b, t) and the logits (b, v) of what follows them; any function of these will do as well.
Prompts count among the tokens, and so does a prefix; padding in front of them does not. With `after=prompts.shape[1]`, and
`prefix.length` more behind a prefix, only what was made counts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from x_transformers.errors import InputError, quoted
from x_transformers.inputs import whole, within
from x_transformers.precision import single

LARGEST = 2**53  # of a penalty or a count


class ReadyMade:
    """A processor that knows where rows begin."""

    takes_start = True
    after: int = 0

    @abstractmethod
    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor: ...

    def counted(self, tokens: Tensor, start: Tensor | None) -> Tensor:
        """(b, t) bool: the tokens that count."""
        first = torch.full_like(tokens[:, 0], self.after) if start is None else start.clamp(min=self.after)
        return torch.arange(tokens.shape[1], device=tokens.device) >= first[:, None]

    def counts(self, tokens: Tensor, logits: Tensor, start: Tensor | None) -> Tensor:
        """(b, v): how often each token stands in its row; those without a logit can be read, and not made."""
        counted = self.counted(tokens, start) & (tokens < logits.shape[-1])
        none = torch.zeros_like(single(logits))  # half precision cannot count far
        return none.scatter_add(1, tokens.masked_fill(~counted, 0), counted.to(none.dtype))


@dataclass(frozen=True)
class RepetitionPenalty(ReadyMade):
    """Tokens that were there become less probable: logits above zero are divided by `penalty`, others multiplied (1909.05858)."""

    penalty: float
    after: int = 0

    def __post_init__(self) -> None:
        expect_penalty(self, within(self.penalty, 0, LARGEST) and self.penalty > 0, 'a number above 0, such as 1.2; 1 changes nothing')
        expect_number(self, 'after', 0)

    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor:
        punished = torch.where(logits > 0, logits / self.penalty, logits * self.penalty)
        return torch.where(self.counts(tokens, logits, start) > 0, punished, logits)


@dataclass(frozen=True)
class Subtracted(ReadyMade):
    """`penalty` is taken off logits."""

    penalty: float
    after: int = 0

    def __post_init__(self) -> None:
        expect_penalty(self, within(self.penalty, 0, LARGEST), 'a number of at least 0, which changes nothing')
        expect_number(self, 'after', 0)


@dataclass(frozen=True)
class PresencePenalty(Subtracted):
    """`penalty` is taken off the logits of tokens that were there."""

    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor:
        return logits - self.penalty * (self.counts(tokens, logits, start) > 0).to(logits.dtype)


@dataclass(frozen=True)
class FrequencyPenalty(Subtracted):
    """`penalty` is taken off the logits of tokens for each time that they were there."""

    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor:
        return logits - (self.penalty * self.counts(tokens, logits, start)).to(logits.dtype)


@dataclass(frozen=True)
class NoRepeatNgrams(ReadyMade):
    """No `size` tokens stand one behind the other twice (1705.04304)."""

    size: int
    after: int = 0

    def __post_init__(self) -> None:
        expect_number(self, 'size', 1)
        expect_number(self, 'after', 0)

    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor:
        t, before = tokens.shape[1], self.size - 1
        if t < self.size:
            return logits
        grams = tokens.unfold(1, self.size, 1)  # b w size
        latest = tokens[:, t - before :]  # b size-1
        counted = self.counted(tokens, start)[:, : grams.shape[1]]
        then = grams[..., before]
        again = (grams[..., :before] == latest[:, None]).all(dim=-1) & counted & (then < logits.shape[-1])
        banned = torch.zeros_like(logits).scatter_add(1, then.masked_fill(~again, 0), again.to(logits.dtype))
        return logits.masked_fill(banned > 0, -torch.inf)


@dataclass(frozen=True)
class MinLength(ReadyMade):
    """The end token is not possible before `length` tokens are there."""

    length: int
    eos_token: int
    after: int = 0

    def __post_init__(self) -> None:
        expect_number(self, 'length', 0)
        expect_number(self, 'eos_token', 0)
        expect_number(self, 'after', 0)

    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor:
        expect_ids(self, 'eos_token', [self.eos_token], logits)
        short = self.counted(tokens, start).sum(dim=1) < self.length
        end = torch.arange(logits.shape[-1], device=logits.device) == self.eos_token
        return logits.masked_fill(short[:, None] & end, -torch.inf)


@dataclass(frozen=True)
class LogitBias(ReadyMade):
    """Numbers that are added to the logits of some tokens; -inf rules one out."""

    bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = self.bias.items() if isinstance(self.bias, Mapping) else [(None, None)]
        if not all(whole(token) is not None and token >= 0 and within(number, -torch.inf) for token, number in numbers):
            raise InputError(f'LogitBias: bias={quoted(self.bias)} is not possible; expected a dict from ids of tokens to numbers')

    def __call__(self, tokens: Tensor, logits: Tensor, start: Tensor | None = None) -> Tensor:
        expect_ids(self, 'bias', self.bias, logits)
        added = torch.zeros_like(logits[0])
        for token, number in self.bias.items():
            added[token] = number
        return logits + added


def expect_penalty(processor: Any, possible: bool, expected: str) -> None:
    if not possible:
        raise InputError(f'{type(processor).__name__}: penalty={quoted(processor.penalty)} is not possible; expected {expected}')


def expect_number(processor: Any, name: str, least: int) -> None:
    value = getattr(processor, name)
    if whole(value) is None or not least <= value < LARGEST:
        kind = type(processor).__name__
        raise InputError(f'{kind}: {name}={quoted(value)} is not possible; expected a whole number of at least {least}')


def expect_ids(processor: Any, name: str, ids: Iterable[int], logits: Tensor) -> None:
    """Tokens must be of the vocabulary."""
    largest, count = max(ids, default=0), logits.shape[-1]
    if largest >= count:
        kind = type(processor).__name__
        raise InputError(f'{kind}: {name} names the token {largest}, and there are logits of {count}; expected 0 to {count - 1}')
