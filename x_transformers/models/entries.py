"""What goes into a layer stack: the embeddings of tokens, what stands ahead of them, and the masks of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from x_transformers.models.memory_tokens import prepend, weave


@dataclass(frozen=True)
class Entries:
    """Embeddings and masks that grow together; `put` places more ahead of the tokens, behind each row's left padding."""

    z: Tensor  # (b, n, d)
    mask: Tensor | None = None  # (b, n) bool: what is there
    visible: Tensor | None = None  # (b, n) bool: what may be looked at
    start: Tensor | None = None  # (b,) left padding
    ahead: int = 0  # how many entries are no tokens

    def put(self, more: Tensor, mask: Tensor | None = None) -> Entries:
        """`more` (m, d) for every row or (b, m, d), ahead; entries without a mask are there."""
        more = more if more.ndim == 3 else more[None]
        return self._joined(more, mask, lambda new, t: prepend(new, t, self.start))

    def weave(self, memory: Tensor, period: int) -> Entries:
        """`memory` (m, d) ahead of every block of `period` entries."""
        return self._joined(memory[None], None, lambda new, t: weave(new, t, period))

    def _joined(self, more: Tensor, mask: Tensor | None, join: Callable[[Tensor, Tensor], Tensor]) -> Entries:
        there = lambda t: torch.ones(t.shape[:2], dtype=torch.bool, device=self.z.device)
        old = self.mask if self.mask is not None or mask is None else there(self.z)
        return replace(
            self,
            z=join(more, self.z),
            mask=None if old is None else join(there(more) if mask is None else mask, old),
            visible=None if self.visible is None else join(there(more), self.visible),
            ahead=self.ahead + more.shape[1],
        )

    def valid(self) -> Tensor | None:
        """(b, n) bool: what is there and no padding; None: all."""
        if self.start is None:
            return self.mask
        behind = torch.arange(self.z.shape[1], device=self.z.device) >= self.start[:, None]
        return behind if self.mask is None else behind & self.mask
