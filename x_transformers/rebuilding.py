"""A state from keys and values that a caller put in place of those that an earlier call gave out (`cached_kv`).

Code written for 2.0.1 cuts, reorders or edits them. They are not rotated, so they are turned anew at the positions of
the latest tokens. What else a layer remembers of earlier tokens cannot follow, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from x_transformers.attention import Attention
from x_transformers.attention.attend import Intermediates
from x_transformers.attention.checks import beyond_keys
from x_transformers.call import Span
from x_transformers.errors import DecodeError
from x_transformers.state import StackState

WAY_OUT = 'Use the state instead: keep(), rewind() and reorder() of LayerIntermediates.state.'


def honoured(stack: Any, state: StackState | None, entries: Sequence[Intermediates]) -> StackState | None:
    """The state of an earlier call, with the keys and values that are in its `entries` now."""
    if all(entry.cached_kv is entry.given for entry in entries):
        return state
    steps = stack.plan.steps()
    at = [index for index, step in enumerate(steps) if step.kind in 'ac']
    if len(at) != len(entries) or any(entry.cached_kv is None for entry in entries):
        raise DecodeError(f'cache has {len(entries)} attn_intermediates, but {len(at)} attentions run; give cached_kv for each of them')
    attentions = [attention_of(stack.layers[steps[index].module]) for index in at]
    refuse(stack, state, attentions)
    pairs: list[Any] = [entry.cached_kv for entry in entries]
    kinds = [steps[index].kind for index in at]
    lengths = {kind: sorted({pair[0].shape[-2] for pair, own in zip(pairs, kinds, strict=True) if own == kind}) for kind in 'ac'}
    if len(lengths['a']) > 1:
        raise DecodeError(f'cached_kv was replaced by keys of {lengths["a"]} tokens; give every self-attention equally many')
    tokens, context = (sum(lengths[kind][:1]) for kind in 'ac')
    if state is None:
        state = StackState(Span(0, tokens), (None,) * len(steps), Span(0, context) if stack.cross_attend else None)
    if tokens > state.length:
        raise DecodeError(f'cached_kv was replaced by keys of {tokens} tokens, but only {state.length} are known. {WAY_OUT}')
    span, rows = state.keys.last(tokens) if lengths['a'] else state.keys, len(pairs[0][0])
    for t in (span.pos, span.visible):
        if t is not None and len(t) not in (1, rows):
            raise DecodeError(f'cached_kv was replaced by {rows} rows, but positions and padding are of {len(t)}. {WAY_OUT}')
    rotary, device = stack.rotary_pos_emb, pairs[0][0].device
    turn_of = lambda where: None if rotary is None else rotary.rotation(where, where, device)
    turns = {'a': turn_of(span), 'c': turn_of(state.context) if state.context is not None and state.context.pos is not None else None}
    layers = list(state.layers)
    for index, attention, pair, kind in zip(at, attentions, pairs, kinds, strict=True):
        layers[index] = attention.rebuilt(pair, attention.own(turns[kind]))
    return replace(state, keys=span, layers=tuple(layers))


def attention_of(layer: Any) -> Attention:
    return next(part for part in layer.branch.modules() if isinstance(part, Attention))


def refuse(stack: Any, state: StackState | None, attentions: Sequence[Attention]) -> None:
    """What keys and values alone are not enough for."""
    needs = {
        'shift_tokens': any(stack.plan.shifts),
        'add_value_residual with attn_use_latent_kv': any(a.config.use_latent_kv and a.config.shares_values for a in attentions),
        'mems': state is not None and state.keys.start < 0,
    }
    beyond = (beyond_keys(attention) for attention in attentions)
    name = next((name for name in (*beyond, *(name for name, on in needs.items() if on)) if name), None)
    if name is not None:
        raise DecodeError(f'cached_kv was replaced, and {name} remembers more of earlier tokens than keys and values. {WAY_OUT}')
