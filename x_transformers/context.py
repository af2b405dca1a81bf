"""Training drops tokens of the context that cross-attention looks at (2202.07765)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from x_transformers.call import Call, Depth, Span
from x_transformers.errors import InputError, quoted
from x_transformers.flags import Config, flag
from x_transformers.inputs import expect, expect_optional, expect_place, within


@dataclass(frozen=True, kw_only=True)
class ContextFlags(Config):
    """What happens to the context on its way to cross-attention."""

    cross_attn_tokens_dropout: float = flag(
        0.0,
        'Share of the context tokens that training hides from a cross-attention, and from those after it.',
        paper='2202.07765',
        example={'cross_attend': True, 'cross_attn_tokens_dropout': 0.5},
        inputs=('context',),
        at_least=0,
        at_most=1,
    )


def chosen_tokens(seq: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor | None]:
    """Indices (b, kept) of the tokens of `seq` (b, n, d) that stay, in random order, and their mask."""
    b, n = seq.shape[:2]
    scores = torch.randn(b, n, device=seq.device)
    if mask is not None:  # masked tokens go first
        scores = scores.masked_fill(~mask, -torch.finfo(scores.dtype).max)
    index = scores.topk(max(1, int(n * (1 - dropout))), dim=-1).indices
    if mask is None:
        return index, None
    valid = torch.ceil(mask.sum(dim=-1, keepdim=True) * (1 - dropout))
    return index, mask.gather(1, index) & (torch.arange(index.shape[1], device=seq.device) < valid)


def dropout_seq(seq: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor | None]:
    """`seq` (b, n, d) and `mask` (b, n) without a share of their tokens, the rest in random order; one stays at least."""
    expect('seq', seq, (None, None, None), hint='it holds tokens (b, n, d)')
    if 0 in seq.shape[:2]:
        raise InputError(f'seq has shape {tuple(seq.shape)}: there must be at least one token to keep')
    expect_optional('mask', mask, tuple(seq.shape[:2]), 'bool')
    expect_place({'mask': mask}, seq, 'seq')
    if not within(dropout, 0, 1 + 1e-9):
        raise InputError(f'dropout={quoted(dropout)} is not possible; expected a share of at least 0 and at most 1')
    index, mask = chosen_tokens(seq, mask, dropout)
    return take_tokens(seq, index), mask


def take_tokens(t: Tensor, index: Tensor) -> Tensor:
    """The tokens (b, kept) of `t` (b, n, d)."""
    return t.gather(1, index[..., None].expand(-1, -1, t.shape[-1]))


def drop_context(call: Call, depth: Depth, dropout: float, rotary: Any) -> Call:
    """The call with fewer context tokens; each keeps its position, and with it its turn by the stack's `rotary`.

    What earlier cross-attentions handed down follows: values (b, g, c, e) and scores (b, h, i, keys), of which the
    latest c are of the context.
    """
    context, span = call.context, call.context_keys
    assert context is not None and span is not None
    index, visible = chosen_tokens(context, span.visible, dropout)
    kept = lambda t: None if t is None else t.expand(index.shape[0], -1).gather(1, index)
    span = Span(0, index.shape[1], kept(span.pos), visible, kept(span.document))
    rotation = None if call.context_rotation is None else rotary.rotation(call.queries, span, context.device)
    if 'c' in depth.values:
        values = depth.values['c']
        depth.values['c'] = values.gather(2, index[:, None, :, None].expand(-1, values.shape[1], -1, values.shape[-1]))
    if 'c' in depth.scores:
        scores = depth.scores['c']
        lead, own = scores.tensor_split([scores.shape[-1] - context.shape[1]], dim=-1)
        own = own.gather(3, index[:, None, None].expand(-1, *scores.shape[1:3], -1))
        depth.scores['c'] = torch.cat((lead, own), dim=-1)
    return replace(call, context=take_tokens(context, index), context_keys=span, context_rotation=rotation, shared={})
