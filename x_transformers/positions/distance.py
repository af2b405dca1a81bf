"""What the biases by distance share: a value per head for every distance, laid out over queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from x_transformers.call import Span
from x_transformers.errors import InputError, quoted
from x_transformers.inputs import expect_kind, expect_place, whole


class DistanceBias(nn.Module):
    """A bias on attention scores that depends on `distance = query position - key position` alone."""

    total_heads: int
    in_buckets = False  # positions must be whole numbers

    def at(self, distance: Tensor) -> Tensor:
        """Bias at integer distances (...) -> (..., heads)."""
        raise NotImplementedError(f'{type(self).__name__} must define at(distance)')

    def between(self, queries: Span, keys: Span, device: torch.device) -> Tensor:
        """(1|b, heads, i, j): the bias of every pair. Runs of tokens, and of documents, need one value per distance only."""
        if queries.pos is None and keys.pos is None:
            distance = (queries.order(device)[:, None] - keys.order(device))[None]
            nearest = queries.start - (keys.start + keys.length - 1)
            farthest = queries.start + queries.length - 1 - keys.start
            table = self.at(torch.arange(nearest, farthest + 1, device=device))
            return table[distance - nearest].permute(0, 3, 1, 2)
        distance = queries.positions(device)[:, :, None] - keys.positions(device)[:, None, :]  # b i j
        return self.at(distance).permute(0, 3, 1, 2)

    def forward(self, i: int, j: int) -> Tensor:
        """(heads, i, j) for `i` queries that are the last of `j` keys."""
        if (whole(i) or 0) < 1 or (whole(j) or 0) < 1:
            raise InputError(f'i={quoted(i)}, j={quoted(j)} is not possible; expected numbers of queries and keys')
        device = next((t.device for t in (*self.parameters(), *self.buffers())), torch.device('cpu'))
        return self.between(Span(j - i, i), Span(0, j), device)[0]

    def forward_custom_pos(self, pos_i: Tensor, pos_j: Tensor | None = None) -> Tensor:
        """Positions (n,) -> (heads, i, j), or (b, n) -> (b, heads, i, j)."""
        pos_j = pos_i if pos_j is None else pos_j
        for name, pos in (('pos_i', pos_i), ('pos_j', pos_j)):
            if not isinstance(pos, Tensor) or pos.ndim not in (1, 2) or pos.ndim != getattr(pos_i, 'ndim', 0):
                raise InputError(f'{name}={quoted(pos)} is not possible; expected a tensor of positions (n,) or (b, n)')
            if self.in_buckets or not pos.is_floating_point():
                expect_kind(name, pos, 'int', 'each is the position of a token')
        expect_place({'pos_j': pos_j}, pos_i, 'pos_i')
        bias = self.at(pos_i[..., :, None] - pos_j[..., None, :])  # ... i j h
        return bias.movedim(-1, -3)
