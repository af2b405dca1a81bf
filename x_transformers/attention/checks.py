"""Whether what attention is given, alone or in its core, fits it: asked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from x_transformers.errors import DecodeError, InputError, quoted
from x_transformers.inputs import (
    expect,
    expect_angles,
    expect_broadcast,
    expect_dtype,
    expect_kind,
    expect_optional,
    expect_pairs,
    expect_place,
    expect_positions,
    refuse_unknown,
)
from x_transformers.positions.distance import DistanceBias
from x_transformers.positions.t5 import RelativePositionBias


@dataclass(frozen=True)
class Alone:
    """The inputs of attention outside of a layer stack, as `attend_alone` explains them."""

    context: Tensor | None
    mask: Tensor | None
    context_mask: Tensor | None
    attn_mask: Tensor | None
    rel_pos: Any
    attn_bias: Tensor | None
    rotary_pos_emb: Any
    context_rotary_pos_emb: Any
    pos: Tensor | None
    prev_attn: Tensor | None
    mem: Tensor | None
    mem_mask: Tensor | None
    value_residual: Tensor | None
    past: tuple[Tensor, Tensor | None] | None  # what a cache holds
    cached: bool


def check_alone(attention: Any, x: Tensor, given: Alone, unknown: Iterable[str]) -> None:
    """Everything that `attend_alone` takes."""
    cfg = attention.config
    names = [*(f.name for f in fields(Alone) if f.name not in ('past', 'cached')), 'cache', 'return_intermediates']
    for name in unknown:
        refuse_unknown(name, names, 'Attention', names)
    if cfg.qkv_receive_diff_residuals:
        expect('x', x, (3, None, None, cfg.dim), 'float', 'queries, keys and values are made of inputs of their own')
        if given.context is not None:
            raise InputError('context cannot be combined with qkv_receive_diff_residuals=True, which gives keys an input of their own')
    else:
        expect('x', x, (None, None, cfg.dim), 'float', f'attention takes tokens of width dim={cfg.dim}')
    expect_dtype('x', x, attention)
    expect_place({name: t for name, t in vars(given).items() if name != 'past'}, x)
    b, n = x.shape[-3:-1]
    expect_optional('context', given.context, (b, None, cfg.dim_context or cfg.dim), 'float')
    expect_optional('mask', given.mask, (b, n), 'bool')
    expect_optional('context_mask', given.context_mask, (b, n if given.context is None else given.context.shape[1]), 'bool')
    if given.context is not None:
        expect_dtype('context', given.context, attention)
        check_with_context(attention, given)
    check_memory(attention, given, b, n, cfg.dim_context or cfg.dim if given.context is not None else cfg.dim)
    if given.value_residual is not None:
        width = None if given.mem is not None or given.cached or given.context is not None else n
        expect('value_residual', given.value_residual, (b, attention.kv_heads, width, cfg.value_width), 'float')
    if given.past is not None and attention.to_latent_kv is None:
        expect('cached_kv of cache', given.past[0], (b, attention.kv_heads, None, cfg.dim_head), 'float', 'keys are (b, g, j, d)')
        expect(
            'cached_kv of cache',
            given.past[1],
            (b, attention.kv_heads, given.past[0].shape[2], None),
            'float',
            'values have a row for each key',
        )
    if given.cached:
        check_cache(attention, given.value_residual)
    check_scores(attention, given, b, n)


def check_with_context(attention: Any, given: Alone) -> None:
    """What a context rules out: flags and shares that are of tokens, and angles that say nothing of it."""
    if given.rotary_pos_emb is not None and given.context_rotary_pos_emb is None:
        raise InputError('rotary_pos_emb with a context also needs context_rotary_pos_emb, the angles of the context; give both or none')
    for name, on in (('data_dependent_alibi', attention.data_dependent_alibi), ('selective', attention.config.selective)):
        if on:
            raise InputError(f'context cannot be combined with {name}, which is about tokens before a query; leave one out')
    if given.value_residual is not None and attention.to_value_residual_mix is not None:
        raise InputError('value_residual with a context needs learned_value_residual_mix=False: the shares are of tokens, not of contexts')


def check_memory(attention: Any, given: Alone, b: int, n: int, width: int) -> None:
    """Memory ahead of the keys, and what of it is there."""
    expect_optional('mem', given.mem, (b, None, width), 'float', 'it goes ahead of what keys are made of')
    if given.mem is not None:
        expect_dtype('mem', given.mem, attention)
    if given.mem_mask is not None:
        if given.mem is None:
            raise InputError('mem_mask was given without mem; it says which of the memory is there')
        expect('mem_mask', given.mem_mask, (b, given.mem.shape[1]), 'bool')


def beyond_keys(attention: Any) -> str | None:
    """The flag by which more of earlier tokens counts than their keys and values, if one does."""
    on = {
        'data_dependent_alibi': attention.data_dependent_alibi is not None,
        'selective': attention.config.selective,
        'hybrid_module': attention.hybrid_module is not None,
    }
    return next((attention.config.prefix + name for name, holds in on.items() if holds), None)


def check_cache(attention: Any, value_residual: Tensor | None) -> None:
    """What cached keys and values alone are not enough for."""
    name = beyond_keys(attention)
    if name is None and value_residual is not None and attention.to_latent_kv is not None and attention.to_value_residual_mix is not None:
        name = 'learned_value_residual_mix with use_latent_kv'
    if name is not None:
        raise DecodeError(f'cache holds keys and values only, and {name} needs more of earlier tokens; use a layer stack and its state')


def check_scores(attention: Any, given: Alone, b: int, n: int) -> None:
    """What says something of queries and keys: where they stand, which may meet, and what joins their scores."""
    cfg = attention.config
    memory, past = 0 if given.mem is None else given.mem.shape[1], 0 if given.past is None else given.past[0].shape[-2]
    j = memory + past + (n if given.context is None else given.context.shape[1])
    if given.rel_pos is not None and given.attn_bias is not None:
        raise InputError('rel_pos and attn_bias were both given; add the biases yourself and give attn_bias')
    check_bias_module(given, cfg.heads, b, n, j)
    if given.rotary_pos_emb is not None:
        expect_angles('rotary_pos_emb', given.rotary_pos_emb, j if given.context_rotary_pos_emb is None else n, cfg.dim_head)
        if given.context_rotary_pos_emb is not None:
            expect_angles('context_rotary_pos_emb', given.context_rotary_pos_emb, j, cfg.dim_head)
    pairs = {'attn_mask': given.attn_mask, 'attn_bias': given.attn_bias, 'prev_attn': given.prev_attn}
    check_pairs(pairs, (b, cfg.heads, n, j), cfg.lead)


def check_bias_module(given: Alone, heads: int, b: int, n: int, j: int) -> None:
    """`rel_pos` makes a bias of numbers of queries and keys, or of their positions."""
    rel_pos, pos = given.rel_pos, given.pos
    if rel_pos is None:
        return
    if not callable(rel_pos):
        raise InputError(
            f'rel_pos={quoted(rel_pos)} is not possible: expected a module (i, j) -> (heads, i, j), such as AlibiPositionalBias'
        )
    if isinstance(rel_pos, DistanceBias) and rel_pos.total_heads not in (1, heads):
        raise InputError(
            f'rel_pos={type(rel_pos).__name__} is of {rel_pos.total_heads} heads, but attention has heads={heads}; build it with as many'
        )
    if pos is None:
        return
    if getattr(rel_pos, 'forward_custom_pos', None) is None:
        raise InputError(f'pos was given, but rel_pos={type(rel_pos).__name__} has no forward_custom_pos; leave pos out')
    if given.context is not None and n != j:
        raise InputError(f'pos says where {n} tokens stand, not where {j} of the context; add the bias yourself and give attn_bias')
    expect_positions('pos', pos, b, (j,))
    if isinstance(rel_pos, RelativePositionBias):
        expect_kind('pos', pos, 'int', 'RelativePositionBias puts distances in buckets')


def check_pairs(given: Mapping[str, Any], shape: tuple[int, int, int, int], lead: int) -> None:
    """Masks, biases and scores for `shape` (b, h, i, j). Only scores have the `lead` keys that belong to no token."""
    b, h, i, j = shape
    for name, t in given.items():
        if t is not None:
            columns = j + lead if name == 'prev_attn' else j
            expect_pairs(name, t, (b, h, i, columns), rows=(1, i), columns=(columns,) if lead else (1, columns))
            if name in ('mask', 'attn_mask'):
                expect_kind(name, t, 'bool')


def check_attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, bias: Any, previous: Any) -> None:
    """What `Attend.forward` takes."""
    expect('q', q, (None,) * 4, 'float', 'queries are (b, h, i, d)')
    b, h, i, d = q.shape
    expect('k', k, (b, None, None, d), 'float', 'keys are (b, g, j, d), as wide as queries')
    _, g, j, _ = k.shape
    expect('v', v, (b, g, j, None), 'float', 'values are (b, g, j, e), one for each key')
    expect_place({'k': k, 'v': v, 'mask': mask, 'attn_bias': bias, 'prev_attn': previous}, q, 'q')
    for name, t in (('k', k), ('v', v)):
        if t.dtype != q.dtype and not torch.is_autocast_enabled(q.device.type):
            raise InputError(f'{name} has dtype {t.dtype}, but q is {q.dtype}; give {name}.to({q.dtype})')
    if not g or h % g:
        raise InputError(f'k has shape {tuple(k.shape)}, with {g} key heads for {h} query heads; their number must divide that of q')
    if isinstance(mask, Tensor) and mask.ndim == 2:
        expect_broadcast('mask', mask, (b, j))
        expect_kind('mask', mask, 'bool')
        mask = None
    check_pairs({'mask': mask, 'attn_bias': bias, 'prev_attn': previous}, (b, h, i, j), int(module.add_zero_kv))
