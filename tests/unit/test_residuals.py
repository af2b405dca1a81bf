"""Residuals against their formulas, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from x_transformers import Decoder, Encoder
from x_transformers.errors import InputError
from x_transformers.residuals import GRUGating, HyperConnection, ResiDual, Residual, spread_streams, sum_streams

DOUBLE = {'dtype': torch.float64}


def test_a_residual_is_branch_plus_scaled_stream() -> None:
    y, x = torch.randn(2, 3, 8, **DOUBLE), torch.randn(2, 3, 8, **DOUBLE)
    assert torch.equal(Residual(8)(y, x), y + x)
    scaled = Residual(8, scale_residual=True, scale_residual_constant=0.5).double()
    scaled.residual_scale.data.normal_()
    torch.testing.assert_close(scaled(y, x), y + x * scaled.residual_scale * 0.5)


def test_a_gated_residual_is_the_gru_of_the_paper() -> None:
    y, x = torch.randn(2, 3, 8, **DOUBLE), torch.randn(2, 3, 8, **DOUBLE)
    gate = GRUGating(8, scale_residual=True).double()
    gate.residual_scale.data.normal_()
    h, cell = x * gate.residual_scale, gate.gru
    from_branch = (y @ cell.weight_ih.T + cell.bias_ih).chunk(3, dim=-1)
    from_stream = (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, dim=-1)
    reset, update = ((from_branch[k] + from_stream[k]).sigmoid() for k in (0, 1))
    candidate = (from_branch[2] + reset * from_stream[2]).tanh()
    torch.testing.assert_close(gate(y, x), (1 - update) * candidate + update * h)


@pytest.mark.parametrize('scale', [1.0, 0.1])
def test_resi_dual_is_the_recursion_of_the_paper(scale: float) -> None:
    stack = Encoder(dim=16, depth=2, heads=2, resi_dual=True, resi_dual_scale=scale, rel_pos_bias=True).double().eval()
    for gain in (p for name, p in stack.named_parameters() if name.endswith('gamma')):
        gain.data.normal_()
    start = torch.randn(2, 5, 16, **DOUBLE)

    def branch_of(index: int, x: Tensor) -> Tensor:
        branch = stack.layers[index].branch
        return branch(x, attn_bias=stack.rel_pos(5, 5)) if index % 2 == 0 else branch(x)

    x, dual = start, scale * start
    for index, layer in enumerate(stack.layers):
        y = branch_of(index, x)
        x, dual = layer.norms[2](x + y), dual + scale * y
    torch.testing.assert_close(stack(start), x + stack.final_norm(dual))


def test_resi_dual_alone_says_what_it_needs() -> None:
    with pytest.raises(InputError, match='depth of a layer stack'):
        ResiDual(8).prepare(torch.zeros(1, 1, 8))


def test_the_stream_is_clamped_before_the_last_norm() -> None:
    stack = Decoder(dim=16, depth=1, heads=2, softclamp_output=True, softclamp_output_value=0.5).double().eval()
    plain = Decoder(dim=16, depth=1, heads=2).double().eval()
    plain.load_state_dict(stack.state_dict())
    x = torch.randn(1, 4, 16, **DOUBLE)
    _, seen = plain(x, return_hiddens=True)
    stream = seen.layer_hiddens[-1]
    torch.testing.assert_close(stack(x), plain.final_norm((stream / 0.5).tanh() * 0.5))


def hyper_connected(hyper: HyperConnection, x: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
    """The recursion of 2409.19606, token by token: what the branch reads (V, b, n, d), and the new streams (b S, n, d)."""
    s, v = hyper.num_residual_streams, hyper.num_input_views
    b, n, d = x.shape[0] // s, *x.shape[1:]
    views, out = x.new_zeros(v, b, n, d), x.new_zeros(b * s, n, d)
    for row in range(b):
        for t in range(n):
            streams = [x[row * s + k, t] for k in range(s)]
            normed = [torch.nn.functional.layer_norm(stream, (d,)) * hyper.norm.weight for stream in streams]
            alpha = [
                hyper.act(each @ hyper.dynamic_alpha_fn) * hyper.dynamic_alpha_scale + hyper.static_alpha[k]
                for k, each in enumerate(normed)
            ]
            beta = [
                hyper.act(each @ hyper.dynamic_beta_fn) * hyper.dynamic_beta_scale + hyper.static_beta[k] for k, each in enumerate(normed)
            ]
            mixed = [sum(alpha[k][column] * streams[k] for k in range(s)) for column in range(v + s)]
            for k in range(v):
                views[k, row, t] = mixed[k]
            for k in range(s):
                out[row * s + k, t] = mixed[v + k] + beta[k] * branch[row, t]
    return views, out


@pytest.mark.parametrize('tanh', [True, False])
@pytest.mark.parametrize('streams, views', [(1, 1), (3, 1), (2, 3)])
def test_hyper_connections_are_the_recursion_of_the_paper(streams: int, views: int, tanh: bool) -> None:
    hyper = HyperConnection(4, layer_index=1, num_residual_streams=streams, num_input_views=views, tanh=tanh).double()
    for parameter in hyper.parameters():
        parameter.data.normal_()
    x, y = torch.randn(2 * streams, 3, 4, **DOUBLE), torch.randn(2, 3, 4, **DOUBLE)
    weights = torch.randn(views, 2, 3, 4, **DOUBLE), torch.randn(2 * streams, 3, 4, **DOUBLE)
    results = []
    for naive in (False, True):
        given = [t.clone().requires_grad_() for t in (x, y)]
        if naive:
            inputs, out = hyper_connected(hyper, *given)
        else:
            inputs, residual, joining = hyper.prepare(given[0])
            out = hyper(given[1], residual, **joining)
        gradients = torch.autograd.grad(
            (inputs * weights[0].view_as(inputs)).sum() + (out * weights[1]).sum(), [*given, *hyper.parameters()]
        )
        results.append((inputs.view(views, 2, 3, 4), out, *gradients))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow)


def test_hyper_connections_start_as_a_plain_residual_of_one_stream() -> None:
    streams, y = torch.randn(2 * 3, 5, 8, **DOUBLE), torch.randn(2, 5, 8, **DOUBLE)
    hyper = HyperConnection(8, layer_index=4, num_residual_streams=3).double()
    inputs, residual, joining = hyper.prepare(streams)
    torch.testing.assert_close(inputs, streams.view(2, 3, 5, 8)[:, 4 % 3])
    torch.testing.assert_close(hyper(y, residual, **joining), streams + y.repeat_interleave(3, dim=0))


def test_streams_start_from_the_input_and_end_in_their_sum() -> None:
    x, emb = torch.randn(2, 3, 4), torch.randn(5, 4)
    streams = spread_streams(x, emb)
    assert torch.equal(streams[5 + 2], x[1] + emb[2])
    torch.testing.assert_close(sum_streams(streams, 5), 5 * x + emb.sum(dim=0))


def test_streams_are_shown_as_in_2_0_1() -> None:
    stack = Decoder(dim=16, depth=2, heads=2, num_residual_streams=3, qkv_receive_diff_residuals=True)
    _, seen = stack(torch.randn(2, 5, 16), return_hiddens=True)
    assert stack.num_residual_streams == 3 and stack.stream_emb.shape == (3, 16)
    assert [t.shape for t in seen.hiddens] == [(6, 5, 16)] * 2
    assert [t.shape for t in seen.layer_hiddens] == [(3, 2, 5, 16), (2, 5, 16)] * 2 + [(6, 5, 16)]
    for memory, read in zip(seen.memories, seen.layer_hiddens[::2], strict=False):
        torch.testing.assert_close(memory, (read[1] + read[2]) / 2)


@pytest.mark.parametrize('one_norm', [False, True])
def test_branches_of_a_parallel_block_read_the_same_stream(one_norm: bool) -> None:
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, parallel_block=True, parallel_block_one_norm=one_norm).double().eval()
    x = y = torch.randn(2, 5, 16, dtype=torch.float64)
    for attention, feed_forward in (stack.layers[:2], stack.layers[2:]):  # type: ignore[misc]
        second = attention.norms[0] if one_norm else feed_forward.norms[0]
        y = y + attention.branch(attention.norms[0](y)) + feed_forward.branch(second(y))
    torch.testing.assert_close(stack(x), stack.final_norm(y))
    assert len([name for name in stack.state_dict() if name.endswith('gamma')]) == (3 if one_norm else 5)
