"""Every backend gives the numbers of the reference, with gradients, or refuses and names the flag."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from law_cases import DECODERS, ENCODERS, LENGTH, Case, build_stack, context_of, embeddings, in_pieces

from x_transformers import Decoder, Encoder
from x_transformers.attention.backends import Reference
from x_transformers.errors import BackendError

STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]


def settled(case: Case) -> bool:
    """Whether the case itself says which backend runs."""
    return any(name.endswith('attn_flash') for name in case.stack)


def with_backend(case: Case, kind: type, flash: bool | None) -> Any:
    plain = {name: value for name, value in case.stack.items() if not name.endswith('attn_flash')}
    return build_stack(kind, Case(case.name, plain), attn_flash=flash)


def run(stack: Any, inputs: dict[str, Any], dtype: torch.dtype) -> list[torch.Tensor]:
    """Output and gradients for seeded inputs."""
    stack = stack.to(dtype)
    x = embeddings().to(dtype).requires_grad_()
    cast = lambda t: [cast(part) for part in t] if isinstance(t, list) else t.to(dtype) if t.is_floating_point() else t
    given = {name: cast(value) for name, value in inputs.items()}
    out = stack(x, **given)
    out.square().mean().backward()
    return [out.detach(), x.grad, *(p.grad for p in stack.parameters() if p.grad is not None)]  # type: ignore[list-item]


def masks(kind: type, case: Case) -> list[dict[str, Any]]:
    """Nothing hidden; padding; padding and a mask of one's own, or memories."""
    context = {'context_mask': torch.tensor([[True] * 5, [True] * 3 + [False] * 2])} if case.context_width else {}
    if kind is Decoder:
        layers = sum(step.kind == 'a' for step in Decoder(**case.keywords).plan.steps())
        mems = [embeddings(seed=10 + i, length=3) for i in range(layers)]
        return [{}, {'seq_start_pos': torch.tensor([0, 4]), **context}, {'mems': mems}]
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [7]])
    chosen = torch.rand(case.keywords['heads'], LENGTH, LENGTH, generator=torch.Generator().manual_seed(5)) < 0.6
    return [{}, {'mask': mask, **context}, {'mask': mask, 'attn_mask': chosen | torch.eye(LENGTH, dtype=torch.bool)}]


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_the_backend_that_is_chosen_equals_the_reference(kind: type, case: Case) -> None:
    for extra in masks(kind, case):
        inputs = {**context_of(case, memory=3 if 'mems' in extra else 0), **extra}
        for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 2e-5)):
            chosen = run(with_backend(case, kind, None), inputs, dtype)
            reference = run(with_backend(case, kind, False), inputs, dtype)
            assert len(chosen) == len(reference)
            for got, want in zip(chosen, reference, strict=True):
                assert (got - want).abs().max() <= bound * max(1.0, want.abs().max().item())


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_asking_for_a_fused_kernel_gets_one_or_an_error_that_names_the_flag(case: Case) -> None:
    if case.stack.get('cross_attend'):
        return fused_or_refused(case, {'cross_attn_flash': True})
    return fused_or_refused(case, {'attn_flash': True})


def fused_or_refused(case: Case, ask: dict[str, bool]) -> None:
    try:
        stack = build_stack(Decoder, Case(case.name, {**case.stack, **ask}))
    except BackendError as error:
        named = [f'{name.removeprefix("cross_")}={value!r}' for name, value in case.stack.items()]
        assert any(name in str(error) for name in [*named, 'residual_attn=True']), error
        assert 'attn_flash=False' in str(error)
        return
    for layer in stack.layers:
        attention = layer.branch
        while hasattr(attention, 'fn'):
            attention = attention.fn
        if hasattr(attention, 'attend') and attention.config.flash:
            assert not isinstance(attention.attend.backend, Reference)
    given = {**context_of(case), 'seq_start_pos': torch.tensor([0, 4])}
    reference = build_stack(Decoder, Case(case.name, {**case.stack, **dict.fromkeys(ask, False)}))
    with torch.no_grad():
        out, _ = in_pieces(stack, embeddings(), (5, 1, 6), stack.empty_state(capacity=LENGTH), **given)
    fused, want = run(stack, given, torch.float64), run(reference, given, torch.float64)
    assert (out - fused[0])[:, 4:].abs().max() < 1e-10
    assert all((got - wanted).abs().max() < 1e-10 for got, wanted in zip(fused, want, strict=True))


def test_asking_for_attention_maps_changes_no_number() -> None:
    stack = build_stack(Decoder, Case('', {'attn_flash': True, 'alibi_pos_bias': True}))
    with torch.no_grad():
        whole = stack(embeddings())
        out, seen = stack(embeddings(), return_hiddens=True, return_maps=True)
    assert (out - whole).abs().max() < 1e-10
    assert seen.attn_intermediates[0].post_softmax_attn.shape == (2, 4, LENGTH, LENGTH)
