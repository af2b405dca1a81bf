"""What the biases by distance share: a value per head for every distance, laid out over queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from x_transformers.call import Span


class DistanceBias(nn.Module):
    """A bias on attention scores that depends on `distance = query position - key position` alone."""

    def at(self, distance: Tensor) -> Tensor:
        """Bias at integer distances (...) -> (..., heads)."""
        raise NotImplementedError(f'{type(self).__name__} must define at(distance)')

    def between(self, queries: Span, keys: Span, device: torch.device) -> Tensor:
        """(1|b, heads, i, j): the bias of every pair. Runs of tokens need one value per distance only."""
        q_pos, k_pos = queries.positions(device), keys.positions(device)
        distance = q_pos[:, :, None] - k_pos[:, None, :]  # b i j
        if queries.pos is None and keys.pos is None:
            nearest = queries.start - (keys.start + keys.length - 1)
            farthest = queries.start + queries.length - 1 - keys.start
            table = self.at(torch.arange(nearest, farthest + 1, device=device))
            return table[distance - nearest].permute(0, 3, 1, 2)
        return self.at(distance).permute(0, 3, 1, 2)

    def forward(self, i: int, j: int) -> Tensor:
        """(heads, i, j) for `i` queries that are the last of `j` keys."""
        device = next((t.device for t in (*self.parameters(), *self.buffers())), torch.device('cpu'))
        return self.between(Span(j - i, i), Span(0, j), device)[0]

    def forward_custom_pos(self, pos_i: Tensor, pos_j: Tensor | None = None) -> Tensor:
        """Positions (n,) -> (heads, i, j), or (b, n) -> (b, heads, i, j)."""
        pos_j = pos_i if pos_j is None else pos_j
        bias = self.at(pos_i[..., :, None] - pos_j[..., None, :])  # ... i j h
        return bias.movedim(-1, -3)
