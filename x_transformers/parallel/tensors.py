"""Tensor parallelism (Megatron-LM, 1909.08053): each process has some heads of every attention, and some hidden features of every
feed-forward; what they put out is summed, once per branch.

The other parameters (embeddings, norms, heads over the vocabulary) are whole in every process, and their gradients are alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module

from x_transformers.attention import Attention
from x_transformers.errors import FlagError, InputError
from x_transformers.feedforward import GLU, FeedForward
from x_transformers.layers import AttentionLayers
from x_transformers.parallel.parts import ADDED, ALL, MET, Part, copied, share_out, summed
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.t5 import RelativePositionBias
from x_transformers.state import Fresh
from x_transformers.training.autoregressive import AutoregressiveWrapper

MIXES = 'it mixes heads, and a process has only some of them'
NOT_BY_HEADS = {  # flags of attention that cannot be shared out by heads, and why
    'pre_talking_heads': MIXES,
    'post_talking_heads': MIXES,
    'pre_scale_post_talking_heads': MIXES,
    'cope_talking_heads': MIXES,
    'selective': 'the first head decides for all, and one process has it',
    'custom_attn_fn': 'a function of your own may look at all heads, and a process has only some of them',
    'hybrid_module': 'what stands beside attention has no heads that could be shared out',
    'latent_rope_subheads': 'some key heads are made of a latent and some are not',
}


def why_not_shared(cfg: Any, processes: int) -> str | None:
    """The flag for which an attention cannot be shared out among so many processes, and why; None where it can."""
    named = lambda name: f'{cfg.prefix}{name}={getattr(cfg, name)!r}'
    for name, reason in NOT_BY_HEADS.items():
        if getattr(cfg, name) not in (None, False):
            shown = f'{cfg.prefix}{name}' if callable(getattr(cfg, name)) else named(name)
            return f'{shown} cannot be tensor-parallel: {reason}'
    if cfg.rotate_num_heads not in (None, cfg.heads):
        return f'{named("rotate_num_heads")} cannot be tensor-parallel: only the last heads are turned, and one process has them'
    if cfg.key_heads % processes and (cfg.heads // cfg.key_heads) % processes:
        grouped = f' with {cfg.key_heads} key heads' if cfg.key_heads < cfg.heads else ''
        return (
            f'heads={cfg.heads}{grouped} cannot be shared out among {processes} processes: their number must divide '
            'the key heads, or the query heads of each'
        )
    return None


def check_shared(model: nn.Module, processes: int) -> None:
    """Whether all of a model can be shared out; a FlagError names the first flag that cannot."""
    for part in model.modules():
        reason = None
        if isinstance(part, AutoregressiveWrapper) and part.add_attn_z_loss:
            reason = 'add_attn_z_loss=True cannot be tensor-parallel: it is of the scores of all heads together'
        elif isinstance(part, Attention):
            reason = why_not_shared(part.config, processes)
        elif isinstance(part, FeedForward) and part.config.post_act_ln:
            reason = 'ff_post_act_ln=True cannot be tensor-parallel: it norms all hidden features together'
        elif isinstance(part, FeedForward) and hidden_width(part) % processes:
            reason = (
                f'the {hidden_width(part)} hidden features of ff_mult={part.config.mult} cannot be shared out among {processes} processes'
            )
        if reason:
            raise FlagError(f"{reason}. Leave it out, or use strategy='fsdp'.")
    check_as_built(model)


def check_as_built(model: nn.Module) -> None:
    """What is shared out are the linear maps that the flags made, each in one place."""
    for name, part in model.named_modules():
        if isinstance(part, Attention):
            for place in ('to_q', 'to_k', 'to_v'):
                kind = type(getattr(part, place))
                if kind is not nn.Linear:
                    raise InputError(f'{name}.{place} is a {kind.__name__}, and tensor parallelism shares out a Linear; put it there after')
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = seen.setdefault(id(parameter), name)
        if other != name and not same_module(model, other, name):
            raise InputError(
                f'{other} and {name} are one parameter, and tensor parallelism would make them two; build the model with '
                "tie_embedding=True, or use strategy='fsdp'"
            )


def same_module(model: nn.Module, one: str, other: str) -> bool:
    """Whether two names of a parameter are those of a module that stands in two places."""
    return model.get_submodule(one.rpartition('.')[0]) is model.get_submodule(other.rpartition('.')[0])


def hidden_width(part: FeedForward) -> int:
    return part.ff[-1].in_features  # type: ignore[return-value]


def tensor_plan(model: nn.Module) -> dict[str, ParallelStyle]:
    """How each part of a model is shared out, by name, as `parallelize_module` takes it."""
    styles: dict[str, ParallelStyle] = {}
    for name, stack in model.named_modules():
        if not isinstance(stack, AttentionLayers):
            continue
        at = f'{name}.' if name else ''
        for inner, part in stack.layers.named_modules():
            if isinstance(part, Attention):
                styles[f'{at}layers.{inner}'] = ByHeads()
            elif isinstance(part, FeedForward):
                styles[f'{at}layers.{inner}'] = ByFeatures()
        if stack.rel_pos is not None:
            styles[f'{at}rel_pos'] = BiasByHeads(stack.config.attn)
    return styles


def share_model(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Share out what the plan says; everything else stays whole."""
    parallelize_module(model, mesh, tensor_plan(model))
    for part in model.modules():
        share_out(part, dict.fromkeys(held(part), ALL), mesh)
    return model


