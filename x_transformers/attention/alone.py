"""Attention outside of a layer stack, with the inputs and results that 2.0.1 has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.attention.attend import Intermediates
from x_transformers.attention.backends import Scored
from x_transformers.attention.masks import ahead, visible
from x_transformers.call import Span
from x_transformers.errors import InputError
from x_transformers.inputs import expect, expect_optional
from x_transformers.positions.rotary import Rotation

Freqs = tuple[Tensor, Tensor | float]


def attend_alone(
    attention: Any,
    x: Tensor,
    context: Tensor | None = None,
    mask: Tensor | None = None,
    context_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    rel_pos: nn.Module | None = None,
    attn_bias: Tensor | None = None,
    rotary_pos_emb: Freqs | None = None,
    context_rotary_pos_emb: Freqs | None = None,
    pos: Tensor | None = None,
    prev_attn: Tensor | None = None,
    mem: Tensor | None = None,
    mem_mask: Tensor | None = None,
    return_intermediates: bool = False,
    cache: Intermediates | None = None,
) -> Any:
    """(b, n, dim) -> (b, n, dim_out), or with `Intermediates` where asked for.

    context (b, c, dim_context): keys and values come from it. mask (b, n): rows put out zero where False, and keys
    of self-attention are hidden; context_mask (b, c): hides keys instead. attn_mask, attn_bias: broadcastable to
    (b, h, i, j). rel_pos: a module `(i, j) -> (h, i, j)`, at positions `pos` where given. rotary_pos_emb: what
    `RotaryEmbedding.forward` returns. mem (b, m, dim), mem_mask (b, m): memory in front of the keys. cache:
    intermediates of the earlier tokens; `x` holds the new ones.
    """
    cfg, n = attention.config, x.shape[1]
    b = x.shape[0]
    expect('x', x, (None, None, cfg.dim), 'float', f'attention takes tokens of width dim={cfg.dim}')
    expect_optional('context', context, (b, None, cfg.dim_context or cfg.dim), 'float')
    expect_optional('mask', mask, (b, n), 'bool')
    expect_optional('context_mask', context_mask, (b, n if context is None else context.shape[1]), 'bool')
    if context is not None and rotary_pos_emb is not None and context_rotary_pos_emb is None:
        raise InputError('rotary_pos_emb with a context also needs context_rotary_pos_emb, the angles of the context; give both or none')
    if rel_pos is not None and attn_bias is not None:
        raise InputError('rel_pos and attn_bias were both given; add the biases yourself and give attn_bias')
    source = x if context is None else context
    memory = 0 if mem is None else mem.shape[1]
    k, v = attention.keys_and_values(source if mem is None else torch.cat((mem, source), dim=1))
    seen = Intermediates(values=v)
    if cache is not None and cache.cached_kv is not None:
        between = lambda t, old: torch.cat((t[..., :memory, :], old.to(t), t[..., memory:, :]), dim=-2)
        k, v = between(k, cache.cached_kv[0]), between(v, cache.cached_kv[1])
    seen.cached_kv = (k[..., memory:, :], v[..., memory:, :])
    q, j = attention.queries(x), k.shape[-2]

    if rotary_pos_emb is not None:
        turns = Rotation.given(*rotary_pos_emb, n)
        q = attention.place(q, turns.queries, turns.query_scale)
        if context_rotary_pos_emb is not None:
            turns = Rotation.given(*context_rotary_pos_emb, n)
        k = attention.place(k, turns.keys, None if turns.key_scale is None else turns.key_scale[:, -j:])

    key_mask = context_mask if context_mask is not None or context is not None else mask
    keys = Span(0, j, visible=padded_mask(key_mask, mem_mask, memory, j))
    queries = Span(j - n, n)
    if rel_pos is not None:
        attn_bias = rel_pos(n, j) if pos is None else rel_pos.forward_custom_pos(pos)  # type: ignore[operator]
    limits = visible(attention.rule, queries, keys, attn_mask, cfg.lead, x.device)
    records = attention.with_lead(k, v)
    maps = seen if return_intermediates and not cfg.flash else None
    out = attention.attend.run(q, records['k'], records['v'], Scored(limits, ahead(attn_bias, cfg.lead, 0.0), prev_attn, maps))
    out = attention.put_out(out, x, mask)
    return (out, seen) if return_intermediates else out


def padded_mask(key_mask: Tensor | None, mem_mask: Tensor | None, memory: int, length: int) -> Tensor | None:
    """(b, length) bool over [memory, earlier tokens, `key_mask`]: what has no mask of its own can be seen."""
    if memory == 0:
        mem_mask = None
    if key_mask is None and mem_mask is None:
        return None
    given = key_mask if key_mask is not None else mem_mask
    assert given is not None
    ones = lambda count: given.new_ones((given.shape[0], count))
    front = ones(memory) if mem_mask is None else mem_mask
    own = ones(0) if key_mask is None else key_mask
    return torch.cat((front, ones(length - memory - own.shape[1]), own), dim=1)
