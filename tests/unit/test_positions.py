"""Position schemes: numbers from the papers and from 2.0.1, and equal results by different ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from x_transformers.call import Span
from x_transformers.positions.alibi import AlibiPositionalBias, alibi_slopes
from x_transformers.positions.distance import DistanceBias
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding, TokenEmbedding
from x_transformers.positions.rotary import RotaryEmbedding, apply_rotary_pos_emb, rotate_half, stretch
from x_transformers.positions.t5 import RelativePositionBias, t5_bucket

CPU = torch.device('cpu')


@pytest.mark.parametrize(
    'distance, bucket',
    [(0, 0), (15, 15), (16, 16), (18, 16), (19, 17), (20, 17), (32, 21), (63, 26), (100, 30), (113, 31), (9999, 31), (-1, 0), (-50, 0)],
)
def test_causal_t5_buckets_are_those_of_2_0_1(distance: int, bucket: int) -> None:
    assert t5_bucket(torch.tensor([distance]), True, 32, 128).item() == bucket


@pytest.mark.parametrize('distance, bucket', [(0, 0), (1, 1), (8, 8), (12, 9), (-1, 17), (-8, 24), (-12, 25), (5000, 15), (-5000, 31)])
def test_bidirectional_t5_buckets_are_those_of_2_0_1(distance: int, bucket: int) -> None:
    assert t5_bucket(torch.tensor([distance]), False, 32, 128).item() == bucket


@pytest.mark.parametrize(
    'heads, slopes',
    [
        (1, [0.00390625]),
        (4, [0.25, 0.0625, 0.015625, 0.00390625]),
        (6, [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]),
        (8, [2.0 ** -(k + 1) for k in range(8)]),
        (12, [2.0 ** -(k + 1) for k in range(8)] + [0.7071, 0.3536, 0.1768, 0.0884]),
    ],
)
def test_alibi_slopes_are_those_of_the_paper(heads: int, slopes: list[float]) -> None:
    assert alibi_slopes(heads) == pytest.approx(slopes, abs=1e-4)


def test_alibi_is_minus_slope_times_distance_and_nothing_for_other_heads() -> None:
    bias = AlibiPositionalBias(heads=2, total_heads=3, slopes=[0.5, 2.0])(2, 4)
    distance = torch.tensor([[2.0, 1.0, 0.0, 1.0], [3.0, 2.0, 1.0, 0.0]])
    assert torch.equal(bias, torch.stack((-0.5 * distance, -2.0 * distance, 0 * distance)))


def test_alibi_takes_positions_of_its_own() -> None:
    alibi, pos = AlibiPositionalBias(heads=4), torch.tensor([[0, 1, 2, 3], [5, 7, 7, 90]])
    assert torch.equal(alibi.forward_custom_pos(pos[0]), alibi(4, 4))
    rows = alibi.forward_custom_pos(pos)
    assert rows.shape == (2, 4, 4, 4)
    assert torch.equal(rows[1, :, 0, 3], -85 * alibi.slopes)
    assert torch.equal(alibi.forward_custom_pos(pos[0][-1:], pos[0]), alibi(1, 4))


BIASES: dict[str, Any] = {
    'alibi': lambda: AlibiPositionalBias(heads=2),
    't5': lambda: RelativePositionBias(scale=2.0, causal=True, num_buckets=8, max_distance=16, heads=2),
    't5 both ways': lambda: RelativePositionBias(scale=2.0, num_buckets=8, max_distance=16, heads=2),
    'dynamic': lambda: DynamicPositionBias(8, heads=2, depth=2),
    'dynamic, logarithmic, normed': lambda: DynamicPositionBias(8, heads=2, depth=3, log_distance=True, norm=True),
}


@pytest.mark.parametrize(
    'queries, keys', [(Span(0, 5), Span(0, 5)), (Span(6, 2), Span(0, 8)), (Span(9, 1), Span(4, 6)), (Span(0, 3), Span(-2, 5))]
)
@pytest.mark.parametrize('name', BIASES)
def test_the_table_of_distances_equals_the_grid_of_positions(name: str, queries: Span, keys: Span) -> None:
    bias: DistanceBias = BIASES[name]().double()
    placed = [Span(s.start, s.length, s.positions(CPU).expand(2, -1)) for s in (queries, keys)]
    grid = bias.between(*placed, CPU)
    torch.testing.assert_close(bias.between(queries, keys, CPU).expand_as(grid), grid, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', BIASES)
def test_the_last_queries_get_the_last_rows(name: str) -> None:
    bias: DistanceBias = BIASES[name]().double()
    torch.testing.assert_close(bias(2, 7), bias(7, 7)[:, -2:], rtol=0, atol=1e-12)


def test_a_dynamic_bias_is_its_network_of_the_distance() -> None:
    bias = DynamicPositionBias(8, heads=2, depth=2, log_distance=True).double()
    t = torch.tensor([[-3.0]], dtype=torch.float64)
    y = -torch.log(t.abs() + 1)
    for layer in bias.mlp:
        y = layer(y)
    torch.testing.assert_close(bias.at(torch.tensor([-3])), y)


def test_a_rotary_turn_is_that_of_2_0_1() -> None:
    freqs, scale = RotaryEmbedding(4)(torch.tensor([1]))
    turned = apply_rotary_pos_emb(torch.tensor([[[[5.0, 6.0, 7.0, 8.0]]]]), freqs, scale)
    torch.testing.assert_close(turned.flatten(), torch.tensor([-2.3473, 7.4492, 6.9197, 8.0696]), rtol=0, atol=1e-4)


def test_rotate_half_is_a_quarter_turn() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rotate_half(x).tolist() == [-2.0, 1.0, -4.0, 3.0]
    assert torch.equal(rotate_half(rotate_half(x)), -x)


@pytest.mark.parametrize('factor', [1.0, 4.0])
def test_a_rotary_turn_is_exact_at_position_one_hundred_thousand(factor: float) -> None:
    rotary, at = RotaryEmbedding(32, interpolation_factor=factor), 100_003
    turn = rotary.rotation(Span(at, 1), Span(0, at + 1), CPU, new=1).queries
    x = torch.randn(1, 1, 1, 32)
    angle = at * rotary.inv_freq.numpy().astype(np.float64) / factor
    a, b = x.numpy().astype(np.float64).reshape(16, 2).T
    exact = np.stack((a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)), axis=-1)
    np.testing.assert_allclose(turn(x).numpy().reshape(16, 2), exact, atol=1e-6)


def score(rotary: RotaryEmbedding, q: Tensor, k: Tensor, i: int, j: int) -> Tensor:
    """Product of a query at i and a key at j, as attention forms it."""
    made = rotary.rotation(Span(i, 1), Span(j, i - j + 1), CPU)
    first = lambda t: None if t is None else t[:, :1]
    placed = stretch(made.queries(q), made.query_scale)
    keys = type(made.keys)(made.keys.cos[..., :1, :], made.keys.sin[..., :1, :], rotary.half_split)
    return (placed * stretch(keys(k), first(made.key_scale))).sum()


@pytest.mark.parametrize('half_split', [False, True])
@pytest.mark.parametrize('use_xpos', [False, True])
def test_rotary_scores_depend_on_the_distance_alone(use_xpos: bool, half_split: bool) -> None:
    rotary = RotaryEmbedding(8, use_xpos=use_xpos, scale_base=16, half_split=half_split).double()
    q, k = torch.randn(1, 1, 1, 8, dtype=torch.float64), torch.randn(1, 1, 1, 8, dtype=torch.float64)
    for distance in (0, 1, 7):
        near, far = score(rotary, q, k, distance, 0), score(rotary, q, k, 500 + distance, 500)
        torch.testing.assert_close(near, far, rtol=1e-9, atol=1e-9)


def test_xpos_lets_scores_decay_by_its_factor_per_distance() -> None:
    rotary = RotaryEmbedding(8, use_xpos=True, scale_base=16).double()
    made = rotary.rotation(Span(10, 1), Span(0, 11), CPU)
    assert made.query_scale is not None and made.key_scale is not None
    decay = made.query_scale[:, 0] * made.key_scale[:, 3]
    torch.testing.assert_close(decay[0, ::2], rotary.scale ** (7 / 16))
    assert bool((decay < 1).all())


def test_rotary_interpolation_and_base_follow_their_formulas() -> None:
    freqs, _ = RotaryEmbedding(8, interpolation_factor=2.0)(torch.tensor([6.0]))
    assert torch.equal(freqs, RotaryEmbedding(8)(torch.tensor([3.0]))[0])
    base = 10000 * 3.0 ** (8 / 6)
    expected = torch.tensor([base ** (-2 * k / 8) for k in range(4)])
    torch.testing.assert_close(RotaryEmbedding(8, base_rescale_factor=3.0).inv_freq, expected)
    assert RotaryEmbedding(2, base_rescale_factor=3.0).inv_freq.isfinite().all()


@pytest.mark.parametrize('use_xpos', [False, True])
@pytest.mark.parametrize('queries', [1, 3])
def test_halves_turn_as_neighbours_do_in_another_order(queries: int, use_xpos: bool) -> None:
    """Of ten features six turn: the pairs (0, 3), (1, 4), (2, 5)."""
    order, spans = [0, 3, 1, 4, 2, 5, 6, 7, 8, 9], (Span(4, queries), Span(0, 4 + queries))
    halves, neighbours = (RotaryEmbedding(6, use_xpos, base=50, half_split=half) for half in (True, False))
    t = torch.randn(2, 2, queries, 10)
    turned, expected = (each.rotation(*spans, CPU, width=10) for each in (halves, neighbours))
    placed = stretch(turned.queries(t), turned.query_scale)
    torch.testing.assert_close(placed[..., order], stretch(expected.queries(t[..., order]), expected.query_scale))


def test_features_beyond_the_rotary_width_pass() -> None:
    freqs, scale = RotaryEmbedding(4).forward_from_seq_len(3)
    t = torch.randn(2, 2, 3, 6)
    turned = apply_rotary_pos_emb(t, freqs, scale)
    assert torch.equal(turned[..., 4:], t[..., 4:])
    assert torch.equal(turned[..., 0, :], t[..., 0, :])
    torch.testing.assert_close(turned.norm(dim=-1), t.norm(dim=-1))


def test_scaled_sinusoids_are_all_sines_then_all_cosines() -> None:
    made = ScaledSinusoidalEmbedding(6, theta=100)(torch.zeros(1, 4))
    angles = np.arange(4)[:, None] * 100.0 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(made.detach().numpy(), np.concatenate((np.sin(angles), np.cos(angles)), -1) * 6**-0.5, atol=1e-6)


@pytest.mark.parametrize('make', [lambda: ScaledSinusoidalEmbedding(8), lambda: AbsolutePositionalEmbedding(8, 10)])
def test_absolute_positions_count_from_the_first_real_token(make: Any) -> None:
    embed, x = make(), torch.zeros(2, 5)
    rows = embed(x, seq_start_pos=torch.tensor([0, 2]))
    torch.testing.assert_close(rows[0], embed(x))
    torch.testing.assert_close(rows[1, 2:], embed(x)[:3])
    torch.testing.assert_close(embed(x, pos=torch.tensor([4, 3, 2, 1, 0])), embed(x).flip(0))


def test_learned_positions_are_scaled_or_of_unit_length() -> None:
    plain, unit = AbsolutePositionalEmbedding(16, 8), AbsolutePositionalEmbedding(16, 8, l2norm_embed=True)
    torch.testing.assert_close(plain(torch.zeros(1, 3)), plain.emb.weight[:3] / 4)
    torch.testing.assert_close(unit(torch.zeros(1, 3)).norm(dim=-1), torch.ones(3))
    tokens = TokenEmbedding(16, 8, l2norm_embed=True)
    tokens.init_()
    assert tokens.emb.weight.abs().max() < 1e-4
    torch.testing.assert_close(tokens(torch.tensor([[1, 2]])).norm(dim=-1), torch.ones(1, 2))


@pytest.mark.parametrize('make', [lambda: AlibiPositionalBias(heads=4), lambda: ScaledSinusoidalEmbedding(8)])
def test_tables_that_follow_from_arguments_survive_the_meta_device_and_are_not_saved(make: Any) -> None:
    with torch.device('meta'):
        hollow = make()
    name, _ = hollow._derived
    assert torch.equal(getattr(hollow.to_empty(device='cpu'), name), getattr(make(), name))
    assert name not in make().state_dict()


@pytest.mark.parametrize('name', BIASES)
def test_every_bias_takes_positions_of_its_own(name: str) -> None:
    bias, pos = BIASES[name](), torch.tensor([[0, 1, 2, 3], [5, 7, 7, 90]])
    torch.testing.assert_close(bias.forward_custom_pos(pos[0][-2:], pos[0]), bias(2, 4))
    rows = bias.forward_custom_pos(pos)
    torch.testing.assert_close(rows[0], bias(4, 4))
    torch.testing.assert_close(rows[1, :, 3, 0], bias(86, 86)[:, 85, 0])
