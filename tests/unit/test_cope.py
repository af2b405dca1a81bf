"""Contextual positions against their readable twin."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from x_transformers.attend import Attend
from x_transformers.positions.cope import Counted, contextual_positions, interpolated, naive_cope
from x_transformers.x_transformers import CoPE

F64 = {'dtype': torch.float64}


def inputs(queries: int = 6) -> tuple[torch.Tensor, torch.Tensor, CoPE]:
    torch.manual_seed(0)
    cope = CoPE(dim=4, heads=2, max_pos=4).double()
    torch.nn.init.normal_(cope.pos_emb)
    sim = torch.randn(2, 2, queries, 6, **F64, requires_grad=True)
    return torch.randn(2, 2, queries, 4, **F64, requires_grad=True), sim, cope


@pytest.mark.parametrize('queries', [6, 1])
def test_positions_equal_the_papers_equations_with_gradients(queries: int) -> None:
    q, sim, cope = inputs(queries)
    given = (q, sim, cope.pos_emb)
    out, want = cope(q, sim), naive_cope(*given)
    torch.testing.assert_close(out, want)
    weight = torch.randn_like(want)
    gradients = (torch.autograd.grad((t * weight).sum(), given) for t in (out, want))
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted)


def test_gradients_equal_differences_and_have_gradients_of_their_own() -> None:
    sim, scores = torch.randn(1, 2, 3, 5, **F64, requires_grad=True), torch.randn(1, 2, 3, 4, **F64, requires_grad=True)
    assert torch.autograd.gradcheck(Counted.apply, (sim, scores))
    assert torch.autograd.gradgradcheck(Counted.apply, (sim, scores))


@pytest.mark.parametrize('sought', ['both', 'sim', 'scores'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_gradients_of_gradients_equal_those_of_the_plain_form(dtype: torch.dtype, sought: str) -> None:
    sim = torch.randn(1, 2, 3, 5, dtype=torch.float64, requires_grad=sought != 'scores')
    scores = torch.randn(1, 2, 3, 4).to(dtype).requires_grad_(sought != 'sim')
    learning = [t for t in (sim, scores) if t.requires_grad]
    plain = interpolated(scores, contextual_positions(sim).clamp(max=3))
    twice = []
    for out in (Counted.apply(sim, scores), plain):
        first = torch.autograd.grad(out.square().sum(), learning, create_graph=True)
        twice.append(torch.autograd.grad(sum(t.square().sum() for t in first), learning))
    for got, want in zip(*twice, strict=True):
        torch.testing.assert_close(got, want)


def test_derivatives_by_torch_func_and_in_forward_mode_equal_those_of_the_backward_pass() -> None:
    q, sim, cope = inputs()
    wrt_sim = lambda s: cope(q[:1], s, None)
    rows = torch.stack([torch.autograd.functional.jacobian(wrt_sim, s[None])[..., 0, :, :, :] for s in sim])
    torch.testing.assert_close(torch.func.vmap(torch.func.jacrev(lambda s: wrt_sim(s[None])))(sim), rows)
    direction = torch.randn_like(sim[:1])
    along = (rows[0] * direction[0]).flatten(-3).sum(dim=-1)
    torch.testing.assert_close(torch.func.jvp(wrt_sim, (sim[:1],), (direction,))[1], along)
    with forward_ad.dual_level():
        torch.testing.assert_close(forward_ad.unpack_dual(wrt_sim(forward_ad.make_dual(sim[:1], direction))).tangent, along)


@pytest.mark.parametrize('positions', [1, 3, 16])
def test_gradients_over_many_keys_and_hidden_ones_equal_those_of_the_plain_form(positions: int) -> None:
    hidden = torch.ones(9, 200, dtype=torch.bool).triu(192)
    sim = torch.randn(2, 3, 9, 200, **F64).masked_fill(hidden, -torch.finfo(torch.float64).max).requires_grad_()
    scores, probe = torch.randn(2, 3, 9, positions, **F64, requires_grad=True), torch.randn(2, 3, 9, 200, **F64)
    plain = interpolated(scores, contextual_positions(sim).clamp(max=positions - 1))
    made = Counted.apply(sim, scores)
    torch.testing.assert_close(made, plain)
    gradients = (torch.autograd.grad(out, (sim, scores), probe) for out in (made, plain))
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


def test_positions_by_nearness_equal_their_sum_with_gradients() -> None:
    q, sim, cope = inputs()
    soft = CoPE(dim=4, heads=2, max_pos=4, soft_onehot=True, soft_onehot_temp=0.3).double()
    soft.load_state_dict({**cope.state_dict(), 'positions': torch.arange(4)})
    given = (q, sim, soft.pos_emb)
    out, want = soft(q, sim), naive_cope(*given, temperature=0.3)
    torch.testing.assert_close(out, want)
    weight = torch.randn_like(want)
    gradients = (torch.autograd.grad((t * weight).sum(), given) for t in (out, want))
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted)


def test_no_more_positions_are_counted_than_there_are() -> None:
    q, _, cope = inputs()
    sure = torch.full((2, 2, 6, 6), 40.0, **F64)  # every gate is one
    torch.testing.assert_close(cope(q, sure)[..., 0], q @ cope.pos_emb[-1])
    torch.testing.assert_close(cope(q, sure)[..., -1], q @ cope.pos_emb[1])


def test_a_cold_softmax_over_positions_picks_the_whole_one() -> None:
    q, _, cope = inputs()
    soft = CoPE(dim=4, heads=2, max_pos=4, soft_onehot=True, soft_onehot_temp=1e-3).double()
    soft.load_state_dict({**cope.state_dict(), 'positions': torch.arange(4)})
    whole = torch.full((2, 2, 6, 6), 40.0, **F64)
    torch.testing.assert_close(soft(q, whole), cope(q, whole))


def test_hidden_keys_are_not_counted_whatever_the_heads_say() -> None:
    torch.manual_seed(0)
    q, sim, _ = inputs()
    cope = CoPE(dim=4, heads=2, max_pos=6, talking_heads=True).double()
    torch.nn.init.normal_(cope.pos_emb)
    torch.nn.init.normal_(cope.talking_heads.weight)
    hidden = torch.zeros(6, 6, dtype=torch.bool)
    hidden[:, :2] = True  # two padded keys ahead of the others
    lowest = torch.finfo(torch.float64).min
    whole = cope(q, sim.masked_fill(hidden, lowest), ~hidden)[..., 2:]
    torch.testing.assert_close(whole, cope(q, sim[..., 2:], torch.ones(6, 4, dtype=torch.bool)))


def test_attention_takes_the_module_and_adds_what_it_says() -> None:
    q, _, cope = inputs()
    attend = Attend(causal=True, cope=cope).double()
    _, seen = attend(q, q, q)
    allowed = torch.ones(6, 6, dtype=torch.bool).tril()
    scores = seen.qk_similarities.masked_fill(~allowed, torch.finfo(torch.float64).min)
    torch.testing.assert_close(seen.pre_softmax_attn, scores + cope(q, scores, allowed))
