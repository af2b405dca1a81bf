"""Learned tokens ahead of a sequence, read and written by every layer (Memory Transformer, 2006.11527; 2309.16588)."""

from __future__ import annotations

import torch
from torch import Tensor


def prepend(memory: Tensor, x: Tensor, start: Tensor | None) -> Tensor:
    """memory (m, d) ahead of x (b, n, d); with left padding `start` (b,), between the padding and the first token."""
    joined = torch.cat((memory.expand(x.shape[0], -1, -1), x), dim=1)
    if start is None:
        return joined
    at = torch.arange(joined.shape[1], device=x.device)
    first, m = start[:, None], memory.shape[0]
    source = torch.where(at < first, at + m, torch.where(at < first + m, at - first, at))
    return joined.gather(1, source[..., None].expand_as(joined))


def strip(x: Tensor, count: int, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """Undo `prepend`: the outputs of the memory tokens (b, m, d) and of the sequence (b, n, d)."""
    if start is None:
        return x[:, :count], x[:, count:]
    take = lambda index: x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
    at = torch.arange(x.shape[1] - count, device=x.device)
    tokens = torch.where(at < start[:, None], at, at + count)
    return take(start[:, None] + torch.arange(count, device=x.device)), take(tokens)
