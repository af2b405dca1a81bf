"""The cases of the laws: every flag of the catalogue that has an example, so that declaring a flag tests it."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.errors import FlagError
from x_transformers.flags import catalogue

BASE = {'dim': 16, 'depth': 2, 'heads': 4, 'attn_dim_head': 12}
LENGTH, BATCH, VOCABULARY = 12, 2, 32


class CausalConvolution(nn.Module):
    """A convolution over a token and the two before it, by the protocol of modules beside attention."""

    carries_state = True

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.conv = nn.Conv1d(dim, width, kernel_size=3)

    def empty_state(self, x: Tensor) -> Tensor:
        return x.new_zeros((x.shape[0], 2, x.shape[2]))

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:
        seen = torch.cat((self.empty_state(x) if state is None else state, x), dim=1)
        y = self.conv(seen.transpose(1, 2)).transpose(1, 2)
        return y if state is None else (y, seen[:, -2:])


TOGETHER = {  # flags that meet in one formula
    'rotary, memory keys': {'rotary_pos_emb': True, 'attn_num_mem_kv': 2},
    'rotary of some heads, memory keys, window': {
        'rotary_pos_emb': True, 'attn_rotate_num_heads': 2, 'attn_num_mem_kv': 1, 'attn_max_attend_past': 4,
    },
    'xPos, zero key, qk norm': {'rotary_xpos': True, 'attn_add_zero_kv': True, 'attn_qk_norm': True, 'attn_kv_heads': 2},
    'grouped heads, ALiBi, memory keys': {'attn_kv_heads': 2, 'alibi_pos_bias': True, 'attn_num_mem_kv': 2},
    'one key head, T5 bias, zero key, window': {
        'attn_one_kv_head': True, 'rel_pos_bias': True, 'attn_add_zero_kv': True, 'attn_max_attend_past': 3,
    },
    'grouped heads, dynamic bias, qk norm': {'attn_kv_heads': 2, 'dynamic_pos_bias': True, 'attn_qk_norm': True},
    'distances, ALiBi, memory keys': {'attn_l2_distance': True, 'alibi_pos_bias': True, 'attn_num_mem_kv': 2},
    'talking heads, ALiBi, zero key, residual attention': {
        'attn_pre_talking_heads': True, 'attn_post_talking_heads': True, 'alibi_pos_bias': True, 'attn_add_zero_kv': True,
        'residual_attn': True,
    },
    'grouped cross-attention, memory keys, residual attention': {
        'cross_attend': True, 'cross_attn_kv_heads': 2, 'cross_attn_num_mem_kv': 2, 'cross_residual_attn': True, 'rotary_pos_emb': True,
    },
    'tied, shifted': {'weight_tie_layers': True, 'shift_tokens': 1},
    'shifts of their own, repeated': {'shift_tokens': (0, 1, 2, 0), 'layers_execute_order': (0, 1, 2, 3, 1, 2)},
    'macaron, shifted, gated residual, cross-attention': {
        'macaron': True, 'shift_tokens': 1, 'gate_residual': True, 'cross_attend': True, 'scale_residual': True,
    },
    'gates, shifted, memory keys': {
        'attn_gate_values': True, 'attn_gate_value_heads': True, 'attn_on_attn': True, 'shift_tokens': 1, 'attn_num_mem_kv': 1,
    },
    'latents, key sub-heads, rotary, zero key, forget gates': {
        'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8, 'attn_latent_rope_subheads': 2, 'attn_use_latent_q': True,
        'attn_dim_latent_q': 6, 'rotary_pos_emb': True, 'attn_add_zero_kv': True, 'attn_data_dependent_alibi': True,
    },
    'latents, key sub-heads, xPos, selective': {
        'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8, 'attn_latent_rope_subheads': 1, 'rotary_xpos': True, 'attn_selective': True,
    },
    'latents of grouped heads, T5 bias, talking heads': {
        'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8, 'attn_kv_heads': 2, 'rel_pos_bias': True, 'attn_pre_talking_heads': True,
        'attn_value_dim_head': 6,
    },
    'latents that are turned, normed and shared, memory keys': {
        'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8, 'rotary_pos_emb': True, 'attn_qk_norm': True, 'attn_num_mem_kv': 2,
        'add_value_residual': True, 'attn_use_latent_q': True, 'attn_dim_latent_q': 6, 'depth': 3,
    },
    'latents of contexts': {
        'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8, 'cross_attend': True, 'cross_attn_dim_context': 24,
    },
    'selective, grouped heads, memory keys, window, rotary': {
        'attn_selective': True, 'attn_kv_heads': 2, 'attn_num_mem_kv': 2, 'attn_max_attend_past': 5, 'rotary_pos_emb': True,
    },
    'selective, residual attention, zero key, contexts': {
        'attn_selective': True, 'residual_attn': True, 'attn_add_zero_kv': True, 'cross_attend': True,
    },
    'forget gates, exponential values, grouped heads, memory keys': {
        'attn_data_dependent_alibi': True, 'attn_laser': True, 'attn_kv_heads': 2, 'attn_num_mem_kv': 2, 'attn_add_zero_kv': True,
    },
    'forget gates by row, window, rotary, streams split': {
        'attn_data_dependent_alibi': True, 'attn_data_dependent_alibi_per_row': True, 'attn_max_attend_past': 4,
        'rotary_pos_emb': True, 'num_residual_streams': 2,
        'qkv_receive_diff_residuals': True, 'attn_num_mem_kv': 1, 'attn_gate_values': True,
    },
    'contextual positions that talk, memory keys, selective': {
        'attn_use_cope': True, 'attn_cope_talking_heads': True, 'attn_num_mem_kv': 2, 'attn_selective': True, 'attn_qk_norm': True,
    },
    'contextual positions by nearness, one key head, distances': {
        'attn_use_cope': True, 'attn_cope_soft_onehot_pos': True, 'attn_one_kv_head': True, 'attn_l2_distance': True,
        'attn_cope_max_pos': 5,
    },
    'shared values of grouped heads, memory keys, exponential, repeated layers': {
        'add_value_residual': True, 'attn_kv_heads': 2, 'attn_num_mem_kv': 2, 'attn_laser': True,
        'layers_execute_order': (0, 1, 2, 3, 0, 1),
    },
    'shared values of contexts and tokens': {'add_value_residual': True, 'cross_attend': True, 'depth': 3, 'rotary_pos_emb': True},
    'a folded LSTM beside attention, wide values, shifted': {
        'attn_hybrid_module': nn.LSTM(16, 24, num_layers=2, batch_first=True), 'attn_hybrid_fold_axial_dim': 3,
        'attn_value_dim_head': 6, 'shift_tokens': 1,
    },
    'a folded convolution beside attention, latents, streams': {
        'attn_hybrid_module': CausalConvolution(16, 48), 'attn_hybrid_fold_axial_dim': 2, 'attn_use_latent_kv': True,
        'attn_dim_latent_kv': 8, 'num_residual_streams': 2, 'qkv_receive_diff_residuals': False,
    },
    'a narrow window, xPos, qk norm, zero key, the largest scores, gates': {
        'attn_max_attend_past': 2, 'rotary_xpos': True, 'attn_qk_norm': True, 'attn_add_zero_kv': True, 'attn_sparse_topk': 2,
        'attn_gate_values': True,
    },
    'a window of oneself and the one before, distances, ALiBi, grouped heads': {
        'attn_max_attend_past': 1, 'attn_l2_distance': True, 'alibi_pos_bias': True, 'attn_kv_heads': 2, 'attn_head_scale': True,
    },
    'window, contextual positions that talk, talking heads, soft clamp': {
        'attn_max_attend_past': 3, 'attn_use_cope': True, 'attn_cope_talking_heads': True, 'attn_post_talking_heads': True,
        'attn_softclamp_logits': True, 'attn_pre_talking_heads': True,
    },
    'window, latents, key sub-heads, rotary, forget gates, memory keys': {
        'attn_max_attend_past': 3, 'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8, 'attn_latent_rope_subheads': 2,
        'rotary_pos_emb': True, 'attn_data_dependent_alibi': True, 'attn_add_zero_kv': True,
    },
    'window, dynamic bias, shared values, exponential, shifted': {
        'attn_max_attend_past': 2, 'dynamic_pos_bias': True, 'add_value_residual': True, 'attn_laser': True, 'shift_tokens': 1,
    },
    'rotary halves of some heads, scaled as in Llama 3, memory keys': {
        'rotary_pos_emb': True, 'rotary_half_split': True, 'attn_rotate_num_heads': 2, 'attn_num_mem_kv': 1, 'rotary_base': 50.0,
        'rotary_scaling': {'kind': 'llama3', 'factor': 8.0, 'original_length': 32, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0},
    },
    'rotary halves of sub-heads, scaled as in LongRoPE, window': {
        'rotary_pos_emb': True, 'rotary_half_split': True, 'attn_use_latent_kv': True, 'attn_dim_latent_kv': 8,
        'attn_latent_rope_subheads': 1, 'attn_max_attend_past': 4,
        'rotary_scaling': {'kind': 'longrope', 'factor': 8.0, 'original_length': 4, 'factors': (1.0, 1.5, 4.0)},
    },
    'RMS norms of grouped heads before they turn, biases, memory keys, window': {
        'attn_qk_rmsnorm': True, 'attn_kv_heads': 2, 'rotary_pos_emb': True, 'attn_qkv_bias': True, 'attn_out_bias': True,
        'attn_num_mem_kv': 1, 'attn_max_attend_past': 4,
    },
    'parallel blocks of one norm, cross-attention, shifted, injected, skips': {
        'parallel_block': True, 'parallel_block_one_norm': True, 'cross_attend': True, 'shift_tokens': 1, 'reinject_input': True,
        'unet_skips': True, 'gate_residual': True,
    },
    'windows on both sides of some layers, frequencies of their own': {
        'attn_window': (None, 2, 3), 'rotary_pos_emb': True, 'rotary_base': (1e4, 50.0, 50.0), 'attn_num_mem_kv': 1, 'depth': 3,
    },
    'windows of their own, memory keys': {'attn_max_attend_past': (3, None), 'attn_num_mem_kv': 1, 'attn_kv_heads': 2},
    'windows and frequencies of their own': {
        'attn_max_attend_past': (3, None, 3), 'rotary_pos_emb': True, 'rotary_base': (50.0, 1e4, 50.0), 'rotary_half_split': True,
        'rotary_scaling': (None, {'kind': 'linear', 'factor': 4.0}, None), 'depth': 3,
    },
    'RMS norms with an epsilon': {'use_rmsnorm': True, 'norm_eps': 0.1},
    'streams, skips, adaptive norm': {'num_residual_streams': 3, 'unet_skips': True, 'use_adaptive_rmsnorm': True, 'depth': 3},
    'streams split for queries, keys and values, shifted, scaled, injected': {
        'num_residual_streams': 2, 'qkv_receive_diff_residuals': True, 'shift_tokens': 1, 'use_layerscale': True, 'reinject_input': True,
        'rotary_pos_emb': True,
    },
    'streams split for queries, keys and values, gates, memory keys, forget gates, first values': {
        'num_residual_streams': 2, 'qkv_receive_diff_residuals': True, 'attn_gate_values': True, 'attn_gate_value_heads': True,
        'attn_num_mem_kv': 1, 'attn_data_dependent_alibi': True, 'add_value_residual': True, 'attn_kv_heads': 2,
    },
    'streams after norms that follow a condition': {
        'num_residual_streams': 2, 'pre_norm': False, 'use_adaptive_layernorm': True, 'adaptive_condition_mlp': True, 'dim_condition': 24,
    },
    'adaptive norms and scale in a sandwich, cross-attention': {
        'use_adaptive_layernorm': True, 'use_adaptive_layerscale': True, 'sandwich_norm': True, 'cross_attend': True, 'shift_tokens': 1,
    },
    'conditions per token, two streams': {
        'use_adaptive_rmsnorm': True, 'use_adaptive_layerscale': True, 'adaptive_condition_mlp': True, 'dim_condition': 8,
        'num_residual_streams': 2, 'shift_tokens': 1,
    },
    'conditions per token, ResiDual': {'resi_dual': True, 'use_adaptive_layernorm': True, 'rel_pos_bias': True},
    'injections per token, gated': {'learned_reinject_input_gate': True, 'num_residual_streams': 2, 'alibi_pos_bias': True},
    'skips over macaron blocks with cross-attention, context dropout': {
        'unet_skips': True, 'macaron': True, 'cross_attend': True, 'cross_attn_tokens_dropout': 0.5, 'depth': 3,
    },
    'skips between single layers, gated injection': {
        'unet_skips': True, 'sandwich_coef': 1, 'reinject_input': True, 'learned_reinject_input_gate': True,
    },
}  # fmt: skip
PER_TOKEN = {  # cases in which these inputs are given for each token, (b, n, d)
    'conditions per token, two streams': ('condition',),
    'conditions per token, ResiDual': ('condition', 'in_attn_cond'),
    'injections per token, gated': ('in_attn_cond',),
}


@dataclass(frozen=True)
class Case:
    """A flag, and the smallest keywords that switch it on."""

    name: str
    stack: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def keywords(self) -> dict[str, Any]:
        """All keywords of the layer stack."""
        base = {name: value for name, value in BASE.items() if not (name == 'depth' and 'custom_layers' in self.stack)}
        return {**base, **self.stack}

    @property
    def context_width(self) -> int | None:
        """Width of the context that the stack looks at, if it does."""
        return self.stack.get('cross_attn_dim_context', BASE['dim']) if self.stack.get('cross_attend') else None

    @property
    def context_placed(self) -> bool:
        """Whether cross-attention is turned by rotary positions: its heads must be wide enough."""
        rotary, width = any(name.startswith('rotary') for name in self.stack), self.keywords['attn_dim_head']
        return rotary and self.stack.get('cross_attn_dim_head', width) >= self.stack.get('rotary_emb_dim', width // 2)

    @property
    def condition_width(self) -> int | None:
        """Width of the condition that parts of the stack follow, if any do."""
        return self.stack.get('dim_condition', BASE['dim']) if any(name.startswith('use_adaptive_') for name in self.stack) else None

    @property
    def per_token(self) -> tuple[str, ...]:
        """Inputs that are given for each token."""
        return PER_TOKEN.get(self.name, ())

    @property
    def without(self) -> Case:
        """The same but for the flag itself: what else its example needs stays on."""
        single = self.name in self.stack or self.name in self.model or self.name in self.training
        needed = {'cross_attend': True} if self.stack.get('cross_attend') else {}
        rest = lambda keywords: {name: value for name, value in keywords.items() if name != self.name}
        return Case('without', rest(self.stack) if single else needed, rest(self.model), rest(self.training))


def stack_cases(kind: type) -> list[Case]:
    """One case per flag of a layer stack."""
    cases = [Case('defaults'), *(Case(name, stack) for name, stack in TOGETHER.items())]
    for entry in catalogue(kind.config_class):
        if entry.example:
            own = dict(entry.example)
            if entry.name.startswith('cross_attn_'):
                own['cross_attend'] = True
            cases.append(Case(entry.name, own))
    return [case for case in cases if not refused(kind, case)]


def refused(kind: type, case: Case) -> bool:
    """Whether this kind of stack refuses the flag, as xPos is refused by an encoder."""
    try:
        kind(**case.keywords)
    except FlagError as error:
        assert any(name in str(error) for name in case.stack), error
        return True
    return False


NOT_BY_TOKEN = {  # flags that ask for more inputs, or return anything but logits for each token: see test_every_model.py
    'embed_num_tokens', 'num_output_heads', 'squeeze_out_last_dim', 'recycling', 'train_max_recycle_steps', 'average_pool_embed',
    'use_cls_token', 'num_cls_tokens', 'memory_tokens_interspersed_every', 'emb_frac_gradient', 'attn_z_loss_weight',
}  # fmt: skip


def wrapper_cases() -> list[Case]:
    """One case per flag of `TransformerWrapper` that leaves it logits by token, and pairs of which one moves what the other counts."""
    entries = [e for e in catalogue(TransformerWrapper.config_class) if e.example and e.name not in NOT_BY_TOKEN]
    cases = [Case(e.name, model=dict(e.example)) for e in entries]
    together = [
        Case('memory tokens, shifted', {'shift_tokens': 1}, {'num_memory_tokens': 2}),
        Case('memory tokens, rotary, shifted twice', {'rotary_pos_emb': True, 'shift_tokens': 2}, {'num_memory_tokens': 2}),
        Case('memory tokens, T5 bias', {'rel_pos_bias': True}, {'num_memory_tokens': 3}),
        Case('memory tokens, window', {'attn_max_attend_past': 4, 'alibi_pos_bias': True}, {'num_memory_tokens': 1}),
        Case('sinusoids, tied', {'use_rmsnorm': True}, {'scaled_sinu_pos_emb': True, 'tie_embedding': True}),
    ]
    return cases + together


def training_cases() -> list[Case]:
    """One case per flag of `AutoregressiveWrapper`."""
    return [Case(e.name, training=dict(e.example)) for e in catalogue(AutoregressiveWrapper.config_class) if e.example]


DECODERS, ENCODERS = stack_cases(Decoder), stack_cases(Encoder)
STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
assert {case.name for case in stack_cases(Decoder)} >= {e.name for e in catalogue(Decoder.config_class) if e.example}


CANNOT_REWIND = ('shift_tokens', 'attn_selective', 'attn_hybrid_module')  # what later tokens did is part of the state


def cannot_rewind(case: Case) -> str | None:
    """The flag that cannot take tokens back, if there is one."""
    return next((name for name in CANNOT_REWIND if name in case.stack), None)


def named(value: Any) -> str:
    """What a test is called after its case."""
    return value.__name__ if isinstance(value, type) else str(value)


def part(cases: list[Any], count: int) -> list[Any]:
    """As many seeded ones, the same in every process; with PAIRS=all, as in `make pairs`, all of them."""
    return cases if os.environ.get('PAIRS') == 'all' or count >= len(cases) else random.Random(0).sample(cases, count)


def perturb(module: nn.Module) -> None:
    """Seeded noise on every parameter, so that parts that start at zero are alive."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype))


