"""Token shift: parts of the features are taken from neighbouring tokens before a branch reads them (RWKV, 2305.13048)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.branch import run_branch, takes_call
from x_transformers.call import Call, Depth
from x_transformers.errors import FlagError, quoted
from x_transformers.flags import Config, flag
from x_transformers.inputs import expect, expect_optional, expect_place, whole
from x_transformers.state import Tail


@dataclass(frozen=True, kw_only=True)
class ShiftFlags(Config):
    """Token shift before branches."""

    shift_tokens: int | tuple[int, ...] = flag(
        0,
        'Shift parts of the features along the sequence by up to so many tokens; a tuple gives each layer its own.',
        paper='2305.13048',
        example={'shift_tokens': 1},
        per_layer=True,
        at_least=0,
    )


class ShiftTokens(nn.Module):
    """Cuts the features in `len(shifts)` parts and moves part k by `shifts[k]` tokens (later where positive).

    Alone, `forward(x (b, n, d), mask=None, **kwargs)` gives `fn` the shifted input. In a layer stack it remembers
    its latest inputs, so that a sequence run in pieces is shifted across the cuts; there x may also be the separate
    inputs (3, b, n, d) of queries, keys and values.
    """

    takes_call = True

    def __init__(self, shifts: tuple[int, ...], fn: nn.Module):
        super().__init__()
        if not isinstance(shifts, (tuple, list)) or not shifts or any(whole(amount) is None for amount in shifts):
            raise FlagError(
                f'shifts={quoted(shifts)} is not possible: expected a tuple of whole numbers, by how many tokens each part moves'
            )
        self.fn = fn
        self.shifts = tuple(shifts)
        self.reach = max(0, *self.shifts)

    def forward(
        self, x: Tensor, *args: Any, call: Call | None = None, depth: Depth | None = None, state: Tail | Any = None, **kwargs: Any
    ) -> Any:
        if call is None:
            mask = kwargs.get('mask')
            expect('x', x, (None, None, None), 'float', 'ShiftTokens takes tokens (b, n, d)')
            expect_optional('mask', mask, tuple(x.shape[:2]), 'bool')
            expect_place({'mask': mask}, x)
            shifted, _ = self.shift(x if mask is None else x.masked_fill(~mask[..., None], 0.0), None)
            return self.fn(shifted, *args, **kwargs)
        if call.padding is not None:  # no token is there: what follows must find the same as at a sequence's start
            x = x.masked_fill(call.padding[..., None], 0.0)
        if call.mask is not None and takes_call(self.fn):  # as in 2.0.1, where only attention is told
            x = x.masked_fill(~call.mask[..., None], 0.0)
        tail, inner = (state.rows.movedim(0, -3), state.inner) if isinstance(state, Tail) else (None, state)
        shifted, tail = self.shift(x, tail, call.queries.document)
        y, inner = run_branch(self.fn, shifted, call, depth, inner)
        return y, Tail(tail.movedim(-3, 0), inner) if call.keep_state else None  # a state has the batch in front

    def shift(self, x: Tensor, tail: Tensor | None, document: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The shifted input and the tail that the next call needs. Nothing is shifted from one `document` (b, n) to another."""
        n, size = x.shape[-2], x.shape[-1] // len(self.shifts)
        behind = x.new_zeros((*x.shape[:-2], self.reach, x.shape[-1])) if tail is None else tail
        ahead = max(0, -min(self.shifts))
        seen = torch.cat((behind, x, x.new_zeros((*x.shape[:-2], ahead, x.shape[-1]))), dim=-2)
        parts = []
        for k, amount in enumerate(self.shifts):
            start = self.reach - amount
            part = seen[..., start : start + n, k * size : (k + 1) * size]
            if document is not None and amount:
                own = F.pad(document, (self.reach, ahead), value=-1)[:, start : start + n] == document
                part = part.masked_fill(~own[..., None], 0.0)
            parts.append(part)
        parts.append(x[..., len(self.shifts) * size :])  # what does not divide stays where it is
        kept = seen[..., : self.reach + n, :]
        return torch.cat(parts, dim=-1), kept[..., n:, :]


def shifts_of(amount: int, causal: bool) -> tuple[int, ...]:
    """How the feature parts move: only later in a causal stack, both ways otherwise."""
    return tuple(range(amount + 1)) if causal else tuple(range(-amount, amount + 1))
