"""Layer stacks: the loop over the plan. Flags become a plan, the plan becomes layers, and the layers have no flags."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.attention import Attention
from x_transformers.attention.attend import Intermediates
from x_transformers.attention.scores import softclamp
from x_transformers.branch import takes_call
from x_transformers.cache import latest, new_tokens
from x_transformers.call import Call, Depth, Span, Trace
from x_transformers.checks import check, check_prefix, check_tokens
from x_transformers.context import drop_context
from x_transformers.countable import CountableStack
from x_transformers.documents import refuse_beside, refuse_to_go_on
from x_transformers.entry import Inputs, attended, begin, first_states
from x_transformers.errors import DecodeError, FlagError, InputError, quoted
from x_transformers.flags import configured
from x_transformers.inputs import expect_kind, expect_pairs, expect_place, expect_switch, whole
from x_transformers.layer import Layer, build_layer
from x_transformers.layers_config import CrossAttenderConfig, DecoderConfig, EncoderConfig, LayersConfig, PrefixDecoderConfig
from x_transformers.norms import Unchanged, followed, make_condition_mlp, make_norm, part
from x_transformers.plan import LayerSpec, Plan, plan
from x_transformers.positions.flags import make_bias, make_rotary
from x_transformers.rebuilding import honoured
from x_transformers.residuals import spread_streams, sum_streams
from x_transformers.running import as_it_is, by_chance, recomputed
from x_transformers.skips import make_skips
from x_transformers.state import Fresh, StackState, check_room, tensors
from x_transformers.storable import Storable


@dataclass
class LayerIntermediates:
    """What one pass of a stack shows. The last four fields are filled by model wrappers."""

    hiddens: list[Tensor] | None = None  # stream entering each executed self-attention
    last_hidden: Tensor | None = None
    attn_intermediates: list[Intermediates] | None = None  # of every executed attention, in order
    layer_hiddens: list[Tensor] | None = None  # branch input of every executed layer, then the last stream
    attn_z_loss: Tensor | None = None
    mems: list[Tensor] | None = None
    memory_tokens: Tensor | None = None
    logit_entropies: Tensor | None = None
    state: StackState | None = None  # what a later call needs to go on from here
    memories: list[Tensor] | None = None  # (b, n, dim) per self-attention: rows that a later call can take as `mems`


@configured(LayersConfig)
class AttentionLayers(Storable, CountableStack, nn.Module):
    """A stack of attention and feed-forward layers, made of the flags in the catalogue.

    `forward(x (b, n, dim), ...)` returns (b, n, dim); with `return_hiddens=True` also `LayerIntermediates`, with
    `return_state=True` also the `StackState` that a later call with the next tokens goes on from (`state=`).
    """

    config_class: type[LayersConfig]

    def __init__(self, config: Any = None, /, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = self.config_class.of(config, args, keywords)
        self.plan: Plan = plan(cfg)
        self.maker = object()  # states know by it that they are of this stack
        self.dim = cfg.dim
        self.causal = cfg.causal
        self.cross_attend = cfg.cross_attend
        self.layer_types = self.plan.kinds
        self.layers_execute_order = self.plan.order
        self.num_attn_layers = self.plan.kinds.count('a')
        self.depth = 1 if cfg.weight_tie_layers else cfg.depth or len(self.plan.order)
        self.disable_abs_pos_emb = cfg.leaves_out_abs_pos
        self.softclamp_output = cfg.softclamp_output_value if cfg.softclamp_output else None
        self.need_condition, self.dim_condition, self.adaptive_norms = cfg.need_condition, cfg.condition_given, cfg.adaptive_norms
        self.num_residual_streams = cfg.num_residual_streams
        self.cross_attn_tokens_dropout = cfg.cross_attn_tokens_dropout
        self.has_module_beside = cfg.attn.hybrid_module is not None
        self.forgets = cfg.attn.data_dependent_alibi

        self.stream_emb = nn.Parameter(torch.zeros(cfg.num_residual_streams, cfg.dim)) if cfg.num_residual_streams > 1 else None
        self.run_layer = recomputed if cfg.checkpoint else as_it_is
        self.layers = nn.ModuleList(build_layer(index, self.plan, cfg) for index in range(len(self.plan.kinds)))
        self.rotary_pos_emb = make_rotary(cfg, self.num_attn_layers)
        self.rel_pos = make_bias(cfg)
        if self.rel_pos is not None and not self.num_attn_layers:
            on = next(name for name in ('rel_pos_bias', 'dynamic_pos_bias', 'alibi_pos_bias') if getattr(cfg, name))
            why = ' (only_cross=True)' if cfg.only_cross else ''
            raise FlagError(f'{on}=True needs self-attention, and the layers are {self.plan}{why}; leave it out, or add self-attention')
        self.adaptive_mlp = make_condition_mlp(cfg) if cfg.need_condition else Unchanged()
        ends_normed = cfg.norms_first or cfg.resi_dual
        self.final_norm = make_norm(cfg, cfg.dim) if ends_normed else Unchanged()
        self.skip_combines = make_skips(cfg, self.plan.skips)
        self.reinject_input_proj = nn.Linear(cfg.dim, cfg.dim, bias=False) if cfg.reinject_input else None
        self.learned_reinject_input_gate = nn.Linear(cfg.dim, 1, bias=False) if cfg.learned_reinject_input_gate else None

    def extra_repr(self) -> str:
        return f'plan={self.plan}'

    # ------------------------------------------------------------------ decoding

    @property
    def why_not_decode(self) -> str | None:
        """Why this stack cannot go on from earlier tokens, or None."""
        if self.causal or 'a' not in self.layer_types and not any(self.plan.shifts):
            moving = None if self.rotary_pos_emb is None else self.rotary_pos_emb.why_not_decode
            return self.foreign_attention or self.foreign_beside or moving
        return (
            f'{type(self).__name__} looks at later tokens as well, so outputs change when tokens are added and cannot be made in '
            'pieces. Run the whole sequence (cache_kv=False when generating), or use a Decoder.'
        )

    @property
    def foreign_beside(self) -> str | None:
        """Why a module beside attention keeps the stack from decoding, or None."""
        if not self.has_module_beside:
            return None
        attentions = (part for part in self.layers.modules() if isinstance(part, Attention))
        return next((why for part in attentions if (why := part.why_not_decode)), None)

    @property
    def foreign_attention(self) -> str | None:
        """What a user put in place of an attention, as a reason not to decode, or None."""
        if (part := self.foreign_part) is None:
            return None
        return (
            f'{part}, which does not say what it remembers, so it cannot go on from earlier tokens. Run the whole sequence, or give it '
            'takes_call and forward(x, call, depth, state).'
        )

    @property
    def foreign_part(self) -> str | None:
        """What a user put in place of an attention, or None."""
        for at, (kind, layer) in enumerate(zip(self.plan.kinds, self.layers, strict=True)):
            branch: Any = layer[1]  # type: ignore[index]
            if kind in 'ac' and not takes_call(branch):
                return f'layers[{at}] has a {type(branch).__name__} in place of attention'
        return None

    @property
    def why_no_state(self) -> str | None:
        """Why this stack, as it is now, has nothing to go on from, or None."""
        if self.training and (any(self.plan.dropouts) or self.cross_attn_tokens_dropout):
            name = 'layer_dropout' if any(self.plan.dropouts) else 'cross_attn_tokens_dropout'
            return f'{name} leaves out parts in training, and there is nothing to go on from where they are missing; call eval() first'
        return self.why_not_decode

    def why_not_go_on(self, state: StackState | None) -> str | None:
        """As `why_no_state`, which a state of this very stack has answered but for the mode it is in now."""
        return self.why_no_state if self.training or state is None or state.maker is not self.maker else None

    @property
    def can_cache_kv(self) -> bool:
        return self.why_not_decode is None

    def empty_state(self, capacity: int | None = None) -> StackState:
        """The state before the first token; with a `capacity` (tokens), keys are preallocated and written in place."""
        if capacity is not None and (whole(capacity) or 0) < 1:
            raise InputError(f'capacity={quoted(capacity)} is not possible; expected the number of tokens to make room for, at least 1')
        return StackState(Span(), first_states(self.plan.steps(), Inputs(), capacity))

    # ------------------------------------------------------------------ forward

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        self_attn_kv_mask: Tensor | None = None,
        mems: Sequence[Tensor | None] | None = None,
        mem_masks: Sequence[Tensor | None] | None = None,
        seq_start_pos: Tensor | None = None,
        cache: LayerIntermediates | None = None,
        cache_age: int | None = None,
        return_hiddens: bool = False,
        rotary_pos_emb: tuple[Tensor, Tensor | float] | None = None,
        pos: Tensor | None = None,
        context_pos: Tensor | None = None,
        attn_bias: Tensor | None = None,
        condition: Tensor | None = None,
        in_attn_cond: Tensor | None = None,
        layers_execute_order: tuple[int, ...] | None = None,
        *,
        document_ids: Tensor | None = None,
        context_document_ids: Tensor | None = None,
        state: StackState | None = None,
        return_state: bool = False,
        return_maps: bool | None = None,
    ) -> Any:
        """x (b, n, dim): all tokens, or with `state` the new ones.

        context (b, c, d), context_mask (b, c): what cross-attention looks at. mask (b, n) bool: padding; attention
        puts out zero there. self_attn_kv_mask (b, n): hides keys only. attn_mask (i, j), (h, i, j) or (b, h, i, j).
        mems, mem_masks: Transformer-XL memories, one per self-attention. seq_start_pos (b,): tokens of left padding.
        cache: the intermediates of an earlier call (then `x` may be the whole sequence, or the new tokens).
        pos, context_pos (n,) or (b, n): positions of the tokens. rotary_pos_emb: ready angles. attn_bias: added to scores.
        condition (b, dim_condition): what adaptive norms and scales follow; in_attn_cond (b, dim): added to what every branch
        reads (2105.04090). Both may be per token, (b, n, ...), of the new tokens or of all so far.
        document_ids (b, n): packed rows, each token sees and counts its own document alone; negative for padding.
        context_document_ids (b, c): the document that each token of the context belongs to.
        """
        refuse_to_go_on(document_ids, state, cache, return_state)
        if cache is not None:
            if state is not None:
                raise InputError('cache and state were both given; they are two forms of the same: give one')
            state = self.state_of(cache)
            mems = None if state.length else mems  # it remembers them
            n = x.shape[1]
            new = new_tokens(n, state, cache_age)
            x = x[:, n - new :]
            mask, self_attn_kv_mask, pos = (latest(t, n, new) for t in (mask, self_attn_kv_mask, pos))
        given = Inputs(
            context,
            mask,
            context_mask,
            attn_mask,
            self_attn_kv_mask,
            mems,
            mem_masks,
            seq_start_pos,
            rotary_pos_emb,
            pos,
            context_pos,
            attn_bias,
            condition,
            in_attn_cond,
            document_ids,
            context_document_ids,
        )
        if state is not None and not isinstance(state, StackState):
            raise InputError(f'state is a {type(state).__name__}, expected what an earlier call returned with return_state=True')
        expect_switch('return_hiddens', return_hiddens)
        expect_switch('return_state', return_state)
        steps = self.plan.steps(layers_execute_order)
        check(x, given, self, state, steps)
        goes_on = return_state or (state is not None and state.length > 0)
        why_no_state = self.why_not_go_on(state) if goes_on or return_hiddens else None
        if goes_on and why_no_state:
            raise DecodeError(why_no_state)
        if attn_bias is not None and self.forgets and not torch.compiler.is_compiling():
            warnings.warn('the forget gates of attn_data_dependent_alibi take the place of attn_bias, as in 2.0.1', stacklevel=2)
        trace = None
        if return_hiddens:
            past = list(cache.attn_intermediates or ()) if cache is not None else []
            trace = Trace(maps=return_maps is not False, fused_maps=bool(return_maps), past=past)
        call = begin(self, x, given, state, return_hiddens or return_state, trace)
        states = self.states_for(steps, given, state, x.shape[0], x.shape[1], x.device)
        x, after = self.run(x, call, steps, states)
        new_state = None
        if call.keep_state and why_no_state is None:
            order = tuple(step.module for step in steps)
            new_state = replace(
                state or self.empty_state(), keys=call.keys, layers=after, context=call.context_keys, order=order, maker=self.maker
            )
            new_state = new_state if seq_start_pos is None else replace(new_state, padding=seq_start_pos)
        if trace is not None:
            seen = LayerIntermediates(trace.hiddens, x, trace.attention, trace.layer_hiddens, state=new_state, memories=trace.memories)
            return x, seen
        if return_state:
            return x, new_state
        return x

    def states_for(
        self, steps: Sequence[LayerSpec], given: Inputs, state: StackState | None, batch: int, new: int, device: torch.device
    ) -> tuple[Any, ...]:
        """One state per executed layer."""
        if state is None:
            return first_states(steps, given, None)
        filled = next((s for s in state.layers if s is not None), None)  # layers agree
        held = tensors(filled)
        batches = {t.shape[0] for t in held}
        if held and held[0].device != device:
            raise DecodeError(f'the state is on {held[0].device}, but x is on {device}; go on with state.to({str(device)!r})')
        if batches and batch not in batches:
            raise DecodeError(f'the state is of a batch of {max(batches)}, but x has {batch} rows; use reorder() to change its rows')
        order = tuple(step.module for step in steps)
        if state.length == 0 and (given.mems or len(state.layers) != len(steps)):
            room = next((s.capacity for s in state.layers if isinstance(s, Fresh)), None)
            return first_states(steps, given, room)
        if len(state.layers) != len(steps) or state.order not in (None, order):
            ran = f'{len(state.layers)} executed layers' + ('' if state.order is None else f', {state.order}')
            raise DecodeError(
                f'the state is of {ran}, but this call runs {len(order)}, {order}: it goes on only in the stack and the '
                'layers_execute_order that made it'
            )
        check_room(state, new)
        return state.layers

    def run(self, x: Tensor, call: Call, steps: Sequence[LayerSpec], states: Sequence[Any]) -> tuple[Tensor, tuple[Any, ...]]:
        """The loop over the executed layers."""
        depth, after = Depth(), []
        x = x if self.stream_emb is None else spread_streams(x, self.stream_emb)
        layers = list(self.layers)
        for step, state in zip(steps, states, strict=True):
            layer: Any = layers[step.module]
            if not isinstance(layer, Layer):  # a plain list [norms, branch, residual] that a user put there
                layer = Layer(layer[0], layer[1], layer[2], adaptive=self.adaptive_norms)
            x = part(self.skip_combines, x, step.module, depth.streams)
            if step.opens:
                depth.entered = x
            chance = step.dropout if self.training else 0.0
            if chance and not torch.compiler.is_compiling() and random.random() < chance:
                self.remember(step, layer[2].prepare(x, depth)[0], call.trace)
                after.append(state)
                continue
            if step.kind == 'c' and self.training and self.cross_attn_tokens_dropout:
                call = drop_context(call, depth, self.cross_attn_tokens_dropout, self.rotary_pos_emb)
            if call.trace is not None and step.kind == 'a':
                call.trace.hiddens.append(x)
            run = partial(by_chance, self.run_layer, chance) if chance and torch.compiler.is_compiling() else self.run_layer
            x, state = run(layer, x, call, depth, state)
            if call.trace is not None:
                self.remember(step, call.trace.layer_hiddens[-1], call.trace)
            after.append(state)
        if call.trace is not None:
            call.trace.layer_hiddens.append(x)
        if self.softclamp_output is not None:
            x = softclamp(x, self.softclamp_output)
        x = sum_streams(x, self.num_residual_streams)
        final_norm = partial(self.final_norm, **followed(self.adaptive_norms, call.condition))
        return (x + final_norm(depth.dual) if depth.dual is not None else final_norm(x)), tuple(after)

    @staticmethod
    def remember(step: LayerSpec, inputs: Tensor, trace: Trace | None) -> None:
        """Transformer-XL memory is what self-attention reads (1901.02860), of keys and values the mean where they differ."""
        if trace is not None and step.kind == 'a':
            trace.memories.append(inputs if inputs.ndim == 3 else inputs[1:].mean(dim=0))

    def state_of(self, cache: LayerIntermediates) -> StackState:
        """The state in the intermediates of an earlier call."""
        if not isinstance(cache, LayerIntermediates):
            raise InputError(f'cache is a {type(cache).__name__}, expected the LayerIntermediates that an earlier call returned')
        state = honoured(self, cache.state, cache.attn_intermediates or ())
        if state is None:
            raise DecodeError(
                self.why_no_state or 'cache holds no state: give the intermediates that an earlier call of this model returned'
            )
        return state


@configured(EncoderConfig)
class Encoder(AttentionLayers):
    """A stack in which every token sees every other.

    >>> Encoder(dim=32, depth=2)(torch.randn(1, 8, 32)).shape
    torch.Size([1, 8, 32])
    """


@configured(DecoderConfig)
class Decoder(AttentionLayers):
    """A causal stack: every token sees itself and what came before.

    >>> Decoder(dim=32, depth=2, rotary_pos_emb=True)(torch.randn(1, 8, 32)).shape
    torch.Size([1, 8, 32])
    """


@configured(PrefixDecoderConfig)
class PrefixDecoder(AttentionLayers):
    """A causal stack whose first `prefix_attn_len` tokens, a number or one per row, are seen by all (1910.10683, §3.2)."""

    def forward(
        self, x: Tensor, *args: Any, attn_mask: Tensor | None = None, prefix_attn_len: int | Tensor | None = None, **kwargs: Any
    ) -> Any:
        check_tokens(x, self)
        (b, n), order = x.shape[:2], torch.arange(x.shape[1], device=x.device)
        allowed = order <= order[:, None]
        if prefix_attn_len is not None:
            check_prefix(prefix_attn_len, b)
            if kwargs.get('document_ids') is not None:
                refuse_beside({'prefix_attn_len': prefix_attn_len})
            per_row = isinstance(prefix_attn_len, Tensor) and prefix_attn_len.ndim > 0
            allowed = allowed | (order < (prefix_attn_len[:, None, None, None] if per_row else prefix_attn_len))  # type: ignore[index]
        if attn_mask is not None:
            expect_pairs('attn_mask', attn_mask, (b, self.config.heads, n, n), rows=(1, n), columns=None)
            expect_kind('attn_mask', attn_mask, 'bool')
            expect_place({'attn_mask': attn_mask}, x)
            allowed = attended(allowed, max(n, attn_mask.shape[-1])) & attn_mask  # memories are seen by all
        return super().forward(x, *args, **{**kwargs, 'attn_mask': allowed})


@configured(CrossAttenderConfig)
class CrossAttender(AttentionLayers):
    """A stack of cross-attention and feed-forward layers; `forward(x, context=)`.

    >>> CrossAttender(dim=32, depth=2)(torch.randn(1, 8, 32), context=torch.randn(1, 5, 32)).shape
    torch.Size([1, 8, 32])
    """
