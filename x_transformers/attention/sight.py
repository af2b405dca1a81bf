"""What the queries of a call see of the keys: masks, biases, the scores of the layer before. All at once, or in blocks.

A window is computed in blocks (windowed.py) where its calls are long enough for that to pay, and where nothing needs all
pairs: attention maps or scores that are handed on, selective attention, whose queries change what later ones see,
functions of scores that a user gives, masks and biases by pair, memories that stand ahead of left padding, to which
distances differ by row, forget gates that look both ways, windows of the past alone in a stack that looks ahead, and
graphs exported for any length. There all keys are met, and the window is a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from x_transformers.attention import strips
from x_transformers.attention.backends import Scored
from x_transformers.attention.masks import KeyRule, Visible, ahead, both, four_axes, tokens_of, visible
from x_transformers.attention.scores import selection_of
from x_transformers.attention.windowed import Blocks, InBlocks, blind_queries
from x_transformers.call import Call, Depth, Span
from x_transformers.positions.forgetting import DataDependentAlibi
from x_transformers.ring import WindowKeys
from x_transformers.shortcuts import eager
from x_transformers.state import ContextKeys, FixedKeys, Keys

if TYPE_CHECKING:
    from x_transformers.attention.attend import Intermediates
    from x_transformers.attention.attention import Attention

Remembered = Keys | FixedKeys | WindowKeys | ContextKeys


def sight(
    attention: Attention, x: Tensor, keys: Remembered, call: Call, depth: Depth | None, seen: Intermediates | None
) -> Scored | InBlocks:
    """What the scores of this call are subject to."""
    cfg, device = attention.config, x.device
    previous = depth.scores.get(attention.kind) if cfg.carries_scores and depth is not None else None
    maps = cfg.carries_scores or (call.trace is not None and call.trace.maps and (not cfg.flash or call.trace.fused_maps))
    shown = seen if maps else None
    if isinstance(keys, ContextKeys):
        span = call.context_keys
        assert span is not None
        of_context = call.once(('context', cfg.lead), lambda: visible(KeyRule(False, None), call.queries, span, None, cfg.lead, device))
        return Scored(of_context, None, previous, shown)
    span = call.keys.last(keys.length)
    alike = span is call.keys and x.shape[1] == 1 and shown is None and not attention.sees_by_itself and keys.memory_mask is None
    if not alike:
        return sight_of_keys(attention, x, keys, call, span, previous, shown)
    return call.once(attention.sees, lambda: sight_of_keys(attention, x, keys, call, span, None, None))  # every token pays for every layer


def sight_of_keys(
    attention: Attention, x: Tensor, keys: Any, call: Call, span: Span, previous: Tensor | None, shown: Intermediates | None
) -> Scored | InBlocks:
    """The same for self-attention, whose keys are those of `span`."""
    cfg, device, maps = attention.config, x.device, shown is not None
    if not maps:
        blocks = blocks_of(attention, call, span)
        if blocks is not None:
            return in_blocks(attention, blocks, x, keys, call, span)
    selection = None
    if cfg.selective:
        selection = selection_of(call.queries, span, call.begins, cfg.lead, device)
        selection.deselected = keys.read()['deselected']
    limits: Visible = visible_tokens(attention, span, keys.memory_mask, call, device)
    if attention.data_dependent_alibi is None:
        if not maps and in_strips(attention, limits, call, span, x):
            return Scored(limits, row=call.once(('row', cfg.causal), lambda: bias_at_distances(call, x, cfg.causal)))
        bias = shared(('bias', cfg.lead), span, call, lambda: token_bias(call, call.queries, span, cfg.lead, device))
    else:
        tokens = tokens_of(span, call.begins, device)
        if not maps and in_factors(attention, x):
            return Scored(limits, factors=forget_factors(attention, x, gates_of(attention, keys), tokens))
        bias = forgotten(attention, x, gates_of(attention, keys), tokens)
    return Scored(limits, bias, previous, shown, selection)


# ------------------------------------------------------------------ in strips


def in_strips(attention: Attention, limits: Visible, call: Call, span: Span, x: Tensor) -> bool:
    """Whether the bias of this call is one by distance that hides nothing but what comes later, on a CPU (strips.py)."""
    cfg, attend = attention.config, attention.attend
    if call.bias is None or call.attn_bias is not None or cfg.lead or x.device.type != 'cpu' or not eager():
        return False
    if peek_interpreter_stack() is not None:  # torch.func wants more of a backward pass than strips have
        return False
    by_order = span.pos is None and call.queries.length == span.length >= strips.LEAST
    whole = limits.aligned if cfg.causal else limits.explicit is None
    drops = attend.training and attend.attn_dropout.p > 0
    return by_order and whole and not drops and attend.backend.name == 'sdpa' and not torch.is_autocast_enabled('cpu')


def bias_at_distances(call: Call, x: Tensor, causal: bool) -> Tensor:
    assert call.bias is not None
    n = x.shape[1]
    distances = torch.arange(0 if causal else 1 - n, n, device=x.device)
    return strips.bias_row(call.bias.at(distances).to(x.dtype), n, causal)


# ------------------------------------------------------------------ in blocks


def blocks_of(attention: Attention, call: Call, span: Span) -> Blocks | None:
    """How to cut this call; None where it is not to be cut."""
    cfg, rule = attention.config, attention.rule
    if rule.window is None or cfg.selective or cfg.custom_attn_fn is not None or torch.compiler.is_exporting():
        return None
    if not rule.causal and (rule.ahead is None or attention.data_dependent_alibi is not None):
        return None
    by_pair = call.attn_bias is not None or (call.attn_mask is not None and per_key(call.attn_mask) is None)
    if by_pair or (call.begins is not None and span.start < 0):
        return None
    return Blocks.of(rule.window, call.queries.length, span.length, both_sides=rule.ahead is not None)


def per_key(attn_mask: Tensor) -> Tensor | None:
    """(b|1, j) of a mask that is the same for all queries and heads; None of others."""
    mask = four_axes(attn_mask)
    return mask[:, 0, 0] if mask.shape[1] == mask.shape[2] == 1 else None


def in_blocks(attention: Attention, blocks: Blocks, x: Tensor, keys: Any, call: Call, span: Span) -> InBlocks:
    """Masks and biases of the first queries and of every block, made once for all layers that remember every key of the call."""
    cfg, device, rule = attention.config, x.device, attention.rule
    masked = span if call.attn_mask is None else replace(span, visible=both(span.visible, per_key(call.attn_mask)))
    masked = masked if keys.memory_mask is None else replace(masked, visible=both(masked.visible, padded(keys.memory_mask, span.length)))
    parts = [blocks.head_spans(call.queries, masked), blocks.block_spans(call.queries, masked, len(x))]
    parts += [blocks.tail_spans(call.queries, masked)] if blocks.tail else []

    def limits() -> tuple[Any, ...]:
        nothing = None
        if rule.causal and masked.visible is not None and masked.document is None and cfg.lead == 0:
            nothing = blind_queries(masked.visible, call.queries.length, rule.window or 0)
        return [visible(rule, queries, met, None, cfg.lead, device) for queries, met in parts], nothing

    def biases() -> tuple[Tensor | None, ...]:
        if attention.data_dependent_alibi is None:
            return tuple(token_bias(call, queries, met, cfg.lead, device) for queries, met in parts)
        gates, met = gates_of(attention, keys), blocks.earlier + blocks.head
        first = forgotten(attention, x[:, : blocks.head], gates[..., :met, :], None)
        return first, forgotten(attention, blocks.cut_queries(x, 1), blocks.cut_keys(gates, 2), None)

    sees, nothing = shared(('visible in blocks', rule, cfg.lead), span if keys.memory_mask is None else None, call, limits)
    by_layer = attention.data_dependent_alibi is not None
    biases_of = biases() if by_layer else shared(('bias in blocks', rule, cfg.lead), span, call, biases)
    head, rest, *last = (Scored(each, bias) for each, bias in zip(sees, biases_of, strict=True))
    return InBlocks(blocks, cfg.lead, head, rest, last[0] if last else None, nothing)


# ------------------------------------------------------------------ all at once


def visible_tokens(attention: Attention, span: Span, memory_mask: Tensor | None, call: Call, device: torch.device) -> Visible:
    rule, lead = attention.rule, attention.config.lead
    make = lambda keys: visible(rule, call.queries, keys, call.attn_mask, lead, device, call.begins)
    if memory_mask is None:
        return shared(('visible', rule, lead), span, call, lambda: make(span))
    return make(replace(span, visible=both(span.visible, padded(memory_mask, span.length))))


def padded(memory_mask: Tensor, length: int) -> Tensor:
    """(b, length) bool: tokens behind memories (b, m) can be seen."""
    return F.pad(memory_mask, (0, length - memory_mask.shape[1]), value=True)


def token_bias(call: Call, queries: Span, keys: Span, lead: int, device: torch.device) -> Tensor | None:
    bias = None if call.bias is None else call.bias.between(queries, keys, device)
    if call.attn_bias is not None:
        bias = call.attn_bias if bias is None else bias + call.attn_bias
    return ahead(bias, lead, 0.0)


def forgotten(attention: Attention, x: Tensor, gates: Tensor, tokens: Tensor | None) -> Tensor | None:
    """The bias of forget gates for queries `x` that are the last of the keys."""
    assert attention.data_dependent_alibi is not None
    return ahead(attention.data_dependent_alibi.bias(x, gates, tokens), attention.config.lead, 0.0)


def in_factors(attention: Attention, x: Tensor) -> bool:
    """Whether queries and keys that carry their forget gates may stand for the bias: in single precision, and where there are many."""
    by_token = isinstance(attention.data_dependent_alibi, DataDependentAlibi) and attention.data_dependent_alibi.causal
    exact = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(x.device.type)
    return by_token and exact and x.shape[1] > 1 and attention.attend.backend.name == 'sdpa'


def forget_factors(attention: Attention, x: Tensor, gates: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
    assert isinstance(attention.data_dependent_alibi, DataDependentAlibi)
    of_queries, of_keys = attention.data_dependent_alibi.factors(x, gates, tokens)
    return of_queries, F.pad(of_keys, (0, 0, attention.config.lead, 0))


def gates_of(attention: Attention, keys: Any) -> Tensor:
    return keys.read()['forget'][..., attention.config.lead :, :]


def shared(key: Any, span: Span | None, call: Call, make: Callable[[], Any]) -> Any:
    """`make()`, once for all layers that remember every key of the call; lengths may be symbols, which are no keys."""
    return call.once(key, make) if span is call.keys else make()
