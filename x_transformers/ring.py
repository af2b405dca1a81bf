"""What a sliding window remembers: its latest keys, however long the sequence gets.

The memory is that of the window and twice `SPARE` tokens. Keys that slid out of sight are dropped `SPARE` at a time, so
that they are copied once in so many tokens, and so that this many of the latest tokens can always be taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from x_transformers.errors import DecodeError
from x_transformers.state import FixedKeys, Fresh, Keys, Records

SPARE = 64


@dataclass(frozen=True)
class WindowKeys:
    """Keys of a window. Preallocated ones write new keys behind the old and move to new buffers when those are full."""

    kept: Keys | FixedKeys
    window: int  # tokens before a query that it sees
    preallocated: bool
    total: int  # tokens so far, with those that slid out and that the layer stack still counts

    @property
    def gone(self) -> int:
        """Tokens that slid out."""
        return self.total - self.length

    def read(self) -> Records:
        return self.kept.read()

    @property
    def records(self) -> Records:
        return self.kept.read()

    @property
    def length(self) -> int:
        return self.kept.length

    @property
    def memory_mask(self) -> Tensor | None:
        return self.kept.memory_mask

    def append(self, records: Records) -> WindowKeys:
        """With these keys behind the others; more than there is room for stay until the window slides."""
        kept, new = self.kept, next(iter(records.values())).shape[-2]
        if isinstance(kept, FixedKeys) and kept.length + new > kept.capacity:
            kept = Keys(kept.read(), kept.lead, kept.memory_mask)
        return replace(self, kept=kept.append(records), total=self.total + new)

    @property
    def most(self) -> int:
        """Tokens that are remembered between calls, at most."""
        return room_of(self.window)

    def slide(self, coming: int = 0) -> WindowKeys:
        """After a call, or before one of so many tokens: without what no later query sees."""
        if self.length + coming <= self.most and (isinstance(self.kept, FixedKeys) or not self.preallocated):
            return self
        count = min(self.length, self.window + SPARE)
        kept: Keys | FixedKeys = Keys(self.kept.read(), self.kept.lead, self.memory_mask).keep(count)
        if self.preallocated:
            kept = Fresh(memory_mask=kept.memory_mask, capacity=self.most).start(kept.read(), kept.lead)
        return replace(self, kept=kept)

    def keep(self, count: int) -> WindowKeys:
        return self if count >= self.total else replace(self, kept=self.kept.keep(count), total=count)

    def rewrite(self, name: str, t: Tensor) -> WindowKeys:
        return replace(self, kept=self.kept.rewrite(name, t))

    def rewind(self, count: int) -> WindowKeys:
        if self.gone and self.length - count < self.window:
            raise DecodeError(
                f'a window of {self.window} (attn_max_attend_past or attn_window) cannot take back {count} tokens: of what slid out of it, '
                f'only the latest {self.length - self.window} tokens are remembered. Keep the state from before those tokens instead.'
            )
        return replace(self, kept=self.kept.rewind(count), total=self.total - count)


def room_of(window: int) -> int:
    """Tokens that a window is given room for."""
    return window + 2 * SPARE


def first_keys(fresh: Fresh, records: Records, lead: int, window: int | None) -> Keys | FixedKeys | WindowKeys:
    """The first keys of a layer; of a window that is smaller than the room asked for, only as many as it needs."""
    if window is None or (fresh.capacity is not None and fresh.capacity <= room_of(window)):
        return fresh.start(records, lead)
    kept = Keys(records, lead, fresh.memory_mask)
    return WindowKeys(kept, window, fresh.capacity is not None, kept.length)
