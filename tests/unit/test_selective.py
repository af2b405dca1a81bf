"""Selective attention against its readable twin."""

from __future__ import annotations

import pytest
import torch

from x_transformers import Attention
from x_transformers.attend import Attend
from x_transformers.attention.scores import naive_select, select, selection_of
from x_transformers.call import Span
from x_transformers.errors import DecodeError, FlagError

F64 = {'dtype': torch.float64}
LOWEST = torch.finfo(torch.float64).min


def causal_scores(n: int = 7) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, n, n, **F64).masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), LOWEST).requires_grad_()


def test_running_sums_equal_the_sums_written_out_with_gradients() -> None:
    sim = causal_scores()
    out = select(sim, selection_of(Span(0, 7), Span(0, 7), None, 0, sim.device))
    want = naive_select(sim)
    torch.testing.assert_close(out, want)
    weight = torch.randn_like(want).tril()
    (got,), (wanted,) = (torch.autograd.grad((t * weight).sum(), sim) for t in (out, want))
    torch.testing.assert_close(got, wanted)


def test_sums_go_on_where_an_earlier_call_ended() -> None:
    sim = causal_scores().detach()
    first = selection_of(Span(0, 4), Span(0, 4), None, 0, sim.device)
    early = select(sim[:, :, :4, :4], first)
    later = selection_of(Span(4, 3), Span(0, 7), None, 0, sim.device)
    later.deselected = torch.nn.functional.pad(first.deselected, (0, 0, 0, 3))
    whole = naive_select(sim)
    torch.testing.assert_close(early, whole[:, :, :4, :4])
    torch.testing.assert_close(select(sim[:, :, 4:], later), whole[:, :, 4:])


def test_the_first_token_the_token_itself_and_memory_are_never_deselected() -> None:
    exempt = selection_of(Span(0, 3), Span(-2, 5), None, 1, torch.device('cpu')).exempt[0, 0]
    assert exempt[2].tolist() == [True, True, True, True, False, True]  # zero key, two memories, first token, second, itself


def test_attend_alone_takes_the_earlier_keys_for_memory() -> None:
    q, k = torch.randn(1, 2, 3, 4, **F64), torch.randn(1, 2, 5, 4, **F64)
    _, seen = Attend(causal=True, selective=True)(q, k, k)
    plain = Attend(causal=True)(q, k, k)[1].pre_softmax_attn
    changed = (seen.pre_softmax_attn != plain)[0, 0]
    assert not changed[:, :3].any() and not changed.diagonal(2).any()


def test_only_causal_attention_selects() -> None:
    with pytest.raises(FlagError, match='selective=True is not possible here'):
        Attention(dim=8, selective=True)


def test_cached_keys_alone_are_not_enough() -> None:
    attention, x = Attention(dim=8, causal=True, selective=True), torch.randn(1, 4, 8)
    _, seen = attention(x, return_intermediates=True)
    with pytest.raises(DecodeError, match='selective needs more of earlier tokens'):
        attention(x[:, -1:], cache=seen)
