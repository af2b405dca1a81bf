"""What flows between calls: everything a layer remembers of earlier tokens.

A state is a frozen dataclass of tensors, returned by a forward pass and given to the next. For every cut of
every sequence, running the parts with the state passed on equals running the whole (the split law).
Growing states are snapshots: an older one stays valid. Preallocated ones (`capacity`) are written in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from x_transformers.call import Span
from x_transformers.errors import DecodeError, InputError, quoted
from x_transformers.inputs import askable, expect, whole

Records = dict[str, Tensor]  # name -> (b, heads, keys, features)


@dataclass(frozen=True)
class Fresh:
    """Before the first token: Transformer-XL memory (1901.02860) that goes ahead, and room for what will come."""

    memory: Tensor | None = None  # (b, m, dim) rows of the residual stream
    memory_mask: Tensor | None = None  # (b, m) bool
    capacity: int | None = None  # None: grow by concatenation

    def start(self, records: Records, lead: int) -> Keys | FixedKeys:
        """The first keys; `lead` of them belong to no token and are never dropped."""
        if self.capacity is None:
            return Keys(records, lead, self.memory_mask)
        room = lead + self.capacity + (0 if self.memory is None else self.memory.shape[1])
        length = next(iter(records.values())).shape[-2]
        if length > room:
            raise DecodeError(_full(self.capacity, length - lead))
        buffers = {name: t.new_empty((*t.shape[:-2], room, t.shape[-1])) for name, t in records.items()}
        for name, t in records.items():
            buffers[name][..., :length, :] = t
        return FixedKeys(buffers, lead, 0, length, self.memory_mask)


@dataclass(frozen=True)
class Keys:
    """Keys, values and other per-key records; grows by concatenation."""

    records: Records
    lead: int = 0  # keys that belong to no token (memory and zero key/values): always first
    memory_mask: Tensor | None = None  # (b, m) bool over the oldest tokens

    def read(self) -> Records:
        return self.records

    @property
    def length(self) -> int:
        """Tokens remembered."""
        return next(iter(self.records.values())).shape[-2] - self.lead

    def append(self, records: Records) -> Keys:
        return replace(self, records={name: torch.cat((self.records[name], t), dim=-2) for name, t in records.items()})

    def keep(self, count: int) -> Keys:
        """Forget all but the latest `count` tokens."""
        cut = self.length - count
        if cut <= 0:
            return self
        shorten = lambda t: torch.cat((t[..., : self.lead, :], t[..., self.lead + cut :, :]), dim=-2)
        return Keys({name: shorten(t) for name, t in self.records.items()}, self.lead, _trim(self.memory_mask, cut))

    def rewrite(self, name: str, t: Tensor) -> Keys:
        """Other values for one record of all keys."""
        return replace(self, records={**self.records, name: t})

    def rewind(self, count: int) -> Keys:
        """Forget the latest `count` tokens."""
        check_rewind(self.records, count)
        return replace(self, records={name: t[..., : t.shape[-2] - count, :] for name, t in self.records.items()})


@dataclass(frozen=True)
class FixedKeys:
    """The same over preallocated buffers, written in place: the live keys are `begin:end`."""

    buffers: Records
    lead: int
    begin: int
    end: int
    memory_mask: Tensor | None = None

    def read(self) -> Records:
        return {name: t.narrow(-2, self.begin, self.end - self.begin) for name, t in self.buffers.items()}

    @property
    def length(self) -> int:
        return self.end - self.begin - self.lead

    @property
    def capacity(self) -> int:
        return next(iter(self.buffers.values())).shape[-2] - self.lead

    def append(self, records: Records) -> FixedKeys:
        new = next(iter(records.values())).shape[-2]
        room = next(iter(self.buffers.values())).shape[-2]
        at = self if self.end + new <= room else self._compact()
        if at.end + new > room:
            raise DecodeError(_full(room - self.lead, at.length + new))
        for name, t in records.items():
            at.buffers[name].narrow(-2, at.end, new).copy_(t)
        return FixedKeys(at.buffers, at.lead, at.begin, at.end + new, at.memory_mask)  # for every token and layer: `replace` is slow

    def keep(self, count: int) -> FixedKeys:
        cut = self.length - count
        if cut <= 0:
            return self
        begin = self.begin + cut
        for t in self.buffers.values():  # the lead moves up over what is forgotten
            t[..., begin : begin + self.lead, :] = t[..., self.begin : self.begin + self.lead, :].clone()
        return replace(self, begin=begin, memory_mask=_trim(self.memory_mask, cut))

    def rewrite(self, name: str, t: Tensor) -> FixedKeys:
        whole = self.buffers[name].clone()  # an older state still reads the numbers it had
        whole[..., self.begin : self.end, :] = t
        return replace(self, buffers={**self.buffers, name: whole})

    def rewind(self, count: int) -> FixedKeys:
        check_rewind(self.buffers, count)
        return replace(self, end=self.end - count)

    def _compact(self) -> FixedKeys:
        live = self.end - self.begin
        for t in self.buffers.values():
            t[..., :live, :] = t[..., self.begin : self.end, :].clone()
        return replace(self, begin=0, end=live)


@dataclass(frozen=True)
class ContextKeys:
    """Keys and values of a cross-attention's context, computed with the first chunk."""

    records: Records

    def keep(self, count: int) -> ContextKeys:
        return self

    def rewind(self, count: int) -> ContextKeys:
        return self