def build_stack(kind: type, case: Case, **more: Any) -> Any:
    """A layer stack in float64 and evaluation mode."""
    torch.manual_seed(0)
    stack = kind(**{**case.keywords, **more}).double().eval()
    perturb(stack)
    return stack


def build_model(case: Case, max_seq_len: int = 24) -> AutoregressiveWrapper:
    """A decoder-only model in float64."""
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=max_seq_len, attn_layers=Decoder(**case.keywords), **case.model)
    model = AutoregressiveWrapper(net, **case.training).double().eval()
    perturb(model)
    return model


def embeddings(seed: int = 2, length: int = LENGTH) -> Tensor:
    return drawn(seed, length, BASE['dim'])


def tokens(length: int = LENGTH, seed: int = 3) -> Tensor:
    return torch.randint(0, VOCABULARY, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def context_of(case: Case, rows: slice = slice(None), cols: slice = slice(None), memory: int = 0) -> dict[str, Tensor]:
    """What a case is given besides its tokens: the context it looks at, the conditions it follows.

    With rotary positions, rows of the context stand at different ones. Inputs per token are those of `memory` earlier
    rows and of the tokens; `cols` cuts them.
    """
    given = {}
    if case.context_width is not None:
        given['context'] = drawn(4, 5, case.context_width)[rows]
        if case.context_placed:
            given['context_pos'] = torch.arange(5).expand(BATCH, -1).add(torch.arange(BATCH)[:, None])[rows]
    widths = {'condition': case.condition_width, 'in_attn_cond': BASE['dim'] if 'in_attn_cond' in case.per_token else None}
    for seed, (name, width) in enumerate(widths.items(), start=5):
        if width is not None and name in case.per_token:
            given[name] = torch.cat((drawn(seed + 2, 5, width)[:, 5 - memory :], drawn(seed, LENGTH, width)), dim=1)[rows, cols]
        elif width is not None:
            given[name] = drawn(seed, 1, width)[rows, 0]
    return given


def drawn(seed: int, length: int, width: int) -> Tensor:
    return torch.randn(BATCH, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sized(case: Case, copies: int, n: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The tokens and what goes with them, for so many times the rows and for the first `n` tokens."""
    again = lambda t: t.repeat(copies, *[1] * (t.ndim - 1))
    return again(embeddings()[:, :n]), {name: again(t) for name, t in so_far(context_of(case), n).items()}


def open_sizes(name: str, t: Tensor) -> tuple[int, ...]:
    """The axes of an input that may have any size: the batch, and the tokens where there are any."""
    return (0, 1) if t.ndim == 3 or name in ('context_pos', 'mask') else (0,)


def so_far(inputs: dict[str, Any], n: int) -> dict[str, Any]:
    """The inputs when only `n` tokens are there: those per token are cut."""
    per_token = {name: t for name in ('condition', 'in_attn_cond') if (t := inputs.get(name)) is not None and t.ndim == 3}
    return {**inputs, **{name: t[:, : t.shape[1] - LENGTH + n] for name, t in per_token.items()}}


def in_pieces(stack: Any, x: Tensor, cut: tuple[int, ...], state: Any = None, **inputs: Any) -> tuple[Tensor, list[Any]]:
    """Outputs of a sequence run in pieces with the state passed on, and the state after each piece."""
    outs, states, at = [], [], 0
    for n in cut:
        out, state = stack(x[:, at : at + n], state=state, return_state=True, **so_far(inputs, at + n))
        outs.append(out)
        states.append(state)
        at += n
    return torch.cat(outs, dim=1), states
