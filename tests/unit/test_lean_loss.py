"""A loss made without its logits is the loss made of them: value, gradients, and who gets logits all the same."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper, XLAutoregressiveWrapper, XTransformer
from x_transformers.errors import FlagError, InputError
from x_transformers.training import lean
from x_transformers.training.lean import LeanHead
from x_transformers.training.losses import token_loss

V = 11
STACK = {'dim': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8}
each = partial(pytest.mark.parametrize, ids=str)


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


def net(**flags: Any) -> TransformerWrapper:
    torch.manual_seed(0)
    made = TransformerWrapper(**{'num_tokens': V, 'max_seq_len': 8, 'attn_layers': Decoder(**STACK), **flags})
    return made.double()


def both(model: nn.Module, **flags: Any) -> tuple[AutoregressiveWrapper, AutoregressiveWrapper]:
    """The same model with its loss made without logits, and of them."""
    return AutoregressiveWrapper(model, loss_chunk_size=3, **flags), AutoregressiveWrapper(copy.deepcopy(model), loss_chunk_size=0, **flags)


def agree(one: nn.Module, other: nn.Module, x: Tensor, atol: float = 1e-12, **inputs: Any) -> None:
    losses = [model(x, **inputs) for model in (one, other)]
    torch.testing.assert_close(*losses, rtol=0, atol=atol)
    for loss in losses:
        loss.backward()
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=atol, msg=name)


@each('rows', [1, 3, 100])
@each('flags', [{}, {'label_smoothing': 0.1}, {'z_loss_weight': 0.1}, {'label_smoothing': 0.3, 'z_loss_weight': 0.01}])
@each('with_bias', [False, True])
def test_value_and_gradients_are_those_of_the_formula(rows: int, flags: dict[str, float], with_bias: bool) -> None:
    torch.manual_seed(0)
    leaf = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    x, weight, bias, targets = leaf(2, 5, 6), leaf(V, 6), leaf(V) if with_bias else None, ids(2, 5)
    targets[0, 1] = targets[1, 3] = -1
    leaves = [t for t in (x, weight, bias) if t is not None]
    smoothing, weighed = flags.get('label_smoothing', 0.0), flags.get('z_loss_weight', 0.0)
    want = token_loss(F.linear(x, weight, bias), targets, -1, False, smoothing, weighed)
    got = LeanHead(weight, bias, rows).loss(x, targets, -1, smoothing, weighed)
    assert torch.allclose(got, want, rtol=0, atol=1e-13)
    wanted = torch.autograd.grad(want * 3, leaves)
    for again in (True, False):  # the first backward pass gives its gradients away
        for a, b in zip(torch.autograd.grad(got * 3, leaves, retain_graph=again), wanted):
            assert torch.allclose(a, b, rtol=0, atol=1e-13)


def test_the_twin_is_the_formula_of_the_papers() -> None:
    logits, targets = torch.randn(2, 5, V, dtype=torch.float64), ids(2, 5)
    said = logits.log_softmax(dim=-1)
    hit, mean, lse = said.gather(-1, targets[..., None])[..., 0], said.mean(dim=-1), logits.logsumexp(dim=-1)
    want = -(0.9 * hit + 0.1 * mean).mean()
    assert torch.allclose(token_loss(logits, targets, -1, False, 0.1, 0.2), want + 0.2 * lse.square().mean(), rtol=0, atol=1e-13)
    assert torch.allclose(token_loss(said, targets, -1, True, 0.1), want, rtol=0, atol=1e-13)


MODELS: dict[str, Any] = {
    'plain': dict,
    'tied': lambda: {'tie_embedding': True},
    'tied, with a bias': lambda: {'tie_embedding': True, 'logits_bias': True},
    'biased head': lambda: {'to_logits': nn.Linear(16, V)},
    'more logits': lambda: {'logits_dim': V + 3},
    'memory tokens': lambda: {'num_memory_tokens': 2},
}


@each('name', MODELS)
@each('flags', [{}, {'label_smoothing': 0.2, 'z_loss_weight': 0.1}, {'mask_prob': 0.3}])
def test_a_model_trains_the_same(name: str, flags: dict[str, float]) -> None:
    x = ids(3, 8)
    x[0, 5:] = -100
    one, other = both(net(**MODELS[name]()), **flags)
    loss = lambda model: (torch.manual_seed(7), model(x))[1]
    assert torch.allclose(loss(one), loss(other), rtol=0, atol=1e-12)
    if 'mask_prob' not in flags:
        agree(one, other, x)


def test_embeddings_ahead_masks_and_the_loss_of_scores_are_as_ever() -> None:
    ahead = torch.randn(2, 3, 16, dtype=torch.float64)
    agree(*both(net()), ids(2, 8), prepend_embeds=ahead, mask=torch.arange(7) < torch.tensor([[7], [4]]))
    agree(*both(net(), add_attn_z_loss=True), ids(2, 8), attn_z_loss_weight=0.3)


def test_what_is_frozen_gets_no_gradient_and_nothing_is_kept_without_one() -> None:
    one, other = both(net())
    for model in (one, other):
        model.net.to_logits.requires_grad_(False)
    agree(one, other, ids(2, 8))
    with torch.no_grad():
        assert torch.allclose(one(ids(2, 8)), other(ids(2, 8))) and one(ids(2, 8)).grad_fn is None


def test_nothing_to_predict_costs_nothing() -> None:
    x = torch.cat((ids(2, 1), torch.full((2, 5), -100)), dim=1)
    loss = both(net())[0](x)
    loss.backward()
    assert loss == 0


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, 'LARGE', V)


def made_logits(model: nn.Module, forward: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    made, read_out = [], TransformerWrapper.read_out
    with monkeypatch.context() as patch:
        patch.setattr(TransformerWrapper, 'read_out', lambda *args, **keywords: (made.append(1), read_out(*args, **keywords))[1])
        forward(model)
    return bool(made)


def test_a_large_vocabulary_has_no_logits_by_default(small_is_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = lambda model: model(ids(2, 8))
    sides = {'enc_num_tokens': V, 'dec_num_tokens': V, 'enc_max_seq_len': 8, 'dec_max_seq_len': 8, 'enc_depth': 1, 'dec_depth': 1}
    assert not made_logits(AutoregressiveWrapper(net()), loss, monkeypatch)
    assert not made_logits(XLAutoregressiveWrapper(net(max_seq_len=4, max_mem_len=4)), loss, monkeypatch)
    assert not made_logits(XTransformer(dim=16, **sides), lambda model: model(ids(2, 8), ids(2, 8)), monkeypatch)
    assert made_logits(AutoregressiveWrapper(net(), loss_chunk_size=0), loss, monkeypatch)
    assert made_logits(AutoregressiveWrapper(net(logits_mlp=True)), loss, monkeypatch)  # its head is more than a linear map
    monkeypatch.setattr(lean, 'LARGE', V + 1)
    assert made_logits(AutoregressiveWrapper(net()), loss, monkeypatch)


def test_segments_train_the_same(small_is_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [XLAutoregressiveWrapper(net(max_seq_len=4, max_mem_len=4)) for _ in range(2)]
    losses = [models[0](ids(2, 11))]
    monkeypatch.setattr(lean, 'LARGE', V + 1)
    losses.append(models[1](ids(2, 11)))
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=0, atol=1e-12)
    for p, q in zip(*(model.parameters() for model in models), strict=True):
        assert (p.grad is None and q.grad is None) or torch.allclose(p.grad, q.grad, rtol=0, atol=1e-12)


class Doubled(TransformerWrapper):
    def read_out(self, x: Tensor, **kwargs: Any) -> Any:
        return 2 * super().read_out(x, **kwargs)


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_who_looks_at_logits_gets_them(small_is_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, seen = AutoregressiveWrapper(net()), ids(2, 8), []
    loss, (logits, _) = model(x, return_outputs=True)
    assert logits.shape == (2, 7, V) and torch.allclose(loss, model(x))
    for watched, kind in (('to_logits', 'forward_hook'), ('to_logits', 'full_backward_hook'), ('', 'forward_hook')):
        model = AutoregressiveWrapper(net())
        getattr(model.net.get_submodule(watched), f'register_{kind}')(lambda module, given, out: seen.append(out))
        model(x).backward()
        assert seen
        seen.clear()
    for flags in ({'to_logits': Scaled(16, V)}, {'mixture_of_softmax': True}, {'sigsoftmax_logits': True}):
        assert made_logits(AutoregressiveWrapper(net(**flags)), lambda model: model(x), monkeypatch)
    doubled = Doubled(num_tokens=V, max_seq_len=8, attn_layers=Decoder(**STACK))
    assert torch.allclose(AutoregressiveWrapper(doubled)(x), F.cross_entropy(doubled(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten()))


@each('dtype', [torch.bfloat16, torch.float16])
def test_autocast_makes_logits_in_its_precision_and_sums_in_a_wider_one(dtype: torch.dtype) -> None:
    one, other = (model.float() for model in both(net()))
    x = ids(3, 8)
    with torch.autocast('cpu', dtype=dtype):
        losses = [model(x) for model in (one, other)]
    for loss in losses:
        assert loss.dtype == torch.float32
        loss.backward()
    torch.testing.assert_close(*losses, rtol=1e-2, atol=0)
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        if q.grad is not None:
            assert p.grad is not None and p.grad.dtype == torch.float32
            assert (p.grad - q.grad).norm() < 0.03 * q.grad.norm() + 1e-6, name


def test_it_compiles_with_its_gradients_into_one_graph_for_every_length() -> None:
    torch.compiler.reset()
    one, other = both(net(), label_smoothing=0.1, z_loss_weight=0.1)
    agree(torch.compile(one, fullgraph=True, backend='aot_eager', dynamic=True), other, ids(2, 8))
    inner = AutoregressiveWrapper(torch.compile(net(), fullgraph=True, backend='eager'), loss_chunk_size=3)
    assert torch.allclose(inner(ids(2, 8)), AutoregressiveWrapper(net())(ids(2, 8)), rtol=0, atol=1e-12)


def test_a_second_derivative_is_refused_with_the_way_out() -> None:
    one, other = both(net())
    weight = one.net.to_logits.weight
    with pytest.raises(InputError, match='loss_chunk_size=0'):
        torch.autograd.grad(one(ids(2, 8)), weight, create_graph=True)
    torch.autograd.grad(other(ids(2, 8)), other.net.to_logits.weight, create_graph=True)[0].sum().backward()


@each(
    'flags,words',
    [
        ({'mixture_of_softmax': True}, 'loss_chunk_size=3 makes the loss without logits, but mixture_of_softmax=True'),
        ({'sigsoftmax_logits': True}, 'loss_chunk_size=3 makes the loss without logits, but sigsoftmax_logits=True'),
        ({'num_output_heads': 2}, 'num_output_heads gives the model several heads'),
        ({'to_logits': Scaled(16, V)}, 'its head .to_logits. is a Scaled'),
    ],
)
def test_a_chunk_size_for_a_head_that_is_no_linear_map_is_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(FlagError, match=words):
        AutoregressiveWrapper(net(**flags), loss_chunk_size=3)


def test_flags_of_the_loss_that_cannot_be_are_refused() -> None:
    for flags, words in (({'label_smoothing': 1.0}, 'label_smoothing=1.0'), ({'z_loss_weight': -1.0}, 'z_loss_weight=-1.0')):
        with pytest.raises(FlagError, match=words):
            AutoregressiveWrapper(net(), **flags)
    with pytest.raises(FlagError, match='log-probabilities'):
        AutoregressiveWrapper(net(mixture_of_softmax=True), z_loss_weight=0.1)
    with pytest.raises(InputError, match='token id 40'):
        both(net())[0](torch.tensor([[1, 2, 40]]))


def test_a_bidirectional_model_has_the_same_loss() -> None:
    agree(*both(net(attn_layers=Encoder(**STACK))), ids(2, 8))
