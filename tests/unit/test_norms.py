"""Norms equal their formulas, and stand where the flags say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Decoder, Encoder, TransformerWrapper
from x_transformers.norms import (
    AdaptiveLayerNorm,
    AdaptiveRMSNorm,
    LayerNorm,
    MultiheadRMSNorm,
    RMSNorm,
    ScaleNorm,
    SimpleRMSNorm,
    Unchanged,
)


def layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def root_mean_square(x: Tensor, eps: float = 0.0) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


FORMULAS = [(LayerNorm, layer_norm), (ScaleNorm, root_mean_square), (RMSNorm, root_mean_square), (SimpleRMSNorm, root_mean_square)]


@pytest.mark.parametrize('unit_offset', [False, True])
@pytest.mark.parametrize('norm, formula', FORMULAS)
def test_a_norm_is_its_formula_times_its_gain(norm: Any, formula: Any, unit_offset: bool) -> None:
    x, made = torch.randn(2, 3, 16, dtype=torch.float64), norm(16, unit_offset=unit_offset).double()
    torch.testing.assert_close(made(x), formula(x))
    for gain in made.parameters():
        assert torch.all(gain == 1.0 - unit_offset)
        nn.init.normal_(gain)
        torch.testing.assert_close(made(x), formula(x) * (gain + unit_offset))


def test_a_layer_norm_may_have_a_bias() -> None:
    x, made = torch.randn(2, 3, 16, dtype=torch.float64), LayerNorm(16, bias=True, eps=1e-3).double()
    assert made.beta is not None and torch.all(made.beta == 0)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    torch.testing.assert_close(made(x), layer_norm(x, 1e-3) * made.gamma + made.beta)


def test_the_norm_of_embeddings_is_as_the_flags_of_the_stack_say() -> None:
    stack = Encoder(dim=16, depth=1, norm_bias=True, norm_eps=1e-12)
    model = TransformerWrapper(num_tokens=8, max_seq_len=4, attn_layers=stack, post_emb_norm=True)
    assert isinstance(model.post_emb_norm, LayerNorm)
    assert model.post_emb_norm.eps == 1e-12 and model.post_emb_norm.beta is not None


@pytest.mark.parametrize('norm, formula', FORMULAS)
def test_eps_joins_the_mean_of_squares(norm: Any, formula: Any) -> None:
    x = torch.randn(2, 3, 16, dtype=torch.float64)
    torch.testing.assert_close(norm(16, eps=0.3).double()(x), formula(x, 0.3))


@pytest.mark.parametrize('norm, formula', [(AdaptiveLayerNorm, layer_norm), (AdaptiveRMSNorm, root_mean_square)])
def test_eps_joins_the_mean_of_squares_of_adaptive_norms(norm: Any, formula: Any) -> None:
    x, condition = torch.randn(2, 3, 16, dtype=torch.float64), torch.randn(2, 16, dtype=torch.float64)
    torch.testing.assert_close(norm(16, eps=0.3).double()(x, condition=condition), formula(x, 0.3))


@pytest.mark.parametrize('norm', [norm for norm, _ in FORMULAS])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_eps_is_not_lost_in_half_precision(norm: Any, dtype: torch.dtype) -> None:
    x = 1e-3 * torch.randn(2, 16).to(dtype)
    made = norm(16, eps=1e-6)
    exact, found = made.double()(x.double()), made.to(dtype)(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, atol=0.02, rtol=0.01)


@pytest.mark.parametrize('shape', [(2, 5), (2, 3, 5)], ids=['per row', 'per token'])
@pytest.mark.parametrize('norm, formula', [(AdaptiveLayerNorm, layer_norm), (AdaptiveRMSNorm, root_mean_square)])
def test_an_adaptive_norm_is_its_formula_times_a_gain_of_the_condition(norm: Any, formula: Any, shape: tuple[int, ...]) -> None:
    x, condition, made = torch.randn(2, 3, 16).double(), torch.randn(shape).double(), norm(16, dim_condition=5).double()
    torch.testing.assert_close(made(x, condition=condition), formula(x))
    nn.init.normal_(made.to_gamma.weight)
    expected = torch.empty_like(x)
    for b in range(2):
        for n in range(3):
            followed = condition[b] if len(shape) == 2 else condition[b, n]
            expected[b, n] = formula(x[b, n]) * (1 + made.to_gamma.weight @ followed)
    torch.testing.assert_close(made(x, condition=condition), expected)


def test_each_head_has_gains_of_its_own() -> None:
    x, made = torch.randn(2, 4, 3, 8, dtype=torch.float64), MultiheadRMSNorm(8, heads=4).double()
    nn.init.normal_(made.gamma)
    torch.testing.assert_close(made(x)[:, 2], root_mean_square(x[:, 2]) * (1 + made.gamma[2, 0]))


@pytest.mark.parametrize('norm', [norm for norm, _ in FORMULAS])
def test_a_zero_row_stays_finite(norm: Any) -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    norm(4)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(
    'flags, slots, final',
    [
        ({}, (LayerNorm, Unchanged, Unchanged), LayerNorm),
        ({'pre_norm': False}, (Unchanged, Unchanged, LayerNorm), Unchanged),
        ({'sandwich_norm': True}, (LayerNorm, LayerNorm, Unchanged), LayerNorm),
        ({'resi_dual': True}, (Unchanged, Unchanged, LayerNorm), LayerNorm),
        ({'use_rmsnorm': True}, (RMSNorm, Unchanged, Unchanged), RMSNorm),
        ({'use_scalenorm': True, 'sandwich_norm': True}, (ScaleNorm, ScaleNorm, Unchanged), ScaleNorm),
        ({'use_simple_rmsnorm': True, 'pre_norm': False}, (Unchanged, Unchanged, SimpleRMSNorm), Unchanged),
        ({'use_adaptive_rmsnorm': True}, (AdaptiveRMSNorm, Unchanged, Unchanged), AdaptiveRMSNorm),
        ({'use_adaptive_layernorm': True, 'pre_norm': False}, (Unchanged, Unchanged, AdaptiveLayerNorm), Unchanged),
    ],
)
def test_norms_stand_where_the_flags_say(flags: dict[str, Any], slots: tuple[type, ...], final: type) -> None:
    stack = Encoder(dim=16, depth=1, heads=2, **flags)
    for layer in stack.layers:
        assert tuple(map(type, layer.norms)) == slots
    assert type(stack.final_norm) is final


def test_a_sandwich_norm_norms_the_branch_before_it_joins() -> None:
    stack = Encoder(dim=16, custom_layers='f', sandwich_norm=True).double().eval()
    x = torch.randn(1, 4, 16, dtype=torch.float64)
    expected = layer_norm(x + layer_norm(stack.layers[0].branch(layer_norm(x))))
    torch.testing.assert_close(stack(x), expected)


def test_a_stack_says_which_condition_it_needs() -> None:
    assert not Encoder(dim=16, depth=1).need_condition
    scaled = Encoder(dim=16, depth=1, use_adaptive_layerscale=True)
    assert scaled.need_condition and scaled.dim_condition == 16
    normed = Encoder(dim=16, depth=1, use_adaptive_rmsnorm=True, dim_condition=6, adaptive_condition_mlp=True)
    assert normed.dim_condition == 6 and normed.adaptive_mlp[0].weight.shape == (24, 6)
    assert normed.final_norm.to_gamma.weight.shape == (16, 24)


def test_a_condition_per_row_is_that_of_each_of_its_tokens() -> None:
    stack = Encoder(dim=16, depth=1, heads=2, use_adaptive_rmsnorm=True, use_adaptive_layerscale=True).double().eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, condition = torch.randn(2, 5, 16).double(), torch.randn(2, 16).double()
    per_token = stack(x, condition=condition[:, None].expand(-1, 5, -1))
    torch.testing.assert_close(stack(x, condition=condition), per_token)
    torch.testing.assert_close(stack(x, condition=condition[:, None]), per_token)


def test_the_first_layer_may_read_the_stream_as_it_is() -> None:
    bare, normed = (Encoder(dim=16, depth=2, heads=2, norm_first_layer=first).double().eval() for first in (False, True))
    missing, unexpected = bare.load_state_dict(normed.state_dict(), strict=False)
    assert not missing and unexpected == ['layers.0.0.0.gamma']
    x, seen = torch.randn(2, 3, 16, dtype=torch.float64), []
    bare.layers[0].branch.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    bare(x)
    assert torch.equal(seen[0], x)


def test_absent_parts_are_called_where_a_hook_looks_on() -> None:
    stack, seen = Decoder(dim=16, depth=1, heads=2), []
    norms, attention = stack.layers[0][0], stack.layers[0][1]
    absent = [norms[1], norms[2], attention.to_v_gate]
    for module in absent:
        module.register_forward_hook(lambda module, given, out: seen.append(module))
    norms[2].register_full_backward_hook(lambda module, of_input, of_output: seen.append('backward'))
    stack(torch.randn(1, 4, 16, requires_grad=True)).sum().backward()
    assert seen == [absent[2], absent[0], absent[1], 'backward']
