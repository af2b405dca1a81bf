"""Whether what a layer stack is given fits it, asked before anything is computed. Each complaint is one sentence.

Shapes and types are asked always; numbers only where an answer is free (`askable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from x_transformers.attention import Attention
from x_transformers.documents import WHAT, expect_documents, places, refuse_beside
from x_transformers.errors import DecodeError, InputError, quoted
from x_transformers.inputs import (
    askable,
    expect,
    expect_angles,
    expect_dtype,
    expect_kind,
    expect_optional,
    expect_pairs,
    expect_place,
    expect_positions,
)
from x_transformers.plan import LayerSpec
from x_transformers.positions.rotary import RotaryEmbeddings
from x_transformers.positions.t5 import RelativePositionBias
from x_transformers.precision import product_dtype
from x_transformers.state import Beside, FixedKeys, StackState, Tail

if TYPE_CHECKING:
    from x_transformers.entry import Inputs


def check(x: Tensor, given: Inputs, stack: Any, state: StackState | None, steps: Sequence[LayerSpec]) -> None:
    """Whether the inputs fit each other, the stack, and the layers that will run."""
    fresh = state is None or state.length == 0
    check_tokens(x, stack)
    b, n = x.shape[:2]
    expect_place(vars(given), x)
    expect_optional('mask', given.mask, (b, n), 'bool')
    expect_optional('self_attn_kv_mask', given.self_attn_kv_mask, (b, n), 'bool')
    check_padding(given.seq_start_pos, b)
    check_context(x, given, stack, state)
    check_memories(x, given, stack, fresh)
    check_positions(x, given, stack, state)
    check_rotary(given, stack, n + longest(given.mems) if fresh else n)
    check_pairs(x, given, stack, state)
    check_conditions(x, given, stack, state)
    check_documents(x, given, stack)
    check_xpos(x, given, stack)
    if state is not None and not fresh and not torch.compiler.is_compiling():
        check_state(state, stack, steps)


def check_tokens(x: Any, stack: Any) -> None:
    """There must be tokens of the stack's width and dtype."""
    expect('x', x, (None, None, stack.dim), 'float', f'a layer stack takes embeddings of width dim={stack.dim}')
    if 0 in x.shape:
        raise InputError(f'x has shape {tuple(x.shape)}: there must be at least one sequence of at least one token')
    expect_dtype('x', x, stack)


def check_padding(begins: Any, b: int) -> None:
    """Tokens of left padding; a row may be all padding, as later tokens can follow."""
    expect_optional('seq_start_pos', begins, (b,), 'int', 'it is the number of padding tokens of each row')
    if begins is not None and askable(begins) and int(begins.min()) < 0:
        raise InputError(f'seq_start_pos={begins.tolist()} is not possible: it is the number of padding tokens of each row, 0 or more')


def check_context(x: Tensor, given: Inputs, stack: Any, state: StackState | None) -> None:
    """There is a context where layers look at one, and it is known what its tokens are."""
    fresh = state is None or state.length == 0
    if stack.cross_attend and given.context is None and fresh:
        raise InputError('context is missing: cross_attend=True makes layers look at one; give context=(b, c, dim)')
    if given.context is not None:
        if not stack.cross_attend:
            raise InputError('context was given, but no layer looks at one; build the stack with cross_attend=True')
        width = stack.config.cross_attn.dim_context or stack.dim
        expect(
            'context', given.context, (x.shape[0], None, width), 'float', 'its width is dim, or cross_attn_dim_context where that is set'
        )
        expect_dtype('context', given.context, stack)
        expect_optional('context_mask', given.context_mask, (x.shape[0], given.context.shape[1]), 'bool')
        if given.context.shape[1] == 0 and fresh:
            raise InputError(f'context has shape {tuple(given.context.shape)}: there must be at least one token to look at')
    if given.context_mask is not None and given.context is None and fresh:
        raise InputError('context_mask was given without a context; give context=(b, c, dim) with it')
    if given.context_pos is None:
        return
    if not stack.cross_attend:
        raise InputError('context_pos was given, but no layer looks at a context; build the stack with cross_attend=True, or leave it out')
    if given.context is not None:
        expect_positions('context_pos', given.context_pos, x.shape[0], (given.context.shape[1],))
    rotary, width = stack.rotary_pos_emb, stack.config.cross_attn.dim_head
    if rotary is not None and 2 * len(rotary.inv_freq) > width:
        raise InputError(
            f'context_pos turns {2 * len(rotary.inv_freq)} features by rotary positions, but cross_attn_dim_head={width}; '
            'set rotary_emb_dim to no more than that'
        )


