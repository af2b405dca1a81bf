"""Rotary frequencies for longer sequences equal the formulas of their papers, and what follows the length says so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.call import Span
from x_transformers.errors import DecodeError, InputError
from x_transformers.positions.rotary import RotaryEmbedding, apply_rotary_pos_emb

CPU = torch.device('cpu')
DIM = 16
PAIRS = np.arange(DIM // 2)
TRAINED = 10_000.0 ** (-2 * PAIRS / DIM)
TURNS = 2048 * TRAINED / (2 * math.pi)  # within 2048 tokens
DYNAMIC = {'kind': 'dynamic', 'factor': 4.0, 'original_length': 6}


def mixed(kept: Any, factor: float) -> Any:
    return kept * TRAINED + (1 - kept) * TRAINED / factor


def ramp(low: float, high: float) -> Any:
    return 1 - np.clip((PAIRS - low) / (high - low), 0, 1)


FACTORS = tuple(1.0 + 0.5 * k for k in range(DIM // 2))
EXPECTED: list[tuple[dict[str, Any], Any, float]] = [
    ({'kind': 'linear', 'factor': 4.0}, TRAINED / 4, 1.0),
    # the pair that turns r times within 2048 tokens is number 8 ln(2048 / 2 pi r) / ln 10,000: 2.01 for 32 turns, 5.03 for one
    ({'kind': 'yarn', 'factor': 4.0, 'original_length': 2048}, mixed(ramp(2, 6), 4), 1 + 0.1 * math.log(4)),
    ({'kind': 'yarn', 'factor': 4.0, 'original_length': 2048, 'truncate': False, 'attention_factor': 1.5},
        mixed(ramp(8 * math.log(2048 / (64 * math.pi)) / math.log(10_000), 8 * math.log(2048 / (2 * math.pi)) / math.log(10_000)), 4), 1.5),
    ({'kind': 'yarn', 'factor': 4.0, 'original_length': 2048, 'beta_fast': 4.0, 'beta_slow': 0.5},
        mixed(ramp(3, 6), 4), 1 + 0.1 * math.log(4)),
    ({'kind': 'llama3', 'factor': 8.0, 'original_length': 2048, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0},
        mixed(np.clip((TURNS - 1) / 3, 0, 1), 8), 1.0),
    ({'kind': 'longrope', 'factor': 16.0, 'original_length': 256, 'factors': FACTORS}, TRAINED / FACTORS, math.sqrt(1.5)),
    ({'kind': 'longrope', 'factor': 16.0, 'original_length': 256, 'factors': FACTORS, 'attention_factor': 2.0}, TRAINED / FACTORS, 2.0),
]  # fmt: skip


@pytest.mark.parametrize('scaling, frequencies, size', EXPECTED, ids=str)
def test_scaled_frequencies_are_those_of_the_papers(scaling: dict[str, Any], frequencies: Any, size: float) -> None:
    rotary = RotaryEmbedding(DIM, scaling=scaling)
    np.testing.assert_allclose(rotary.inv_freq.numpy(), frequencies, rtol=1e-5)
    turn = rotary.rotation(Span(100_000, 3), Span(0, 100_003), CPU, new=3).queries
    angles = np.arange(100_000, 100_003)[:, None] * rotary.inv_freq.numpy().astype(np.float64)
    np.testing.assert_allclose(turn.cos[0, 0, :, ::2].numpy(), size * np.cos(angles), atol=2e-7)
    np.testing.assert_allclose(turn.sin[0, 0, :, 1::2].numpy(), size * np.sin(angles), atol=2e-7)


@pytest.mark.parametrize('half_split', [False, True])
def test_ready_angles_carry_the_size(half_split: bool) -> None:
    scaling = {'kind': 'longrope', 'factor': 16.0, 'original_length': 256, 'factors': FACTORS}
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=DIM, rotary_pos_emb=True, rotary_scaling=scaling, rotary_half_split=half_split,
        rotary_emb_dim=DIM).eval()  # fmt: skip
    x, ready = torch.randn(2, 5, 16), stack.rotary_pos_emb.forward_from_seq_len(5)
    torch.testing.assert_close(stack(x, rotary_pos_emb=ready), stack(x))
    if not half_split:
        t = torch.randn(2, 2, 5, DIM)
        torch.testing.assert_close(apply_rotary_pos_emb(t, *ready), stack.rotary_pos_emb.rotation(Span(0, 5), Span(0, 5), CPU).queries(t))


def test_dynamic_frequencies_follow_the_length_of_each_row() -> None:
    rotary, seen = RotaryEmbedding(DIM, scaling=DYNAMIC), torch.arange(12) < torch.tensor([[12], [9], [6], [3]])
    _, growth = rotary.growth(Span(0, 12, visible=seen), CPU)
    assert growth is not None
    for row, length in enumerate((12, 9, 6, 6)):
        base = 10_000 * (4 * length / 6 - 3) ** (DIM / (DIM - 2))
        np.testing.assert_allclose((rotary.inv_freq * growth[row, 0]).numpy(), base ** (-2 * PAIRS / DIM), rtol=1e-6)


@pytest.mark.parametrize('kind', [Decoder, Encoder])
def test_rows_of_dynamic_frequencies_give_what_they_give_alone(kind: type) -> None:
    stack = kind(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True, rotary_scaling=DYNAMIC).double().eval()
    x = torch.randn(2, 12, 16, dtype=torch.float64)
    left, right = stack(x, seq_start_pos=torch.tensor([0, 3])), stack(x, mask=torch.arange(12) < torch.tensor([[12], [9]]))
    torch.testing.assert_close(left[1:, 3:], stack(x[1:, 3:]))
    torch.testing.assert_close(right[1:, :9], stack(x[1:, :9]))
    longer = kind(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True).double().eval()
    longer.load_state_dict(stack.state_dict())
    torch.testing.assert_close(stack(x[:, :6]), longer(x[:, :6]))
    assert not torch.allclose(stack(x), longer(x))


@pytest.mark.parametrize('flags', [{}, {'attn_max_attend_past': 4}, {'cross_attend': True}], ids=str)
def test_dynamic_frequencies_of_packed_documents_follow_the_length_of_each(flags: dict[str, Any]) -> None:
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True, rotary_scaling=DYNAMIC, **flags).double().eval()
    x, ids = torch.randn(1, 20, 16, dtype=torch.float64), torch.tensor([[7] * 9 + [2] * 3 + [4] * 7 + [-1]])
    context, of_context, beside = torch.randn(1, 20, 16, dtype=torch.float64), torch.tensor([[2] * 10 + [4] * 2 + [7] * 7 + [-1]]), {}
    pos = lambda n: torch.arange(n)[None]
    if flags.get('cross_attend'):
        placed = torch.cat((pos(10), pos(2), pos(7), pos(1)), dim=1)
        beside = {'context': context, 'context_pos': placed, 'context_document_ids': of_context}
    packed = stack(x, document_ids=ids, **beside)
    for each in (7, 2, 4):
        own = context[:, of_context[0] == each]
        alone = {'context': own, 'context_pos': pos(own.shape[1])} if beside else {}
        torch.testing.assert_close(packed[:, ids[0] == each], stack(x[:, ids[0] == each], **alone), rtol=1e-9, atol=1e-9)


def test_dynamic_frequencies_are_not_decoded_in_pieces_but_generate() -> None:
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, rotary_pos_emb=True, rotary_scaling=DYNAMIC)
    model = AutoregressiveWrapper(TransformerWrapper(num_tokens=11, max_seq_len=16, attn_layers=stack)).eval()
    with pytest.raises(DecodeError, match='follow from the length of the sequence'):
        stack(torch.randn(1, 3, 16), return_state=True)
    written = model.generate(torch.tensor([[1, 2, 3]]), 8, temperature=0.0)
    tokens = torch.tensor([[1, 2, 3]])
    for _ in range(8):
        tokens = torch.cat((tokens, model.net(tokens)[:, -1:].argmax(dim=-1)), dim=1)
    assert torch.equal(written, tokens[:, 3:])


def of_its_own() -> Any:
    torch.manual_seed(0)
    scaling = ({'kind': 'linear', 'factor': 4.0}, None, None)
    flags = {'rotary_base': (1e4, 100.0, 100.0), 'rotary_scaling': scaling, 'attn_max_attend_past': (None, 3, 3)}
    return Decoder(dim=16, depth=3, heads=2, attn_dim_head=8, rotary_pos_emb=True, **flags).double().eval()


def test_layers_share_the_frequencies_that_are_alike() -> None:
    stack = of_its_own()
    assert [name for name in stack.state_dict() if 'inv_freq' in name] == ['rotary_pos_emb.0.inv_freq', 'rotary_pos_emb.1.inv_freq']
    np.testing.assert_allclose(stack.rotary_pos_emb[0].inv_freq, np.array([1, 1e-2]) / 4)
    np.testing.assert_allclose(stack.rotary_pos_emb[1].inv_freq, [1, 1e-1])
    assert [layer.branch.config.rotary for layer in stack.layers[::2]] == [0, 1, 1]


def test_keys_that_a_caller_put_back_turn_by_the_frequencies_of_their_layer() -> None:
    stack, x = of_its_own(), torch.randn(2, 6, 16, dtype=torch.float64)
    _, seen = stack(x[:, :5], return_hiddens=True)
    for each in seen.attn_intermediates:
        each.cached_kv = tuple(t.clone() for t in each.cached_kv)
    torch.testing.assert_close(stack(x[:, 5:], cache=seen), stack(x)[:, 5:])


def test_ready_angles_are_of_one_embedding() -> None:
    stack = of_its_own()
    with pytest.raises(InputError, match='layers have frequencies of their own'):
        stack(torch.randn(1, 3, 16).double(), rotary_pos_emb=stack.rotary_pos_emb[0].forward_from_seq_len(3))


def test_scalings_by_layer_are_plain_data() -> None:
    scalings = (None, {'kind': 'longrope', 'factor': 2.0, 'original_length': 8, 'factors': [1.0, 2.0]})
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True, rotary_base=[100, 50.0], rotary_scaling=scalings)
    assert type(stack.config).from_json(stack.config.to_json()) == stack.config
    assert stack.config.rotary_scaling[1]['factors'] == (1.0, 2.0)
