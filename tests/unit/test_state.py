"""States: growing and preallocated keys agree under any history; maps, reorders and windows keep their meaning."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from x_transformers.call import Span
from x_transformers.errors import DecodeError
from x_transformers.state import ContextKeys, FixedKeys, Fresh, Keys, StackState, Tail, map_tensors, tensors

CPU = torch.device('cpu')


def some(n: int) -> dict[str, Tensor]:
    return {'k': torch.randn(2, 3, n, 4), 'v': torch.randn(2, 3, n, 5)}


def equal(a: Keys | FixedKeys, b: Keys | FixedKeys) -> bool:
    return a.length == b.length and all(torch.equal(t, b.read()[name]) for name, t in a.read().items())


@pytest.mark.parametrize('lead', [0, 2])
@pytest.mark.parametrize('seed', range(6))
def test_preallocated_keys_hold_what_growing_keys_hold_after_any_history(seed: int, lead: int) -> None:
    torch.manual_seed(seed)
    dice, capacity = random.Random(seed), 12
    first = some(lead + 3)
    grown, fixed = Fresh().start(first, lead), Fresh(capacity=capacity).start(first, lead)
    for _ in range(40):
        action, n = dice.choice(('append', 'append', 'keep', 'rewind')), dice.randint(1, 3)
        if action == 'append' and grown.length + n <= capacity:
            new = some(n)
            grown, fixed = grown.append(new), fixed.append(new)
        elif action == 'keep':
            grown, fixed = grown.keep(n + 3), fixed.keep(n + 3)
        elif action == 'rewind' and grown.length > n:
            grown, fixed = grown.rewind(n), fixed.rewind(n)
        assert equal(grown, fixed)


def test_the_lead_survives_every_window() -> None:
    first = some(2 + 4)
    for keys in (Fresh().start(first, 2), Fresh(capacity=8).start(first, 2)):
        kept = keys.keep(1)
        assert torch.equal(kept.read()['k'], torch.cat((first['k'][..., :2, :], first['k'][..., -1:, :]), dim=-2))


def test_a_growing_state_is_a_snapshot_and_a_preallocated_one_is_not() -> None:
    keys = Fresh().start(some(3), 0)
    before = keys.read()['k'].clone()
    keys.append(some(1)).rewind(4).append(some(3))
    assert torch.equal(keys.read()['k'], before)
    fixed = Fresh(capacity=4).start(some(3), 0)
    assert fixed.append(some(1)).buffers['k'] is fixed.buffers['k']


def test_a_full_buffer_says_how_large_it_was_made_and_what_was_wanted() -> None:
    with pytest.raises(DecodeError, match='capacity=4 is too small for 5 tokens'):
        Fresh(capacity=4).start(some(5), 0)
    with pytest.raises(DecodeError, match='capacity=4 is too small for 5 tokens'):
        Fresh(capacity=4).start(some(6), 2).append(some(1))


def test_a_window_makes_room_again_by_moving_the_live_keys_to_the_front() -> None:
    fixed = Fresh(capacity=4).start(some(4), 0)
    new = some(2)
    moved = fixed.keep(2).append(new)
    assert (moved.begin, moved.end) == (0, 4)
    assert torch.equal(moved.read()['k'][..., 2:, :], new['k'])


def test_a_memory_mask_loses_what_the_window_loses() -> None:
    mask = torch.tensor([[True, False, True]] * 2)
    for fresh in (Fresh(memory_mask=mask), Fresh(memory_mask=mask, capacity=6)):
        keys = fresh.start(some(5), 0)
        assert torch.equal(keys.keep(4).memory_mask, mask[:, 1:])
        assert keys.keep(2).memory_mask is None


def test_a_context_does_not_follow_the_window() -> None:
    keys = ContextKeys(some(3))
    assert keys.keep(1) is keys and keys.rewind(1) is keys


def test_a_tail_cannot_be_rewound_and_says_what_can() -> None:
    with pytest.raises(DecodeError, match=r'shift_tokens cannot take back 1 tokens.*from before'):
        Tail(torch.zeros(1, 2, 4), None).rewind(1)


def stack_state() -> StackState:
    return StackState(Span(0, 3), (Fresh().start(some(3), 0), None, Tail(torch.randn(2, 1, 4), None)))


def test_maps_reach_every_tensor_and_keep_the_structure() -> None:
    state = stack_state()
    doubled = map_tensors(lambda t: t * 2, state)
    assert len(tensors(state)) == 3
    assert all(torch.equal(a * 2, b) for a, b in zip(tensors(state), tensors(doubled)))
    assert type(doubled.layers[0]) is Keys and doubled.keys == state.keys and doubled.layers[1] is None


def test_rows_can_be_reordered_and_repeated() -> None:
    state = stack_state()
    index = torch.tensor([1, 1, 0])
    assert all(torch.equal(a[index], b) for a, b in zip(tensors(state), tensors(state.reorder(index))))


def test_a_state_counts_tokens_seen_and_tokens_remembered() -> None:
    state = StackState(Span(0, 6), (Fresh().start(some(6), 0),), extra=2)
    assert (state.length, state.seen, state.remembered) == (6, 4, 4)
    kept = state.keep(3)
    assert (kept.length, kept.seen, kept.remembered, kept.keys.start) == (3, 4, 3, 3)
    assert state.rewind(1).seen == 3
    with pytest.raises(DecodeError, match=r'rewind\(9\) is not possible: the state holds 6 tokens'):
        state.rewind(9)


def test_spans_join_and_split_without_losing_positions_or_padding() -> None:
    left = Span(0, 2, torch.tensor([[5, 6]]))
    right = Span(2, 3, visible=torch.tensor([[True, False, True]] * 2))
    joined = left.join(right, CPU)
    assert joined.positions(CPU).tolist() == [[5, 6, 2, 3, 4]]
    assert joined.visible.tolist() == [[True, True, True, False, True]] * 2
    assert joined.last(3).positions(CPU).tolist() == [[2, 3, 4]]
    assert joined.first(2).positions(CPU).tolist() == [[5, 6]]
    assert joined.last(3).start == 2 and joined.order(CPU).tolist() == [0, 1, 2, 3, 4]
    assert Span().join(right, CPU) is right
