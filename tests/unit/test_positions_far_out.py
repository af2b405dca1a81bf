"""Positions far from the start are exact, also in models of half precision: against float64 formulas around position 100,000.

Angles are products in double precision of whole positions with the frequencies of the checkpoint, which are float32 numbers; sines and
cosines are rounded once, to float32. (A product in float32 would be off by up to 0.004, half of what separates two positions' bfloat16.)
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from x_transformers import Attention, Decoder, Encoder, TransformerWrapper
from x_transformers.call import Span
from x_transformers.errors import InputError
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.cope import contextual_positions
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.embeddings import ScaledSinusoidalEmbedding
from x_transformers.positions.forgetting import DataDependentAlibi, PerRowDataDependentAlibi
from x_transformers.positions.rotary import RotaryEmbedding, stretch
from x_transformers.positions.t5 import RelativePositionBias

FAR, CPU = 100_000, torch.device('cpu')
SINGLE = 2.0**-24  # half a step of float32 numbers around one
HALVES = (torch.bfloat16, torch.float16)
each_half = pytest.mark.parametrize('dtype', HALVES, ids=lambda dtype: str(dtype)[6:])
each_dtype = pytest.mark.parametrize('dtype', [torch.float32, *HALVES], ids=lambda dtype: str(dtype)[6:])


def apart(got: Tensor, want: Any) -> float:
    return float(np.abs(got.detach().double().numpy() - np.asarray(want)).max())


ROTARY = [{}, {'interpolation_factor': 3.0}, {'base_rescale_factor': 4.0}, {'use_xpos': True}, {'base': 1e6, 'half_split': True}]


@each_dtype
@pytest.mark.parametrize('keywords', ROTARY, ids=str)
def test_rotary_turns_are_exact(keywords: dict[str, Any], dtype: torch.dtype) -> None:
    rotary = RotaryEmbedding(32, **keywords).to(dtype)
    base = keywords.get('base', 10_000) * keywords.get('base_rescale_factor', 1.0) ** (32 / 30)
    exact = base ** -(np.arange(0, 32, 2) / 32)
    assert apart(rotary.inv_freq.double() / torch.from_numpy(exact), 1.0) < 8 * SINGLE  # a power in single precision
    pos = np.arange(FAR, FAR + 50)
    turn = rotary.rotation(Span(FAR, 50), Span(0, FAR + 50), CPU, new=50).queries
    angles = pos[:, None] * rotary.inv_freq.numpy().astype(np.float64) / keywords.get('interpolation_factor', 1.0)
    assert turn.cos.dtype == torch.float32
    halves = 'half_split' in keywords
    twice = (lambda t: np.tile(t, 2)) if halves else (lambda t: t.repeat(2, axis=-1))
    assert apart(turn.cos[0, 0], twice(np.cos(angles))) <= SINGLE
    assert apart(turn.sin[0, 0], twice(np.sin(angles)) * (np.repeat if halves else np.tile)([-1, 1], 16)) <= SINGLE


@each_dtype
def test_sinusoids_are_exact(dtype: torch.dtype) -> None:
    table = ScaledSinusoidalEmbedding(32).to(dtype)
    pos = torch.arange(FAR, FAR + 50)
    angles = pos.numpy()[:, None] * table.inv_freq.numpy().astype(np.float64)
    want = np.concatenate((np.sin(angles), np.cos(angles)), axis=-1) * table.scale.item()
    got = table(torch.zeros(1, 50), pos=pos)
    assert got.dtype == dtype
    assert apart(got, want) <= max(torch.finfo(dtype).eps / 2, 2 * SINGLE) * np.abs(want).max()


@each_dtype
def test_biases_by_distance_are_exact(dtype: torch.dtype) -> None:
    """Queries 100,000 tokens on, keys from the start and right behind them."""
    queries = torch.arange(FAR, FAR + 4)[None]
    keys = torch.cat((torch.arange(4), torch.arange(FAR - 200, FAR)))[None]
    spans = Span(0, 4, queries), Span(0, 204, keys)
    distance = queries.numpy()[0, :, None] - keys.numpy()[0]
    alibi = AlibiPositionalBias(heads=4).to(dtype)
    slopes = np.array([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])
    assert apart(alibi.between(*spans, CPU)[0], -slopes[:, None, None] * distance) == 0
    t5 = RelativePositionBias(scale=2.0, causal=True, heads=3).to(dtype)
    bucket = [[d if d < 16 else min(31, 16 + int(math.log(d / 16) / math.log(8) * 16)) for d in row] for row in distance.tolist()]
    assert torch.equal(t5.between(*spans, CPU)[0], t5.relative_attention_bias.weight[torch.tensor(bucket)].permute(2, 0, 1) * 2.0)
    for log_distance in (False, True):
        dynamic = DynamicPositionBias(16, heads=3, depth=2, log_distance=log_distance).to(dtype)
        exact = copy.deepcopy(dynamic).double().between(*spans, CPU)
        assert (dynamic.between(*spans, CPU) - exact).abs().max() < 2**-18 * exact.abs().max()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert (dynamic.between(*spans, CPU) - exact).abs().max() < 2**-18 * exact.abs().max()


@each_dtype
def test_sums_of_forget_gates_are_exact_behind_many_tokens(dtype: torch.dtype) -> None:
    """Of the sum of 100,000 gates, the last hundred: float32 holds it to half a step of numbers below 1024."""
    torch.manual_seed(0)
    gates, x = DataDependentAlibi(dim=16, heads=2, bias_init=4.6).to(dtype), torch.randn(1, FAR, 16).to(dtype)
    exact = copy.deepcopy(gates).double()
    with torch.no_grad():
        logs = exact.record(x.double())[0, :, :, 0].numpy()
        near = gates.bias(x[:, -1:], gates.record(x), None)[0, :, 0, -100:]
    want = np.stack([[row[at + 1 :].sum() for at in range(FAR - 100, FAR)] for row in logs])
    assert np.abs(logs.sum(axis=-1)).min() > 900
    assert apart(near, want) < 1024 * 2 * SINGLE + 100 * 4 * SINGLE


@each_dtype
def test_sums_by_row_and_contextual_positions_are_exact_behind_many_tokens(dtype: torch.dtype) -> None:
    """Both sum from the query back, so that what is near is exact however much lies behind it."""
    torch.manual_seed(0)
    gates, x = PerRowDataDependentAlibi(dim=16, heads=2).to(dtype), torch.randn(1, FAR, 16).to(dtype)
    sim = torch.randn(1, 2, 1, FAR).to(dtype)
    with torch.no_grad():
        keys = gates.record(x)
        near = gates.bias(x[:, -1:], keys, None)[0, :, 0, -100:]
        raw = (gates.project(x[:, -1:])[0] @ keys.transpose(-1, -2) * gates.scale)[0, :, 0, -100:].double()
    logs = torch.nn.functional.logsigmoid(raw).numpy()
    assert apart(near, np.stack([[row[at:-1].sum() for at in range(100)] for row in logs])) < 100 * 8 * SINGLE
    counted = contextual_positions(sim)[0, :, 0, -100:]
    opened = sim[0, :, 0, -100:].double().sigmoid().numpy()
    assert apart(counted, np.stack([[row[at:].sum() for at in range(100)] for row in opened])) < 100 * 8 * SINGLE


PLACED = {
    'rotary': {'rotary_pos_emb': True},
    'rotary, interpolated': {'rotary_pos_emb': True, 'rotary_interpolation_factor': 2.0},
    'xPos': {'rotary_xpos': True},
    'T5': {'rel_pos_bias': True},
    'ALiBi': {'alibi_pos_bias': True},
    'dynamic': {'dynamic_pos_bias': True},
}


def placed(name: str, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return Decoder(dim=32, depth=2, heads=4, attn_dim_head=8, **PLACED[name]).to(dtype).eval()


@each_dtype
@pytest.mark.parametrize('name', PLACED)
def test_a_stack_gives_the_same_wherever_its_tokens_stand(name: str, dtype: torch.dtype) -> None:
    """Only distances count: at 100,003 as at 0, in one call and in pieces. Rounded positions would be wrong altogether."""
    stack, x, pos = placed(name, dtype), torch.randn(2, 12, 32).to(dtype), torch.arange(12) + FAR + 3
    with torch.no_grad():
        near, far = stack(x), stack(x, pos=pos)
        first, state = stack(x[:, :5], pos=pos[:5], return_state=True)
        pieces = [first]
        for at in range(5, 12):
            out, state = stack(x[:, at : at + 1], pos=pos[at : at + 1], state=state, return_state=True)
            pieces.append(out)
    bound = 4 * torch.finfo(dtype).eps * near.double().norm()
    assert (far - near).double().norm() < bound
    assert (torch.cat(pieces, dim=1) - near).double().norm() < bound


@each_half
def test_buffers_stay_exact_whatever_a_model_is_cast_to_and_loaded_from(dtype: torch.dtype) -> None:
    build = lambda: TransformerWrapper(
        num_tokens=8, max_seq_len=16, scaled_sinu_pos_emb=True,
        attn_layers=Decoder(dim=32, depth=1, heads=2, rotary_xpos=True, disable_abs_pos_emb=False)
    )
    model = build()
    exact = {name: t.clone() for name, t in model.named_buffers()}
    assert {'attn_layers.rotary_pos_emb.inv_freq', 'attn_layers.rotary_pos_emb.scale', 'pos_emb.inv_freq'} <= set(exact)
    same = lambda: all(torch.equal(t, exact[name]) and t.dtype == torch.float32 for name, t in model.named_buffers())
    keys = list(model.state_dict())
    model.to(dtype)
    assert same() and next(model.parameters()).dtype == dtype and list(model.state_dict()) == keys
    rounded = {name: t.to(dtype) for name, t in model.state_dict().items()}  # as a checkpoint of half precision has them
    model.float().load_state_dict(rounded)
    assert same()
    model.half().bfloat16().float()
    assert same()
    own = {**rounded, 'attn_layers.rotary_pos_emb.inv_freq': 0.5 * rounded['attn_layers.rotary_pos_emb.inv_freq']}
    model.load_state_dict(own)
    assert torch.equal(model.attn_layers.rotary_pos_emb.inv_freq, own['attn_layers.rotary_pos_emb.inv_freq'].float())
    with torch.device('meta'):
        empty = build()
    empty.to_empty(device='cpu').load_state_dict(model.state_dict())
    empty.load_state_dict(rounded, assign=True)
    assert all(t.dtype == torch.float32 for t in empty.buffers())


def test_a_model_made_while_half_precision_is_the_default_has_exact_buffers() -> None:
    want = {name: t.clone() for name, t in placed('xPos', torch.float32).named_buffers()}
    torch.set_default_dtype(torch.bfloat16)
    try:
        made = placed('xPos', torch.bfloat16)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(t, want[name]) for name, t in made.named_buffers())


# ------------------------------------------------------------------------------------------------ xPos, which scales by position


def naive_xpos(rotary: RotaryEmbedding, distance: np.ndarray, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Scores of q (d,) with k (d,) so far behind it: complex numbers, turned and shrunk by distance (2212.10554, algorithm 1)."""
    pairs = lambda t: t[0::2] + 1j * t[1::2]
    turn = np.exp(1j * distance[:, None] * rotary.inv_freq.numpy().astype(np.float64))
    shrink = rotary.scale.numpy().astype(np.float64) ** (distance[:, None] / rotary.scale_base)
    return (pairs(q) * np.conj(pairs(k)) * turn * shrink).real.sum(axis=-1)