@dataclass(frozen=True)
class Tail:
    """The latest inputs of a branch, for branches that look a fixed number of tokens back."""

    rows: Tensor  # (b, ..., reach, dim)
    inner: Any  # state of the branch inside

    def keep(self, count: int) -> Tail:
        return replace(self, inner=None if self.inner is None else self.inner.keep(count))

    def rewind(self, count: int) -> Tail:
        raise DecodeError(
            f'shift_tokens cannot take back {count} tokens: it remembers only its latest {self.rows.shape[-2]} inputs. '
            'Keep the state from before those tokens instead.'
        )


@dataclass(frozen=True)
class Beside:
    """What attention remembers, and what the module beside it does."""

    hidden: Any  # (b, ...) tensors
    inner: Any

    def keep(self, count: int) -> Beside:
        return replace(self, inner=self.inner.keep(count))

    def rewind(self, count: int) -> Beside:
        raise DecodeError(
            f'attn_hybrid_module cannot take back {count} tokens: they are in its state. Keep the state from before those tokens.'
        )


@dataclass(frozen=True)
class Lost:
    """In place of the state of a branch that returned none, though it was asked for one."""

    name: str

    def keep(self, count: int) -> Lost:
        return self

    def rewind(self, count: int) -> Lost:
        return self


def check_rewind(records: Records, count: int) -> None:
    """Records that later tokens wrote to cannot be taken back."""
    if 'deselected' in records:
        raise DecodeError(
            f'attn_selective cannot take back {count} tokens: what they deselected is summed up with the rest. '
            'Keep the state from before those tokens instead.'
        )


