"""Numbers and strings that papers give, by hand or by formulas written anew from the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Encoder, FeedForward, RMSNorm
from x_transformers.call import Span
from x_transformers.layers import LayersConfig
from x_transformers.norms import LayerNorm, ScaleNorm, SimpleRMSNorm
from x_transformers.plan import plan
from x_transformers.positions.alibi import AlibiPositionalBias, alibi_slopes
from x_transformers.positions.rotary import RotaryEmbedding, apply_rotary_pos_emb
from x_transformers.positions.t5 import t5_bucket


def close(made: Tensor, expected: object, atol: float = 1e-6) -> None:
    expected = torch.as_tensor(expected, dtype=made.dtype)
    torch.testing.assert_close(made, expected.expand_as(made), rtol=0, atol=atol)


# ------------------------------------------------------------------------------------------------ T5 buckets


def bucket_of_t5(distance: int, causal: bool, buckets: int, farthest: int) -> int:
    """1910.10683, §2.1: half of the buckets for one distance each, the others logarithmic up to `farthest`. In whole numbers."""
    base = 0
    if causal:
        distance = max(distance, 0)
    else:
        buckets //= 2
        base, distance = (buckets if distance < 0 else 0), abs(distance)
    exact = buckets // 2
    if distance < exact:
        return base + distance
    logarithmic, k = buckets - exact, 0  # the largest k with distance / exact >= (farthest / exact) ^ (k / logarithmic)
    while k + 1 < logarithmic and distance**logarithmic * exact ** (k + 1) >= farthest ** (k + 1) * exact**logarithmic:
        k += 1
    return base + exact + k


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('buckets, farthest', [(32, 128), (32, 100), (16, 64), (8, 32)])
def test_t5_buckets_are_exact_for_near_and_logarithmic_for_far_distances(causal: bool, buckets: int, farthest: int) -> None:
    """1910.10683, §2.1."""
    distances = list(range(-400, 401))
    expected = [bucket_of_t5(distance, causal, buckets, farthest) for distance in distances]
    assert t5_bucket(torch.tensor(distances), causal, buckets, farthest).tolist() == expected


@pytest.mark.parametrize(
    'causal, samples',
    [
        (True, {0: 0, 15: 15, 16: 16, 18: 16, 19: 17, 20: 17, 32: 21, 63: 26, 100: 30, 113: 31, 100_000: 31, -1: 0}),
        (False, {0: 0, 1: 1, 8: 8, 12: 9, 16: 10, -1: 17, -8: 24, -12: 25, 128: 15, -128: 31}),
    ],
)
def test_t5_buckets_of_single_distances(causal: bool, samples: dict[int, int]) -> None:
    """1910.10683 with its 32 buckets up to distance 128."""
    assert t5_bucket(torch.tensor(list(samples)), causal, 32, 128).tolist() == list(samples.values())


def test_t5_puts_all_distances_beyond_its_limit_in_one_bucket() -> None:
    """1910.10683, §2.1: up to an offset of 128, beyond which all relative positions get the same embedding."""
    assert t5_bucket(torch.arange(128, 5000), True, 32, 128).unique().tolist() == [31]
    assert t5_bucket(torch.arange(128, 5000), False, 32, 128).unique().tolist() == [15]


# ------------------------------------------------------------------------------------------------ ALiBi


def test_alibi_slopes_of_eight_heads_are_the_halvings_down_to_1_256th() -> None:
    """2108.12409, §3: 1/2^1, 1/2^2, ..., 1/2^8."""
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_alibi_slopes_of_sixteen_heads_interpolate_by_geometric_means() -> None:
    """2108.12409, §3: 1/2^0.5, 1/2^1, 1/2^1.5, ..., 1/2^8."""
    assert alibi_slopes(16) == pytest.approx([2 ** -(0.5 * k) for k in range(1, 17)])


def test_alibi_slopes_of_twelve_heads_are_those_of_eight_and_every_other_of_sixteen() -> None:
    """2108.12409, the rule of its published code for numbers of heads that are no power of two."""
    assert alibi_slopes(12) == pytest.approx([2.0**-k for k in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_alibi_adds_minus_the_distance_times_the_slope() -> None:
    """2108.12409, §3: q_i K^T + m [-(i - 1), ..., -2, -1, 0]."""
    bias = AlibiPositionalBias(heads=8)(4, 4)
    close(bias[0, -1], [-1.5, -1.0, -0.5, 0.0])
    close(bias[7, -1], [-3 / 256, -2 / 256, -1 / 256, 0.0])


# ------------------------------------------------------------------------------------------------ rotary


@pytest.mark.parametrize('dim', [4, 32, 64, 128])
def test_rotary_frequencies_fall_geometrically_from_one(dim: int) -> None:
    """2104.09864, §3.2.2: theta_i = 10000^(-2(i - 1)/d), i = 1, ..., d/2."""
    close(RotaryEmbedding(dim).inv_freq, [10000 ** (-2 * (i - 1) / dim) for i in range(1, dim // 2 + 1)], atol=1e-7)


def test_rotary_turns_a_pair_by_position_times_frequency() -> None:
    """2104.09864, equation 13, by hand: a turn by 60 degrees takes (2, 0) to (1, sqrt 3) and (0, 2) to (-sqrt 3, 1)."""
    freqs, scale = RotaryEmbedding(2)(torch.tensor([math.pi / 3]))
    for pair, turned in (([2.0, 0.0], [1.0, 3**0.5]), ([0.0, 2.0], [-(3**0.5), 1.0])):
        close(apply_rotary_pos_emb(torch.tensor([[[pair]]]), freqs, scale)[0, 0, 0], turned)


def test_rotary_turns_neighbouring_features_each_pair_at_its_own_speed() -> None:
    """2104.09864, equation 15: in four dimensions the angles at position m are m and m / 100."""
    freqs, scale = RotaryEmbedding(4)(torch.tensor([3.0]))
    turned = apply_rotary_pos_emb(torch.tensor([[[[1.0, 0.0, 0.0, 1.0]]]]), freqs, scale)[0, 0, 0]
    close(turned, [math.cos(3), math.sin(3), -math.sin(0.03), math.cos(0.03)])


def test_rotary_scores_are_those_of_the_complex_form() -> None:
    """2104.09864, equation 12: <f(q, m), f(k, n)> = Re[q k* e^(i (m - n) theta)]."""
    m, n, q, k = 7, 3, torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    rotary = RotaryEmbedding(8).double()
    freqs, scale = rotary(torch.tensor([n, m]))
    place = lambda t: apply_rotary_pos_emb(t.expand(1, 1, 2, 8), freqs, scale)[0, 0]
    complex_of = lambda t: torch.view_as_complex(t.view(4, 2))
    turn = torch.polar(torch.ones(4, dtype=torch.float64), (m - n) * rotary.inv_freq)
    expected = (complex_of(q) * complex_of(k).conj() * turn).real.sum()
    torch.testing.assert_close((place(q)[1] * place(k)[0]).sum(), expected)


def test_interpolated_positions_stay_within_the_trained_length() -> None:
    """2306.15595: f'(x, m) = f(x, m L / L'); from 2048 to 8192 tokens, the last position becomes 2047.75."""
    stretched, _ = RotaryEmbedding(16, interpolation_factor=8192 / 2048)(torch.tensor([8191.0]))
    close(stretched, RotaryEmbedding(16)(torch.tensor([2047.75]))[0], atol=0)


@pytest.mark.parametrize('dim, factor', [(64, 4.0), (128, 8.0)])
def test_a_rescaled_base_interpolates_the_lowest_frequency_and_leaves_the_highest(dim: int, factor: float) -> None:
    """2309.00071, §3.1 (NTK-aware): b' = b s^(d / (d - 2)), so the last frequency is divided by s and the first is not."""
    plain, rescaled = RotaryEmbedding(dim).inv_freq, RotaryEmbedding(dim, base_rescale_factor=factor).inv_freq
    base = 10000 * factor ** (dim / (dim - 2))
    close(rescaled, [base ** (-2 * i / dim) for i in range(dim // 2)], atol=1e-7)
    assert rescaled[0] == plain[0] == 1
    torch.testing.assert_close(rescaled[-1], plain[-1] / factor, rtol=1e-5, atol=0)


# ------------------------------------------------------------------------------------------------ xPos


def zeta(dim: int) -> list[float]:
    """2212.10554: zeta_i = (i / (d/2) + gamma) / (1 + gamma), i = 0, ..., d/2 - 1, with gamma = 0.4."""
    return [(i / (dim / 2) + 0.4) / 1.4 for i in range(dim // 2)]


@pytest.mark.parametrize('dim', [4, 32, 64])
def test_xpos_decays_each_pair_by_the_zeta_of_the_paper(dim: int) -> None:
    """2212.10554: the decay of each pair of features, slower the later the pair."""
    scale = RotaryEmbedding(dim, use_xpos=True).scale
    assert scale is not None
    close(scale, zeta(dim))


def test_xpos_scales_scores_by_zeta_to_the_distance_over_512() -> None:
    """2212.10554: queries by zeta^(n / 512), keys by its inverse; only the distance remains."""
    rotary = RotaryEmbedding(8, use_xpos=True).double()
    made = rotary.rotation(Span(1000, 1), Span(0, 1001), torch.device('cpu'))
    assert made.query_scale is not None and made.key_scale is not None
    for distance in (0, 1, 512, 1000):
        decay = made.query_scale[0, 0] * made.key_scale[0, 1000 - distance]
        close(decay[::2], [z ** (distance / 512) for z in zeta(8)], atol=1e-7)
        assert torch.equal(decay[::2], decay[1::2])


# ------------------------------------------------------------------------------------------------ layouts


def layout(**flags: object) -> str:
    return str(plan(LayersConfig.of(None, (), {'dim': 8, **flags})))


@pytest.mark.parametrize('depth, k', [(16, 6), (16, 0), (16, 16), (2, 1)])
def test_a_sandwich_has_attention_first_and_feed_forwards_last(depth: int, k: int) -> None:
    """1911.03864: s^k (sf)^(n - k) f^k; its best language model on WikiText-103 has n = 16 and k = 6."""
    assert layout(depth=depth, sandwich_coef=k or None) == 'a' * k + 'af' * (depth - k) + 'f' * k


def test_par_spreads_one_attention_in_five_layers_over_the_first_two_thirds() -> None:
    """2009.04534: of 24 layers every fifth is attention (a ratio of 5:1), and none stands in the last third."""
    letters = layout(depth=12, par_ratio=5)
    assert letters == 'affff' * 4 + 'ffff'
    assert len(letters) == 24 and letters.count('a') == 24 // 5
    assert 'a' not in letters[16:]


def test_a_macaron_is_attention_between_two_halved_feed_forwards() -> None:
    """1906.02762: x + FFN / 2, then x + attention, then x + FFN / 2."""
    stack = Encoder(dim=16, depth=1, heads=2, macaron=True, attn_dim_head=8).double().eval()
    assert str(stack.plan) == 'faf'
    first, attention, last = (layer.branch for layer in stack.layers)
    norms = [layer.norms[0] for layer in stack.layers]
    x = y = torch.randn(1, 5, 16, dtype=torch.float64)
    y = y + first.fn(norms[0](y)) / 2
    y = y + attention(norms[1](y))
    y = y + last.fn(norms[2](y)) / 2
    torch.testing.assert_close(stack(x), stack.final_norm(y))


# ------------------------------------------------------------------------------------------------ feed-forward and norms


def weights(ff: FeedForward) -> int:
    return sum(p.numel() for p in ff.parameters() if p.ndim == 2)


def test_a_gated_feed_forward_with_two_thirds_of_the_width_has_as_many_weights() -> None:
    """2002.05202, §3: d_ff = 3072 becomes 2048, since three matrices stand for two."""
    plain, gated = FeedForward(dim=768, mult=4, no_bias=True), FeedForward(dim=768, mult=8 / 3, glu=True, no_bias=True)
    assert gated.ff[0].proj.out_features == 2 * 2048
    assert weights(plain) == weights(gated) == 2 * 768 * 3072


@pytest.mark.parametrize(
    'flags, activation',
    [
        ({}, nn.functional.gelu),
        ({'swish': True}, lambda t: t * torch.sigmoid(t)),
        ({'relu_squared': True}, lambda t: t.clamp(min=0) ** 2),
        ({'relu': True}, lambda t: t.clamp(min=0)),
        ({'gelu_tanh': True}, lambda t: 0.5 * t * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (t + 0.044715 * t**3)))),
    ],
)
def test_a_gated_feed_forward_multiplies_the_activated_gate_with_the_value(flags: dict[str, bool], activation: Any) -> None:
    """2002.05202, equation 6: FFN(x) = (act(x W) * x V) W2. The first half of the joint matrix is V, the second W."""
    ff, x = FeedForward(dim=6, glu=True, **flags).double(), torch.randn(4, 6, dtype=torch.float64)
    value, gate = ff.ff[0].proj(x).chunk(2, dim=-1)
    torch.testing.assert_close(ff(x), ff.ff[-1](activation(gate) * value))


def test_gelu_is_exact() -> None:
    """1606.08415, §2: x Phi(x) with the normal distribution function, not its tanh approximation; Phi(1) = 0.841345."""
    activation = FeedForward(dim=4).ff[0][1]
    t = torch.linspace(-4, 4, 33, dtype=torch.float64)
    close(activation(t), 0.5 * t * (1 + torch.special.erf(t / 2**0.5)), atol=1e-12)
    assert activation(torch.tensor(1.0, dtype=torch.float64)).item() == pytest.approx(0.8413447, abs=1e-7)


def test_layer_norm_has_zero_mean_and_unit_variance() -> None:
    """1607.06450, by hand: (1, 2, 3, 4) has mean 2.5 and variance 1.25."""
    close(LayerNorm(4)(torch.tensor([1.0, 2.0, 3.0, 4.0])), [x / 1.25**0.5 for x in (-1.5, -0.5, 0.5, 1.5)], atol=1e-5)


@pytest.mark.parametrize('norm', [RMSNorm, SimpleRMSNorm])
def test_rms_norm_divides_by_the_root_mean_square(norm: type[nn.Module]) -> None:
    """1910.07467 (and 2307.14995 without a gain), by hand: the root mean square of (1, 7) is 5."""
    close(norm(2)(torch.tensor([1.0, 7.0])), [0.2, 1.4])


def test_scale_norm_has_one_length_that_starts_at_the_root_of_the_width() -> None:
    """1910.05895: g x / |x| with g = sqrt(d) at first; (3, 4) has length 5."""
    norm = ScaleNorm(2)
    close(norm(torch.tensor([3.0, 4.0])), [0.6 * 2**0.5, 0.8 * 2**0.5])
    close(norm(torch.randn(5, 2)).norm(dim=-1), 2**0.5)