def check_documents(x: Tensor, given: Inputs, stack: Any) -> None:
    """A document for each token, and for each token of a context; and nothing that runs over a whole row."""
    of_context = given.context_document_ids
    if given.document_ids is None:
        if of_context is not None:
            raise InputError(
                'context_document_ids was given without document_ids; give document_ids=(b, n), those that look at the context'
            )
        return
    expect_documents('document_ids', given.document_ids, tuple(x.shape[:2]))
    refuse_beside(vars(given))
    if given.context is not None:
        if of_context is None:
            raise InputError(
                'context_document_ids is missing: with document_ids each document looks at a context of its own; give (b, c), the document '
                'that each token of the context belongs to'
            )
        expect('context_document_ids', of_context, tuple(given.context.shape[:2]), 'int', WHAT)
    elif of_context is not None:
        raise InputError('context_document_ids was given without a context; give context=(b, c, dim) with it')
    if stack.has_module_beside:
        raise InputError(
            'document_ids cannot be combined with attn_hybrid_module: the module beside attention runs over the whole row, from one '
            'document into the next. Give one document per row, or leave the module out.'
        )
    if stack.foreign_part is not None:
        raise InputError(f'document_ids cannot be heeded: {stack.foreign_part}, which is told nothing of documents; give one per row')


def check_memories(x: Tensor, given: Inputs, stack: Any, fresh: bool) -> None:
    """Memories are listed by layer, and so are their masks."""
    for name in ('mems', 'mem_masks'):
        listed = getattr(given, name)
        if isinstance(listed, Tensor) or (listed is not None and not isinstance(listed, Sequence)):
            raise InputError(f'{name} must be a list with one tensor per self-attention layer, got {type(listed).__name__}')
    mems, masks = given.mems or (), given.mem_masks or ()
    for mem in mems:
        expect_optional('mems', mem, (x.shape[0], None, stack.dim), 'float', 'it holds what an earlier call showed as `memories`')
        if mem is not None:
            expect_place({'mems': mem}, x)
            expect_dtype('mems', mem, stack)
    if fresh and mems and stack.config.residual_attn:
        check_lengths(mems, stack)
    if fresh and len(masks) > len(mems):
        raise InputError(f'mem_masks has {len(masks)} entries, but mems has {len(mems)}; give one mask, or None, for each memory')


def check_lengths(mems: Sequence[Tensor | None], stack: Any) -> None:
    """Scores are handed from layer to layer, so all layers meet the same keys; where memories are missing, there are none."""
    lengths = {0 if mem is None else mem.shape[1] for mem in mems}
    lengths |= {0} if len(mems) < sum(step.kind == 'a' for step in stack.plan.own_steps) else set()
    if len(lengths) > 1:
        raise InputError(
            f'mems have lengths {sorted(lengths)}, but residual_attn=True hands scores of all keys from layer to layer; give every '
            'self-attention a memory of one length'
        )


def longest(mems: Sequence[Tensor | None] | None) -> int:
    """Length of the longest memory."""
    lengths = [m.shape[1] for m in mems or [] if m is not None]
    return max(lengths) if lengths else 0


def lengths_of(x: Tensor, given: Inputs, state: StackState | None) -> list[int]:
    """How long what has an entry per token may be: the new ones, or all so far and their memories; the last is one for each key."""
    n = x.shape[1]
    if state is None or state.length == 0:
        return [n, n + longest(given.mems)]
    return [n, n + state.seen, n + state.seen + state.extra, n + state.length]