@dataclass(frozen=True)
class StackState:
    """What a whole layer stack remembers: where its tokens stand, and one state for every executed layer."""

    keys: Span
    layers: tuple[Any, ...]
    context: Span | None = None  # where the tokens of the context stand
    padding: Tensor | None = None  # (b,) tokens of left padding, from which each row's positions count
    extra: int = 0  # entries ahead of the first token: memory tokens, prepended embeddings
    order: tuple[int, ...] | None = None  # which built layers ran
    maker: Any = None  # what tells the stack that made it from others

    @property
    def length(self) -> int:
        """Tokens that can still be looked at, Transformer-XL memory included."""
        return self.keys.length

    @property
    def seen(self) -> int:
        """Tokens since the start of the sequence, those forgotten included."""
        return self.keys.start + self.keys.length - self.extra

    @property
    def remembered(self) -> int:
        """Tokens of the sequence that can still be looked at."""
        return min(self.keys.length - (self.extra if self.keys.start <= 0 else 0), self.seen)

    def keep(self, count: int) -> StackState:
        """Forget all but the latest `count` tokens (a sliding window)."""
        if (whole(count) is None) or count < 0:
            raise DecodeError(f'keep({quoted(count)}) is not possible: expected the number of tokens to remember')
        if count >= self.length:
            return self
        return replace(self, keys=self.keys.last(count), layers=tuple(s if s is None else s.keep(count) for s in self.layers))

    def rewind(self, count: int) -> StackState:
        """Forget the latest `count` tokens, for instance those a speculation got wrong."""
        if whole(count) is None or not 0 <= count <= self.length:
            raise DecodeError(
                f'rewind({quoted(count)}) is not possible: the state holds {self.length} tokens; expected how many to take back'
            )
        if count == 0:
            return self
        return replace(
            self, keys=self.keys.first(self.length - count), layers=tuple(s if s is None else s.rewind(count) for s in self.layers)
        )

    def reorder(self, index: Tensor) -> StackState:
        """The rows of the batch in another order, possibly repeated: (b,) indices, as a beam search needs."""
        expect('index', index, (None,), 'int', 'it holds the row of the batch that each new row was')
        batch = max((t.shape[0] for t in tensors(self.layers)), default=1)
        if askable(index) and not all(0 <= row < batch for row in index.tolist()):
            raise InputError(f'index={index.tolist()} is not possible: the state holds the rows 0 to {batch - 1}')
        index = index.long()
        return map_tensors(lambda t: t.index_select(0, index) if t.shape[0] == batch else t, self)

    def detach(self) -> StackState:
        return map_tensors(Tensor.detach, self)

    def clone(self) -> StackState:
        """A copy that later in-place writes do not reach."""
        return map_tensors(Tensor.clone, self)

    def to(self, *args: Any, **kwargs: Any) -> StackState:
        """Keys and values in another precision or place; masks and positions only move."""
        device = torch._C._nn._parse_to(*args, **kwargs)[0]
        return map_tensors(lambda t: t.to(*args, **kwargs) if t.is_floating_point() else t if device is None else t.to(device), self)


def check_room(state: StackState, new: int) -> None:
    """Whether every preallocated layer of a stack has room for `new` tokens."""
    for inner in state.layers:
        while isinstance(inner, (Tail, Beside)):
            inner = inner.inner
        if isinstance(inner, Fresh) and inner.capacity is not None and new > inner.capacity:
            raise DecodeError(_full(inner.capacity, new))
        if isinstance(inner, FixedKeys) and inner.length + new > inner.capacity:
            raise DecodeError(_full(inner.capacity, inner.length + new))


def map_tensors(fn: Callable[..., Tensor], state: Any, *others: Any) -> Any:
    """`fn` of every tensor of a state, in a state of the same structure; of several alike states, of their tensors together."""
    if isinstance(state, Tensor):
        return fn(state, *others)
    if isinstance(state, dict):
        return {key: map_tensors(fn, value, *(other[key] for other in others)) for key, value in state.items()}
    if isinstance(state, (tuple, list)):
        return type(state)(map_tensors(fn, *values) for values in zip(state, *others, strict=True))
    if is_dataclass(state) and not isinstance(state, type):
        each = {f.name: [getattr(one, f.name) for one in (state, *others)] for f in fields(state)}
        return replace(state, **{name: map_tensors(fn, *values) for name, values in each.items()})
    return state


def tensors(state: Any) -> list[Tensor]:
    """Every tensor of a state."""
    if isinstance(state, Tensor):
        return [state]
    if is_dataclass(state) and not isinstance(state, type):
        state = vars(state)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (tuple, list)) else ()
    return [t for part in parts for t in tensors(part)]


def _trim(mask: Tensor | None, cut: int) -> Tensor | None:
    return None if mask is None or cut >= mask.shape[1] else mask[:, cut:]


def _full(capacity: int, wanted: int) -> str:
    return f'capacity={capacity} is too small for {wanted} tokens; ask for a larger one or leave it out to let the state grow'
