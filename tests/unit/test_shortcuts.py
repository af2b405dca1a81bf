"""Shortcuts give what modules give, are taken where they are meant to be, and never past what somebody put on a module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper, shortcuts
from x_transformers.shortcuts import run


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What was multiplied by blocks."""
    made, bmm = [], torch.bmm

    def noted(a: Tensor, b: Tensor) -> Tensor:
        made.append(b)
        return bmm(a, b)

    monkeypatch.setattr(torch, 'bmm', noted)
    return made


def large(out: int = 1024, width: int = 640, **more: Any) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, out, **more)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(1,), (3, 1), (4, 1), (2, 3), (8, 1), (15,), (16, 1), (2, 2, 2)])
def test_a_few_rows_are_multiplied_by_blocks_and_give_the_same(shape: tuple[int, ...], bias: bool, products: list[Tensor]) -> None:
    module, x = large(bias=bias), torch.randn(*shape, 640)
    with torch.no_grad():
        out = run(module, x)
        torch.testing.assert_close(out, module(x), rtol=1e-5, atol=1e-5)
    assert out.shape == (*shape, 1024) and out.is_contiguous()
    assert bool(products) == (shortcuts.FEWEST <= x[..., 0].numel() <= shortcuts.MOST)
    assert all(t.data_ptr() == module.weight.data_ptr() for t in products)  # as it lies: nothing was copied


def odd_width() -> tuple[nn.Module, Tensor]:
    return large(out=1022, width=768), torch.randn(8, 768)


def a_small_weight() -> tuple[nn.Module, Tensor]:
    return large(out=64, width=64), torch.randn(8, 64)


def half_precision() -> tuple[nn.Module, Tensor]:
    return large().bfloat16(), torch.randn(8, 640).bfloat16()


def a_weight_that_does_not_lie_in_order() -> tuple[nn.Module, Tensor]:
    module = large()
    module.weight = nn.Parameter(module.weight.detach().t().contiguous().t())
    return module, torch.randn(8, 640)


def a_sparse_weight() -> tuple[nn.Module, Tensor]:
    module = large()
    module.weight = nn.Parameter(module.weight.detach().to_sparse_csr(), requires_grad=False)
    return module, torch.randn(8, 640)


def a_bias_that_is_no_parameter() -> tuple[nn.Module, Tensor]:
    module = large()
    bias = module.bias.detach()
    del module.bias
    module.bias = bias
    return module, torch.randn(8, 640)


def no_features() -> tuple[nn.Module, Tensor]:
    return nn.Linear(0, 64), torch.randn(8, 0)


class Marked(Tensor):
    """A kind of tensor that a library might put in place of weights."""


def a_weight_of_another_kind() -> tuple[nn.Module, Tensor]:
    module = large()
    module.weight = nn.Parameter(module.weight.detach().as_subclass(Marked))
    return module, torch.randn(8, 640)


OTHERS = [odd_width, a_small_weight, half_precision, a_weight_that_does_not_lie_in_order, a_weight_of_another_kind]
OTHERS += [a_sparse_weight, a_bias_that_is_no_parameter, no_features]


@pytest.mark.parametrize('make', OTHERS, ids=lambda make: make.__name__)
def test_everything_else_is_multiplied_as_ever(make: Any, products: list[Tensor]) -> None:
    module, x = make()
    with torch.no_grad():
        assert torch.equal(torch.as_tensor(run(module, x)), torch.as_tensor(F.linear(x, module.weight, module.bias)))
    assert not products


def test_gradients_go_the_usual_way(products: list[Tensor]) -> None:
    module, x = large(), torch.randn(8, 640)
    run(module, x).sum().backward()
    torch.testing.assert_close(module.weight.grad, x.sum(dim=0).expand(1024, -1))
    assert not products


def test_autocast_goes_the_usual_way(products: list[Tensor]) -> None:
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert run(large(), torch.randn(8, 640)).dtype is torch.bfloat16
    assert not products


def test_hooks_and_a_forward_of_its_own_are_never_passed_by() -> None:
    x, seen = torch.randn(8, 640), []
    note = lambda module, *_: seen.append(module)
    inner, outer = large(), nn.Sequential(large(), nn.Sequential(nn.ReLU(), large(width=1024)))
    handles = [inner.register_forward_hook(note), outer[1].register_forward_pre_hook(note), outer[1][1].register_forward_hook(note)]
    with torch.no_grad():
        run(inner, x), run(outer, x)
        assert seen == [inner, outer[1], outer[1][1]]
        for handle in handles:
            handle.remove()
        everywhere = nn.modules.module.register_module_forward_hook(note)
        run(outer, x)
        everywhere.remove()
        assert {outer, outer[0], outer[1][1]} <= set(seen[3:])
        outer[0].forward = lambda x: torch.zeros(8, 1024)
        torch.testing.assert_close(run(outer, x), outer[1](torch.zeros(8, 1024)))


def test_a_forward_put_in_place_of_that_of_a_kind_is_never_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Sequential(large(), nn.ReLU()), torch.randn(8, 640)
    with torch.no_grad():
        monkeypatch.setattr(nn.Linear, 'forward', lambda self, x: torch.ones(8, 512))
        assert torch.equal(run(model, x), torch.ones(8, 512))
        monkeypatch.setattr(nn.Sequential, 'forward', lambda self, x: torch.zeros(8, 512))
        assert torch.equal(run(model, x), torch.zeros(8, 512))


def test_a_module_compiled_in_place_is_called() -> None:
    module, x = large(), torch.randn(8, 640)
    module.__dict__['_compiled_call_impl'] = lambda x: torch.ones(8, 512)  # as `module.compile()` leaves it
    with torch.no_grad():
        assert torch.equal(run(module, x), torch.ones(8, 512))


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::torch.jit.TracerWarning')
def test_traces_hold_no_blocks(products: list[Tensor]) -> None:
    module = large().requires_grad_(False)
    with torch.no_grad():
        traced = torch.jit.trace(lambda x: run(module, x), torch.randn(8, 640), check_trace=False)
        torch.testing.assert_close(traced(x := torch.randn(3, 2, 640)), module(x))
    assert not products


def test_dropout_is_left_out_only_where_it_does_nothing() -> None:
    model, x = nn.Sequential(nn.Dropout(0.5), large()), torch.ones(1, 640)
    with torch.no_grad():
        assert not torch.equal(run(model, x), run(model, x))
        assert torch.equal(run(model.eval(), x), run(model, x))


def test_a_generation_of_several_rows_takes_them_and_writes_what_it_wrote_without(
    products: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    stack = Decoder(dim=512, depth=1, heads=8, rotary_pos_emb=True)
    model = AutoregressiveWrapper(TransformerWrapper(num_tokens=64, max_seq_len=32, attn_layers=stack))
    prompts = torch.randint(0, 64, (8, 3))
    written = model.generate(prompts, 8, temperature=0.0)
    assert products
    monkeypatch.setattr(shortcuts, 'MOST', 0)
    assert torch.equal(written, model.generate(prompts, 8, temperature=0.0))
