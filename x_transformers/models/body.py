"""The body that every model over tokens shares: embeddings, what stands ahead of them, the layer stack, and what is returned.

A model is a body with an input adapter (`embed_inputs`: inputs to embeddings) and an output adapter (`read_out`: embeddings to
outputs). Everything between, and all that can be asked for, is here once. Subclasses set attributes of any name, so what is no
adapter and was no attribute in 2.0.1 has an underscore, and a forward reads parts instead of `config`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.cache import new_tokens
from x_transformers.countable import Countable, Example
from x_transformers.documents import places, refuse_to_go_on
from x_transformers.errors import DecodeError, InputError, quoted
from x_transformers.inputs import whole
from x_transformers.layers import AttentionLayers, LayerIntermediates
from x_transformers.models.ask import Ask
from x_transformers.models.checks import check_call, check_kinds
from x_transformers.models.entries import Entries
from x_transformers.models.heads import calc_entropy, calc_z_loss
from x_transformers.models.memory_tokens import strip, unweave
from x_transformers.norms import make_layer_norm
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding
from x_transformers.state import StackState, map_tensors, tensors
from x_transformers.storable import Storable
from x_transformers.toolbox import always, masked_mean


class assignable:
    """A property that gives way to a value that was assigned to it."""

    def __init__(self, ask: Callable[[Any], Any]):
        self.ask, self.__doc__ = ask, ask.__doc__

    def __get__(self, model: Any, kind: type | None = None) -> Any:
        return self if model is None else self.ask(model)


class Body(Storable, Countable, nn.Module):
    """What models share. It has no constructor: a model builds the parts in its own order, by the methods below."""

    config: Any
    pos_emb: Any  # a module, or `always(0)` as in 2.0.1: what re-does a forward may add it in every model
    attn_layers: AttentionLayers
    _accumulates_mems: ClassVar[bool] = True  # whether returned memories hold the given ones too
    _foreign: ClassVar[tuple[str, ...]] = ('embed_ids', 'token_emb_kwargs', 'to_logits_kwargs')  # inputs that the adapters do not take

    # ------------------------------------------------------------------ building

    def _keep_settings(self, cfg: Any, width: int) -> None:
        """The numbers that code around models reads."""
        self.emb_dim, self.max_seq_len = width, cfg.max_seq_len
        self.max_mem_len, self.shift_mem_down = cfg.max_mem_len, cfg.shift_mem_down
        self.num_memory_tokens = cfg.num_memory_tokens or 0
        self.memory_tokens_interspersed_every = cfg.memory_tokens_interspersed_every
        self.emb_frac_gradient = cfg.emb_frac_gradient
        self.attn_z_loss_weight = cfg.attn_z_loss_weight
        self.recycling, self.train_max_recycle_steps = cfg.recycling, cfg.train_max_recycle_steps
        self.average_pool_embed = cfg.average_pool_embed
        self.num_cls_tokens = cfg.num_cls_tokens  # 1 where there are none, as in 2.0.1; `_cls_tokens` counts

    def _add_trunk(self, cfg: Any, width: int) -> None:
        """From summed embeddings to the layer stack."""
        dim = cfg.attn_layers.dim
        self.post_emb_norm = make_layer_norm(cfg.attn_layers.config, width) if cfg.post_emb_norm else nn.Identity()
        self.emb_dropout = nn.Dropout(cfg.emb_dropout)
        self.project_emb = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.attn_layers = cfg.attn_layers

    def _add_recycling_and_cls(self, cfg: Any) -> None:
        """What only some models have: a way back to the input, and tokens that stand for the sequence."""
        dim = cfg.attn_layers.dim
        self.recycled_proj = nn.Linear(dim, dim, bias=False) if cfg.recycling else None
        self.cls_token = nn.Parameter(0.02 * torch.randn(cfg.num_cls_tokens, dim)) if cfg.use_cls_token else None

    def _add_memory_tokens(self, cfg: Any) -> None:
        if self.num_memory_tokens:
            self.memory_tokens = nn.Parameter(torch.randn(self.num_memory_tokens, cfg.attn_layers.dim))

    # ------------------------------------------------------------------ adapters

    def embed_inputs(self, x: Any, ask: Ask) -> Tensor:
        """Inputs to embeddings (b, n, emb_dim), without positions."""
        raise NotImplementedError

    def read_out(self, x: Tensor, **kwargs: Any) -> Any:
        """Embeddings (..., dim), as `return_embeddings` gives them, to outputs."""
        raise NotImplementedError

    def read_in(self, x: Tensor) -> Tensor:
        """Embeddings as the head reads them, for those who ask for both."""
        return x

    def check_inputs(self, x: Any, ask: Ask) -> None:
        """Whether the inputs fit this model."""
        raise NotImplementedError

    def _inputs(self, batch: int, n: int) -> tuple[Any, ...]:
        """Some, of `n` tokens in each row, for those who count what the model does."""
        raise NotImplementedError

    @property
    def _has_head(self) -> bool:
        return True

    @property
    def _cls_tokens(self) -> int:
        """How many tokens stand for the sequence."""
        return 0 if self.cls_token is None else len(self.cls_token)

    def _entropies(self, outputs: Any) -> Any:
        """Entropy of each distribution in the outputs."""
        return map_tensors(calc_entropy, outputs)

    # ------------------------------------------------------------------ decoding

    @property
    def _why_whole(self) -> str | None:
        """Why this model, whatever its stack, makes its outputs of the whole sequence, or None."""
        if self.recycling:
            return 'recycling=True runs the stack several times over the whole sequence, so outputs cannot be made in pieces'
        if self.memory_tokens_interspersed_every:
            return (
                f'memory_tokens_interspersed_every={self.memory_tokens_interspersed_every} puts memory between the tokens, which a '
                'state could not tell apart when it forgets or takes back tokens. Run the whole sequence'
            )
        if self.average_pool_embed:
            return 'average_pool_embed=True makes one output of the whole sequence, so outputs cannot be made in pieces'
        if self._cls_tokens:
            return 'use_cls_token=True makes the outputs of tokens that stand ahead of the sequence, so none can be made of later tokens'
        return None

    @property
    def why_not_decode(self) -> str | None:
        """Why this model cannot go on from earlier tokens, or None."""
        return self._why_whole or self.attn_layers.why_not_decode

    @property
    def why_no_state(self) -> str | None:
        """Why this model, as it is now, has nothing to go on from, or None."""
        return self._why_whole or self.attn_layers.why_no_state

    def _why_not_go_on(self, state: StackState | None) -> str | None:
        return self._why_whole or self.attn_layers.why_not_go_on(state)

    @assignable
    def can_cache_kv(self) -> bool:
        """Whether generation may keep a state."""
        return self.why_not_decode is None

    @assignable
    def can_cache_kv_outside_max_seq_len(self) -> bool:
        """Whether that state may slide along when a sequence outgrows `max_seq_len`."""
        return isinstance(self.pos_emb, always) and not self.num_memory_tokens

    def empty_state(self, capacity: int | None = None) -> StackState:
        """The state before the first token; `capacity` preallocates room for so many tokens."""
        given = whole(capacity)  # what is no number the stack refuses
        return self.attn_layers.empty_state(capacity if given is None or given < 1 else given + self.num_memory_tokens)

    # ------------------------------------------------------------------ counting

    @property
    def _length(self) -> int | None:
        return self.max_seq_len or None

    @property
    def _remembers(self) -> Any:
        return None if self.why_not_decode else self.attn_layers

    def _example(self, batch: int, n: int) -> Example:
        once = {'recycle_steps': 1} if self.recycling else {}
        return self._inputs(batch, n), {**once, **self.attn_layers._beside(batch, n)}

    # ------------------------------------------------------------------ the one path

    def _run(self, x: Any, ask: Ask) -> Any:
        """Inputs, all of them or the new ones, to what is asked for."""
        check_kinds(ask)
        refuse_to_go_on(ask.document_ids, ask.state, ask.cache, ask.return_state)
        x, ask = self._resume(x, ask)
        why_no_state = self._why_not_go_on(ask.state) if not ask.first or ask.return_state else None
        if why_no_state:
            raise DecodeError(why_no_state)
        self.check_inputs(x, ask)
        steps = self._steps(ask)
        check_call(self, tensors(x)[0], ask)
        tokens = self._frame(self._embed(x, ask), ask)
        entries = self._with_learned(tokens, ask)
        out, seen = self._through(entries, ask, steps)
        out = self._without_memory(out, seen, entries, ask)
        return self._answer(self._pool(out, tokens), seen, ask)

    def _resume(self, x: Any, ask: Ask) -> tuple[Any, Ask]:
        """2.0.1's cache as a state, and of what was given the part that is new."""
        if ask.state is not None and not isinstance(ask.state, StackState):
            raise InputError(f'state is a {type(ask.state).__name__}, expected what an earlier call returned with return_state=True')
        if ask.cache is None:
            padding = None if ask.state is None else ask.state.padding
            return x, ask if padding is None or ask.seq_start_pos is not None else replace(ask, seq_start_pos=padding)
        if ask.state is not None:
            raise InputError('cache and state were both given; they are two forms of the same: give one')
        if self.why_not_decode:
            raise DecodeError(self.why_not_decode)
        state = self.attn_layers.state_of(ask.cache)
        stack = {name: value for name, value in ask.stack.items() if name != 'cache_age'}
        n = tensors(x)[0].shape[1]
        new = n if ask.input_not_include_cache else new_tokens(n, state, ask.stack.get('cache_age'))
        start = state.padding if ask.seq_start_pos is None else ask.seq_start_pos
        ask = replace(ask, state=state, stack=stack, seq_start_pos=start).of_latest(n, new)
        return map_tensors(lambda t: t[:, n - new :], x), ask

    def _embed(self, x: Any, ask: Ask) -> Tensor:
        """Inputs to normed embeddings (b, n, emb_dim) with positions."""
        z = self.embed_inputs(x, ask) + self._positions(x, ask)
        return self.post_emb_norm(z if ask.sum_embeds is None else z + ask.sum_embeds)

    def _positions(self, x: Any, ask: Ask) -> Any:
        """The position term: one of the caller's own, or that of the positions."""
        if ask.pos is not None and ask.pos.is_floating_point():
            return ask.pos
        x = tensors(x)[0]
        pos = None if ask.pos is None else ask.pos.long()
        if pos is None and ask.seen:
            pos = torch.arange(ask.seen, ask.seen + x.shape[1], device=x.device)
        if pos is None and ask.document_ids is not None:
            pos = places(ask.document_ids)
        return self.pos_emb(x, pos=pos, seq_start_pos=ask.seq_start_pos)

    def _frame(self, z: Tensor, ask: Ask) -> Entries:
        """Embeddings (b, n, emb_dim) with those that the caller put ahead, as wide as the stack."""
        entries = Entries(z, ask.mask, ask.stack.get('self_attn_kv_mask'), ask.seq_start_pos)
        if ask.prepend_embeds is not None and ask.first:
            entries = entries.put(ask.prepend_embeds, ask.prepend_mask)
        z = entries.z
        if self.emb_frac_gradient < 1:  # the value stays, its gradient shrinks (GLM-130B, 2210.02414)
            z = z * self.emb_frac_gradient + z.detach() * (1 - self.emb_frac_gradient)
        return replace(entries, z=self.project_emb(self.emb_dropout(z)))

    def _with_learned(self, entries: Entries, ask: Ask) -> Entries:
        """CLS tokens and memory tokens ahead, where nothing came before."""
        if self.cls_token is not None:
            entries = entries.put(self.cls_token)
        if not self.num_memory_tokens or not ask.first:
            return entries
        period = self.memory_tokens_interspersed_every
        return entries.weave(self.memory_tokens, period) if period else entries.put(self.memory_tokens)

    def _through(self, entries: Entries, ask: Ask, steps: int) -> tuple[Tensor, LayerIntermediates]:
        """The layer stack, `steps` times; only the last pass has a gradient and is seen (AlphaFold 2's recycling)."""
        inputs = self._stack_inputs(entries, ask)
        carried: Any = 0.0
        for _ in range(steps - 1):
            with torch.no_grad():
                carried = self.attn_layers(entries.z + carried, **inputs)
            assert self.recycled_proj is not None
            carried = self.recycled_proj(carried)
        maps = True if ask.return_attn or ask.return_attn_z_loss else None if ask.return_intermediates else False
        watch = ask.with_intermediates or ask.return_mems or ask.return_attn
        out = self.attn_layers(
            entries.z + carried, **inputs, return_hiddens=watch, return_maps=maps, return_state=ask.return_state and not watch
        )
        out, seen = out if isinstance(out, tuple) else (out, None)
        intermediates = seen if isinstance(seen, LayerIntermediates) else LayerIntermediates(state=seen)
        if self._why_whole:
            intermediates.state = None
        elif intermediates.state is not None and ask.first:
            intermediates.state = replace(intermediates.state, extra=entries.ahead)
        return out, intermediates

    def _stack_inputs(self, entries: Entries, ask: Ask) -> dict[str, Any]:
        """What the layer stack gets besides embeddings."""
        inputs = {**ask.stack, 'mask': entries.mask, 'mems': self._shifted(ask), 'mem_masks': ask.mem_masks}
        if ask.document_ids is not None:
            inputs['document_ids'] = ask.document_ids
        if entries.visible is not None:
            inputs['self_attn_kv_mask'] = entries.visible
        if ask.stack.get('prefix_attn_len') is not None:
            inputs['prefix_attn_len'] = ask.stack['prefix_attn_len'] + entries.ahead
        resumed = {'state': ask.state} if ask.cache is None else {'cache': ask.cache, 'cache_age': entries.z.shape[1]}
        return {**inputs, **resumed, 'seq_start_pos': entries.start}

    def _shifted(self, ask: Ask) -> Sequence[Tensor | None] | None:
        """The memories, each from the layer `shift_mem_down` above (2012.15688)."""
        if not ask.mems or not self.shift_mem_down or not ask.first:
            return ask.mems
        return [*ask.mems[self.shift_mem_down :], *ask.mems[: self.shift_mem_down]]

    def _steps(self, ask: Ask) -> int:
        """How often the stack runs."""
        if ask.recycle_steps is None and self.recycling and self.training:
            return 1 + random.randrange(self.train_max_recycle_steps)
        passes = whole(ask.recycle_steps)
        if not self.recycling and ask.recycle_steps is not None and passes != 1:
            raise InputError(f'recycle_steps={quoted(ask.recycle_steps)} was given, but the model was built without recycling=True')
        if self.recycling and (passes or 0) < 1:
            raise InputError(
                f'recycle_steps={quoted(ask.recycle_steps)} is not possible; outside of training, give how often the stack runs'
            )
        return passes or 1

    def _without_memory(self, out: Tensor, seen: LayerIntermediates, entries: Entries, ask: Ask) -> Tensor:
        """Outputs of the memory tokens are shown, not returned."""
        if not self.num_memory_tokens or not ask.first:
            return out
        if self.memory_tokens_interspersed_every:
            seen.memory_tokens, out = unweave(out, self.num_memory_tokens, self.memory_tokens_interspersed_every)
        else:
            seen.memory_tokens, out = strip(out, self.num_memory_tokens, entries.start)
        return out

    def _pool(self, out: Tensor, tokens: Entries) -> Tensor:
        """What the head reads: every token, their mean, or the CLS tokens."""
        if self.average_pool_embed:
            return masked_mean(out, tokens.valid())
        if self._cls_tokens:
            return strip(out, self._cls_tokens, tokens.start)[0].squeeze(1)
        return out

    # ------------------------------------------------------------------ what is returned

    def _answer(self, embeds: Tensor, seen: LayerIntermediates, ask: Ask) -> Any:
        """Outputs or embeddings, and beside them what else is asked for."""
        wanted = self._has_head and (not ask.return_embeddings or ask.return_logits_and_embeddings)
        outputs = self.read_out(embeds, **(ask.to_logits_kwargs or {})) if wanted or ask.return_logit_entropies else None
        result = (outputs, self.read_in(embeds)) if ask.return_logits_and_embeddings else outputs if wanted else embeds
        if ask.return_logit_entropies:
            seen.logit_entropies = self._entropies(outputs)
        if ask.return_attn_z_loss:
            weight = self.attn_z_loss_weight if ask.attn_z_loss_weight is None else ask.attn_z_loss_weight
            scores = [each.pre_softmax_attn for each in seen.attn_intermediates or ()]
            tokens = None if ask.document_ids is None else ask.document_ids >= 0
            seen.attn_z_loss = calc_z_loss(scores, tokens, weight)  # type: ignore[arg-type]
        if ask.return_mems:
            seen.mems = self._new_mems(seen.memories or [], self._shifted(ask))
        if ask.with_intermediates:
            return result, seen
        if ask.return_mems:
            return (result, seen.mems, seen.state) if ask.return_state else (result, seen.mems)
        if ask.return_attn:
            return result, [each.post_softmax_attn for each in seen.attn_intermediates or ()]
        return (result, seen.state) if ask.return_state else result

    def _new_mems(self, memories: Sequence[Tensor], mems: Sequence[Tensor | None] | None) -> list[Tensor]:
        """What the next segment gets as `mems`: each self-attention's inputs, where they accumulate with the memory it had."""
        before = [*((mems or ()) if self._accumulates_mems else ()), *(None for _ in memories)]
        joined = [new if m is None else torch.cat((m, new), dim=1) for m, new in zip(before, memories, strict=False)]
        return [t[:, -self.max_mem_len :].detach() for t in joined]


def make_positions(cfg: Any, width: int, l2norm_embed: bool = False) -> Any:
    """Absolute positions, where wanted; otherwise zero."""
    if not cfg.has_positions or not cfg.use_abs_pos_emb or cfg.attn_layers.disable_abs_pos_emb:
        return always(0)
    if cfg.scaled_sinu_pos_emb:
        return ScaledSinusoidalEmbedding(width)
    return AbsolutePositionalEmbedding(width, cfg.max_seq_len, l2norm_embed)
