"""From what a user gives a layer stack to the `Call` that its layers get, and the states they start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from x_transformers.call import Call, Span, Trace
from x_transformers.checks import longest
from x_transformers.documents import first_tokens, first_tokens_of
from x_transformers.errors import InputError
from x_transformers.inputs import expect
from x_transformers.positions.rotary import Rotation
from x_transformers.skips import injection
from x_transformers.state import Fresh, StackState


@dataclass(frozen=True)
class Inputs:
    """The optional inputs of a layer stack; b batch, n new tokens, c context tokens, m memories."""

    context: Tensor | None = None  # (b, c, dim_context)
    mask: Tensor | None = None  # (b, n) bool
    context_mask: Tensor | None = None  # (b, c) bool
    attn_mask: Tensor | None = None  # (i, j), (h, i, j) or (b|1, h|1, i, j) bool
    self_attn_kv_mask: Tensor | None = None  # (b, n) bool
    mems: Sequence[Tensor | None] | None = None  # one (b, m, dim) per executed self-attention
    mem_masks: Sequence[Tensor | None] | None = None  # one (b, m) bool per executed self-attention
    seq_start_pos: Tensor | None = None  # (b,) tokens of left padding
    rotary_pos_emb: tuple[Tensor, Tensor | float] | None = None
    pos: Tensor | None = None  # (n,) or (b, n)
    context_pos: Tensor | None = None
    attn_bias: Tensor | None = None  # broadcastable to (b, h, i, j)
    condition: Tensor | None = None  # (b, dim_condition) or (b, n, dim_condition)
    in_attn_cond: Tensor | None = None  # (b, dim) or (b, n, dim)
    document_ids: Tensor | None = None  # (b, n) the document of each token, negative for padding
    context_document_ids: Tensor | None = None  # (b, c) the document that each token of the context belongs to


def per_token(t: Tensor | None, n: int) -> tuple[Tensor | None, Tensor | None]:
    """What belongs to the `n` new tokens, (b, 1|n, d), and to those before them; one for all is both."""
    if t is None:
        return None, None
    t = t if t.ndim == 3 else t[:, None]
    return (t, t) if t.shape[1] == 1 else (t[:, -n:], t[:, :-n])


def begin(stack: Any, x: Tensor, given: Inputs, state: StackState | None, keep: bool, trace: Trace | None) -> Call:
    """The call for these inputs after these earlier tokens."""
    n, device = x.shape[1], x.device
    fresh = state is None or state.length == 0
    past = Span() if state is None else state.keys
    memory = longest(given.mems) if fresh else 0
    if memory:
        past = Span(-memory, memory, memory_positions(given.pos, memory, n))
    begins = given.seq_start_pos if given.seq_start_pos is not None or state is None else state.padding
    new_visible = given.mask if given.self_attn_kv_mask is None and begins is None else given.self_attn_kv_mask
    start, pos, padding = past.start + past.length, own_positions(given.pos, n), None
    if begins is not None:
        from_start = torch.arange(start, start + n, device=device) - begins[:, None]
        padding = from_start < 0
        new_visible = ~padding if new_visible is None else new_visible & ~padding
        pos = from_start if pos is None else pos
    document = None if given.document_ids is None else first_tokens(given.document_ids)
    queries = Span(start, n, pos, new_visible, document)
    keys = past.join(queries, device)
    context, context_keys = context_span(given, state)
    condition, memory_condition = per_token(None if given.condition is None else stack.adaptive_mlp(given.condition), n)
    streams = stack.num_residual_streams
    rotation, context_rotation = rotations(stack, given, queries, keys, context_keys, memory + n, device)
    return Call(
        queries=replace(queries, visible=None),
        keys=keys,
        context=context,
        context_keys=context_keys,
        mask=given.mask,
        begins=begins,
        padding=padding,
        attn_mask=None if given.attn_mask is None else attended(given.attn_mask, keys.length),
        attn_bias=None if given.attn_bias is None else rows_of(given.attn_bias, n),
        rotation=rotation,
        context_rotation=context_rotation,
        bias=stack.rel_pos,
        condition=condition,
        memory_condition=memory_condition,
        stream_condition=condition if condition is None or streams == 1 else condition.repeat_interleave(streams, dim=0),
        injection=injection(x, stack.reinject_input_proj, per_token(given.in_attn_cond, n)[0], stack.learned_reinject_input_gate),
        keep_state=keep and document is None,
        trace=trace,
    )


def own_positions(pos: Tensor | None, n: int) -> Tensor | None:
    """(b|1, n): the given positions of the new tokens."""
    if pos is None:
        return None
    return (pos[None] if pos.ndim == 1 else pos)[:, -n:]


def memory_positions(pos: Tensor | None, memory: int, n: int) -> Tensor | None:
    """(b|1, m): given with those of the tokens, or counting up to the first of them."""
    if pos is None:
        return None
    pos = pos[None] if pos.ndim == 1 else pos
    if pos.shape[1] == memory + n:
        return pos[:, :memory]
    return pos[:, :1] - torch.arange(memory, 0, -1, device=pos.device)


def context_span(given: Inputs, state: StackState | None) -> tuple[Tensor | None, Span | None]:
    """The context and where its tokens stand; remembered after the first chunk."""
    if state is not None and state.context is not None:
        return given.context, state.context
    if given.context is None:
        return None, None
    pos = given.context_pos
    pos = pos[None] if pos is not None and pos.ndim == 1 else pos
    document = None
    if given.document_ids is not None and given.context_document_ids is not None:
        document = first_tokens_of(given.document_ids, given.context_document_ids)
    return given.context, Span(0, given.context.shape[1], pos, given.context_mask, document)


def rotations(
    stack: Any, given: Inputs, queries: Span, keys: Span, context: Span | None, new: int, device: torch.device
) -> tuple[Any, Rotation | None]:
    """Turns for self-attention, and for cross-attention where the context has positions."""
    rotary = stack.rotary_pos_emb
    if rotary is None:
        return None, None
    if given.rotary_pos_emb is not None:
        own = Rotation.given(*given.rotary_pos_emb, queries.length, rotary.half_split)
    else:
        own = rotary.rotation(queries, keys, device, new, stack.config.attn.dim_head)
    if context is None or context.pos is None:
        return own, None
    return own, rotary.rotation(queries, context, device)


def attended(attn_mask: Tensor, keys: int) -> Tensor:
    """`attn_mask` (..., i, j) over all keys: memories that it does not mention can be seen."""
    return torch.nn.functional.pad(attn_mask, (keys - attn_mask.shape[-1], 0), value=True)


def rows_of(attn_bias: Tensor, n: int) -> Tensor:
    """The rows of a bias (..., i, j) that belong to the new tokens."""
    return attn_bias[..., -n:, :] if attn_bias.shape[-2] > n else attn_bias


def first_states(steps: Sequence[Any], given: Inputs, capacity: int | None) -> tuple[Any, ...]:
    """What each executed layer starts from: memories go to self-attentions, in order of execution."""
    mems, masks = list(given.mems or ()), list(given.mem_masks or ())
    states: list[Fresh | None] = []
    for step in steps:
        if step.kind != 'a':
            states.append(None)
            continue
        mem = mems.pop(0) if mems else None
        mem_mask = masks.pop(0) if masks else None
        if mem is not None and mem.shape[1] == 0:
            mem = None
        if mem is not None and mem_mask is not None:
            expect('mem_masks', mem_mask, tuple(mem.shape[:2]), 'bool')
        states.append(None if mem is None and capacity is None else Fresh(mem, mem_mask if mem is not None else None, capacity))
    if mems:
        raise InputError(f'mems has {len(mems)} more entries than self-attention layers run; give one for each, in order of execution')
    return tuple(states)
