"""Windows (2004.05150) in time and memory linear in the length: a long sequence is a batch of short ones.

The queries are cut in blocks. A block's window reaches over its own keys and those of the blocks just before it, and in
a window on both sides of the blocks just behind it, so each block is a short attention of its own: `size` of `width`
tokens, whose masks and biases are the same for every block. The first queries, which have less than a window before
them, are one more short attention, and so are the last where a window looks ahead. Any backend computes all of them;
what it computes is what it would compute of the whole, since hidden keys have no weight anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.attention.backends import Scored
from x_transformers.attention.masks import Visible
from x_transformers.call import Span, known

if TYPE_CHECKING:
    from x_transformers.attention.attend import Attend

SMALLEST, LARGEST = 64, 256  # tokens in a block: smaller ones waste calls, larger ones scores that the window hides


@dataclass(frozen=True)
class Blocks:
    """How the queries of a call are cut; `keys` are those of its tokens, the queries the last of them."""

    size: int  # queries of a block
    reach: int  # blocks before its own that a query may see
    head: int  # queries ahead of the first block
    count: int  # blocks
    earlier: int  # keys ahead of the first query
    ahead: int = 0  # blocks behind its own that a query may see

    @staticmethod
    def of(window: int, queries: int, keys: int, both_sides: bool = False) -> Blocks | None:
        """The blocks for a window, or None where one attention over all keys costs no more."""
        size = min(max(window, SMALLEST), LARGEST)
        reach = max(-(-window // size), 1)
        ahead = reach if both_sides else 0
        count = queries // size - reach - ahead
        return Blocks(size, reach, queries - (count + ahead) * size, count, keys - queries, ahead) if known(count >= 2) else None

    @property
    def width(self) -> int:
        """Keys that a block meets."""
        return (self.reach + 1 + self.ahead) * self.size

    @property
    def tail(self) -> int:
        """Queries behind the last block."""
        return self.ahead * self.size

    def cut_queries(self, t: Tensor, dim: int) -> Tensor:
        """(b, ..., n, ...) with one entry per query along `dim` -> (b count, ..., size, ...)."""
        return self.cut(t, dim, self.head)

    def cut_keys(self, t: Tensor, dim: int, lead: int = 0) -> Tensor:
        """(b, ..., lead + keys, ...) -> (b count, ..., lead + width, ...): every block has the keys that belong to no token."""
        start = lead + self.earlier + self.head
        parts = [self.cut(t, dim, start + by * self.size) for by in range(-self.reach, self.ahead + 1)]
        if lead:
            parts.insert(0, t.narrow(dim, 0, lead).repeat_interleave(self.count, dim=0))
        return torch.cat(parts, dim=dim)

    def cut(self, t: Tensor, dim: int, start: int) -> Tensor:
        blocks = t.narrow(dim, start, self.count * self.size).unflatten(dim, (self.count, self.size))
        return blocks.movedim(dim, 1).flatten(0, 1)

    def joined(self, head: Tensor, t: Tensor, *tail: Tensor) -> Tensor:
        """What came of the first queries (b, h, head, e), of the blocks (b count, h, size, e) and of the last -> (b, h, n, e)."""
        return torch.cat((head, t.unflatten(0, (head.shape[0], self.count)).movedim(1, 2).flatten(2, 3), *tail), dim=2)

    @property
    def met_first(self) -> int:
        """Keys that the first queries meet."""
        return self.earlier + self.head + self.tail

    @property
    def met_last(self) -> int:
        """Keys that the last queries meet."""
        return self.tail + self.reach * self.size

    def head_spans(self, queries: Span, keys: Span) -> tuple[Span, Span]:
        """The first queries, and the keys that they may see."""
        return queries.first(self.head), keys.first(self.met_first)

    def tail_spans(self, queries: Span, keys: Span) -> tuple[Span, Span]:
        """The last queries, and the keys that they may see."""
        return queries.last(self.tail), keys.last(self.met_last)

    def block_spans(self, queries: Span, keys: Span, batch: int) -> tuple[Span, Span]:
        """The queries and keys of every block, as if it were a sequence of its own."""
        rows = lambda t: t.expand(batch, -1)
        cut_queries = lambda t: None if t is None else self.cut_queries(rows(t), 1)
        cut_keys = lambda t: None if t is None else self.cut_keys(rows(t), 1)
        return (
            Span(self.reach * self.size, self.size, cut_queries(queries.pos), document=cut_queries(queries.document)),
            Span(0, self.width, cut_keys(keys.pos), cut_keys(keys.visible), cut_keys(keys.document)),
        )


@dataclass(frozen=True)
class InBlocks:
    """What `Scored` is for a whole call, for one in blocks."""

    blocks: Blocks
    lead: int
    head: Scored
    rest: Scored
    last: Scored | None = None  # of the queries behind the blocks
    blind: tuple[Tensor, Tensor] | None = None  # (b|1, 1, n, 1) bool: queries that see no key; of them, those with none to come
    selection = None

    def run(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weighed values (b, h, n, e) of q (b, h, n, d), k (b, g, lead + keys, d) and v."""
        cut, met = self.blocks, self.lead + self.blocks.met_first
        head = attend.run(q[:, :, : cut.head], k[:, :, :met], v[:, :, :met], self.head)
        keys, values = (cut.cut_keys(t, 2, self.lead) for t in (k, v))
        out = cut.joined(head, attend.run(cut.cut_queries(q, 2), keys, values, self.rest), *self.behind(attend, q, k, v))
        if self.blind is None:
            return out
        nothing, never = self.blind
        return torch.where(nothing, torch.where(never, 0.0, self.of_nothing(attend, q, k, v)), out)

    def behind(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """What comes of the queries behind the blocks, where there are any."""
        if self.last is None:
            return ()
        latest = lambda t: torch.cat((t[:, :, : self.lead], t[:, :, -self.blocks.met_last :]), dim=2)
        return (attend.run(q[:, :, -self.blocks.tail :], latest(k), latest(v), self.last),)

    @staticmethod
    def of_nothing(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(b, h, 1, e): what a query gets from which padding and the causal rule together hide every key of the whole sequence."""
        hidden = torch.zeros((1, k.shape[-2]), dtype=torch.bool, device=k.device)
        return attend.run(q[:, :, :1], k, v, Scored(Visible(~hidden[None, None], lambda: hidden)))


def blind_queries(visible: Tensor, queries: int, window: int) -> tuple[Tensor, Tensor]:
    """(b, 1, n, 1) bool of keys (b, j) that may be seen: queries, the last of them, that see none; and none to come either."""
    total = F.pad(visible.long().cumsum(dim=1), (window + 1, 0))
    upto, before = total[:, -queries:], total[:, -queries - window - 1 : total.shape[1] - window - 1]
    shaped = lambda t: t[:, None, :, None]
    return shaped(upto == before), shaped(before == total[:, -1:])
