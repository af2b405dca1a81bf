"""The cases of the laws: every flag of the catalogue that has an example, so that declaring a flag tests it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.errors import FlagError
from x_transformers.flags import catalogue

BASE = {'dim': 16, 'depth': 2, 'heads': 4, 'attn_dim_head': 12}
LENGTH, BATCH, VOCABULARY = 12, 2, 32


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
}  # fmt: skip


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


NOT_BY_TOKEN = {  # flags that ask for more inputs, or return anything but logits for each token: see test_models.py
    'embed_num_tokens', 'num_output_heads', 'squeeze_out_last_dim', 'recycling', 'train_max_recycle_steps', 'average_pool_embed',
    'use_cls_token', 'num_cls_tokens', 'memory_tokens_interspersed_every', 'emb_frac_gradient',
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
assert {case.name for case in stack_cases(Decoder)} >= {e.name for e in catalogue(Decoder.config_class) if e.example}


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
    return torch.randn(BATCH, length, BASE['dim'], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(length: int = LENGTH, seed: int = 3) -> Tensor:
    return torch.randint(0, VOCABULARY, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def context_of(case: Case, rows: slice = slice(None)) -> dict[str, Tensor]:
    """The context that a case needs; with rotary positions, rows whose contexts stand at different ones."""
    if case.context_width is None:
        return {}
    context = torch.randn(BATCH, 5, case.context_width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    if not any(name.startswith('rotary') for name in case.stack):
        return {'context': context[rows]}
    return {'context': context[rows], 'context_pos': torch.arange(5).expand(BATCH, -1).add(torch.arange(BATCH)[:, None])[rows]}


def in_pieces(stack: Any, x: Tensor, cut: tuple[int, ...], state: Any = None, **inputs: Any) -> tuple[Tensor, list[Any]]:
    """Outputs of a sequence run in pieces with the state passed on, and the state after each piece."""
    outs, states, at = [], [], 0
    for n in cut:
        out, state = stack(x[:, at : at + n], state=state, return_state=True, **inputs)
        outs.append(out)
        states.append(state)
        at += n
    return torch.cat(outs, dim=1), states
