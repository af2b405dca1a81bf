"""Padding is invisible: a padded row gives what the row alone gives, and rows do not see each other."""

from __future__ import annotations

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
    so_far,
    tokens,
    wrapper_cases,
)

from x_transformers import Decoder, Encoder

SECOND = slice(1, 2)
STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_left_padding_changes_nothing(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    with torch.no_grad():
        padded = stack(x, seq_start_pos=torch.tensor([0, 4]), **context_of(case))
        alone = stack(x[SECOND, 4:], **context_of(case, SECOND, slice(4, None)))
    assert (padded[SECOND, 4:] - alone).abs().max() < 1e-10
    assert padded.isfinite().all()


@pytest.mark.parametrize('case', [case for case in wrapper_cases() if 'return_only_embed' not in case.model], ids=str)
def test_left_padded_tokens_change_nothing(case: Case) -> None:
    net, x = build_model(case).net, tokens()
    with torch.no_grad():
        padded = net(x, seq_start_pos=torch.tensor([0, 4]))
        alone = net(x[SECOND, 4:])
    assert (padded[SECOND, 4:] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', [case for case in ENCODERS if 'shift_tokens' not in case.stack], ids=str)
def test_right_padding_changes_nothing(case: Case) -> None:
    """Bidirectional token shift reads its neighbours whatever the mask says in feed-forwards, as in 2.0.1."""
    stack, x = build_stack(Encoder, case), embeddings()
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [7]])
    with torch.no_grad():
        padded = stack(x, mask=mask, **context_of(case))
        alone = stack(x[SECOND, :7], **context_of(case, SECOND, slice(7)))
    assert (padded[SECOND, :7] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_gradients_through_padding_are_finite(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings().requires_grad_()
    stack(x, seq_start_pos=torch.tensor([0, 4]), **context_of(case)).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stack.parameters())


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_rows_do_not_see_each_other(kind: type, case: Case) -> None:
    stack, x = build_stack(kind, case), embeddings()
    with torch.no_grad():
        both = stack(x, **context_of(case))
        alone = stack(x[SECOND], **context_of(case, SECOND))
    assert (both[SECOND] - alone).abs().max() < 1e-12


@pytest.mark.parametrize('case', [case for case in DECODERS if case.context_width], ids=str)
def test_padding_of_a_context_changes_nothing(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    short = {name: t[:, :3] if name.startswith('context') else t for name, t in context_of(case, SECOND).items()}
    with torch.no_grad():
        padded, _ = in_pieces(stack, x, (5, 1, 6), context_mask=mask, **inputs)
        alone = stack(x[SECOND], **short)
    assert (padded[SECOND] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_padding_in_front_of_memories_changes_nothing(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    layers = sum(step.kind == 'a' for step in stack.plan.steps())
    mems = [embeddings(seed=10 + i, length=5) for i in range(layers)]
    masks = [torch.tensor([[True] * 5, [False] * 2 + [True] * 3])] * layers
    with torch.no_grad():
        padded, _ = in_pieces(stack, x, (5, 1, 6), mems=mems, mem_masks=masks, **context_of(case, memory=5))
        alone = stack(x[SECOND], mems=[mem[SECOND, 2:] for mem in mems], **context_of(case, SECOND, memory=3))
    assert (padded[SECOND] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_left_padding_behind_memories_changes_nothing(case: Case) -> None:
    stack, x, start = build_stack(Decoder, case), embeddings(), torch.tensor([0, 4])
    layers = sum(step.kind == 'a' for step in stack.plan.steps())
    mems = [embeddings(seed=10 + i, length=3) for i in range(layers)]
    with torch.no_grad():
        padded = stack(x, mems=mems, seq_start_pos=start, **context_of(case, memory=3))
        inputs = context_of(case, SECOND, memory=3)
        inputs |= {name: torch.cat((inputs[name][:, :3], inputs[name][:, 7:]), dim=1) for name in case.per_token}
        alone = stack(x[SECOND, 4:], mems=[mem[SECOND] for mem in mems], **inputs)
    assert (padded[SECOND, 4:] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_padding_on_both_sides_of_memories_changes_nothing(case: Case) -> None:
    stack, x, start = build_stack(Decoder, case), embeddings(), torch.tensor([0, 4])
    layers = sum(step.kind == 'a' for step in stack.plan.steps())
    mems = [embeddings(seed=10 + i, length=5) for i in range(layers)]
    masks = [torch.tensor([[True] * 5, [False] * 2 + [True] * 3])] * layers
    with torch.no_grad():
        padded = stack(x, mems=mems, mem_masks=masks, seq_start_pos=start, **context_of(case, memory=5))
        inputs = context_of(case, SECOND, memory=3)
        inputs |= {name: torch.cat((inputs[name][:, :3], inputs[name][:, 7:]), dim=1) for name in case.per_token}
        alone = stack(x[SECOND, 4:], mems=[mem[SECOND, 2:] for mem in mems], **inputs)
    assert (padded[SECOND, 4:] - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_padding_of_memories_is_forgotten_first(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    layers = sum(step.kind == 'a' for step in stack.plan.steps())
    mems = [embeddings(seed=10 + i, length=5) for i in range(layers)]
    masks = [torch.tensor([[True] * 5, [False] * 2 + [True] * 3])] * layers

    def windowed(rows: slice, memory: int, capacity: int | None, **given: Any) -> torch.Tensor:
        """The later tokens, which see two rows of memory and all tokens."""
        inputs = context_of(case, rows, memory=memory)
        new = {name: t[:, -7:] if name in case.per_token else t for name, t in inputs.items()}
        given['mems'] = [mem[rows, 5 - memory :] for mem in mems]
        _, state = stack(x[rows, :5], state=stack.empty_state(capacity), return_state=True, **given, **so_far(inputs, 5))
        return stack(x[rows, 5:], state=state.keep(7), return_state=True, **new)[0]

    with torch.no_grad():
        for capacity in (None, LENGTH):
            padded = windowed(slice(None), 5, capacity, mem_masks=masks)
            assert (padded[SECOND] - windowed(SECOND, 3, capacity)).abs().max() < 1e-10


def test_a_hidden_key_may_as_well_not_be_there() -> None:
    """`self_attn_kv_mask` hides keys and leaves queries alone."""
    stack, x = build_stack(Decoder, Case('')), embeddings()
    visible = torch.ones(2, LENGTH, dtype=torch.bool)
    visible[:, 3] = False
    changed = x.clone()
    changed[:, 3] += 1 + torch.arange(16)
    with torch.no_grad():
        moved = (stack(changed, self_attn_kv_mask=visible) - stack(x, self_attn_kv_mask=visible)).abs().amax(dim=(0, 2)) > 1e-12
    assert moved.nonzero().flatten().tolist() == [3]
