"""Sources of next-token logits of a growing sequence.

A source answers `logits(tokens so far (b, t), their left padding (b,), count) -> (b, count, vocabulary)`, of the latest `count`
tokens, and `reorder(rows)`. `Stepper` computes each token once and keeps the model's state; a window that reaches the model's
length slides. `Refeeder` gives the whole window each time to models that cannot go on from earlier tokens, and to those whose
forward is not ours alone (a subclass with one of its own, hooks): slower, but decoded by that forward. The others stand around
them: `Contrast` plays one source against others, `Copies` reads prompts once from which several sequences go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.decoding.nets import has_own_forward, logits_of, unwrapped
from x_transformers.decoding.sampling import contrastive_decode_fn
from x_transformers.errors import DecodeError, InputError, quoted
from x_transformers.joining import joined, slid, with_room
from x_transformers.state import StackState

SLACK = 128  # room beyond the window, so that sliding seldom moves memory
FIRST_ONLY = ('mask', 'mems', 'mem_masks', 'prepend_embeds', 'prepend_mask')  # remembered by the state


class Source(Protocol):
    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor: ...
    def reorder(self, index: Tensor) -> None: ...


class Rewindable(Source, Protocol):
    def rewind(self, length: int) -> None:
        """Forget all but the earliest `length` tokens."""


@dataclass(frozen=True)
class Way:
    """How a model that keeps a state decodes; the numbers are the same."""

    cache_kv: bool = True  # False: no state, the whole window for every token
    compile: bool = False  # torch.compile the step from one token to the next
    prefill_chunk: int | None = None  # tokens of the prompt that are run at a time; None: all
    recall: int = 0  # calls that can be taken back even where a state cannot

    @classmethod
    def checked(cls, cache_kv: Any, compile: Any, prefill_chunk: Any) -> Way:
        """These, where they go together."""
        if prefill_chunk is not None and (isinstance(prefill_chunk, bool) or not isinstance(prefill_chunk, int) or prefill_chunk < 1):
            raise InputError(
                f'prefill_chunk={quoted(prefill_chunk)} is not possible; expected a number of tokens from 1, or None for all at once'
            )
        for name, on in (('compile', compile), ('prefill_chunk', prefill_chunk)):
            if on and not cache_kv:
                raise InputError(f'{name}={on} needs cache_kv=True: without a state, the whole window is run for every token. Keep one')
        return cls(bool(cache_kv), bool(compile), prefill_chunk)


class Stepper:
    """Decodes by state: each token is fed once. The prompt comes first, alone; behind it, any number of tokens at a time.

    `state` may hold the first `fed` tokens, of all rows alike; when the prompt was read it gets room for `total` tokens.
    """

    def __init__(self, net: Any, window: int, kwargs: dict[str, Any], way: Way, state: StackState, fed: int = 0, total: int | None = None):
        self.net, self.window, self.kwargs, self.way = net, window, dict(kwargs), way
        self.compiled = torch.compile(net) if way.compile and net is unwrapped(net) else net
        self.state, self.fed, self.total, self.begun = state, fed, total, False
        self.start: Tensor | None = None
        self.past: deque[tuple[int, StackState]] = deque(maxlen=way.recall)

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        logits = self.step(out[:, self.fed :], count) if self.begun else self.prefill(out, start)
        self.batch, self.fed, self.begun = out.shape[0], out.shape[1], True
        return logits

    def prefill(self, out: Tensor, start: Tensor | None) -> Tensor:
        total = out.shape[1]
        if self.fed and start is not None:
            logits = self.apart(out, start)
        else:
            dropped = max(total - self.window, 0) if self.window else 0
            self.start = moved(start, dropped)
            logits = self.read(out[:, max(self.fed, dropped) :], total)
        self.kwargs = {key: value for key, value in self.kwargs.items() if key not in FIRST_ONLY}
        if self.total is not None:
            self.state = with_room(self.state, self.total - total)
        return logits

    def read(self, new: Tensor, total: int) -> Tensor:
        """The prompt, in chunks: memory for the scores and features of one at a time."""
        kwargs, mask = self.kwargs, with_mask(self.kwargs, new.shape[1], total).get('mask')
        size = self.way.prefill_chunk or new.shape[1]
        for at in range(0, new.shape[1], size):
            given = kwargs if mask is None else {**kwargs, 'mask': mask[:, at : at + size]}
            x = self.run(self.net, new[:, at : at + size], given, return_embeddings=True)
            kwargs = {key: value for key, value in kwargs.items() if key not in FIRST_ONLY}
        return self.net.read_out(x[:, -1:], **(kwargs.get('to_logits_kwargs') or {}))  # a head sees a sequence

    def apart(self, out: Tensor, start: Tensor) -> Tensor:
        """Ragged prompts behind what is remembered: rows of one length at a time go on from it, without padding between."""
        kwargs, state, fed, logits, states = self.kwargs, self.state, self.fed, [], []
        paddings = start.unique().tolist()
        rows = [(start == padding).nonzero()[:, 0] for padding in paddings]
        for index, padding in zip(rows, paddings, strict=True):
            self.kwargs, self.state = rows_of(kwargs, index, len(out)), state.reorder(index)
            logits.append(self.read(out[index, padding + fed :], out.shape[1]))
            states.append(self.state)
        order = torch.cat(rows).argsort()
        self.kwargs, self.start = kwargs, start
        self.state = joined(states, paddings, [len(index) for index in rows]).reorder(order)
        return torch.cat(logits)[order]

    def step(self, new: Tensor, count: int) -> Tensor:
        settled = new.shape[1] - count
        taken_back = bool(self.past.maxlen) and settled > count  # long enough ago to be remembered for good, by a call of its own
        for piece in new.split([settled, count], dim=1) if taken_back else (new,):
            room = max(self.window - piece.shape[1], 0)
            if self.window and self.state.remembered > room:  # what stands ahead of the tokens takes no room
                self.state = self.state.keep(room)
            self.past.append((self.fed, self.state))
            if self.way.compile:
                self.state = slid(self.state, piece.shape[1])
            out = self.run(self.compiled, piece, self.kwargs)
        return out[:, -count:]

    def run(self, net: Any, new: Tensor, given: dict[str, Any], **more: Any) -> Tensor:
        out, self.state = net(new, return_state=True, **{**given, 'seq_start_pos': self.start, 'state': self.state}, **more)
        self.fed += new.shape[1]
        return out

    def reorder(self, index: Tensor) -> None:
        self.state = self.state.reorder(index)
        self.start = None if self.start is None else self.start[index]
        self.kwargs = rows_of(self.kwargs, index, self.batch)
        self.past.clear()

    def rewind(self, length: int) -> None:
        """Where the state cannot take tokens back, an older one goes on, and gets again what it has not seen."""
        if length >= self.fed:
            return
        while self.past and self.past[-1][0] > length:
            self.past.pop()
        try:
            self.state, self.fed = self.state.rewind(self.fed - length), length
        except DecodeError:
            self.fed, self.state = self.past.pop()


class Refeeder:
    """Runs the whole window for every token."""

    def __init__(self, net: Any, window: int, kwargs: dict[str, Any]):
        self.net, self.window, self.kwargs = net, window, kwargs

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        x = last(out, self.window)
        given = with_mask(self.kwargs, x.shape[1], out.shape[1])
        if start is not None:
            given = {**given, 'seq_start_pos': moved(start, out.shape[1] - x.shape[1])}
        self.batch = len(out)
        return logits_of(self.net(x, **given), self.batch)[:, -count:]

    def reorder(self, index: Tensor) -> None:
        self.kwargs = rows_of(self.kwargs, index, self.batch)

    def rewind(self, length: int) -> None:
        """Nothing is remembered."""


class Around:
    """A source made of another."""

    def __init__(self, source: Any):
        self.source = source

    def reorder(self, index: Tensor) -> None:
        self.source.reorder(index)

    def rewind(self, length: int) -> None:
        self.source.rewind(length)


class Contrast(Around):
    """An expert against amateurs, one after the other (2210.15097)."""

    def __init__(self, expert: Source, amateurs: Sequence[Source], options: Sequence[dict[str, Any]]):
        super().__init__(expert)
        self.amateurs: Sequence[Any] = amateurs
        self.options = options

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        logits = self.source.logits(out, start, count)
        for amateur, options in zip(self.amateurs, self.options, strict=True):
            other = amateur.logits(out, start, count)
            if other.shape != logits.shape:
                ours, theirs = ((t.shape[0], t.shape[-1]) for t in (logits, other))
                raise InputError(f'amateur_model has logits {theirs} and the model {ours}; give one vocabulary')
            logits = contrastive_decode_fn(logits, other, **options)
        return logits

    def reorder(self, index: Tensor) -> None:
        for source in (self.source, *self.amateurs):
            source.reorder(index)

    def rewind(self, length: int) -> None:
        for source in (self.source, *self.amateurs):
            source.rewind(length)


class Copies(Around):
    """Rows that begin alike, `copies` of each prompt one after the other: the prompts are read once."""

    def __init__(self, source: Source, copies: int):
        super().__init__(source)
        self.copies, self.begun = copies, False

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        if self.begun:
            return self.source.logits(out, start, count)
        self.begun = True
        logits = self.source.logits(out[:: self.copies], None if start is None else start[:: self.copies])
        index = torch.arange(len(logits), device=out.device).repeat_interleave(self.copies)
        self.source.reorder(index)
        return logits[index]


def why_not_step(net: Any) -> str | None:
    """Why a model is decoded by whole windows instead of by state, or None."""
    if not hasattr(net, 'empty_state'):
        return f'{type(net).__name__} keeps no state'
    if has_own_forward(net):
        return 'it has forward hooks, or a forward of its own, and is decoded by that'
    if not net.can_cache_kv:
        return net.why_not_decode or 'it was told not to (can_cache_kv=False)'
    return None


# ------------------------------------------------------------------------------------------------ what goes with the tokens


def last(out: Tensor, window: int) -> Tensor:
    """The latest `window` tokens; all with a window of 0."""
    return out[:, -window:] if window else out


def moved(start: Tensor | None, dropped: int) -> Tensor | None:
    """Where sequences start after `dropped` tokens have left the window."""
    return None if start is None else (start - dropped).clamp(min=0)


def ahead(kwargs: dict[str, Any]) -> int:
    """Entries that go ahead of the sequence."""
    embeds = kwargs.get('prepend_embeds')
    return 0 if embeds is None else embeds.shape[1]


def with_mask(kwargs: dict[str, Any], shown: int, total: int) -> dict[str, Any]:
    """The mask of the prompts, for the latest `shown` of `total` tokens: those that were made are there."""
    mask = kwargs.get('mask')
    if mask is None:
        return kwargs
    return {**kwargs, 'mask': F.pad(mask, (0, total - mask.shape[1]), value=True)[:, -shown:]}


def rows_of(given: Any, index: Tensor, batch: int) -> Any:
    """Rows of every tensor whose first axis is the batch."""
    if isinstance(given, Tensor):
        return given.index_select(0, index) if given.ndim and given.shape[0] == batch else given
    if isinstance(given, dict):
        return {key: rows_of(value, index, batch) for key, value in given.items()}
    if isinstance(given, (list, tuple)):
        return type(given)(rows_of(value, index, batch) for value in given)
    return given