def check_positions(x: Tensor, given: Inputs, stack: Any, state: StackState | None) -> None:
    """A position for each token; whole numbers where they are put in buckets."""
    if given.pos is None:
        return
    expect_positions('pos', given.pos, x.shape[0], lengths_of(x, given, state))
    if isinstance(stack.rel_pos, RelativePositionBias):
        expect_kind('pos', given.pos, 'int', 'rel_pos_bias=True puts distances in buckets')


def check_rotary(given: Inputs, stack: Any, n: int) -> None:
    """Ready angles for `n` tokens, memories included."""
    if given.rotary_pos_emb is not None and isinstance(stack.rotary_pos_emb, RotaryEmbeddings):
        raise InputError('rotary_pos_emb was given, but layers have frequencies of their own (rotary_base or rotary_scaling); leave it out')
    if given.rotary_pos_emb is not None and stack.rotary_pos_emb is not None:
        expect_angles('rotary_pos_emb', given.rotary_pos_emb, n, stack.config.attn.dim_head)


def check_xpos(x: Tensor, given: Inputs, stack: Any) -> None:
    """xPos's factors between the first and the last of these tokens must be numbers that the precision has."""
    rotary, pos = stack.rotary_pos_emb, given.pos
    if rotary is None or rotary.scale is None or given.rotary_pos_emb is not None or torch.compiler.is_compiling():
        return
    span = x.shape[1]
    if pos is None and given.document_ids is not None:
        pos = places(given.document_ids)
    if pos is not None and askable(pos):
        own = pos[..., -span:]
        span = int((own.amax(dim=-1) - own.amin(dim=-1)).max()) + 1
    dtype = product_dtype(x)
    reach = rotary.reach(dtype)
    if span > reach:
        raise InputError(
            f'x spans {span} positions, but with rotary_xpos=True and rotary_xpos_scale_base={rotary.scale_base} one call reaches no '
            f'further than {reach} in {dtype}; run it in pieces by state (return_state=True), in a wider precision, or with a larger base'
        )


def check_pairs(x: Tensor, given: Inputs, stack: Any, state: StackState | None) -> None:
    """What says something of every query and key."""
    (b, n), h, keys = x.shape[:2], stack.config.heads, lengths_of(x, given, state)[-1]
    if given.attn_bias is not None:
        expect_pairs('attn_bias', given.attn_bias, (b, h, n, keys), rows=(1, n, keys), columns=(1, keys))
    if given.attn_mask is None:
        return
    expect_pairs('attn_mask', given.attn_mask, (b, h, n, keys), rows=(1, n), columns=(n, keys))
    expect_kind('attn_mask', given.attn_mask, 'bool')
    if state is not None and state.length:
        raise DecodeError(
            'attn_mask cannot be combined with earlier tokens (cache or state): it says nothing of them. Run the whole sequence.'
        )


def check_prefix(length: Any, b: int) -> None:
    """How many tokens all others see: a number, or one per row."""
    if isinstance(length, Tensor):
        expect('prefix_attn_len', length, (b,) if length.ndim else (), 'int', 'it is a number of tokens, or one per row')
    elif not isinstance(length, int) or isinstance(length, bool) or length >= 2**63:
        raise InputError(f'prefix_attn_len={quoted(length)} is not possible; expected a number of tokens, or a tensor with one per row')
    least = length if isinstance(length, int) else int(length.min()) if askable(length) else 0
    if least < 0:
        raise InputError(f'prefix_attn_len={least} is not possible: it is a number of tokens, 0 or more')


