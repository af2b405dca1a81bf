"""Attention outside of a layer stack, with the inputs and results that 2.0.1 has."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.attention.attend import Intermediates
from x_transformers.attention.backends import Scored
from x_transformers.attention.checks import Alone, check_alone, check_pairs
from x_transformers.attention.hybrid import first_tensor
from x_transformers.attention.masks import ahead, visible
from x_transformers.attention.scores import selection_of
from x_transformers.call import Span
from x_transformers.errors import InputError
from x_transformers.inputs import expect_switch
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
    value_residual: Tensor | None = None,
    **unknown: Any,
) -> Any:
    """(b, n, dim) -> (b, n, dim_out), or with `Intermediates` where asked for.

    context (b, c, dim_context): keys and values come from it. mask (b, n): rows put out zero where False, and keys
    of self-attention are hidden; context_mask (b, c): hides keys instead. attn_mask, attn_bias: broadcastable to
    (b, h, i, j). rel_pos: a module `(i, j) -> (h, i, j)`, at positions `pos` where given. rotary_pos_emb: what
    `RotaryEmbedding.forward` returns. mem (b, m, dim), mem_mask (b, m): memory in front of the keys. cache:
    intermediates of the earlier tokens; `x` holds the new ones. value_residual (b, kv heads, j, width): values of
    another layer to mix in. With `qkv_receive_diff_residuals`, x is (3, b, n, dim).
    """
    cfg, past = attention.config, None
    expect_switch('return_intermediates', return_intermediates)
    if cache is not None:
        if not isinstance(cache, Intermediates):
            raise InputError(f'cache is a {type(cache).__name__}, expected the Intermediates that an earlier call returned')
        past = cache.cached_kv
        pair = isinstance(past, (tuple, list)) and len(past) == 2 and isinstance(past[0], Tensor)
        if past is not None and not pair:
            raise InputError('cached_kv of cache must be a pair of keys and values, as an earlier call returned it; give its Intermediates')
    given = Alone(
        context,
        mask,
        context_mask,
        attn_mask,
        rel_pos,
        attn_bias,
        rotary_pos_emb,
        context_rotary_pos_emb,
        pos,
        prev_attn,
        mem,
        mem_mask,
        value_residual,
        past,
        cache is not None,
    )
    check_alone(attention, x, given, unknown)
    x, *sources = attention.views(x)
    n = x.shape[1]
    sources = [context, context] if context is not None else sources
    rows, memory = x, 0 if mem is None else mem.shape[1]  # rows: what decides shares and gates of keys
    if mem is not None:
        sources = [torch.cat((mem, t), dim=1) for t in sources]
        rows = x if context is not None else torch.cat((mem, x), dim=1)
    between = lambda t, old: t if old is None else torch.cat((t[..., :memory, :], old.to(t), t[..., memory:, :]), dim=-2)
    without_memory = lambda t: None if t is None else t[..., memory:, :]
    latents = attention.latents(sources[0])
    if latents is not None:
        if past is not None:
            latents = (between(latents[0], past[0]), None if latents[1] is None else between(latents[1], past[1]))
        k, v = attention.keys_and_values(*latents, latents)
        seen = Intermediates(values=v, cached_kv=(without_memory(latents[0]), without_memory(latents[1])))  # type: ignore[arg-type]
        v = attention.with_first_values(v, rows, None, value_residual)
    else:
        k, v = attention.keys_and_values(*sources)
        seen = Intermediates(values=v)
        v = attention.with_first_values(v, rows, None, value_residual)
        k, v = (k, v) if past is None else (between(k, past[0]), between(v, past[1]))
        seen.cached_kv = (without_memory(k), without_memory(v))  # type: ignore[assignment]
    q, j = attention.queries(x), k.shape[-2]

    if rotary_pos_emb is not None:
        turns = Rotation.given(*rotary_pos_emb, n, cfg.rotary_half_split)
        q = attention.place(q, turns.queries, turns.query_scale)
        if context_rotary_pos_emb is not None:
            turns = Rotation.given(*context_rotary_pos_emb, n, cfg.rotary_half_split)
        k = attention.place(k, turns.keys, None if turns.key_scale is None else turns.key_scale[:, -j:])

    key_mask = context_mask if context_mask is not None or context is not None else mask
    keys = Span(n - j, j, visible=padded_mask(key_mask, mem_mask, memory, j))
    queries = Span(0, n)
    if rel_pos is not None:
        attn_bias = rel_pos(n, j) if pos is None else rel_pos.forward_custom_pos(pos[..., -n:], pos)  # type: ignore[operator]
        check_pairs({'the bias of rel_pos': attn_bias}, (len(x), cfg.heads, n, j), cfg.lead)
    if attention.data_dependent_alibi is not None:
        if attn_bias is not None:
            warnings.warn('data_dependent_alibi takes the place of attn_bias and rel_pos, as in 2.0.1', stacklevel=3)
        attn_bias = attention.data_dependent_alibi.bias(x, attention.data_dependent_alibi.record(rows), None)
    limits = visible(attention.rule, queries, keys, attn_mask, cfg.lead, x.device)
    records = attention.with_lead({'k': k, 'v': attention.weighable(v)})
    maps = seen if return_intermediates and not cfg.flash else None
    selection = selection_of(queries, keys, None, cfg.lead, x.device) if cfg.selective else None
    scored = Scored(limits, ahead(attn_bias, cfg.lead, 0.0), prev_attn, maps, selection)
    out = attention.weigh(q, records, None, scored)
    beside = None
    if attention.hybrid_module is not None:
        beside = first_tensor(attention.hybrid_module(x, **attention.beside_mask(mask)))
    out = attention.put_out(out, x, mask, beside)
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
