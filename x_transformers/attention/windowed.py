"""Causal windows (2004.05150) in time and memory linear in the length: a long sequence is a batch of short ones.

The queries are cut in blocks. A block's window reaches over its own keys and those of the blocks just before it, so
each block is a short attention of its own: the last `size` of `width` tokens, whose masks and biases are the same for
every block. The first queries, which have less than a window behind them, are one more short attention. Any backend
computes both; what it computes is what it would compute of the whole, since hidden keys have no weight anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.attention.backends import Scored
from x_transformers.attention.masks import Visible, known
from x_transformers.call import Span

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

    @staticmethod
    def of(window: int, queries: int, keys: int) -> Blocks | None:
        """The blocks for a causal window, or None where one attention over all keys costs no more."""
        size = min(max(window, SMALLEST), LARGEST)
        reach = max(-(-window // size), 1)
        count = queries // size - reach
        return Blocks(size, reach, queries - count * size, count, keys - queries) if known(count >= 2) else None

    @property
    def width(self) -> int:
        """Keys that a block meets."""
        return (self.reach + 1) * self.size

    def cut_queries(self, t: Tensor, dim: int) -> Tensor:
        """(b, ..., n, ...) with one entry per query along `dim` -> (b count, ..., size, ...)."""
        return self.cut(t, dim, self.head)

    def cut_keys(self, t: Tensor, dim: int, lead: int = 0) -> Tensor:
        """(b, ..., lead + keys, ...) -> (b count, ..., lead + width, ...): every block has the keys that belong to no token."""
        start = lead + self.earlier + self.head
        parts = [self.cut(t, dim, start - back * self.size) for back in range(self.reach, -1, -1)]
        if lead:
            parts.insert(0, t.narrow(dim, 0, lead).repeat_interleave(self.count, dim=0))
        return torch.cat(parts, dim=dim)

    def cut(self, t: Tensor, dim: int, start: int) -> Tensor:
        blocks = t.narrow(dim, start, self.count * self.size).unflatten(dim, (self.count, self.size))
        return blocks.movedim(dim, 1).flatten(0, 1)

    def joined(self, head: Tensor, t: Tensor) -> Tensor:
        """What came of the first queries (b, h, head, e) and of the blocks (b count, h, size, e) -> (b, h, n, e)."""
        return torch.cat((head, t.unflatten(0, (head.shape[0], self.count)).movedim(1, 2).flatten(2, 3)), dim=2)

    def head_spans(self, queries: Span, keys: Span) -> tuple[Span, Span]:
        """The first queries, and the keys up to them."""
        return queries.first(self.head), keys.first(self.earlier + self.head)

    def block_spans(self, queries: Span, keys: Span, batch: int) -> tuple[Span, Span]:
        """The queries and keys of every block, as if it were a sequence of its own."""
        rows = lambda t: t.expand(batch, -1)
        cut_queries = lambda t: None if t is None else self.cut_queries(rows(t), 1)
        cut_keys = lambda t: None if t is None else self.cut_keys(rows(t), 1)
        return (
            Span(self.width - self.size, self.size, cut_queries(queries.pos), document=cut_queries(queries.document)),
            Span(0, self.width, cut_keys(keys.pos), cut_keys(keys.visible), cut_keys(keys.document)),
        )


@dataclass(frozen=True)
class InBlocks:
    """What `Scored` is for a whole call, for one in blocks."""

    blocks: Blocks
    lead: int
    head: Scored
    rest: Scored
    blind: tuple[Tensor, Tensor] | None = None  # (b|1, 1, n, 1) bool: queries that see no key; of them, those with none to come
    selection = None

    def run(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weighed values (b, h, n, e) of q (b, h, n, d), k (b, g, lead + keys, d) and v."""
        cut, met = self.blocks, self.lead + self.blocks.earlier + self.blocks.head
        head = attend.run(q[:, :, : cut.head], k[:, :, :met], v[:, :, :met], self.head)
        keys, values = (cut.cut_keys(t, 2, self.lead) for t in (k, v))
        out = cut.joined(head, attend.run(cut.cut_queries(q, 2), keys, values, self.rest))
        if self.blind is None:
            return out
        nothing, never = self.blind
        return torch.where(nothing, torch.where(never, 0.0, self.of_nothing(attend, q, k, v)), out)

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