def held(module: nn.Module) -> list[str]:
    """Names of parameters of this very module that are not shared out yet."""
    return [name for name, p in module._parameters.items() if p is not None and not isinstance(p, DTensor)]


# ------------------------------------------------------------------------------------------------ attention


class Heads:
    """How the heads of an attention are shared out among processes.

    Query head r shares key head r mod g. Where the number of processes divides g, each has some key heads and all that share
    them; otherwise it has some query heads of every key head, and all key heads.
    """

    def __init__(self, cfg: Any, processes: int):
        self.heads, self.key_heads = cfg.heads, cfg.key_heads
        self.by_keys = self.key_heads % processes == 0
        self.own_heads = self.heads // processes
        self.own_key_heads = self.key_heads // processes if self.by_keys else self.key_heads

    def queries(self, dim: int = 0, runs: int = 1) -> Part:
        """Of an axis that is `runs` times (query heads x features)."""
        return Part(dim, runs * self.heads // self.key_heads if self.by_keys else runs)

    def keys(self, dim: int = 0) -> Part:
        """Of an axis that is (key heads x features)."""
        return Part(dim) if self.by_keys else MET

    def parts(self, attention: Attention) -> dict[str, Part]:
        """Of each parameter; those of latents and contextual positions are of all heads."""
        forgetting = 'data_dependent_alibi.'
        directions = 1 if attention.causal and not attention.config.data_dependent_alibi_per_row else 2
        found = {
            'qk_norm_q_scale': self.queries(),
            'qk_norm_k_scale': self.keys(),
            'head_scale_params': self.queries(1),
            'mem_k': self.keys(),
            'mem_v': self.keys(),
            'to_q.weight': self.queries(),
            'to_k.weight': self.keys(),
            'to_v.weight': self.keys(),
            'to_out.weight': self.queries(1),
            'to_out.0.weight': self.queries(1),
            'to_v_gate.weight': self.queries(),
            'to_v_gate.bias': self.queries(),
            'to_v_head_gate.weight': self.queries(),
            'to_v_head_gate.bias': self.queries(),
        }
        for name, _ in attention.named_parameters():
            if name.startswith(forgetting):
                found[name] = self.queries(0, directions)
            elif name.startswith('to_value_residual_mix.') and self.by_keys:
                found[name] = self.queries()
        return found


def share_parts(module: nn.Module, parts: dict[str, Part], mesh: DeviceMesh) -> None:
    """Share out the parameters of a module and of all in it, by name; those that are not named are whole, and meet shares."""
    for name, inner in module.named_modules():
        at = f'{name}.' if name else ''
        share_out(inner, {own: parts.get(f'{at}{own}', MET) for own in held(inner)}, mesh)


class ByHeads(ParallelStyle):
    """An attention of some of the heads; what goes in is copied, what comes out is summed."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        attention: Any = module
        cfg, mesh = attention.config, device_mesh
        heads = Heads(cfg, mesh.size())
        share_parts(attention, heads.parts(attention), mesh)
        attention.config = replace(cfg, heads=heads.own_heads, kv_heads=None if cfg.one_kv_head else heads.own_key_heads)
        attention.heads, attention.kv_heads = heads.own_heads, heads.own_key_heads
        if attention.to_value_residual_mix is not None:
            attention.to_value_residual_mix.key_heads = heads.own_key_heads
        if attention.config.data_dependent_alibi_per_row:
            attention.data_dependent_alibi.heads = heads.own_heads

        def own(t: Tensor | None) -> Tensor | None:
            """What a caller gives for each head."""
            by_head = t is not None and t.ndim > 2 and t.shape[-3] == heads.heads > 1
            return heads.queries(t.ndim - 3).cut(t, mesh) if by_head else t  # type: ignore[union-attr, arg-type]

        def enter(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
            call, state = given['call'], given['state']
            bias = call.attn_bias if call.attn_bias is None else copied(call.attn_bias, mesh)
            call = replace(call, attn_mask=own(call.attn_mask), attn_bias=own(bias))
            if cfg.cross:
                call = replace(call, context=copied(call.context, mesh))
            if isinstance(state, Fresh) and state.memory is not None:
                state = replace(state, memory=copied(state.memory, mesh))
            return (copied(args[0], mesh), *args[1:]), {**given, 'call': call, 'state': state}

        attention.register_forward_pre_hook(enter, with_kwargs=True)
        last = attention.to_out if isinstance(attention.to_out, nn.Linear) else attention.to_out[0]
        last.register_forward_hook(lambda _, args, out: summed(out, mesh))
        return attention


class BiasByHeads(ParallelStyle):
    """A bias by distance of some of the heads."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.cfg = cfg  # of the attention that it is for

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        bias: Any = module
        heads = Heads(self.cfg, device_mesh.size())
        if isinstance(bias, AlibiPositionalBias):
            name, slopes = bias._derived
            bias._derived = (name, heads.queries().cut(torch.tensor(slopes), device_mesh).tolist())
            bias.make_again(bias.slopes.device, bias.slopes.dtype)
        elif isinstance(bias, RelativePositionBias):
            share_parts(bias, {'relative_attention_bias.weight': heads.queries(1)}, device_mesh)
        elif isinstance(bias, DynamicPositionBias):
            last = f'mlp.{len(bias.mlp) - 1}'
            share_parts(bias, {f'{last}.weight': heads.queries(), f'{last}.bias': heads.queries()}, device_mesh)
        bias.total_heads = heads.own_heads
        return bias


# ------------------------------------------------------------------------------------------------ feed-forward


class ByFeatures(ParallelStyle):
    """A feed-forward of some of the hidden features; what goes in is copied, what comes out is summed."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        feed_forward: Any = module
        gated, last = isinstance(feed_forward.ff[0], GLU), len(feed_forward.ff) - 1
        first = 'ff.0.proj' if gated else 'ff.0.0'
        widened = Part(0, 2 if gated else 1)
        parts = {
            f'{first}.weight': widened,
            f'{first}.bias': widened,
            'ff.0.mult_bias': Part(0),
            f'ff.{last}.weight': Part(1),
            f'ff.{last}.bias': ADDED,
        }
        share_parts(feed_forward, parts, device_mesh)
        feed_forward.register_forward_pre_hook(lambda _, args: (copied(args[0], device_mesh), *args[1:]))
        feed_forward.ff[last].register_forward_hook(lambda _, args, out: summed(out, device_mesh))
        return feed_forward
