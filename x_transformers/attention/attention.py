"""Attention, read as its verbs: project, place, remember, score and normalise, put out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.attention.attend import Attend, AttendConfig, Intermediates
from x_transformers.attention.backends import Recipe, Scored, choose
from x_transformers.attention.config import AttentionConfig
from x_transformers.attention.keys import lead_records
from x_transformers.attention.masks import KeyRule, Visible, ahead, visible
from x_transformers.attention.outputs import HeadGate, ValueGate, make_output
from x_transformers.attention.project import l2norm, merge_heads, split_heads
from x_transformers.call import Call, Depth, Span
from x_transformers.flags import configured
from x_transformers.norms import Unchanged
from x_transformers.positions.rotary import FreeTurn, Turn, stretch
from x_transformers.state import ContextKeys, FixedKeys, Fresh, Keys, Records

RESIDUAL_ATTENTION = 'residual attention hands the score matrix to the next layer, and fused kernels never form it'


@configured(AttentionConfig)
class Attention(nn.Module):
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
        source = cfg.dim_context or cfg.dim
        self.heads, self.kv_heads, self.causal = h, g, cfg.causal
        self.kind = 'c' if cfg.cross else 'a'
        self.rule = KeyRule(cfg.causal, cfg.max_attend_past)

        self.qk_norm_q_scale = nn.Parameter(torch.ones(h, 1, d)) if cfg.qk_norm and cfg.qk_norm_dim_scale else None
        self.qk_norm_k_scale = nn.Parameter(torch.ones(g, 1, d)) if cfg.qk_norm and cfg.qk_norm_dim_scale else None
        self.head_scale_params = nn.Parameter(torch.ones(1, h, 1, 1)) if cfg.head_scale else None
        self.mem_k = nn.Parameter(torch.randn(g, cfg.num_mem_kv, d)) if cfg.num_mem_kv else None
        self.mem_v = nn.Parameter(torch.randn(g, cfg.num_mem_kv, e)) if cfg.num_mem_kv else None

        self.to_q = nn.Linear(cfg.dim, h * d, bias=False)
        self.to_k = nn.Linear(source, g * d, bias=False)
        self.to_v = nn.Linear(source, g * e, bias=False)
        self.to_v_gate = ValueGate(cfg.dim, h * e, cfg.swiglu_values) if cfg.gate_values else Unchanged()
        self.to_v_head_gate = HeadGate(cfg.dim, h) if cfg.gate_value_heads else Unchanged()
        self.attend = make_attend(cfg)
        self.to_out = make_output(h * e, cfg.dim_out or cfg.dim, cfg.on_attn, cfg.zero_init_output)

    def forward(self, x: Tensor, *args: Any, call: Call | None = None, depth: Depth | None = None, state: Any = None, **inputs: Any) -> Any:
        if call is None:
            from x_transformers.attention.alone import attend_alone  # it is built from the verbs below

            return attend_alone(self, x, *args, **inputs)
        rotation = call.context_rotation if self.config.cross else call.rotation
        q = self.queries(x)
        if rotation is not None:
            q = self.place(q, rotation.queries, rotation.query_scale)
        keys, seen = self.remember(x, call, Fresh() if state is None else state, depth)
        records = keys.records if isinstance(keys, ContextKeys) else keys.read()
        scored = self.restrict(keys, call, depth, seen)
        out = self.attend.run(q, self.stretched(records['k'], call), records['v'], scored)
        if self.config.carries_scores and depth is not None and seen is not None:
            depth.scores[self.kind] = seen.pre_softmax_attn  # type: ignore[assignment]
        return self.put_out(out, x, call.mask), keys if call.keep_state else None

    # ------------------------------------------------------------------ project

    def queries(self, x: Tensor) -> Tensor:
        """(b, n, dim) -> (b, h, n, d)."""
        q = split_heads(self.to_q(x), self.heads)
        return self.norm_heads(q, self.qk_norm_q_scale, self.config.qk_norm_groups) if self.config.qk_norm else q

    def keys_and_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(b, j, dim) -> (b, g, j, d) and (b, g, j, e)."""
        k, v = split_heads(self.to_k(source), self.kv_heads), split_heads(self.to_v(source), self.kv_heads)
        return self.norm_heads(k, self.qk_norm_k_scale, self.config.qk_norm_groups) if self.config.qk_norm else k, v

    @staticmethod
    def norm_heads(t: Tensor, scale: Tensor | None, groups: int) -> Tensor:
        t = l2norm(t, groups)
        return t if scale is None else t * scale

    # ------------------------------------------------------------------ place

    def place(self, t: Tensor, turn: Turn | FreeTurn, factor: Tensor | None = None) -> Tensor:
        """Rotary positions for `t` (b, h, n, d); only the last `rotate_num_heads` heads where that is set."""
        turned = self.config.rotate_num_heads or t.shape[1]
        rest, t = t[:, : t.shape[1] - turned], t[:, t.shape[1] - turned :]
        t = stretch(turn.last(t.shape[-2])(t), factor)
        return t if rest.shape[1] == 0 else torch.cat((rest, t), dim=1)

    def stretched(self, k: Tensor, call: Call) -> Tensor:
        """xPos's factor on all kept keys (those that belong to no token have none)."""
        rotation = call.context_rotation if self.config.cross else call.rotation
        factor = None if rotation is None else rotation.key_scale
        if factor is None:
            return k
        tokens = min(k.shape[-2] - self.config.lead, factor.shape[1])
        turned = self.config.rotate_num_heads or k.shape[1]
        scaled = stretch(k[:, k.shape[1] - turned :, -tokens:], factor[:, -tokens:])
        scaled = torch.cat((k[:, k.shape[1] - turned :, :-tokens], scaled), dim=-2)
        return scaled if turned == k.shape[1] else torch.cat((k[:, : k.shape[1] - turned], scaled), dim=1)

    # ------------------------------------------------------------------ remember

    def remember(
        self, x: Tensor, call: Call, state: Any, depth: Depth | None
    ) -> tuple[Keys | FixedKeys | ContextKeys, Intermediates | None]:
        """The state with this call's keys and values, and what can be seen of them."""
        seen = self.open_trace(call)
        if isinstance(state, ContextKeys):  # the context has not changed since the first chunk
            self.show(seen, call, None, None, 0)
            return state, seen
        cross = self.config.cross
        memory = state.memory if isinstance(state, Fresh) and not cross else None
        source = call.context if cross else x if memory is None else torch.cat((memory, x), dim=1)
        assert source is not None
        k, v = self.keys_and_values(source)
        self.show(seen, call, k, v, 0 if memory is None else memory.shape[1])
        rotation = call.context_rotation if cross else call.rotation
        if rotation is not None:
            k = self.place(k, rotation.keys)
        if cross:
            return ContextKeys(self.with_lead(k, v)), seen
        if isinstance(state, Fresh):
            return state.start(self.with_lead(k, v), self.config.lead), seen
        return state.append({'k': k, 'v': v}), seen

    def with_lead(self, k: Tensor, v: Tensor) -> Records:
        """Keys and values with those in front that belong to no token."""
        cfg = self.config
        if not cfg.lead:
            return {'k': k, 'v': v}
        memory = None
        if self.mem_k is not None and self.mem_v is not None:
            mem_k = self.norm_heads(self.mem_k, self.qk_norm_k_scale, 1) if cfg.qk_norm else self.mem_k
            memory = (mem_k, self.mem_v)
        keys, values = lead_records(memory, cfg.add_zero_kv, k, v)
        return {'k': torch.cat((*keys, k), dim=-2), 'v': torch.cat((*values, v), dim=-2)}

    # ------------------------------------------------------------------ score

    def restrict(self, keys: Keys | FixedKeys | ContextKeys, call: Call, depth: Depth | None, seen: Intermediates | None) -> Scored:
        """What the scores of this call are subject to: masks, bias, the scores of the layer before."""
        cfg, device = self.config, call_device(call, keys)
        if isinstance(keys, ContextKeys):
            span = call.context_keys
            assert span is not None
            seen_keys = call.once(('context', cfg.lead), lambda: visible(KeyRule(False, None), call.queries, span, None, cfg.lead, device))
            bias = None
        else:
            span = call.keys.last(keys.length)
            seen_keys = self.visible_tokens(span, keys.memory_mask, call, device)
            bias = self.shared(('bias', cfg.lead), span, call, lambda: self.token_bias(span, call, device))
        previous = depth.scores.get(self.kind) if cfg.carries_scores and depth is not None else None
        maps = cfg.carries_scores or (call.trace is not None and call.trace.maps and (not cfg.flash or call.trace.fused_maps))
        return Scored(seen_keys, bias, previous, seen if maps else None)

    def visible_tokens(self, span: Span, memory_mask: Tensor | None, call: Call, device: torch.device) -> Visible:
        make = lambda keys: visible(self.rule, call.queries, keys, call.attn_mask, self.config.lead, device, call.begins)
        if memory_mask is None:
            return self.shared(('visible', self.rule, self.config.lead), span, call, lambda: make(span))
        memory = Span(span.start, memory_mask.shape[1], visible=memory_mask)
        tokens = memory.join(Span(0, span.length - memory.length), device).visible
        assert tokens is not None
        return make(replace(span, visible=tokens if span.visible is None else tokens & span.visible))

    @staticmethod
    def shared(key: Any, span: Span, call: Call, make: Callable[[], Any]) -> Any:
        """`make()`, once for all layers that remember every key of the call; lengths may be symbols, which are no keys."""
        return call.once(key, make) if span is call.keys else make()

    def token_bias(self, span: Span, call: Call, device: torch.device) -> Tensor | None:
        bias = None if call.bias is None else call.bias.between(call.queries, span, device)
        if call.attn_bias is not None:
            bias = call.attn_bias if bias is None else bias + call.attn_bias
        return ahead(bias, self.config.lead, 0.0)

    # ------------------------------------------------------------------ put out

    def put_out(self, out: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """(b, h, n, e) -> (b, n, dim)."""
        if self.head_scale_params is not None:
            out = out * self.head_scale_params
        out = self.to_v_head_gate(out, x)
        out = self.to_out(self.to_v_gate(merge_heads(out), x))
        return out if mask is None else out.masked_fill(~mask[..., None], 0.0)

    # ------------------------------------------------------------------ what can be seen

    def open_trace(self, call: Call) -> Intermediates | None:
        if call.trace is None:
            return Intermediates() if self.config.carries_scores else None
        seen = Intermediates(layer_type=self.kind)
        call.trace.attention.append(seen)
        return seen

    def show(self, seen: Intermediates | None, call: Call, k: Tensor | None, v: Tensor | None, memory: int) -> None:
        """This call's values, and the keys and values of all tokens so far, as 2.0.1 shows them: not rotated, without memory."""
        if seen is None or call.trace is None:
            return
        at = len(call.trace.attention) - 1
        past = call.trace.past[at].cached_kv if at < len(call.trace.past) else None
        seen.values = v
        if k is None or v is None:
            seen.cached_kv = past
        else:
            new = (k[..., memory:, :], v[..., memory:, :])
            seen.cached_kv = new if past is None else (torch.cat((past[0], new[0]), dim=-2), torch.cat((past[1], new[1]), dim=-2))


def make_attend(cfg: AttentionConfig) -> Attend:
    """The core of attention for these flags."""
    shared = {f.name for f in fields(AttendConfig)} & {f.name for f in fields(AttentionConfig)} - {'add_zero_kv'}
    prefix, residual = ('cross_attn_', 'cross_residual_attn=True') if cfg.cross else ('attn_', 'residual_attn=True')
    scale = cfg.qk_norm_scale if cfg.qk_norm else cfg.dim_head**-0.5
    attend = Attend(AttendConfig(**{name: getattr(cfg, name) for name in shared}, scale=scale), prefix=prefix)
    if cfg.carries_scores:
        attend.backend = choose(Recipe.of(cfg, prefix, (residual, RESIDUAL_ATTENTION)), cfg.flash)
    return attend


def call_device(call: Call, keys: Keys | FixedKeys | ContextKeys) -> torch.device:
    records = keys.buffers if isinstance(keys, FixedKeys) else keys.records
    return next(iter(records.values())).device
