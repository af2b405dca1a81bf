"""Attention's verbs one by one: kernels against the reference, weights against definitions, masks against loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import Attention
from x_transformers.attend import Attend, one_hot_straight_through, softclamp, sparse_topk_attn
from x_transformers.attention.backends import SDPA, Recipe, Reference, choose, grouped_sdpa
from x_transformers.attention.keys import lead_records
from x_transformers.attention.masks import KeyRule, visible
from x_transformers.attention.naive import naive_attention
from x_transformers.attention.project import l2norm, merge_heads, split_heads
from x_transformers.attention.scores import negative_squared_distances, products, with_distance_features
from x_transformers.call import Span
from x_transformers.errors import BackendError
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.t5 import RelativePositionBias

CPU = torch.device('cpu')
F64 = {'dtype': torch.float64}


def qkv(h: int, g: int, i: int, j: int, d: int = 8, e: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, h, i, d, **F64), torch.randn(2, g, j, d, **F64), torch.randn(2, g, j, e, **F64)


@pytest.mark.parametrize('queries', [1, 5])
@pytest.mark.parametrize('masked', ['not', 'by key', 'by head', 'by time'])
@pytest.mark.parametrize('heads, groups', [(4, 4), (4, 2), (4, 1), (6, 3), (1, 1)])
def test_the_fused_kernel_equals_the_readable_form(heads: int, groups: int, masked: str, queries: int) -> None:
    q, k, v = qkv(heads, groups, queries, 5)
    causal = masked == 'by time' and queries == 5
    shape = {'not': None, 'by key': (2, 1, 1, 5), 'by head': (2, heads, queries, 5), 'by time': None}[masked]
    allowed = torch.ones(2, heads, queries, 5, dtype=torch.bool)
    mask = None
    if shape:
        keep = torch.rand(shape) > 0.4
        keep[..., 0] = True
        mask, allowed = torch.zeros(shape, **F64).masked_fill(~keep, -1e300), keep.expand_as(allowed)
    if causal:
        allowed = torch.ones(5, 5, dtype=torch.bool).tril().expand_as(allowed)
    expected = naive_attention(q, k, v, allowed, torch.zeros(1, 1, 1, 1, **F64), 0.3)
    torch.testing.assert_close(grouped_sdpa(q, k, v, mask, causal, 0.3, 0.0), expected)


@pytest.mark.parametrize('flags', [{}, {'causal': True}, {'add_zero_kv': True}, {'l2_distance': True}, {'scale': 0.2}])
@pytest.mark.parametrize('groups', [4, 2, 1])
def test_both_backends_give_one_result(groups: int, flags: dict[str, Any]) -> None:
    q, k, v = qkv(4, groups, 5, 5)
    bias, mask = torch.randn(4, 5, 5, **F64), torch.rand(2, 5) > 0.3
    mask[:, 0] = True
    fused, formed = Attend(flash=True, **flags), Attend(flash=False, **flags)
    torch.testing.assert_close(fused(q, k, v, mask=mask, attn_bias=bias)[0], formed(q, k, v, mask=mask, attn_bias=bias)[0])


def test_query_heads_share_key_heads_in_turn() -> None:
    q, k, _ = qkv(6, 2, 3, 3)
    sim = products(q, k)
    for head in range(6):
        torch.testing.assert_close(sim[:, head], q[:, head] @ k[:, head % 2].transpose(-1, -2))


def test_heads_split_and_merge_without_loss() -> None:
    t = torch.randn(2, 5, 12)
    assert torch.equal(merge_heads(split_heads(t, 3)), t)
    assert torch.equal(split_heads(t, 3)[:, 1], t[..., 4:8])


def test_distances_by_products_equal_distances() -> None:
    q, k, _ = qkv(4, 2, 3, 5)
    expected = -torch.cdist(q, k.repeat(1, 2, 1, 1)).square()
    torch.testing.assert_close(negative_squared_distances(q, k), expected)
    torch.testing.assert_close(2 * products(*with_distance_features(q, k)), expected)


def test_groups_of_features_have_unit_length_of_their_own() -> None:
    t = l2norm(torch.randn(2, 3, 12), groups=3)
    torch.testing.assert_close(t.unflatten(-1, (3, 4)).norm(dim=-1), torch.ones(2, 3, 3))


def test_the_zero_slot_comes_first_then_the_memory() -> None:
    _, k, v = qkv(2, 2, 1, 3)
    memory = torch.randn(2, 2, 8, **F64), torch.randn(2, 2, 8, **F64)
    keys, values = lead_records(memory, True, k, v)
    assert [t.shape[-2] for t in keys] == [1, 2] and not keys[0].any() and not values[0].any()
    assert torch.equal(keys[1][1], memory[0]) and torch.equal(values[1][0], memory[1])


@pytest.mark.parametrize('k', [1, 2, 4, 9])
def test_top_k_is_softmax_over_the_largest(k: int) -> None:
    scores = torch.randn(2, 3, 6, **F64)
    got = sparse_topk_attn(scores, k, lambda t: t.softmax(dim=-1))
    for row, weights in zip(scores.flatten(0, 1), got.flatten(0, 1)):
        chosen = row.argsort(descending=True)[:k]
        expected = torch.zeros(6, **F64)
        expected[chosen] = row[chosen].softmax(dim=-1)
        torch.testing.assert_close(weights, expected)


def test_top_k_keeps_all_that_tie_and_nothing_that_is_hidden() -> None:
    hidden = -torch.finfo(torch.float32).max
    weights = sparse_topk_attn(torch.tensor([[1.0, 2.0, 1.0, 0.0], [3.0, hidden, hidden, hidden]]), 2, lambda t: t.softmax(dim=-1))
    assert (weights > 0).tolist() == [[True, True, True, False], [True, False, False, False]]
    assert weights[0, 0] == weights[0, 2]


def test_straight_through_changes_gradients_and_no_number() -> None:
    scores = torch.randn(2, 5, **F64, requires_grad=True)
    soft, probe = scores.softmax(dim=-1), torch.randn(2, 5, **F64)
    wanted = torch.autograd.grad((soft * probe).sum(), scores)[0]
    through = sparse_topk_attn(scores, 2, lambda t: t.softmax(dim=-1), straight_through=True)
    torch.testing.assert_close(through, sparse_topk_attn(scores, 2, lambda t: t.softmax(dim=-1)))
    torch.testing.assert_close(torch.autograd.grad((through * probe).sum(), scores)[0], wanted)
    hard = one_hot_straight_through(scores)
    torch.testing.assert_close(hard, torch.nn.functional.one_hot(scores.argmax(dim=-1), 5).double())
    torch.testing.assert_close(torch.autograd.grad((hard * probe).sum(), scores)[0], wanted)


def test_a_soft_clamp_is_bounded_and_flat_only_far_out() -> None:
    t = torch.linspace(-1000, 1000, 101, **F64)
    assert softclamp(t, 5.0).abs().max() <= 5.0
    torch.testing.assert_close(softclamp(t * 1e-5, 5.0), t * 1e-5, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize('window', [None, 0, 2, 50])
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('queries, keys', [(Span(0, 6), Span(0, 6)), (Span(4, 2), Span(0, 6)), (Span(5, 1), Span(3, 3))])
def test_a_rule_hides_what_its_sentence_says(queries: Span, keys: Span, causal: bool, window: int | None) -> None:
    found = visible(KeyRule(causal, window), queries, keys, None, 0, CPU).mask()
    allowed = torch.ones(queries.length, keys.length, dtype=torch.bool) if found is None else found
    for row, i in enumerate(queries.order(CPU).tolist()):
        for column, j in enumerate(keys.order(CPU).tolist()):
            expected = (not causal or j <= i) and (window is None or i - j <= window)
            assert bool(allowed[..., row, column]) == expected


def test_keys_that_belong_to_no_token_are_always_seen() -> None:
    padding = torch.tensor([[False, True, True]])
    seen = visible(KeyRule(True, 0), Span(0, 3), Span(0, 3, visible=padding), None, 2, CPU).mask()
    assert seen is not None and seen[..., :2].all() and seen.shape[-1] == 5


def test_a_query_that_sees_nothing_gets_zero_from_padding_alone() -> None:
    q, k, v = qkv(2, 2, 3, 3)
    mask = torch.tensor([[True, True, True], [False, False, False]])
    for flash in (False, None):
        out, _ = Attend(flash=flash)(q, k, v, mask=mask)
        assert not out[1].any() and out[0].any()


def test_the_reference_refuses_nothing_and_the_kernel_names_the_flag() -> None:
    recipe = Recipe((('attn_hard=True', 'fused kernels know only softmax'),))
    assert Reference().refuses(recipe) is None and SDPA().refuses(Recipe(())) is None
    assert SDPA().refuses(recipe) == 'attn_hard=True: fused kernels know only softmax'
    assert [choose(recipe, None).name, choose(Recipe(()), None).name, choose(Recipe(()), False).name] == ['reference', 'sdpa', 'reference']
    with pytest.raises(BackendError, match='attn_hard=True'):
        choose(recipe, True)


def test_the_chosen_backend_is_shown() -> None:
    assert 'backend=sdpa' in repr(Attention(dim=16)) and 'backend=reference' in repr(Attention(dim=16, hard=True))


def test_attention_is_the_formula_of_the_paper() -> None:
    attention = Attention(dim=16, heads=2, dim_head=8, flash=False).double()
    x, context = torch.randn(2, 3, 16, **F64), torch.randn(2, 5, 16, **F64)
    q, k, v = (split_heads(linear(t), 2) for linear, t in ((attention.to_q, x), (attention.to_k, context), (attention.to_v, context)))
    weights = (q @ k.transpose(-1, -2) / 8**0.5).softmax(dim=-1)
    torch.testing.assert_close(attention(x, context), attention.to_out(merge_heads(weights @ v)))
    _, seen = attention(x, context, return_intermediates=True)
    torch.testing.assert_close(seen.post_softmax_attn, weights)


def test_attention_alone_goes_on_from_the_intermediates_of_earlier_tokens() -> None:
    attention = Attention(dim=16, heads=2, dim_head=8, causal=True).double()
    x = torch.randn(2, 6, 16, **F64)
    whole, (first, seen) = attention(x), attention(x[:, :4], return_intermediates=True)
    second = attention(x[:, 4:], cache=seen)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole)


@pytest.mark.parametrize('rel_pos', [AlibiPositionalBias(2), RelativePositionBias(1.0, heads=2)])
def test_attention_alone_takes_positions_of_memory_and_tokens(rel_pos: Any) -> None:
    attention, x, mem = Attention(dim=16, heads=2, dim_head=8), torch.randn(2, 4, 16), torch.randn(2, 3, 16)
    expected = attention(x, mem=mem, rel_pos=rel_pos)
    torch.testing.assert_close(attention(x, mem=mem, rel_pos=rel_pos, pos=torch.arange(7)), expected)


@pytest.mark.parametrize('flags', [{'gate_values': True}, {'gate_value_heads': True}, {'head_scale': True}])
def test_gates_start_open(flags: dict[str, bool]) -> None:
    gated, plain = Attention(dim=16, heads=2, **flags), Attention(dim=16, heads=2)
    plain.load_state_dict(gated.state_dict(), strict=False)
    x = torch.randn(1, 4, 16)
    torch.testing.assert_close(gated(x), plain(x), rtol=1e-3, atol=1e-3)


def test_biases_join_every_projection() -> None:
    torch.manual_seed(0)
    x, made = torch.randn(2, 5, 16, **F64), Attention(16, heads=2, dim_head=8, kv_heads=1, qkv_bias=True, out_bias=True).double()
    assert {name for name, _ in made.named_parameters() if name.endswith('bias')} == {'to_q.bias', 'to_k.bias', 'to_v.bias', 'to_out.bias'}
    q, k, v = (x @ each.weight.t() + each.bias for each in (made.to_q, made.to_k, made.to_v))
    weights = (q.unflatten(-1, (2, 8)).transpose(1, 2) @ k[:, None].transpose(-1, -2) / 8**0.5).softmax(dim=-1)
    torch.testing.assert_close(made(x), merge_heads(weights @ v[:, None]) @ made.to_out.weight.t() + made.to_out.bias)


def test_a_last_projection_that_starts_at_zero_has_a_zero_bias() -> None:
    made = Attention(16, zero_init_output=True, out_bias=True, on_attn=True)
    assert all(parameter.abs().max() == 0 for parameter in made.to_out.parameters())


def test_rms_norms_of_heads_share_a_gain() -> None:
    torch.manual_seed(0)
    x, made = torch.randn(2, 5, 16, **F64), Attention(16, heads=2, dim_head=8, kv_heads=1, qk_rmsnorm=True, qk_rmsnorm_eps=0.2).double()
    assert made.q_rmsnorm is not None and made.k_rmsnorm is not None and made.q_rmsnorm.g.shape == made.k_rmsnorm.g.shape == (8,)
    assert torch.all(made.q_rmsnorm.g == 1)
    torch.nn.init.normal_(made.q_rmsnorm.g)
    q = made.to_q(x).unflatten(-1, (2, 8)).transpose(1, 2)
    torch.testing.assert_close(made.queries(x), q / (q.square().mean(dim=-1, keepdim=True) + 0.2).sqrt() * made.q_rmsnorm.g)
