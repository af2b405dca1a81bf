"""Token shift against a loop over tokens and feature parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Decoder, Encoder
from x_transformers.shift import ShiftTokens, shifts_of


def shifted_by_hand(x: Tensor, shifts: tuple[int, ...]) -> Tensor:
    size, out = x.shape[-1] // len(shifts), x.clone()
    for k, amount in enumerate(shifts):
        for t in range(x.shape[1]):
            source = t - amount
            inside = 0 <= source < x.shape[1]
            part = slice(k * size, (k + 1) * size)
            out[:, t, part] = x[:, source, part] if inside else 0.0
    return out


@pytest.mark.parametrize('n', [1, 2, 7])
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('amount', [1, 2, 3])
def test_each_part_of_the_features_comes_from_its_own_neighbour(amount: int, causal: bool, n: int) -> None:
    x, shifts = torch.randn(2, n, 16), shifts_of(amount, causal)
    assert torch.equal(ShiftTokens(shifts, nn.Identity())(x), shifted_by_hand(x, shifts))


@pytest.mark.parametrize('shifts', [(0, 1), (-1, 0, 1), (2, -2), (-1,)])
def test_masked_tokens_send_zeros(shifts: tuple[int, ...]) -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x

    x, mask = torch.randn(2, 6, 12), torch.rand(2, 6) > 0.4
    expected = shifted_by_hand(x.masked_fill(~mask[..., None], 0.0), shifts)
    assert torch.equal(ShiftTokens(shifts, Plain())(x, mask=mask), expected)


def test_shifts_go_back_only_in_causal_stacks_and_both_ways_in_others() -> None:
    assert shifts_of(2, causal=True) == (0, 1, 2)
    assert shifts_of(1, causal=False) == (-1, 0, 1)
    assert Decoder(dim=12, depth=1, shift_tokens=1).layers[0].branch.shifts == (0, 1)
    assert Encoder(dim=12, depth=1, shift_tokens=1).layers[0].branch.shifts == (-1, 0, 1)


@pytest.mark.parametrize('cut', range(1, 7))
def test_the_tail_carries_a_shift_over_a_cut(cut: int) -> None:
    shift, x = ShiftTokens((0, 1, 3), nn.Identity()), torch.randn(2, 7, 9)
    whole, _ = shift.shift(x, None)
    first, tail = shift.shift(x[:, :cut], None)
    second, _ = shift.shift(x[:, cut:], tail)
    assert torch.equal(torch.cat((first, second), dim=1), whole)
