"""Attention outside of a layer stack, with the inputs and results that 2.0.1 has."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.attention.attend import Intermediates
from x_transformers.attention.backends import Scored
from x_transformers.attention.hybrid import first_tensor
from x_transformers.attention.masks import ahead, visible
from x_transformers.attention.scores import selection_of
from x_transformers.call import Span
from x_transformers.errors import DecodeError, InputError
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
    value_residual: Tensor | None = None,
) -> Any:
    """(b, n, dim) -> (b, n, dim_out), or with `Intermediates` where asked for.

    context (b, c, dim_context): keys and values come from it. mask (b, n): rows put out zero where False, and keys
    of self-attention are hidden; context_mask (b, c): hides keys instead. attn_mask, attn_bias: broadcastable to
    (b, h, i, j). rel_pos: a module `(i, j) -> (h, i, j)`, at positions `pos` where given. rotary_pos_emb: what
    `RotaryEmbedding.forward` returns. mem (b, m, dim), mem_mask (b, m): memory in front of the keys. cache:
    intermediates of the earlier tokens; `x` holds the new ones. value_residual (b, kv heads, j, width): values of
    another layer to mix in. With `qkv_receive_diff_residuals`, x is (3, b, n, dim).
    """
    cfg = attention.config
    if cfg.qkv_receive_diff_residuals:
        expect('x', x, (3, None, None, cfg.dim), 'float', 'queries, keys and values are made of inputs of their own')
        if context is not None:
            raise InputError('context cannot be combined with qkv_receive_diff_residuals=True, which gives keys an input of their own')
    else:
        expect('x', x, (None, None, cfg.dim), 'float', f'attention takes tokens of width dim={cfg.dim}')
    x, *sources = attention.views(x)
    b, n = x.shape[:2]
    expect_optional('context', context, (b, None, cfg.dim_context or cfg.dim), 'float')
    expect_optional('mask', mask, (b, n), 'bool')
    expect_optional('context_mask', context_mask, (b, n if context is None else context.shape[1]), 'bool')
    if context is not None and rotary_pos_emb is not None and context_rotary_pos_emb is None:
        raise InputError('rotary_pos_emb with a context also needs context_rotary_pos_emb, the angles of the context; give both or none')
    if rel_pos is not None and attn_bias is not None:
        raise InputError('rel_pos and attn_bias were both given; add the biases yourself and give attn_bias')
    for flag_name, on in (('data_dependent_alibi', attention.data_dependent_alibi), ('selective', cfg.selective)):
        if on and context is not None:
            raise InputError(f'context cannot be combined with {flag_name}, which is about tokens before a query; leave one out')
    if value_residual is not None:
        width = None if mem is not None or cache is not None else sources[0].shape[1]
        expect('value_residual', value_residual, (b, attention.kv_heads, width if context is None else None, cfg.value_width), 'float')
        if context is not None and attention.to_value_residual_mix is not None:
            raise InputError(
                'value_residual with a context needs learned_value_residual_mix=False: the shares are of tokens, not of contexts'
            )
    if cache is not None:
        check_cache(attention, value_residual)
    sources = [context, context] if context is not None else sources
    rows, memory = x, 0 if mem is None else mem.shape[1]  # rows: what decides shares and gates of keys
    if mem is not None:
        sources = [torch.cat((mem, t), dim=1) for t in sources]
        rows = x if context is not None else torch.cat((mem, x), dim=1)
    past = None if cache is None else cache.cached_kv
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
        turns = Rotation.given(*rotary_pos_emb, n)
        q = attention.place(q, turns.queries, turns.query_scale)
        if context_rotary_pos_emb is not None:
            turns = Rotation.given(*context_rotary_pos_emb, n)
        k = attention.place(k, turns.keys, None if turns.key_scale is None else turns.key_scale[:, -j:])

    key_mask = context_mask if context_mask is not None or context is not None else mask
    keys = Span(n - j, j, visible=padded_mask(key_mask, mem_mask, memory, j))
    queries = Span(0, n)
    if rel_pos is not None:
        attn_bias = rel_pos(n, j) if pos is None else rel_pos.forward_custom_pos(pos)  # type: ignore[operator]
    if attention.data_dependent_alibi is not None:
        if attn_bias is not None:
            warnings.warn('data_dependent_alibi takes the place of attn_bias and rel_pos, as in 2.0.1', stacklevel=3)
        attn_bias = attention.data_dependent_alibi.bias(x, attention.data_dependent_alibi.record(rows), None)
    limits = visible(attention.rule, queries, keys, attn_mask, cfg.lead, x.device)
    records = attention.with_lead({'k': k, 'v': attention.weighable(v)})
    maps = seen if return_intermediates and not cfg.flash else None
    selection = selection_of(queries, keys, None, cfg.lead, x.device) if cfg.selective else None
    scored = Scored(limits, ahead(attn_bias, cfg.lead, 0.0), prev_attn, maps, selection)
    out = attention.attend.run(q, records['k'], records['v'], scored)
    beside = None
    if attention.hybrid_module is not None:
        beside = first_tensor(attention.hybrid_module(x, **attention.beside_mask(mask)))
    out = attention.put_out(out, x, mask, beside)
    return (out, seen) if return_intermediates else out


def check_cache(attention: Any, value_residual: Tensor | None) -> None:
    """What cached keys and values alone are not enough for."""
    needs = {
        'data_dependent_alibi': attention.data_dependent_alibi is not None,
        'selective': attention.config.selective,
        'hybrid_module': attention.hybrid_module is not None,
        'learned_value_residual_mix with use_latent_kv': (
            value_residual is not None and attention.to_latent_kv is not None and attention.to_value_residual_mix is not None
        ),
    }
    name = next((name for name, on in needs.items() if on), None)
    if name is not None:
        raise DecodeError(f'cache holds keys and values only, and {name} needs more of earlier tokens; use a layer stack and its state')


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
