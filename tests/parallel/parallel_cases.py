"""What processes do in the tests: the same model trains alone and among them, for the flags of every model and wrapper."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from law_cases import BATCH, DECODERS, ENCODERS, VOCABULARY, build_model, build_stack, context_of, embeddings, tokens
from test_building import MODELS
from test_every_model import CASES as OF_EVERY_MODEL
from test_every_model import part_of
from test_training_wrappers import ids, images, numbers, sides, vectors
from test_training_wrappers import random as drawn
from test_wrappers import CASES as WRAPPED
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from x_transformers import DPO, Decoder, Encoder, NeoMLP, NonAutoregressiveWrapper
from x_transformers.errors import FlagError
from x_transformers.parallel import parallelize, plain

BOUND = 1e-10


@dataclass(frozen=True)
class Subject:
    """A model, and the loss of some rows of a batch, a mean over them."""

    build: Callable[[], Any]
    loss: Callable[[Any, slice], Tensor]


# ------------------------------------------------------------------------------------------------ every flag


def of_stack(kind: type, case: Any) -> Subject:
    build = lambda: build_stack(kind, case).train('dropout' not in case.name)
    return Subject(build, lambda stack, rows: stack(embeddings()[rows], **context_of(case, rows)).square().mean())


def of_tokens(case: Any) -> Subject:
    if 'return_only_embed' in case.model:
        return Subject(lambda: build_model(case).net, lambda net, rows: net(tokens()[rows]).square().mean())
    return Subject(lambda: build_model(case), lambda model, rows: model(tokens()[rows] % case.model.get('logits_dim', VOCABULARY)))


def of_model(case: Any) -> Subject:
    def loss(model: Any, rows: slice) -> Tensor:
        given, own = part_of(case.inputs(), rows, slice(None))
        own = {**own, **{name: value for name, value in case.inputs()[1].items() if not isinstance(value, (Tensor, dict))}}
        return sum(t.square().mean() for t in case.rows(model(*given, **own)))  # type: ignore[return-value]

    return Subject(case.build, loss)


def of_wrapper(case: Any) -> Subject:
    def loss(model: Any, rows: slice) -> Tensor:
        if case.kind is NeoMLP:
            return model(torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)[rows]).square().mean()
        if case.kind is DPO:
            return model(tokens()[rows], tokens(seed=5)[rows], prompt_mask=(torch.arange(12) < 4).expand(2, -1)[rows])
        return model(tokens()[rows]).loss if case.kind is NonAutoregressiveWrapper else model(tokens()[rows])

    return Subject(case.build, loss)


STACKS = {f'{kind.__name__} {case}': of_stack(kind, case) for kind, cases in ((Decoder, DECODERS), (Encoder, ENCODERS)) for case in cases}
WHOLE_MODELS = {
    **{f'tokens: {case}': of_tokens(case) for case in MODELS},
    **{f'{case}': of_model(case) for case in OF_EVERY_MODEL},
    **{f'{case}': of_wrapper(case) for case in WRAPPED},
    'vectors': Subject(vectors, lambda model, rows: model(drawn(2, 9, 3)[rows])),
    'numbers': Subject(numbers, lambda model, rows: model(ids(2, 9)[rows], drawn(2, 9)[rows])),
    'encoder, decoder': Subject(sides, lambda model, rows: model(ids(2, 9)[rows], ids(2, 7)[rows])),
    'images': Subject(images, lambda model, rows: model(drawn(2, 3, 8, 8)[rows]).square().mean()),
}
SUBJECTS = {**STACKS, **WHOLE_MODELS}


# ------------------------------------------------------------------------------------------------ alone and together


def whole(t: Any) -> Any:
    return t.full_tensor() if isinstance(t, DTensor) else t


def gradients(model: nn.Module) -> dict[str, Any]:
    return {name: whole(p.grad) for name, p in plain(model).named_parameters() if p.requires_grad}


def step(model: Any, subject: Subject, rows: slice, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    random.seed(seed)
    loss = subject.loss(model, rows)
    loss.backward()
    return loss.detach()


def apart(one: dict[str, Any], other: dict[str, Any], bound: float = BOUND) -> str:
    """Where tensors differ, in words; empty where they are the same."""
    if one.keys() != other.keys():
        return f'other names: {sorted(one.keys() ^ other.keys())}'
    for name, a in one.items():
        b = other[name]
        if (a is None) != (b is None):
            return f'{name} is {"missing" if a is None else "too many"}'
        if a is not None and (a.shape != b.shape or not (a - b).abs().max() <= bound * max(1.0, b.abs().max())):
            return f'{name} is off by {(a - b).abs().max() if a.shape == b.shape else a.shape}'
    return ''


def chancy(subject: Subject) -> bool:
    """Whether the loss is drawn: then that of some rows says nothing of that of all."""
    model = subject.build()
    with torch.no_grad():
        torch.manual_seed(0)
        first = subject.loss(model, slice(None))
        return bool(first != subject.loss(model, slice(None)))


def trains_alike(rank: int, name: str, strategy: str, count: int) -> str:
    """What differs between a model alone and its processes together, whose seeds are their own; or its refusal."""
    subject = SUBJECTS[name]
    rows = slice(None) if strategy == 'tp' else slice(rank, BATCH, count)
    try:
        model = parallelize(subject.build(), strategy)
    except FlagError as error:
        return f'refused: {error}'
    step(model, subject, rows, seed=rank)
    step(model, subject, rows, seed=rank)  # DDP tells of parameters that the first left without a gradient
    found = gradients(model)
    if strategy != 'tp' and chancy(subject):
        shown = 'self_cond_train_prob' in name  # always: then nothing is learnt of having nothing to show
        return ', '.join(f'{key} is missing' for key, grad in found.items() if grad is None and not (shown and key == 'null_embed'))
    if rank:
        return ''
    alone = subject.build()
    step(alone, subject, slice(None))
    step(alone, subject, slice(None))
    return apart(found, gradients(alone))


def all_train_alike(rank: int, names: list[str], strategy: str, count: int) -> dict[str, str]:
    told = {}
    for name in names:
        try:
            told[name] = trains_alike(rank, name, strategy, count)
        except Exception as error:
            raise RuntimeError(f'{strategy} of {name}') from error
    return {name: said for name, said in told.items() if said}


