"""Latent attention: scores with latents equal scores with the keys that they stand for, and nothing else is remembered."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from x_transformers import Attention, Decoder
from x_transformers.attention.project import absorb_queries, expand_values, split_heads
from x_transformers.attention.scores import products, weigh
from x_transformers.errors import FlagError

F64 = {'dtype': torch.float64}
LATENT = {'use_latent_kv': True, 'dim_latent_kv': 6}


@pytest.mark.parametrize('heads, groups', [(4, 4), (4, 2), (4, 1)])
def test_absorbed_scores_and_values_equal_expanded_ones_with_gradients(heads: int, groups: int) -> None:
    torch.manual_seed(0)
    given = [torch.randn(shape, **F64, requires_grad=True) for shape in ((2, heads, 3, 5), (2, 7, 6), (groups * 5, 6), (groups * 4, 6))]
    q, latent, to_k, to_v = given
    k, v = split_heads(latent @ to_k.t(), groups), split_heads(latent @ to_v.t(), groups)
    want = weigh(products(q, k).softmax(dim=-1), v)
    absorbed = absorb_queries(q, to_k, 6, 0) @ latent[:, None].transpose(-1, -2)
    out = expand_values(absorbed.softmax(dim=-1) @ latent[:, None], to_v, groups)
    torch.testing.assert_close(out, want)
    for got, wanted in zip(torch.autograd.grad(out.square().sum(), given), torch.autograd.grad(want.square().sum(), given), strict=True):
        torch.testing.assert_close(got, wanted)


def test_keys_with_a_bias_are_kept_expanded_and_decode_alike() -> None:
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=1, heads=4, attn_dim_head=8, attn_use_latent_kv=True, attn_dim_latent_kv=6, attn_qkv_bias=True)
    stack, x = stack.double().eval(), torch.randn(2, 5, 16, **F64)
    start, state = stack(x[:, :3], return_state=True)
    assert set(state.layers[0].read()) == {'k', 'v'}
    torch.testing.assert_close(torch.cat((start, stack(x[:, 3:], state=state)), dim=1), stack(x))


def test_the_last_heads_meet_their_own_key_sub_heads() -> None:
    torch.manual_seed(0)
    q, latent, subheads, to_k = (torch.randn(shape, **F64) for shape in ((2, 4, 3, 5), (2, 7, 6), (2, 2, 7, 5), (10, 6)))
    k = torch.cat((split_heads(latent @ to_k.t(), 2), subheads), dim=1)
    shared = torch.cat((latent, subheads.transpose(1, 2).flatten(-2)), dim=-1)[:, None]
    torch.testing.assert_close(absorb_queries(q, to_k, 6, 2) @ shared.transpose(-1, -2), q @ k.transpose(-1, -2))


@pytest.mark.parametrize('more, remembered', [
    ({}, {'latent': 6}),
    ({'attn_latent_rope_subheads': 1, 'rotary_pos_emb': True}, {'latent': 6, 'subheads': 4}),
    ({'rotary_pos_emb': True}, {'k': 4, 'v': 4}),  # keys that are turned are no product with the latent any more
])  # fmt: skip
def test_latents_are_all_that_is_remembered_where_keys_are_products_with_them(more: dict[str, Any], remembered: dict[str, int]) -> None:
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=4, attn_use_latent_kv=True, attn_dim_latent_kv=6, **more)
    for capacity in (None, 8):
        _, state = stack(torch.randn(1, 5, 16), state=stack.empty_state(capacity=capacity), return_state=True)
        records = state.layers[0].read()
        assert {name: t.shape[-1] for name, t in records.items()} == remembered


def test_kept_latents_are_never_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=4, attn_use_latent_kv=True, attn_dim_latent_kv=6)
    x = torch.randn(1, 9, 16)
    with torch.no_grad():
        whole = stack(x)
        _, state = stack(x[:, :8], return_state=True)
        monkeypatch.setattr(Attention, 'keys_and_values', lambda *_: pytest.fail('keys were expanded'))
        out, _ = stack(x[:, 8:], state=state, return_state=True)
    torch.testing.assert_close(out, whole[:, 8:])


def test_alone_it_goes_on_from_its_cached_latents() -> None:
    attention, x = Attention(dim=8, heads=2, dim_head=4, causal=True, **LATENT).double(), torch.randn(1, 5, 8, **F64)
    _, seen = attention(x[:, :4], return_intermediates=True)
    assert seen.cached_kv[0].shape == (1, 4, 6) and seen.cached_kv[1] is None
    torch.testing.assert_close(attention(x[:, 4:], cache=seen), attention(x)[:, 4:])


@pytest.mark.parametrize('flags, words', [
    ({'use_latent_kv': True}, 'use_latent_kv=True is not possible here: the width of the latent is missing'),
    ({'use_latent_q': True}, 'use_latent_q=True is not possible here: the width of the latent is missing'),
    ({'latent_rope_subheads': 1}, 'latent_rope_subheads=1 is not possible here: they stand beside a latent'),
    ({**LATENT, 'latent_rope_subheads': 2, 'heads': 2}, 'latent_rope_subheads=2 is not possible here: it must be below'),
    ({**LATENT, 'latent_rope_subheads': 1, 'rotate_num_heads': 1}, 'latent_rope_subheads=1 cannot be combined with rotate_num_heads=1'),
    ({**LATENT, 'qkv_receive_diff_residuals': True}, 'use_latent_kv=True cannot be combined with qkv_receive_diff_residuals=True'),
])  # fmt: skip
def test_what_makes_no_latent_is_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(FlagError, match=words):
        Attention(dim=8, **flags)
