"""What processes do in the tests: the same model, alone and together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from law_cases import BATCH, DECODERS, ENCODERS, Case, build_model, build_stack, context_of, embeddings, tokens
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from x_transformers import Decoder, Encoder
from x_transformers.errors import FlagError
from x_transformers.parallel import parallelize, plain

BOUND = 1e-10
STACKS = {f'{kind.__name__} {case}': (kind, case) for kind, cases in ((Decoder, DECODERS), (Encoder, ENCODERS)) for case in cases}


def whole(t: Any) -> Any:
    return t.full_tensor() if isinstance(t, DTensor) else t


def gradients(model: nn.Module) -> dict[str, Any]:
    return {name: whole(p.grad) for name, p in plain(model).named_parameters()}


def apart(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Where gradients differ, in words; empty where they are the same."""
    if one.keys() != other.keys():
        return f'other names: {sorted(one.keys() ^ other.keys())}'
    for name, a in one.items():
        b = other[name]
        if (a is None) != (b is None):
            return f'{name}: a gradient {"missing" if a is None else "too many"}'
        if a is not None and (a.shape != b.shape or not (a - b).abs().max() <= BOUND * max(1.0, b.abs().max())):
            return f'{name} is off by {(a - b).abs().max() if a.shape == b.shape else a.shape}'
    return ''


def step(model: Any, rows: slice, case: Case) -> Tensor:
    loss = model(embeddings()[rows], **context_of(case, rows)).square().mean()
    loss.backward()
    return loss.detach()


def stack_case(rank: int, name: str, strategy: str, count: int) -> str:
    """What differs between a stack alone and its processes together; a refusal begins with its flag."""
    kind, case = STACKS[name]
    rows = slice(None) if strategy == 'tp' else slice(rank, BATCH, count)
    try:
        model = parallelize(build_stack(kind, case), strategy)
    except FlagError as error:
        return f'refused: {error}'
    model.train('dropout' not in case.name)
    step(model, rows, case)
    found = gradients(model)
    if rank:
        return ''
    alone = build_stack(kind, case).train('dropout' not in case.name)
    step(alone, slice(None), case)
    return apart(found, gradients(alone))


def stack_cases(rank: int, names: list[str], strategy: str, count: int) -> dict[str, str]:
    return {name: said for name in names if (said := stack_case(rank, name, strategy, count))}
