"""The cases of the laws: every flag of the catalogue that has an example, so that declaring a flag tests it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.errors import FlagError
from x_transformers.flags import catalogue

BASE = {'dim': 16, 'depth': 2, 'heads': 4, 'attn_dim_head': 8}
LENGTH, BATCH, VOCABULARY = 12, 2, 32


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


def stack_cases(kind: type) -> list[Case]:
    """One case per flag of a layer stack."""
    cases = [Case('defaults')]
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


def wrapper_cases() -> list[Case]:
    """One case per flag of `TransformerWrapper`, and pairs of which one moves what the other counts."""
    cases = [Case(e.name, model=dict(e.example)) for e in catalogue(TransformerWrapper.config_class) if e.example]
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
    """The context that a case needs."""
    if case.context_width is None:
        return {}
    context = torch.randn(BATCH, 5, case.context_width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return {'context': context[rows]}


def in_pieces(stack: Any, x: Tensor, cut: tuple[int, ...], state: Any = None, **inputs: Any) -> tuple[Tensor, list[Any]]:
    """Outputs of a sequence run in pieces with the state passed on, and the state after each piece."""
    outs, states, at = [], [], 0
    for n in cut:
        out, state = stack(x[:, at : at + n], state=state, return_state=True, **inputs)
        outs.append(out)
        states.append(state)
        at += n
    return torch.cat(outs, dim=1), states
