"""Next-token logits of a growing sequence, and the loop that turns them into tokens.

A source of logits answers `logits(tokens so far (b, t), their left padding (b,)) -> (b, vocabulary)` and
`reorder(rows)`. `Stepper` computes each token once and keeps the model's state; a window that reaches the model's
length slides. `Refeeder` gives the whole window each time to models that cannot go on from earlier tokens, and to those whose
forward is not ours alone (a subclass with one of its own, hooks): slower, but decoded by that forward. `Contrast` plays one
source against others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.decoding.nets import has_own_forward, logits_of, unwrapped
from x_transformers.decoding.prompts import Prompts
from x_transformers.decoding.sampling import contrastive_decode_fn
from x_transformers.errors import DecodeError, InputError
from x_transformers.inputs import expect
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding
from x_transformers.toolbox import evaluating

SLACK = 128  # room beyond the window, so that sliding seldom moves memory
FIRST_ONLY = ('mask', 'mems', 'mem_masks', 'prepend_embeds', 'prepend_mask')  # remembered by the state


class Source(Protocol):
    def logits(self, out: Tensor, start: Tensor | None) -> Tensor: ...
    def reorder(self, index: Tensor) -> None: ...


@dataclass(frozen=True)
class Way:
    """How a model that keeps a state decodes; the numbers are the same."""

    cache_kv: bool = True  # False: no state, the whole window for every token
    compile: bool = False  # torch.compile the step from one token to the next
    prefill_chunk: int | None = None  # tokens of the prompt that are run at a time; None: all

    @classmethod
    def checked(cls, cache_kv: Any, compile: Any, prefill_chunk: Any) -> Way:
        """These, where they go together."""
        if prefill_chunk is not None and (isinstance(prefill_chunk, bool) or not isinstance(prefill_chunk, int) or prefill_chunk < 1):
            raise InputError(
                f'prefill_chunk={prefill_chunk!r} is not possible; expected a number of tokens from 1, or None for all at once'
            )
        for name, on in (('compile', compile), ('prefill_chunk', prefill_chunk)):
            if on and not cache_kv:
                raise InputError(f'{name}={on} needs cache_kv=True: without a state, the whole window is run for every token. Keep one')
        return cls(bool(cache_kv), bool(compile), prefill_chunk)


class Stepper:
    """Decodes by state: each token is fed once."""

    def __init__(self, net: Any, window: int, total: int, kwargs: dict[str, Any], way: Way):
        self.net, self.window, self.kwargs, self.way = net, window, dict(kwargs), way
        self.compiled = torch.compile(net) if way.compile and net is unwrapped(net) else net
        slides = 0 < window < total
        capacity = (window + SLACK if slides else total) + ahead(kwargs)
        capacity += -capacity % SLACK if way.compile else 0  # sizes that come back find their graphs
        self.state = net.empty_state(capacity=capacity)
        self.fed = 0
        self.start: Tensor | None = None

    def logits(self, out: Tensor, start: Tensor | None) -> Tensor:
        logits = self.step(out[:, self.fed :]) if self.fed else self.prefill(last(out, self.window), start, out.shape[1])
        self.batch, self.fed = out.shape
        return logits

    def prefill(self, new: Tensor, start: Tensor | None, total: int) -> Tensor:
        """The prompt, in chunks: memory for the scores and features of one at a time."""
        self.start = moved(start, total - new.shape[1])
        mask = with_mask(self.kwargs, new.shape[1], total).get('mask')
        size = self.way.prefill_chunk or new.shape[1]
        for at in range(0, new.shape[1], size):
            given = self.kwargs if mask is None else {**self.kwargs, 'mask': mask[:, at : at + size]}
            x = self.run(self.net, new[:, at : at + size], given, return_embeddings=True)
            self.kwargs = {key: value for key, value in self.kwargs.items() if key not in FIRST_ONLY}
        return self.net.read_out(x[:, -1:], **(self.kwargs.get('to_logits_kwargs') or {}))[:, -1]  # a head sees a sequence

    def step(self, new: Tensor) -> Tensor:
        room = max(self.window - new.shape[1], 0)
        if self.window and self.state.remembered > room:  # what stands ahead of the tokens takes no room
            self.state = self.state.keep(room)
        return self.run(self.compiled, new, self.kwargs)[:, -1]

    def run(self, net: Any, new: Tensor, given: dict[str, Any], **more: Any) -> Tensor:
        out, self.state = net(new, return_state=True, **{**given, 'seq_start_pos': self.start, 'state': self.state}, **more)
        return out

    def reorder(self, index: Tensor) -> None:
        self.state = self.state.reorder(index)
        self.start = None if self.start is None else self.start[index]
        self.kwargs = rows_of(self.kwargs, index, self.batch)


class Refeeder:
    """Runs the whole window for every token."""

    def __init__(self, net: Any, window: int, kwargs: dict[str, Any]):
        self.net, self.window, self.kwargs = net, window, kwargs

    def logits(self, out: Tensor, start: Tensor | None) -> Tensor:
        x = last(out, self.window)
        given = with_mask(self.kwargs, x.shape[1], out.shape[1])
        if start is not None:
            given = {**given, 'seq_start_pos': moved(start, out.shape[1] - x.shape[1])}
        self.batch = len(out)
        return logits_of(self.net(x, **given), self.batch)[:, -1]

    def reorder(self, index: Tensor) -> None:
        self.kwargs = rows_of(self.kwargs, index, self.batch)


class Contrast:
    """An expert against amateurs, one after the other (2210.15097)."""

    def __init__(self, expert: Source, amateurs: Sequence[Source], options: Sequence[dict[str, Any]]):
        self.expert, self.amateurs, self.options = expert, amateurs, options

    def logits(self, out: Tensor, start: Tensor | None) -> Tensor:
        logits = self.expert.logits(out, start)
        for amateur, options in zip(self.amateurs, self.options, strict=True):
            other = amateur.logits(out, start)
            if other.shape != logits.shape:
                raise InputError(f'amateur_model has logits {tuple(other.shape)} and the model {tuple(logits.shape)}; give one vocabulary')
            logits = contrastive_decode_fn(logits, other, **options)
        return logits

    def reorder(self, index: Tensor) -> None:
        for source in (self.expert, *self.amateurs):
            source.reorder(index)


def source_for(
    net: Any, prompts: Prompts, seq_len: int, kwargs: dict[str, Any], *, window: int, way: Way, may_end: bool = False
) -> Stepper | Refeeder:
    """How to decode `seq_len` tokens behind `prompts` with this model; `window` 0 never slides."""
    prompt, total = prompts.tokens.shape[1], prompts.tokens.shape[1] + seq_len
    check_mask(kwargs.get('mask'), prompts)
    table = getattr(net, 'pos_emb', None)
    if not window and isinstance(table, AbsolutePositionalEmbedding) and total - 1 > table.max_seq_len:
        raise DecodeError(
            f'restrict_to_max_seq_len=False with a prompt of {prompt} tokens and seq_len={seq_len} goes beyond '
            f'max_seq_len={table.max_seq_len}, for which absolute positions were made; shorten them, or leave it out'
        )
    if not way.cache_kv or not hasattr(net, 'empty_state') or not net.can_cache_kv or has_own_forward(net):
        return Refeeder(net, window, kwargs)
    over = window and total - 1 > window and not net.can_cache_kv_outside_max_seq_len
    if over and (prompt > window or not may_end):  # an end token may come in time
        raise DecodeError(
            f'a prompt of {prompt} tokens with seq_len={seq_len} goes beyond max_seq_len={window}, where keys that were kept cannot '
            'slide along (absolute positions, memory tokens); shorten them, use cache_kv=False, or build the model without these'
        )
    return Stepper(net, window, total, kwargs, way)


@torch.no_grad()
def tokens(
    source: Source, prompts: Prompts, seq_len: int, choose: Callable[[Tensor], Tensor], eos_token: int | None, nets: Sequence[nn.Module]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Up to `seq_len` times: the next token (b,) of each row, and whether the row had ended before it (b,).

    Stops when every row has ended. The modules are in evaluation mode only while they compute.
    """
    out, evaluation = prompts.tokens, evaluating(*nets)
    over = torch.zeros_like(out[:, 0], dtype=torch.bool) if eos_token is None else prompts.ended(eos_token)
    for _ in range(seq_len):
        with evaluation:
            token = choose(source.logits(out, prompts.start))
        out = torch.cat((out, token[:, None]), dim=1)
        yield token, over
        if eos_token is not None:
            over = over | (token == eos_token)
            if bool(over.all()):
                break


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


def check_mask(mask: Any, prompts: Prompts) -> None:
    """A mask says which tokens of the prompts are there."""
    if mask is None:
        return
    if prompts.start is not None:
        raise InputError(
            'mask cannot be combined with prompt_lens or seq_start_pos: all say which tokens of the prompts are there. Keep one.'
        )
    expect('mask', mask, tuple(prompts.tokens.shape), 'bool', 'it has the shape of the prompts')


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
