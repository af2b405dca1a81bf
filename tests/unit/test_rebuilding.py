"""Keys and values that a caller puts in place of those that were given out are the ones that count."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from x_transformers import Decoder
from x_transformers.attend import Intermediates
from x_transformers.errors import DecodeError
from x_transformers.x_transformers import LayerIntermediates

F64 = {'dtype': torch.float64}
FLAGS: dict[str, dict[str, Any]] = {
    'plain': {},
    'rotary, memory keys': {'rotary_pos_emb': True, 'attn_num_mem_kv': 2},
    'xPos': {'rotary_xpos': True},
    'ALiBi, grouped': {'alibi_pos_bias': True, 'attn_kv_heads': 2, 'attn_add_zero_kv': True},
    'latents': {'attn_use_latent_kv': True, 'attn_dim_latent_kv': 6},
    'latents, sub-heads': {'attn_use_latent_kv': True, 'attn_dim_latent_kv': 6, 'attn_latent_rope_subheads': 1, 'rotary_pos_emb': True},
    'turned latents': {'attn_use_latent_kv': True, 'attn_dim_latent_kv': 6, 'rotary_pos_emb': True},
    'shared values, exponential': {'add_value_residual': True, 'attn_laser': True},
    'repeated layers': {'layers_execute_order': (0, 1, 0, 1, 2, 3), 'rotary_pos_emb': True},
}


def started(flags: dict[str, Any], **inputs: torch.Tensor) -> tuple[Any, torch.Tensor, LayerIntermediates]:
    torch.manual_seed(0)
    stack = Decoder(**{'dim': 16, 'depth': 2, 'heads': 4, 'attn_dim_head': 8, **flags}).double().eval()
    x = torch.randn(2, 9, 16, **F64)
    with torch.no_grad():
        return stack, x, stack(x[:, :8], return_hiddens=True, **inputs)[1]


def edit(cache: LayerIntermediates, fn: Any) -> None:
    for entry in cache.attn_intermediates:
        entry.cached_kv = tuple(None if t is None else fn(t) for t in entry.cached_kv)


@pytest.mark.parametrize('flags', FLAGS.values(), ids=FLAGS)
def test_keys_that_were_cut_are_forgotten(flags: dict[str, Any]) -> None:
    stack, x, cache = started(flags)
    state = cache.state.keep(5)
    edit(cache, lambda t: t[..., -5:, :])
    with torch.no_grad():
        want, _ = stack(x[:, 8:], state=state, return_state=True)
        torch.testing.assert_close(stack(x[:, 8:], cache=cache), want)


@pytest.mark.parametrize('flags', FLAGS.values(), ids=FLAGS)
def test_rows_that_were_turned_around_stay_so(flags: dict[str, Any]) -> None:
    stack, x, cache = started(flags)
    edit(cache, lambda t: t.flip(0))
    with torch.no_grad():
        torch.testing.assert_close(stack(x[:, 8:].flip(0), cache=cache).flip(0), stack(x)[:, 8:])


@pytest.mark.parametrize('flags', FLAGS.values(), ids=FLAGS)
def test_keys_alone_are_enough_to_go_on_from(flags: dict[str, Any]) -> None:
    stack, x, cache = started(flags)
    copied = [Intermediates(cached_kv=entry.cached_kv) for entry in cache.attn_intermediates]
    with torch.no_grad():
        out, cache = stack(x[:, 8:], cache=LayerIntermediates(attn_intermediates=copied), return_hiddens=True)
        torch.testing.assert_close(out, stack(x)[:, 8:])
    assert cache.attn_intermediates[0].cached_kv[0].shape[-2] == 9


def test_keys_of_a_context_count_too() -> None:
    context, where = torch.randn(2, 5, 16, **F64), torch.arange(5)
    stack, x, cache = started({'cross_attend': True, 'rotary_pos_emb': True}, context=context, context_pos=where)
    with torch.no_grad():
        edit(cache, lambda t: t.flip(0))
        out = stack(x[:, 8:].flip(0), cache=cache, context=context.flip(0))
        torch.testing.assert_close(out.flip(0), stack(x, context=context, context_pos=where)[:, 8:])


@pytest.mark.parametrize('flags, words', [
    ({'shift_tokens': 1}, 'shift_tokens remembers more'), ({'attn_selective': True}, 'attn_selective remembers more'),
    ({'attn_data_dependent_alibi': True}, 'attn_data_dependent_alibi remembers more'),
])  # fmt: skip
def test_what_remembers_more_is_refused_by_name(flags: dict[str, Any], words: str) -> None:
    stack, x, cache = started(flags)
    edit(cache, torch.clone)
    with pytest.raises(DecodeError, match=f'cached_kv was replaced, and {words}'):
        stack(x[:, 8:], cache=cache)


def test_keys_of_unequal_length_and_of_unknown_tokens_are_refused() -> None:
    stack, x, cache = started({})
    cache.attn_intermediates[0].cached_kv = tuple(t[..., -3:, :] for t in cache.attn_intermediates[0].cached_kv)
    with pytest.raises(DecodeError, match=r'keys of \[3, 8\] tokens; give every self-attention equally many'):
        stack(x[:, 8:], cache=cache)
    edit(cache, lambda t: torch.cat((t, t, t, t), dim=-2)[..., :11, :])
    with pytest.raises(DecodeError, match='keys of 11 tokens, but only 8 are known'):
        stack(x[:, 8:], cache=cache)