def check_conditions(x: Tensor, given: Inputs, stack: Any, state: StackState | None) -> None:
    """Whether there is what the parts follow, and it belongs to these tokens."""
    if stack.need_condition and given.condition is None:
        raise InputError(
            f'condition is missing: norms or scales of this stack follow one; give condition=(b, {stack.dim_condition}), or one per token'
        )
    if given.condition is not None and not stack.need_condition:
        raise InputError(
            'condition was given, but nothing follows it; build the stack with use_adaptive_rmsnorm=True, use_adaptive_layernorm=True '
            'or use_adaptive_layerscale=True'
        )
    if given.in_attn_cond is not None and stack.reinject_input_proj is not None:
        raise InputError('in_attn_cond cannot be combined with reinject_input=True: both are what is added to branches. Leave one out.')
    lengths = lengths_of(x, given, state)
    lengths = lengths[-1:] if state is None or state.length == 0 else lengths  # memories follow a condition too
    for name, t, width in (('condition', given.condition, stack.dim_condition), ('in_attn_cond', given.in_attn_cond, stack.dim)):
        if t is not None:
            expect_per_token(name, t, x.shape[0], lengths, width)
            if t.dtype != x.dtype:
                expect_dtype(name, t, stack)


def expect_per_token(name: str, t: Any, b: int, lengths: Sequence[int], width: int) -> None:
    """`t` must be (b, width), or (b, n, width) with one of these lengths."""
    if not isinstance(t, Tensor):
        raise InputError(f'{name} must be a tensor, got {type(t).__name__}')
    if t.shape != (b, width) and t.shape not in [(b, n, width) for n in (1, *lengths)]:
        spelled = ' or '.join(f'({b}, {n}, {width})' for n in dict.fromkeys(lengths))
        raise InputError(
            f'{name} has shape {tuple(t.shape)}, expected ({b}, {width}), or per token {spelled}: the new ones, or all so far and '
            'their memories'
        )
    expect_kind(name, t, 'float')


def check_state(state: StackState, stack: Any, steps: Sequence[LayerSpec]) -> None:
    """Whether a state is one that these layers could have left. Layers of a kind are alike, so one of each is looked into."""
    if state.maker is stack.maker:  # it is of this very stack
        return
    known: dict[tuple[str, int], type] = {}
    for at, (step, layer_state) in enumerate(zip(steps, state.layers, strict=False)):
        if known.get((step.kind, step.shift)) is type(layer_state):
            continue
        known[step.kind, step.shift] = type(layer_state)
        have, want = remembered(layer_state), wanted(stack, step)
        if have != want:
            words = [', '.join(f'{name} {sizes}' for name, sizes in each.items()) or 'nothing' for each in (have, want)]
            raise DecodeError(
                f'the state is of another model or order of layers: as layer {at} it remembers {words[0]}, where this one has {words[1]}; '
                'go on with the model that returned it'
            )


def remembered(layer_state: Any) -> dict[str, tuple[int, ...]]:
    """What the state of a layer holds, and its sizes besides batch and length."""
    found: dict[str, tuple[int, ...]] = {}
    if isinstance(layer_state, Tail):
        found['inputs'] = tuple(layer_state.rows.shape[-2:])
        layer_state = layer_state.inner
    if isinstance(layer_state, Beside):
        found['hybrid_module'] = ()
        layer_state = layer_state.inner
    records = layer_state.buffers if isinstance(layer_state, FixedKeys) else getattr(layer_state, 'records', {})
    return {**found, **{name: (t.shape[1], t.shape[-1]) for name, t in records.items() if name not in ('forget', 'deselected')}}


def wanted(stack: Any, step: LayerSpec) -> dict[str, tuple[int, ...]]:
    """The same as the layer of a step would leave it."""
    found: dict[str, tuple[int, ...]] = {'inputs': (step.shift, stack.dim)} if step.shift else {}
    if step.kind == 'f':
        return found
    attention = next(part for part in stack.layers[step.module][1].modules() if isinstance(part, Attention))
    cfg, turned = attention.config, stack.rotary_pos_emb if step.kind == 'a' else None
    if attention.hybrid_module is not None:
        found['hybrid_module'] = ()
    if not attention.absorbs(turned):
        return {**found, 'k': (cfg.key_heads, cfg.dim_head), 'v': (cfg.key_heads, cfg.value_width)}
    latent = {'latent': (1, cfg.dim_latent_kv)}
    return (
        {**found, **latent} if not cfg.latent_rope_subheads else {**found, **latent, 'subheads': (cfg.latent_rope_subheads, cfg.dim_head)}
    )