@pytest.mark.parametrize('seen', [0, 5_000, 300_000])
def test_xpos_scores_are_those_of_the_paper_however_many_tokens_came_before(seen: int) -> None:
    """Also beyond 36,000 tokens from the start, where one middle for all would have no number for its factors."""
    rotary, new = RotaryEmbedding(16, use_xpos=True), 64
    rotation = rotary.rotation(Span(seen, new), Span(0, seen + new), CPU, new=new)
    every = rotary.rotation(Span(0, seen + new), Span(0, seen + new), CPU, new=seen + new).keys
    torch.manual_seed(0)
    q, k = torch.randn(16), torch.randn(16)
    queries = stretch(rotation.queries(q.expand(1, 1, new, 16)), rotation.query_scale)
    keys = stretch(every(k.expand(1, 1, seen + new, 16)), rotation.key_scale)
    got = (queries[0, 0, -1] * keys[0, 0]).sum(dim=-1)
    want = naive_xpos(rotary, np.arange(seen + new)[::-1], q.double().numpy(), k.double().numpy())
    assert got.isfinite().all()
    assert apart(got, want) < 1e-5


@each_dtype
def test_xpos_goes_on_by_state_where_one_call_would_leave_the_numbers_of_its_precision(dtype: torch.dtype) -> None:
    """With a small base the limit is near: a call beyond it is refused, and pieces give what float64 gives in one call."""
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, rotary_xpos=True, rotary_xpos_scale_base=4).to(dtype).eval()
    reach = stack.rotary_pos_emb.reach(dtype)
    x = torch.randn(1, 5 * reach // 2, 16).to(dtype)
    with pytest.raises(InputError, match=rf'x spans {x.shape[1]} positions, .* no further than {reach} in {dtype}'):
        stack(x)
    with pytest.raises(InputError, match=rf'x spans {4 * reach + 1} positions'):
        stack(x[:, :5], pos=torch.arange(5) * reach)
    exact, state, outs = copy.deepcopy(stack).double(), None, []
    with torch.no_grad():
        for part in x.split(reach, dim=1):
            out, state = stack(part, state=state, return_state=True)
            outs.append(out)
        want = exact(x.double())
    got = torch.cat(outs, dim=1)
    assert got.isfinite().all()
    assert (got - want).norm() < 4 * torch.finfo(dtype).eps * want.norm()


def test_xpos_asks_what_autocast_computes_in() -> None:
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, rotary_xpos=True, rotary_xpos_scale_base=4)
    x = torch.randn(1, stack.rotary_pos_emb.reach(torch.float16) + 1, 16)
    assert stack(x).isfinite().all()
    with torch.autocast('cpu', dtype=torch.float16), pytest.raises(InputError, match=r'in torch\.float16'):
        stack(x)


