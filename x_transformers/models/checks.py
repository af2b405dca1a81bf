"""Whether what a model is given fits, asked before anything is computed. Each complaint is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from x_transformers.checks import check, check_prefix
from x_transformers.documents import expect_documents, places, refuse_beside
from x_transformers.entry import Inputs
from x_transformers.errors import DecodeError, InputError, quoted
from x_transformers.inputs import askable, expect, expect_broadcast, expect_kind, expect_optional, expect_place, expect_positions, whole
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


def check_kinds(ask: Ask) -> None:
    """Tensors are tensors and mappings are mappings, before anything is asked of them."""
    for name in KINDS:
        value = getattr(ask, name)
        if value is not None:
            check_kind(name, value)


def check_kind(name: str, value: Any) -> None:
    """An input is of its kind."""
    kind = KINDS.get(name)
    if kind is not None and not isinstance(value, kind):
        raise InputError(f'{name} must be a {kind.__name__.lower()}, got {type(value).__name__}')
    for key, ids in value.items() if name == 'embed_ids' else ():
        if not isinstance(ids, Tensor):
            raise InputError(f'embed_ids[{key!r}] must be a tensor, got {type(ids).__name__}')


KINDS: dict[str, type] = {
    **dict.fromkeys(('mask', 'pos', 'prepend_embeds', 'prepend_mask', 'sum_embeds', 'seq_start_pos', 'document_ids'), Tensor),
    **dict.fromkeys(('embed_ids', 'token_emb_kwargs', 'to_logits_kwargs'), Mapping),
}

PLACED = tuple(name for name, kind in KINDS.items() if kind is Tensor)


def check_call(model: Any, x: Tensor, ask: Ask) -> None:
    """Everything beside the inputs themselves, for x (b, n, ...)."""
    b, n = x.shape[:2]
    for name in model._foreign:
        if getattr(ask, name):
            raise InputError(f'{name} was given, but {type(model).__name__} has no use for it; leave it out')
    expect_place({name: getattr(ask, name) for name in PLACED}, x)
    expect_optional('mask', ask.mask, (b, n), 'bool')
    check_documents(model, x, ask)
    check_positions(model, x, ask)
    if ask.sum_embeds is not None:
        expect_kind('sum_embeds', ask.sum_embeds, 'float', 'it is added to the embeddings')
        expect_broadcast('sum_embeds', ask.sum_embeds, (b, n, model.emb_dim))
    if ask.prepend_mask is not None and ask.prepend_embeds is None:
        raise InputError('prepend_mask was given without prepend_embeds; it says which of them are there')
    if ask.prepend_embeds is not None:
        expect('prepend_embeds', ask.prepend_embeds, (b, None, model.emb_dim), 'float', 'they are as wide as embeddings (emb_dim)')
        expect_optional('prepend_mask', ask.prepend_mask, tuple(ask.prepend_embeds.shape[:2]), 'bool')
    check_returns(model, ask)
    check_ahead(model, x, ask)
    check_useless(model, ask)
    own_state = ask.state is not None and ask.state.maker is model.attn_layers.maker and not ask.first
    if not torch.compiler.is_compiling() and (ask.stack or ask.mems is not None or not own_state):  # else only tokens
        check_stack(model, x, ask)


def check_useless(model: Any, ask: Ask) -> None:
    """Inputs that would change nothing. An age of 1 is what 2.0.1 takes without a cache, as the first call of a loop gives it."""
    age = ask.stack.get('cache_age')
    if ask.cache is None and age is not None and whole(age) != 1:
        raise InputError(f'cache_age={quoted(age)} was given without cache; it is how many of the given tokens are new to it')
    if ask.stack.get('rotary_pos_emb') is not None and model.attn_layers.rotary_pos_emb is None:
        raise InputError('rotary_pos_emb was given, but the layer stack was built without rotary_pos_emb=True; leave it out')


def check_documents(model: Any, x: Tensor, ask: Ask) -> None:
    """Packed rows, of which no part of the model makes one."""
    if ask.document_ids is None:
        return
    expect_documents('document_ids', ask.document_ids, tuple(x.shape[:2]))
    refuse_beside({**ask.stack, **vars(ask)})
    of_rows = {
        f'num_memory_tokens={model.num_memory_tokens}': model.num_memory_tokens,
        'use_cls_token=True': model._cls_tokens,
        'average_pool_embed=True': model.average_pool_embed,
    }
    flag = next((name for name, on in of_rows.items() if on), None)
    if flag is not None:
        raise InputError(
            f'document_ids cannot be combined with {flag}: it reads or writes all documents of a row at once. Give one document per row.'
        )


def check_positions(model: Any, x: Tensor, ask: Ask) -> None:
    """Positions are indices within the table, or an embedding of your own; padding is a number per row."""
    pos, (b, n), limit = ask.pos, x.shape[:2], model.max_seq_len
    expect_optional('seq_start_pos', ask.seq_start_pos, (b,), 'int', 'it is the number of padding tokens of each row')
    if ask.seq_start_pos is not None and askable(ask.seq_start_pos) and int(ask.seq_start_pos.min()) < 0:
        raise InputError(f'seq_start_pos={ask.seq_start_pos.tolist()}, expected the number of padding tokens of each row, from 0')
    learned = isinstance(model.pos_emb, AbsolutePositionalEmbedding)
    if pos is None:
        counted, what = ask.seen + n, 'sequence'
        if ask.document_ids is not None and n > limit:
            counted, what = int(places(ask.document_ids).max()) + 1 if askable(ask.document_ids) else 0, 'document'
        if learned and counted > limit:
            raise InputError(
                f'a {what} of {counted} tokens is longer than max_seq_len={limit}, for which absolute positions were made; '
                'shorten it, raise max_seq_len, or use relative positions (rotary_pos_emb=True)'
            )
        return
    if pos.is_floating_point():
        if pos.ndim not in (2, 3):
            shapes = f'({n}, {model.emb_dim}) or ({b}, {n}, {model.emb_dim})'
            raise InputError(f'pos has shape {tuple(pos.shape)}, expected {shapes}: floats are an embedding')
        return expect_broadcast('pos', pos, (b, n, model.emb_dim))
    expect_positions('pos', pos, b, (n, 1))
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
        check_prefix(ask.stack['prefix_attn_len'], x.shape[0])
    dtype = next((p.dtype for p in stack.parameters()), None)
    probe = torch.empty((), device=x.device, dtype=dtype).expand(*x.shape[:2], stack.dim)
    steps = stack.plan.steps(ask.stack.get('layers_execute_order'))
    given = Inputs(mems=ask.mems, mem_masks=ask.mem_masks, document_ids=ask.document_ids, **inputs)
    check(probe, given, stack, ask.state, steps)
