"""State dicts of x-transformers: those of 2.0.1 are ours as they are, those of later 2.x (to 2.31) are made so here.

Later releases changed what some flags compute and which tensors they have. Where the same function can be had, the tensors are
rewritten; where it cannot, the flag is refused by name. Nothing is guessed: the release decides, for a state dict does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from packaging.version import InvalidVersion, Version
from torch import Tensor, nn

from x_transformers.attention import Attention
from x_transformers.errors import CheckpointError
from x_transformers.layers import AttentionLayers
from x_transformers.models.heads import TiedLogits
from x_transformers.models.transformer import TransformerWrapper
from x_transformers.models.xval import XValTransformerWrapper

LATEST = '2.31.10'
# the first releases with another meaning of the same flags
SCALED_QUERIES, FREE_GATES, SCALED_TIES, STREAMS = Version('2.25.5'), Version('2.26'), Version('2.27'), Version('2.14.1')

FOREIGN = {  # part of a name: the flag that makes such tensors, which this library does not have
    'to_v_gate.down': 'attn_gate_values_rank',
    'to_output_gate': 'attn_output_gate',
    'q_rmsnorm': 'attn_qk_rmsnorm',
    'k_rmsnorm': 'attn_qk_rmsnorm or attn_k_rmsnorm',
    'value_rmsnorm': 'attn_value_rmsnorm',
    'head_attn_sink': 'attn_head_learned_sink',
    'rel_proj_pos_bias': 'attn_use_rel_proj_pos_bias',
    'polar_pos_emb': 'polar_pos_emb',
    'exit_gate': 'looped',
    'attn_pool': 'attn_pool',
    'ff_deep_embed': 'ff_deep_embed',
    'to_next_embed_pred': 'add_continuous_pred_head',
    'layer_integrators': 'integrate_layers or attn_aggregated_residuals',
    'read_gain': 'gated_multi_residual',
    'pre_tanh_scale': 'use_dynamic_tanh',
}

Tensors = dict[str, Tensor]


def from_later(state: Mapping[str, Tensor], model: nn.Module, version: str = LATEST) -> Tensors:
    """The state dict of a release after 2.0.1 as one that `model` loads, to give the outputs that it gave there.

    model: built from the flags that the other model had; where a flag of it cannot be had, the error says what to build
    instead. version: of x-transformers, that trained it.

    >>> from x_transformers import Decoder
    >>> model = Decoder(dim=32, depth=1, attn_gate_values=True)
    >>> later = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith('to_v_gate.bias')}
    >>> model.load_state_dict(from_later(later, model, '2.31.10'))
    <All keys matched successfully>
    """
    release = read_version(version)
    found = dict(state)
    for name in found:
        flag = next((flag for part, flag in FOREIGN.items() if part in name), None)
        if flag is not None:
            raise CheckpointError(f'{name} belongs to the flag {flag} of later releases, which this library does not have')
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f'{path}.' if path else ''
        for kinds, convert in CONVERSIONS:
            if isinstance(module, kinds):
                convert(found, prefix, module, release)
    wanted = model.state_dict().keys()
    missing, unexpected = sorted(wanted - found.keys()), sorted(found.keys() - wanted)
    if missing or unexpected:
        raise CheckpointError(
            f'the state dict does not fit {type(model).__name__}; missing: {missing[:8]}; unexpected: {unexpected[:8]}. Build the model '
            'from the flags that the other one had.'
        )
    return found


def read_version(version: str) -> Version:
    try:
        release = Version(version)
    except (InvalidVersion, TypeError):
        raise CheckpointError(f'version={version!r} is no release; expected one of x-transformers, such as {LATEST!r}') from None
    if not Version('2.0.1') <= release < Version('3'):
        raise CheckpointError(f'version={version!r} is not known here; expected 2.0.1 to {LATEST}')
    return release


def convert_attention(state: Tensors, prefix: str, attention: Any, release: Version) -> None:
    """Gates without a bias, queries and keys with other scales, heads of one that need no projection, mixes that are learned."""
    cfg, weight = attention.config, prefix + 'to_v_gate.weight'
    if cfg.gate_values and release >= FREE_GATES and weight in state:
        state.setdefault(prefix + 'to_v_gate.bias', state[weight].new_zeros(len(state[weight])))
    if cfg.qk_norm and cfg.qk_norm_dim_scale and release >= SCALED_QUERIES:
        # there scores are d^-1/2 times a product, here qk_norm_scale times it: each factor takes the root
        factor = (cfg.qk_norm_scale * cfg.dim_head**0.5) ** 0.5
        for name in (prefix + 'qk_norm_q_scale', prefix + 'qk_norm_k_scale'):
            if name in state:
                state[name] = state[name] / factor
    if cfg.qk_norm and cfg.qk_norm_groups > 1 and cfg.num_mem_kv and release >= SCALED_QUERIES:
        raise CheckpointError(
            f'qk_norm_groups={cfg.qk_norm_groups} with num_mem_kv={cfg.num_mem_kv}, {prefix}mem_k: release {release} norms the memory keys '
            'in groups, and this library as a whole; the outputs would differ'
        )
    out, width = prefix + 'to_out.weight', cfg.dim_out or cfg.dim
    if cfg.heads == 1 and not cfg.on_attn and out not in state and cfg.value_width == width and prefix + 'to_q.weight' in state:
        state[out] = torch.eye(width).to(state[prefix + 'to_q.weight'])
    mix = prefix + 'hybrid_mix.weight'
    if cfg.hybrid_module is not None and release > Version('2.0.1'):
        if mix in state:
            raise CheckpointError(f'{mix} belongs to the flag attn_hybrid_learned_mix of later releases, which this library does not have')
        state[mix] = attention.state_dict()['hybrid_mix.weight']  # which nothing uses


def convert_stack(state: Tensors, prefix: str, stack: Any, release: Version) -> None:
    """Streams that are mixed by other formulas, and stacks without a last norm."""
    if stack.num_residual_streams > 1 and release >= STREAMS:
        raise CheckpointError(
            f'num_residual_streams={stack.num_residual_streams}: release {release} mixes streams by other formulas with the same tensors, '
            'and this library has those of 2.0.1 (before 2.14.1) only; the outputs would differ'
        )
    last = [prefix + 'final_norm.' + name for name in stack.final_norm.state_dict()]
    if last and not any(name in state for name in last):
        raise CheckpointError(
            f'there is no {last[0]}: pre_norm_has_final_norm=False of later releases, which here as in 2.0.1 has no effect'
        )


def convert_head(state: Tensors, prefix: str, model: Any, release: Version) -> None:
    """Logits by the table of the embedding, which later releases scale."""
    table, head = prefix + 'token_emb.emb.weight', prefix + 'to_logits.weight'
    if isinstance(model.to_logits, TiedLogits):
        if release >= SCALED_TIES:
            raise CheckpointError(
                f'tie_embedding=True: release {release} multiplies these logits by dim ** -0.5 (unless tie_embedding_scale=1 was set, then '
                "give version='2.26'). Build the model with tie_embedding=False; its head is then made of the table."
            )
    elif isinstance(model.to_logits, nn.Linear) and head not in state and table in state:
        state[head] = state[table] * (model.attn_layers.dim**-0.5 if release >= SCALED_TIES else 1.0)


Conversion = Callable[[Tensors, str, Any, Version], None]
CONVERSIONS: tuple[tuple[Any, Conversion], ...] = (
    (Attention, convert_attention),
    (AttentionLayers, convert_stack),
    ((TransformerWrapper, XValTransformerWrapper), convert_head),
)
