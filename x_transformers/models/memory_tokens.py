"""Learned tokens ahead of a sequence, or of each of its blocks, read and written by every layer (2006.11527, 2309.16588)."""

from __future__ import annotations

import torch
from torch import Tensor


def prepend(ahead: Tensor, x: Tensor, start: Tensor | None) -> Tensor:
    """`ahead` (b|1, m, ...) before x (b, n, ...); with left padding `start` (b,), between the padding and the first token."""
    m = ahead.shape[1]
    joined = torch.cat((ahead.to(x.dtype).expand(x.shape[0], *ahead.shape[1:]), x), dim=1)
    if start is None:
        return joined
    at, first = torch.arange(joined.shape[1], device=x.device), start[:, None]
    return _rows(joined, torch.where(at < first, at + m, torch.where(at < first + m, at - first, at)))


def strip(x: Tensor, count: int, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """Undo `prepend`: what stood ahead (b, m, ...), and the sequence (b, n, ...)."""
    if start is None:
        return x[:, :count], x[:, count:]
    at = torch.arange(x.shape[1] - count, device=x.device)
    ahead = start[:, None] + torch.arange(count, device=x.device)
    return _rows(x, ahead), _rows(x, torch.where(at < start[:, None], at, at + count))


def weave(memory: Tensor, x: Tensor, period: int) -> Tensor:
    """`memory` (b|1, m, ...) before every block of `period` entries of x (b, n, ...); the last block may be shorter."""
    b, n, blocks = x.shape[0], x.shape[1], _blocks(x.shape[1], period)
    filled = torch.cat((x, x.new_zeros((b, blocks * period - n, *x.shape[2:]))), dim=1)
    each = memory.to(x.dtype)[:, None].expand(b, blocks, *memory.shape[1:])
    return torch.cat((each, filled.unflatten(1, (blocks, period))), dim=2).flatten(1, 2)[:, : n + blocks * memory.shape[1]]


def unweave(x: Tensor, count: int, period: int) -> tuple[Tensor, Tensor]:
    """Undo `weave`: the memory of all blocks (b * blocks, m, ...), and the sequence (b, n, ...)."""
    blocks = _blocks(x.shape[1], period + count)
    filled = torch.cat((x, x.new_zeros((x.shape[0], blocks * (period + count) - x.shape[1], *x.shape[2:]))), dim=1)
    each = filled.unflatten(1, (blocks, period + count))
    return each[:, :, :count].flatten(0, 1), each[:, :, count:].flatten(1, 2)[:, : x.shape[1] - blocks * count]


def _blocks(n: int, period: int) -> int:
    return -(-n // period)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x (b, n, ...) at the positions `index` (b, k)."""
    return x.gather(1, index.reshape(*index.shape, *(1,) * (x.ndim - 2)).expand(*index.shape, *x.shape[2:]))