# ------------------------------------------------------------------------------------------------ what half precision cannot hold


def test_lengths_of_nothing_have_no_gradient_in_half_precision() -> None:
    for norm in ('use_rmsnorm', 'use_scalenorm', 'use_simple_rmsnorm'):
        stack = Encoder(dim=16, depth=1, heads=2, attn_qk_norm=True, **{norm: True}).half()
        x = torch.zeros(1, 4, 16, dtype=torch.float16, requires_grad=True)
        out = stack(x)
        out.sum().backward()
        assert x.grad is not None and out.isfinite().all() and x.grad.isfinite().all()


def test_exponentials_beyond_float16_are_weighed_in_float32() -> None:
    torch.manual_seed(0)
    for keywords in ({}, {'flash': False}, {'qk_norm': True, 'qk_norm_dim_scale': True}):
        attention = Attention(dim=16, heads=2, dim_head=8, laser=True, **keywords)
        nn.init.constant_(attention.to_v.weight, 1.0)
        x = torch.rand(1, 6, 16)
        x = 14 * x / x.sum(dim=-1, keepdim=True)  # values of 14, and e^14 is no number of float16
        want = copy.deepcopy(attention).double()(x.double())
        with torch.autocast('cpu', dtype=torch.float16):
            cast = attention(x)
        halved = attention.half()(x.half())
        for got in (cast, halved):
            assert (got - want).norm() < 4 * torch.finfo(torch.float16).eps * want.norm()


def test_what_was_deselected_is_summed_in_float32_over_many_calls() -> None:
    """In bfloat16, 256 + 1 is 256: a sum over one-token calls would stand still."""
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, attn_selective=True).bfloat16().eval()
    x, state = torch.randn(1, 40, 16, dtype=torch.bfloat16), None
    with torch.no_grad():
        for at in range(40):
            _, state = stack(x[:, at : at + 1], state=state, return_state=True)
    assert state.layers[0].records['deselected'].dtype == torch.float32
