"""Whether what a model is given fits, asked before anything is computed. Each complaint is one sentence."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from x_transformers.checks import check, check_prefix
from x_transformers.entry import Inputs
from x_transformers.errors import DecodeError, InputError
from x_transformers.inputs import askable, expect, expect_broadcast, expect_kind, expect_optional
from x_transformers.models.ask import BY_TOKEN, Ask
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding


def check_ids(name: str, x: Any, num_tokens: int | None, source: str, hint: str) -> None:
    """`x` must hold at least one sequence of ids, each one of the vocabulary that `source` gives the size of (None: unknown)."""
    expect(name, x, (None, None), 'int', hint)
    if 0 in x.shape:
        raise InputError(f'{name} has shape {tuple(x.shape)}: there must be at least one sequence of at least one token')
    if num_tokens is None or not askable(x):
        return
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= num_tokens:
        wrong = low if low < 0 else high
        raise InputError(
            f'{name} holds the token id {wrong}, but {source}={num_tokens}: ids run from 0 to {num_tokens - 1}; mend them or raise {source}'
        )


def check_call(model: Any, x: Tensor, ask: Ask) -> None:
    """Everything beside the inputs themselves, for x (b, n, ...)."""
    b, n = x.shape[:2]
    for name in model._foreign:
        if getattr(ask, name):
            raise InputError(f'{name} was given, but {type(model).__name__} has no use for it; leave it out')
    expect_optional('mask', ask.mask, (b, n), 'bool')
    check_positions(model.pos_emb, x, ask, model.max_seq_len)
    if ask.sum_embeds is not None:
        expect_broadcast('sum_embeds', ask.sum_embeds, (b, n, model.emb_dim))
    if ask.prepend_mask is not None and ask.prepend_embeds is None:
        raise InputError('prepend_mask was given without prepend_embeds; it says which of them are there')
    if ask.prepend_embeds is not None:
        expect('prepend_embeds', ask.prepend_embeds, (b, None, model.emb_dim), 'float', 'they are as wide as embeddings (emb_dim)')
        expect_optional('prepend_mask', ask.prepend_mask, tuple(ask.prepend_embeds.shape[:2]), 'bool')
    check_returns(model, ask)
    check_ahead(model, x, ask)
    if not torch.compiler.is_compiling():
        check_stack(model, x, ask)


def check_positions(pos_emb: Any, x: Tensor, ask: Ask, limit: int) -> None:
    """Positions are long indices within the table, or an embedding of your own; padding is a number per row."""
    pos, n = ask.pos, x.shape[1]
    expect_optional('seq_start_pos', ask.seq_start_pos, (x.shape[0],), 'int', 'it is the number of padding tokens of each row')
    learned = isinstance(pos_emb, AbsolutePositionalEmbedding)
    if pos is None:
        if learned and ask.seen + n > limit:
            raise InputError(
                f'a sequence of {ask.seen + n} tokens is longer than max_seq_len={limit}, for which absolute positions were made; '
                'shorten it, raise max_seq_len, or use relative positions (rotary_pos_emb=True)'
            )
        return
    if pos.shape[-2 if pos.is_floating_point() else -1] not in (1, n):
        raise InputError(f'pos has shape {tuple(pos.shape)}, expected a position for each of {n} tokens')
    if pos.is_floating_point():
        return
    expect_kind('pos', pos, 'int', 'or a position embedding of your own')
    if learned and askable(pos):
        low, high = int(pos.min()), int(pos.max())
        if low < 0 or high >= limit:
            raise InputError(f'pos runs from {low} to {high}, expected 0 to {limit - 1} (max_seq_len={limit})')


def check_returns(model: Any, ask: Ask) -> None:
    """Whether what is asked for exists."""
    if not model._has_head and (ask.return_logits_and_embeddings or ask.return_logit_entropies):
        raise InputError('this model has no head (return_only_embed=True), so there are no logits; build it without that flag')


def check_ahead(model: Any, x: Tensor, ask: Ask) -> None:
    """What stands ahead of the tokens stands behind the padding of each row, and has no condition of its own."""
    learned = model.num_memory_tokens + model._cls_tokens
    given = 0 if ask.prepend_embeds is None else ask.prepend_embeds.shape[1]
    if not ask.first or not learned + given:
        return
    for name in BY_TOKEN:
        if ask.stack.get(name) is not None and ask.stack[name].ndim == 3:
            raise InputError(f'{name} by token says nothing of the {learned + given} entries ahead of the tokens; give one per row, (b, d)')
    start = ask.seq_start_pos
    if start is None:
        return
    if model.memory_tokens_interspersed_every:
        raise InputError(
            f'seq_start_pos (prompt_lens) cannot be combined with memory_tokens_interspersed_every='
            f'{model.memory_tokens_interspersed_every}: blocks would begin elsewhere in each row. Run rows of one length'
        )
    if askable(start) and int(start.max()) > x.shape[1]:
        memory = model.num_memory_tokens
        what = f'num_memory_tokens={memory}' if memory else 'use_cls_token=True' if learned else 'prepend_embeds'
        raise DecodeError(
            f'the first call has {x.shape[1]} tokens, all padding in a row of seq_start_pos={start.tolist()}; with {what} it must '
            'reach the first token of every row'
        )


def check_stack(model: Any, x: Tensor, ask: Ask) -> None:
    """The layer stack's own checks, on embeddings that need no memory. What stands ahead of them, pairs would have to speak of."""
    stack, known = model.attn_layers, {f.name for f in fields(Inputs)}
    if model._cls_tokens or ask.first and (model.num_memory_tokens or ask.prepend_embeds is not None):
        known -= {'attn_mask', 'attn_bias'}
    inputs = {name: value for name, value in ask.stack.items() if name in known}
    if ask.stack.get('prefix_attn_len') is not None:
        check_prefix(ask.stack['prefix_attn_len'], len(x))
    dtype = next((p.dtype for p in stack.parameters()), None)
    probe = torch.empty((), device=x.device, dtype=dtype).expand(*x.shape[:2], stack.dim)
    steps = stack.plan.steps(ask.stack.get('layers_execute_order'))
    check(probe, Inputs(mems=ask.mems, mem_masks=ask.mem_masks, **inputs), stack, ask.state, steps)
