"""Half precision: every flag under autocast and in parameters of bfloat16 and float16 is finite, and as close to the exact
result as its precision allows; rows in which nothing can be seen are finite in every precision.

The bound. A number is rounded by up to eps / 2, by 0.3 eps on average. From the first embedding to the last output of these
stacks, three blocks at most, a number is rounded some 50 times, and as errors are independent they add up as squares:
0.3 sqrt(50) eps = 2 eps of the norm of the whole. Twice that is what the laws allow, in outputs and in gradients, whose way back is
as long again through numbers half as wrong. Three kinds of flags are looser, and why is known:

- Cosine similarities times `qk_norm_scale` are large scores, s = scale x groups, and a softmax turns an error of its scores into a
  relative one of its weights, and of their gradients: the bound grows with s where s is more than the 2.5 that other scores reach.
- What chooses among scores (`hard`, `sparse_topk`) may choose the other of two that rounding cannot tell apart, and then that one
  token is wrong altogether: the bound holds for the median of all tokens.
- The gradient of `relu` jumps where a feature crosses zero, and rounding may put one on the other side, for that token and a little for
  all that it looked at: the bound holds for the gradients of a quarter of all tokens.

The seconds that fit into `make test` are here; every precision in every way is run with PAIRS=all.
"""

from __future__ import annotations

import copy
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from law_cases import (
    DECODERS,
    ENCODERS,
    LENGTH,
    Case,
    build_model,
    build_stack,
    context_of,
    embeddings,
    in_pieces,
    tokens,
    training_cases,
    wrapper_cases,
)
from test_every_model import CASES as MODELS
from test_every_model import Model
from test_training_wrappers import flags_of, images
from test_training_wrappers import random as drawn
from torch import Tensor, nn

from x_transformers import Decoder, Encoder, ViTransformerWrapper
from x_transformers.state import tensors

BOUND = 4.0  # in units of eps
ALL = os.environ.get('PAIRS') == 'all'
HALVES = (torch.bfloat16, torch.float16)
WAYS = [(dtype, autocast) for dtype in HALVES for autocast in (False, True) if ALL or not (autocast and dtype is torch.float16)]
STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
PRECISIONS = (torch.float32, *HALVES)

each_stack = pytest.mark.parametrize('kind, case', STACKS, ids=[f'{kind.__name__} {case}' for kind, case in STACKS])
each_way = pytest.mark.parametrize('dtype, autocast', WAYS, ids=[f'{str(d)[6:]}{" autocast" * a}' for d, a in WAYS])
each_half = pytest.mark.parametrize('dtype', HALVES, ids=lambda dtype: str(dtype)[6:])
each_precision = pytest.mark.parametrize('dtype', PRECISIONS, ids=lambda dtype: str(dtype)[6:])


