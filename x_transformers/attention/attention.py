"""Attention, read as its verbs: project, place, remember, score and normalise, put out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.attention.attend import Attend, AttendConfig, Intermediates
from x_transformers.attention.backends import Recipe, Scored
from x_transformers.attention.config import AttentionConfig
from x_transformers.attention.hybrid import make_hybrid, remembering, run_beside
from x_transformers.attention.keys import ValueMix, lead_records, mix_values
from x_transformers.attention.masks import KeyRule
from x_transformers.attention.outputs import HeadGate, ValueGate, laser_output, laser_values, make_output
from x_transformers.attention.project import absorb_queries, expand_values, l2norm, merge_heads, split_heads
from x_transformers.attention.sight import Remembered, sight
from x_transformers.attention.windowed import InBlocks
from x_transformers.call import Call, Depth
from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.flags import configured
from x_transformers.norms import RMSNorm, Unchanged, part
from x_transformers.positions.cope import CoPE
from x_transformers.positions.forgetting import make_forgetting
from x_transformers.positions.rotary import Rotation, Turn, stretch
from x_transformers.precision import no_autocast, single
from x_transformers.ring import WindowKeys, first_keys
from x_transformers.shortcuts import run
from x_transformers.state import Beside, ContextKeys, Fresh, Records
from x_transformers.storable import Storable

RESIDUAL_ATTENTION = 'residual attention hands the score matrix to the next layer, and fused kernels never form it'
Latents = tuple[Tensor, 'Tensor | None']  # (b, n, width), and key sub-heads (b, r, n, d) that skip them


@configured(AttentionConfig)
class Attention(Storable, nn.Module):
    """Multi-head attention (1706.03762) with every flag of the catalogue.

    Alone, `forward(x (b, n, dim), context=None, ...)` returns a tensor (b, n, dim), or `(out, Intermediates)` with
    `return_intermediates=True`; `attend_alone` lists its inputs. In a layer stack it takes `call`, `depth` and
    `state`, and returns `(out, state)`.

    >>> Attention(dim=512, heads=8)(torch.randn(1, 16, 512)).shape
    torch.Size([1, 16, 512])
    """

    takes_call = True

    def __init__(self, config: Any = None, /, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = AttentionConfig.of(config, args, keywords)
        h, g, d, e = cfg.heads, cfg.key_heads, cfg.dim_head, cfg.value_width
        subheads = cfg.latent_rope_subheads or 0
        source = cfg.dim_context or cfg.dim
        self.heads, self.kv_heads, self.causal = h, g, cfg.causal
        self.kind = 'c' if cfg.cross else 'a'
        for name in ('max_attend_past', 'window'):
            if isinstance(getattr(cfg, name), tuple):
                raise FlagError(f'{name}={quoted(getattr(cfg, name))} has windows of several layers, and this is one; give a number')
        self.rule = KeyRule.of(cfg)
        self.sees = f'{self.rule}, {cfg.lead} ahead'  # attentions that see alike, but for those that also see by their own tokens:
        self.sees_by_itself = cfg.selective or cfg.carries_scores or cfg.data_dependent_alibi

        self.qk_norm_q_scale = nn.Parameter(torch.ones(h, 1, d)) if cfg.qk_norm and cfg.qk_norm_dim_scale else None
        self.qk_norm_k_scale = nn.Parameter(torch.ones(g, 1, d)) if cfg.qk_norm and cfg.qk_norm_dim_scale else None
        self.q_rmsnorm = RMSNorm(d, eps=cfg.qk_rmsnorm_eps) if cfg.qk_rmsnorm else None
        self.k_rmsnorm = RMSNorm(d, eps=cfg.qk_rmsnorm_eps) if cfg.qk_rmsnorm else None
        self.head_scale_params = nn.Parameter(torch.ones(1, h, 1, 1)) if cfg.head_scale else None
        self.mem_k = nn.Parameter(torch.randn(g, cfg.num_mem_kv, d)) if cfg.num_mem_kv else None
        self.mem_v = nn.Parameter(torch.randn(g, cfg.num_mem_kv, e)) if cfg.num_mem_kv else None

        linear = lambda width, out, bias=False: nn.Linear(width, out, bias=bias)
        self.to_latent_q = linear(cfg.dim, cfg.dim_latent_q) if cfg.use_latent_q else Unchanged()
        self.to_latent_kv = linear(source, cfg.dim_latent_kv) if cfg.use_latent_kv else None
        self.to_rotateable_k = linear(source, subheads * d, cfg.qkv_bias) if subheads else None
        source = cfg.dim_latent_kv if cfg.use_latent_kv else source
        self.to_q = linear(cfg.dim_latent_q if cfg.use_latent_q else cfg.dim, h * d, cfg.qkv_bias)
        self.to_k = linear(source, (g - subheads) * d, cfg.qkv_bias)
        self.to_v = linear(source, g * e, cfg.qkv_bias)
        self.to_v_gate = ValueGate(cfg.dim, h * e, cfg.swiglu_values) if cfg.gate_values else Unchanged()
        self.to_v_head_gate = HeadGate(cfg.dim, h) if cfg.gate_value_heads else Unchanged()
        self.data_dependent_alibi = make_forgetting(cfg)
        self.attend = make_attend(cfg)
        self.to_value_residual_mix = ValueMix(cfg.dim, h, g) if cfg.learned_value_residual_mix else None
        self.hybrid_module, self.hybrid_norms, self.hybrid_mix = make_hybrid(cfg)
        self.to_out = make_output(h * e, cfg.dim_out or cfg.dim, cfg.on_attn, cfg.zero_init_output, cfg.out_bias)

    @property
    def why_not_decode(self) -> str | None:
        """Why this layer cannot go on from earlier tokens, or None."""
        if self.hybrid_module is None or remembering(self.hybrid_module.fn) is not None:
            return None
        name = type(self.hybrid_module.fn).__name__
        return (
            f'{self.config.prefix}hybrid_module={name} does not say what it remembers, so it cannot go on from earlier tokens. Run '
            'the whole sequence (cache_kv=False when generating), or give it carries_state, empty_state(x) and forward(x, state).'
        )

    def forward(self, x: Tensor, *args: Any, call: Call | None = None, depth: Depth | None = None, state: Any = None, **inputs: Any) -> Any:
        if call is None:
            from x_transformers.attention.alone import attend_alone  # it is built from the verbs below

            return attend_alone(self, x, *args, **inputs)
        x, *sources = self.views(x)
        hidden, state = (state.hidden, state.inner) if isinstance(state, Beside) else (None, Fresh() if state is None else state)
        rotation = self.own(call.context_rotation if self.config.cross else call.rotation)
        keys, records, seen = self.remember(x, sources, rotation, call, state, depth)
        scored = sight(self, x, keys, call, depth, seen)
        q = self.queries(x)
        if rotation is not None:
            q = self.place(q, rotation.queries, rotation.query_scale)
        out = self.weigh(q, records, rotation, scored)
        if self.config.carries_scores and depth is not None and seen is not None:
            depth.scores[self.kind] = seen.pre_softmax_attn  # type: ignore[assignment]
        if scored.selection is not None and scored.selection.deselected is not None and call.keep_state:
            keys = keys.rewrite('deselected', scored.selection.deselected)  # type: ignore[union-attr]
        beside = None
        if self.hybrid_module is not None:
            going_on = self.causal and (call.keep_state or hidden is not None)
            mask = self.beside_mask(call.mask)
            beside, hidden = run_beside(self.hybrid_module, x, call, hidden, going_on, self.merged_width, **mask)
        out = self.put_out(out, x, call.mask, beside)
        if not call.keep_state:
            return out, None
        keys = keys.slide() if isinstance(keys, WindowKeys) else keys
        return out, keys if self.hybrid_module is None else Beside(hidden, keys)

    # ------------------------------------------------------------------ project

    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What queries, keys and values are made of: (3, b, n, dim) where they have inputs of their own."""
        if self.config.qkv_receive_diff_residuals:
            q, k, v = x.unbind(0)
            return q, k, v
        return x, x, x

    def queries(self, x: Tensor) -> Tensor:
        """(b, n, dim) -> (b, h, n, d)."""
        q = split_heads(run(self.to_q, part(self.to_latent_q, x)), self.heads)
        return self.norm_heads(q, self.q_rmsnorm, self.qk_norm_q_scale, self.config.qk_norm_groups)

    def latents(self, source: Tensor) -> Latents | None:
        """(b, j, dim) -> what keys and values are made of, where that is a latent."""
        if self.to_latent_kv is None:
            return None
        subheads = None
        if self.to_rotateable_k is not None:
            subheads = split_heads(run(self.to_rotateable_k, source), self.config.latent_rope_subheads or 0)
        return run(self.to_latent_kv, source), subheads

    def keys_and_values(self, k_source: Tensor, v_source: Tensor, latents: Latents | None = None) -> tuple[Tensor, Tensor]:
        """(b, j, dim) -> (b, g, j, d) and (b, g, j, e)."""
        subheads = None
        if latents is not None:
            k_source, subheads = latents
            v_source = k_source
        k = split_heads(run(self.to_k, k_source), self.kv_heads - (self.config.latent_rope_subheads or 0))
        k = k if subheads is None else torch.cat((k, subheads), dim=1)
        k = self.norm_heads(k, self.k_rmsnorm, self.qk_norm_k_scale, self.config.qk_norm_groups)
        return k, split_heads(run(self.to_v, v_source), self.kv_heads)

    def norm_heads(self, t: Tensor, rmsnorm: nn.Module | None, scale: Tensor | None, groups: int) -> Tensor:
        """Queries or keys (..., d), normed as the flags say."""
        if rmsnorm is not None:
            return rmsnorm(t)
        if not self.config.qk_norm:
            return t
        t = l2norm(t, groups)
        return t if scale is None else t * scale

    # ------------------------------------------------------------------ place

    def own(self, rotation: Any) -> Rotation | None:
        """Of the rotations of a call, that of this layer."""
        return rotation if rotation is None or self.config.rotary is None else rotation[self.config.rotary]

    def place(self, t: Tensor, turn: Turn, factor: Tensor | None = None) -> Tensor:
        """Rotary positions for `t` (b, h, n, d); only the last heads where `turned_heads` says so."""
        heads, turned = t.shape[1], self.config.turned_heads
        if turned is None or turned >= heads:
            return stretch(turn.last(t.shape[-2])(t), factor)
        rest, t = t[:, : heads - turned], t[:, heads - turned :]
        return torch.cat((rest, stretch(turn.last(t.shape[-2])(t), factor)), dim=1)

    def stretched(self, k: Tensor, rotation: Rotation | None) -> Tensor:
        """xPos's factor on all kept keys (those that belong to no token have none)."""
        factor = None if rotation is None else rotation.key_scale
        if factor is None:
            return k
        tokens = min(k.shape[-2] - self.config.lead, factor.shape[1])
        turned = min(self.config.turned_heads or k.shape[1], k.shape[1])
        scaled = stretch(k[:, k.shape[1] - turned :, -tokens:], factor[:, -tokens:])
        scaled = torch.cat((k[:, k.shape[1] - turned :, :-tokens], scaled), dim=-2)
        return scaled if turned == k.shape[1] else torch.cat((k[:, : k.shape[1] - turned], scaled), dim=1)

    # ------------------------------------------------------------------ remember

    def remember(
        self, x: Tensor, sources: list[Tensor], rotation: Rotation | None, call: Call, state: Any, depth: Depth | None
    ) -> tuple[Remembered, Records, Intermediates | None]:
        """The state with this call's keys and values, what of it queries meet, and what can be seen of it."""
        cfg, seen = self.config, self.open_trace(call)
        if isinstance(state, ContextKeys):  # the context has not changed since the first chunk
            self.show(seen, call, None, None, 0)
            return state, state.records, seen
        memory = state.memory if isinstance(state, Fresh) and not cfg.cross else None
        if cfg.cross:
            assert call.context is not None
            sources = [call.context, call.context]
        elif memory is not None:
            x, *sources = (torch.cat((memory, t), dim=1) for t in (x, *sources))
        turn = None if rotation is None else rotation.keys
        latents = self.latents(sources[0])
        if latents is not None and self.absorbs(turn) and not isinstance(state, Fresh) and seen is None:
            pair = latents  # nobody needs the keys and values that they stand for
        else:
            k, own = self.keys_and_values(sources[0], sources[1], latents)
            pair = (k, self.with_first_values(own, x, depth) if cfg.shares_values else own)
            self.show(seen, call, latents or pair, own, 0 if memory is None else memory.shape[1])
        new = self.kept(latents if latents is not None and self.absorbs(turn) else pair, turn)
        if cfg.cross:
            fixed = ContextKeys(self.with_lead(new))
            return fixed, fixed.records, seen
        if self.data_dependent_alibi is not None:
            new['forget'] = self.data_dependent_alibi.record(x)
        if cfg.selective:
            new['deselected'] = single(x.new_zeros((x.shape[0], 1, x.shape[1], 1)))
        if not isinstance(state, Fresh):
            grown = state.append(new)
            return grown, grown.read(), seen
        bounded = memory is None or call.begins is None  # padding between memory and tokens is no distance: memory stays near for longer
        started = first_keys(state, self.with_lead(new), cfg.lead, self.rule.window if bounded else None)
        met = started.read() if 'k' in new else {**started.read(), **self.with_lead(self.kept(pair, turn, expanded=True))}
        return started, met, seen

    def absorbs(self, turn: Turn | None) -> bool:
        """Whether latents are what is kept: nothing turns the keys that they stand for, or does anything else to them."""
        cfg = self.config
        return cfg.absorbs_keys and not cfg.cross and (turn is None or cfg.latent_rope_subheads is not None)

    def kept(self, pair: tuple[Tensor, Tensor | None], turn: Turn | None, expanded: bool = False) -> Records:
        """Keys and values, or latents and key sub-heads, as they are remembered and met: turned, and as LASER wants values."""
        first, second = pair
        turned = lambda t: t if turn is None else self.place(t, turn)
        if self.absorbs(turn) and not expanded:
            return {'latent': first[:, None]} if second is None else {'latent': first[:, None], 'subheads': turned(second)}
        assert second is not None
        return {'k': turned(first), 'v': self.weighable(second)}

    def weighable(self, v: Tensor) -> Tensor:
        """Values as weights meet them."""
        return laser_values(v, self.config.laser_softclamp_value) if self.config.laser else v

    def rebuilt(self, pair: tuple[Tensor, Tensor | None], rotation: Rotation | None) -> Remembered:
        """What is remembered, from keys and values (or latents) as `show` gives them out."""
        turn = None if rotation is None else rotation.keys
        if self.to_latent_kv is not None and not self.absorbs(turn):
            pair = self.keys_and_values(pair[0], pair[0], pair)
        records = self.with_lead(self.kept(pair, turn))
        return ContextKeys(records) if self.config.cross else first_keys(Fresh(), records, self.config.lead, self.rule.window)

    def with_first_values(self, v: Tensor, x: Tensor, depth: Depth | None, given: Tensor | None = None) -> Tensor:
        """Values (b, g, j, e) mixed with those of the first layer, or with `given` ones; `x` (b, j, dim) decides the shares."""
        first = given if depth is None else depth.first_values(self.kind, v)
        if first is None or first is v:
            return v
        return mix_values(v, first, 0.5 if self.to_value_residual_mix is None else self.to_value_residual_mix(x))

    def with_lead(self, records: Records) -> Records:
        """Keys, values and other records with those in front that belong to no token."""
        cfg = self.config
        if not cfg.lead:
            return records
        led = {name: F.pad(t, (0, 0, cfg.lead, 0)) for name, t in records.items() if name not in 'kv'}
        if 'k' not in records:
            return led
        k, v, memory = records['k'], records['v'], None
        if self.mem_k is not None and self.mem_v is not None:
            memory = (self.norm_heads(self.mem_k, self.k_rmsnorm, self.qk_norm_k_scale, 1), self.weighable(self.mem_v))
        keys, values = lead_records(memory, cfg.add_zero_kv, k, v)
        return {'k': torch.cat((*keys, k), dim=-2), 'v': torch.cat((*values, v), dim=-2), **led}

    # ------------------------------------------------------------------ score

    def weigh(self, q: Tensor, records: Records, rotation: Rotation | None, scored: Scored | InBlocks) -> Tensor:
        """Weighed values (b, h, i, e). Latent keys that were kept are met as they are, never expanded."""
        if 'k' in records:
            k, v = self.stretched(records['k'], rotation), records['v']
            if not self.config.laser:
                return self.attend.run(q, k, v, scored)
            with no_autocast(v):  # exponentials are weighed in the precision that was chosen for their range
                return self.attend.run(q.to(v.dtype), k.to(v.dtype), v, scored)
        latent, subheads, count = records['latent'], records.get('subheads'), self.config.latent_rope_subheads or 0
        keys = latent
        if subheads is not None:
            keys = torch.cat((latent, merge_heads(self.stretched(subheads, rotation))[:, None]), dim=-1)
        q = absorb_queries(q, self.to_k.weight, latent.shape[-1], count)
        return expand_values(self.attend.run(q, keys, latent, scored), self.to_v.weight, self.kv_heads)

    # ------------------------------------------------------------------ put out

    def put_out(self, out: Tensor, x: Tensor, mask: Tensor | None, beside: Tensor | None = None) -> Tensor:
        """(b, h, n, e) -> (b, n, dim)."""
        if self.config.laser:
            out = laser_output(out).to(x.dtype)
        if self.head_scale_params is not None:
            out = out * self.head_scale_params
        out = part(self.to_v_head_gate, out, x)
        if beside is not None and self.hybrid_norms is not None:
            if beside.shape != (out.shape[0], out.shape[2], self.merged_width):
                want = (out.shape[0], out.shape[2], self.merged_width)
                raise InputError(
                    f'{self.config.prefix}hybrid_module gave {tuple(beside.shape)}, expected {want}: heads * value_dim_head features'
                )
            norm_own, norm_beside = self.hybrid_norms
            out = 0.5 * (norm_own(out) + norm_beside(split_heads(beside, self.heads)))
        out = run(self.to_out, part(self.to_v_gate, merge_heads(out), x))
        return out if mask is None else out.masked_fill(~mask[..., None], 0.0)

    @property
    def merged_width(self) -> int:
        """Features of the merged heads."""
        return self.heads * self.config.value_width

    def beside_mask(self, mask: Tensor | None) -> dict[str, Tensor]:
        """The mask, where the module beside attention takes one."""
        name = self.config.hybrid_mask_kwarg
        return {} if name is None or mask is None or self.causal else {name: mask}

    # ------------------------------------------------------------------ what can be seen

    def open_trace(self, call: Call) -> Intermediates | None:
        if call.trace is None:
            return Intermediates() if self.config.carries_scores else None
        seen = Intermediates(layer_type=self.kind)
        call.trace.attention.append(seen)
        return seen

    def show(self, seen: Intermediates | None, call: Call, pair: tuple[Any, Any] | None, v: Tensor | None, memory: int) -> None:
        """This call's values, and the keys and values of all tokens so far, as 2.0.1 shows them: not rotated, without memory.

        `pair` is (keys, values), or (latents, key sub-heads) where keys and values are made of latents.
        """
        if seen is None or call.trace is None:
            return
        at = len(call.trace.attention) - 1
        past = call.trace.past[at].cached_kv if at < len(call.trace.past) else None
        seen.values = v
        if pair is None:
            seen.cached_kv = past
        else:
            new = tuple(None if t is None else t[..., memory:, :] for t in pair)
            seen.cached_kv = new if past is None else tuple(map(join_rows, past, new))  # type: ignore[assignment]
        seen.given = seen.cached_kv


def make_attend(cfg: AttentionConfig) -> Attend:
    """The core of attention for these flags."""
    shared = {f.name for f in fields(AttendConfig)} & {f.name for f in fields(AttentionConfig)} - {'add_zero_kv', 'scale'}
    residual = 'cross_residual_attn=True' if cfg.cross else 'residual_attn=True'
    scale = cfg.qk_norm_scale if cfg.qk_norm else cfg.dim_head**-0.5 if cfg.scale is None else cfg.scale
    cope = CoPE(cfg.dim_head, cfg.heads, cfg.cope_max_pos, cfg.cope_soft_onehot_pos, cfg.cope_talking_heads) if cfg.use_cope else None
    recipe = Recipe.of(cfg, cfg.prefix, *([(residual, RESIDUAL_ATTENTION)] if cfg.carries_scores else []))
    return Attend(AttendConfig(**{name: getattr(cfg, name) for name in shared}, scale=scale, cope=cope), recipe=recipe)


def join_rows(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return None if a is None or b is None else torch.cat((a, b), dim=-2)
