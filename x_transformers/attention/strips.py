"""Biases by distance under fused kernels on the CPU, in memory linear in the length.

The bias of a pair depends on its distance alone, so with the keys in reverse order the bias of queries on keys is a view
of one row of numbers: entry (i, j) is number i + j of the row. The queries go strip by strip, each to the kernel with
the keys that it can see: what lies ahead is never computed. The kernel gives no gradient of its mask, and its own backward
pass is slow where weights are so small that they are subnormal numbers, as biases by distance make them: the backward pass
here forms the scores anew, one strip at a time, and takes such weights for zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.attention.masks import lowest
from x_transformers.errors import InputError
from x_transformers.precision import single

LEAST = 128  # tokens below which a mask costs no more
STRIP, LEARNING, ROWS = 256, 64, 96  # queries of a strip: for the kernel, for what is formed anew, for the reference


def strips(n: int, size: int, causal: bool) -> Iterator[tuple[int, int, int]]:
    """Where each strip begins and ends, and how many of the `n` keys it sees."""
    for begin in range(0, n, size):
        end = min(begin + size, n)
        yield begin, end, end if causal else n


def bias_row(at_distance: Tensor, n: int, causal: bool) -> Tensor:
    """(distances, heads) from 0 (causal) or -(n - 1) to n - 1 -> (heads, 2 n - 1), hidden keys at the lowest number."""
    row = at_distance.t()
    return (F.pad(row, (n - 1, 0), value=lowest(row.dtype)) if causal else row).contiguous()


def bias_of(row: Tensor, begin: int, end: int, keys: int) -> Tensor:
    """(1, heads, end - begin, keys): a view of the row for queries on the first `keys`, the last of which comes first."""
    heads, length = row.shape
    return row.as_strided((1, heads, end - begin, keys), (0, length, 1, 1), row.storage_offset() + (length + 1) // 2 + begin - keys)


def strip_attention(q: Tensor, k: Tensor, v: Tensor, row: Tensor, causal: bool, scale: float) -> Tensor:
    """Attention of q (b, h, n, d) on k, v (b, h, n, d) with the bias that `row` (h, 2 n - 1) holds."""
    k, v, row = k.flip(2), v.flip(2), row.to(q.dtype)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, row)):
        return Biased.apply(q, k, v, row, causal, scale)
    return by_kernel(q, k, v, row, causal, scale)


def by_kernel(q: Tensor, k: Tensor, v: Tensor, row: Tensor, causal: bool, scale: float) -> Tensor:
    n, outs = q.shape[2], []
    for begin, end, keys in strips(n, STRIP, causal):
        mask = bias_of(row, begin, end, keys)
        seen = slice(n - keys, n)
        outs.append(F.scaled_dot_product_attention(q[:, :, begin:end], k[:, :, seen], v[:, :, seen], attn_mask=mask, scale=scale))
    return torch.cat(outs, dim=2)


class Biased(torch.autograd.Function):
    """`by_kernel`, with a gradient of the row, and none of the subnormal weights that slow the kernel's own backward pass down."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, row: Tensor, causal: bool, scale: float) -> Tensor:
        out = by_kernel(q, k, v, row.detach(), causal, scale)  # a mask that learns would keep the kernel away
        ctx.save_for_backward(q, k, v, row, out)
        ctx.causal, ctx.scale = causal, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise InputError(
                'position biases are computed in strips, which have no second derivative (create_graph=True); build the stack with '
                'attn_flash=False to form all pairs'
            )
        dtype, (q, k, v, row, out, grad) = grad.dtype, (single(t) for t in (*ctx.saved_tensors, grad))  # what cancels must not be rounded
        (b, h, n, _), together = q.shape, lambda t: t.flatten(0, 1)
        learns = ctx.needs_input_grad[3]
        q, k, v, grad, out = (together(t) for t in (q * ctx.scale, k, v, grad, out))
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        lines = row.new_zeros((h, LEARNING, 2 * n if learns else 0))  # gradients of the bias by line of a strip and distance from its end
        centred = torch.cat((grad, -(grad * out).sum(dim=-1, keepdim=True)), dim=-1)  # products with [v, 1] are less their mean
        ones = F.pad(v, (0, 1), value=1.0)
        least = torch.finfo(q.dtype).tiny ** 0.5  # weights of less count for nothing, and their products are slow: subnormal
        for begin, end, keys in strips(n, LEARNING, ctx.causal):
            rows, seen = slice(begin, end), slice(n - keys, n)
            scores = torch.bmm(q[:, rows], k[:, seen].transpose(1, 2))
            scores.unflatten(0, (b, h)).add_(bias_of(row, begin, end, keys))
            scores.sub_(scores.amax(dim=-1, keepdim=True)).clamp_(min=math.log(least))  # of infinities the exponential is slow
            weights = F.threshold(scores.exp_(), 2 * least, 0.0, inplace=True)  # not yet divided by their sum
            total = weights.sum(dim=-1, keepdim=True)
            of_v[:, seen].baddbmm_(weights.transpose(1, 2), grad[:, rows] / total)
            of_scores = torch.bmm(centred[:, rows] / total, ones[:, seen].transpose(1, 2)).mul_(weights)
            of_q[:, rows] = torch.bmm(of_scores, k[:, seen])
            of_k[:, seen].baddbmm_(of_scores.transpose(1, 2), q[:, rows])
            if learns:
                by_row = of_scores.unflatten(0, (b, h))
                lines[:, : end - begin, n + begin - keys :][..., :keys].add_(by_row[0] if b == 1 else by_row.sum(dim=0))
        of_q, of_k, of_v = (t.unflatten(0, (b, h)).to(dtype) for t in (of_q.mul_(ctx.scale), of_k, of_v))
        return of_q, of_k, of_v, by_distance(lines).to(dtype) if learns else None, None, None


def by_distance(lines: Tensor) -> Tensor:
    """(h, size, 2 n), each line one distance further than the one before -> (h, 2 n - 1): the sums for every distance."""
    heads, size, width = lines.shape
    skewed = F.pad(lines, (0, size)).flatten(1)[:, : size * (width + size - 1)]
    return skewed.view(heads, size, width + size - 1).sum(dim=1)[:, : width - 1]