def cast(given: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors of nested inputs in another precision."""
    if isinstance(given, Tensor):
        return given.to(dtype) if given.is_floating_point() else given
    if isinstance(given, dict):
        return {name: cast(value, dtype) for name, value in given.items()}
    return type(given)(cast(value, dtype) for value in given) if isinstance(given, (list, tuple)) else given


def precision(dtype: torch.dtype, autocast: bool) -> AbstractContextManager:
    return torch.autocast('cpu', dtype=dtype) if autocast else nullcontext()


def of_torch_itself(case: Case, dtype: torch.dtype, autocast: bool) -> bool:
    """Whether torch cannot run the module beside attention in this way."""
    module = case.stack.get('attn_hybrid_module')
    if not isinstance(module, nn.LSTM) or dtype is not torch.float16 or not autocast:
        return False
    with precision(dtype, autocast), pytest.raises(RuntimeError, match='LSTM'):
        module(torch.randn(1, 3, module.input_size))
    return True


def limit(flags: dict[str, Any], dtype: torch.dtype) -> float:
    """The bound on relative errors."""
    score = 1.0
    for prefix in ('attn_', 'cross_attn_'):
        if any(name.startswith(f'{prefix}qk_norm') for name in flags):
            score = flags.get(f'{prefix}qk_norm_scale', 10) * flags.get(f'{prefix}qk_norm_groups', 1)
    return BOUND * max(1.0, score / 2.5) * torch.finfo(dtype).eps


def chooses(flags: dict[str, Any]) -> float | None:
    """The share of tokens that keep to the bound, where not all of them do."""
    return 0.5 if any(name.endswith(('attn_hard', 'attn_sparse_topk')) for name in flags) else None


def jumps(flags: dict[str, Any]) -> float | None:
    """The same of gradients."""
    return 0.25 if 'ff_relu' in flags else chooses(flags)


def error(got: list[Tensor], want: list[Tensor], share: float | None = None) -> float:
    """Relative to the norm of what is wanted, all tensors together; or what a `share` of the tokens of the first keep to."""
    if share is not None:
        got, want = ([t[0].double().flatten(0, -2)] for t in (got, want))
        return ((got[0] - want[0]).norm(dim=-1) / want[0].norm(dim=-1).clamp(min=1e-30)).quantile(share, interpolation='lower').item()
    got, want = ([t.double().flatten() for t in ts] for ts in (got, want))
    return ((torch.cat(got) - torch.cat(want)).norm() / torch.cat(want).norm()).item()


def step(module: nn.Module, x: Tensor, inputs: dict[str, Any], context: AbstractContextManager) -> tuple[Tensor, list[Tensor]]:
    """Output, and the gradients of the input and of every parameter for a seeded gradient of the output."""
    x = x.detach().requires_grad_()
    with context:
        out = module(x, **inputs)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(out.dtype))
    assert x.grad is not None
    return out.detach(), [x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


@each_way
@each_stack
def test_a_layer_stack_is_as_close_as_its_precision_allows(kind: type, case: Case, dtype: torch.dtype, autocast: bool) -> None:
    """Outputs and gradients of a padded batch, against float64 with the same rounded numbers."""
    if of_torch_itself(case, dtype, autocast):
        return
    held = torch.float32 if autocast else dtype
    padding = {'seq_start_pos': torch.tensor([0, 4])} if kind is Decoder else {'mask': torch.arange(LENGTH) < torch.tensor([[LENGTH], [7]])}
    stack = build_stack(kind, case).to(held)
    exact, x, inputs = copy.deepcopy(stack).double(), embeddings().to(held), cast({**context_of(case), **padding}, held)
    out, grads = step(stack, x, inputs, precision(dtype, autocast))
    want, wanted = step(exact, x.double(), cast(inputs, torch.float64), nullcontext())
    assert out.dtype == (dtype if not autocast else out.dtype) and out.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads)
    assert error([out], [want], chooses(case.stack)) < limit(case.stack, dtype)
    assert error(grads, wanted, jumps(case.stack)) < limit(case.stack, dtype)


@each_half
@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_pieces_in_half_precision_equal_the_whole(case: Case, dtype: torch.dtype) -> None:
    """They differ by the order in which kernels add, and by nothing that grows with the number of pieces."""
    stack, x, start = build_stack(Decoder, case).to(dtype), embeddings().to(dtype), torch.tensor([0, 4])
    inputs = cast({**context_of(case), 'seq_start_pos': start}, dtype)
    with torch.no_grad():
        whole = stack(x, **inputs)
        for capacity in (None, LENGTH) if ALL else (LENGTH,):
            out, _ = in_pieces(stack, x, (5, 1, 1, 5), stack.empty_state(capacity=capacity), **inputs)
            assert out.dtype == dtype
            seen = [[t[0], t[1, 4:]] for t in (out, whole)]
            assert error(*([torch.cat(rows)] for rows in seen), chooses(case.stack)) < limit(case.stack, dtype)


@each_precision
@each_stack
def test_what_sees_nothing_is_finite_in_output_and_gradient(kind: type, case: Case, dtype: torch.dtype) -> None:
    """A row without tokens, a row without context, a query that may see no key."""
    nothing = torch.tensor([[True], [False]])
    blank = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    blank[3] = False
    ways: list[dict[str, Tensor]] = [{'mask': nothing.expand(2, LENGTH), 'attn_mask': blank}]
    if kind is Decoder:
        ways.append({'seq_start_pos': torch.tensor([0, LENGTH])})
    stack, x = build_stack(kind, case).to(dtype), embeddings().to(dtype)
    for way in ways:
        given = {**context_of(case), **way, **({'context_mask': nothing.expand(2, 5)} if case.context_width else {})}
        stack.zero_grad()
        out, grads = step(stack, x, cast(given, dtype), nullcontext())
        assert out.isfinite().all()
        assert all(grad.isfinite().all() for grad in grads)


def trained(
    model: Any, given: tuple[Any, ...], beside: dict[str, Any], context: AbstractContextManager
) -> tuple[list[Tensor], list[Tensor]]:
    """Every output, and the gradient of every parameter."""
    torch.manual_seed(0)
    with context:
        out = model(*given, **beside)
    found = tensors(out)
    sum(t.square().mean() for t in found).backward()  # type: ignore[union-attr]
    return [t.detach() for t in found], [p.grad for p in model.parameters() if p.grad is not None]


def close(model: nn.Module, given: Any, beside: Any, dtype: torch.dtype, autocast: bool) -> None:
    """A model and its float64 twin."""
    held = torch.float32 if autocast else dtype
    model = model.to(held)
    exact = copy.deepcopy(model).double()
    outs, grads = trained(model, cast(given, held), cast(beside, held), precision(dtype, autocast))
    wants, wanted = trained(exact, cast(cast(given, held), torch.float64), cast(cast(beside, held), torch.float64), nullcontext())
    assert all(t.isfinite().all() for t in (*outs, *grads))
    assert autocast or all(t.dtype == dtype or t.ndim == 0 for t in outs)  # a loss may be more precise
    assert error(outs, wants) < limit({}, dtype)
    assert error(grads, wanted) < limit({}, dtype)


@each_way
@pytest.mark.parametrize('case', [case for case in MODELS if len(case.flags) < 2 or ALL], ids=str)
def test_a_model_is_as_close_as_its_precision_allows(case: Model, dtype: torch.dtype, autocast: bool) -> None:
    close(case.build(), *case.inputs(), dtype, autocast)


@each_way
@pytest.mark.parametrize('flags', flags_of(ViTransformerWrapper), ids=str)
def test_a_model_of_images_is_as_close_as_its_precision_allows(flags: dict[str, Any], dtype: torch.dtype, autocast: bool) -> None:
    model = images(**flags)
    close(model, (drawn(2, model.channels, 8, 8),), {}, dtype, autocast)


@each_way
@pytest.mark.parametrize('case', [*training_cases(), *wrapper_cases()], ids=str)
def test_a_loss_is_as_close_as_its_precision_allows(case: Case, dtype: torch.dtype, autocast: bool) -> None:
    if not case.model.keys() & {'return_only_embed', 'logits_dim'}:  # no logits, or none of some of the tokens
        close(build_model(case), (tokens(),), {}, dtype, autocast)


@each_half
@pytest.mark.parametrize('case', [case for case in DECODERS if not case.per_token], ids=str)
def test_generation_in_half_precision_is_finite_and_best(case: Case, dtype: torch.dtype) -> None:
    """Every token that is chosen is the best of the whole, or within rounding of it."""
    model, prompt, inputs = build_model(case).to(dtype), tokens(6), cast(context_of(case), dtype)
    made = model.generate(prompt, 4, temperature=0.0, prompt_lens=torch.tensor([3, 6]), **inputs)
    with torch.no_grad():
        logits = model.net(torch.cat((prompt[1:], made[1:]), dim=1), **{name: t[1:] for name, t in inputs.items()})[0, 5:-1].double()
    assert logits.isfinite().all()
    short = logits.amax(dim=-1) - logits.gather(-1, made[1][:, None])[:, 0]
    assert short.median() / logits.norm(dim=-1).median() < limit(case.stack, dtype)
    if ALL or case.name == 'defaults':
        sampled = model.generate(prompt, 4, temperature=1e-4, filter_logits_fn='top_p', **inputs)
        assert sampled.shape == (2, 4)
