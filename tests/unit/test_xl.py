"""Segments: the loss and the generation against segments run by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers import Decoder, TransformerWrapper, XLAutoregressiveWrapper

SEGMENT = 5


def model(pad_value: int = 0, wrapper: dict[str, Any] | None = None, **flags: Any) -> XLAutoregressiveWrapper:
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, **flags)
    net = TransformerWrapper(num_tokens=13, attn_layers=stack, **{'max_seq_len': SEGMENT, 'max_mem_len': SEGMENT, **(wrapper or {})})
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return XLAutoregressiveWrapper(net.double(), pad_value=pad_value)


X = torch.randint(0, 13, (2, 18), generator=torch.Generator().manual_seed(1))
KINDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({'rel_pos_bias': True}, {}),
    ({'rotary_pos_emb': True}, {'max_mem_len': 3}),
    ({'alibi_pos_bias': True, 'shift_tokens': 1}, {'shift_mem_down': 1}),
    ({'rotary_pos_emb': True}, {'num_memory_tokens': 2, 'max_mem_len': 0}),
]


def loss_by_hand(made: XLAutoregressiveWrapper, x: Tensor) -> Tensor:
    """The mean over all tokens of the surprise at each, with what was seen before in the memories."""
    inputs, targets, mems, surprise = x[:, :-1], x[:, 1:], None, []
    for begin in range(0, inputs.shape[1], SEGMENT):
        logits, mems = made.net(inputs[:, begin : begin + SEGMENT], mems=mems, return_mems=True)
        wanted = targets[:, begin : begin + SEGMENT, None]
        surprise.append(-logits.log_softmax(dim=-1).gather(-1, wanted)[..., 0])
    return torch.cat(surprise, dim=1).mean()


@pytest.mark.parametrize('flags, wrapper', KINDS)
def test_the_loss_is_that_of_the_segments_with_its_gradients(flags: dict[str, Any], wrapper: dict[str, Any]) -> None:
    made = model(wrapper=wrapper, **flags)
    parameters = list(made.parameters())
    got, expected = made(X), loss_by_hand(made, X)
    assert torch.allclose(got, expected, atol=1e-12)
    for a, b in zip(torch.autograd.grad(got, parameters), torch.autograd.grad(expected, parameters)):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize('flags, wrapper', KINDS)
@pytest.mark.parametrize('prompt', [1, SEGMENT, 8, 2 * SEGMENT])
@pytest.mark.parametrize('cache_kv', [True, False])
def test_generation_goes_on_as_the_segments_do(flags: dict[str, Any], wrapper: dict[str, Any], prompt: int, cache_kv: bool) -> None:
    made, out = model(wrapper=wrapper, **flags).eval(), X[:, :prompt]
    with torch.no_grad():
        for _ in range(13):
            mems = None
            for segment in out.split(SEGMENT, dim=1):
                logits, mems = made.net(segment, mems=mems, return_mems=True)
            out = torch.cat((out, logits[:, -1:].argmax(dim=-1)), dim=1)
    assert torch.equal(made.generate(X[:, :prompt], 13, temperature=0.0, cache_kv=cache_kv), out[:, prompt:])


def test_memories_from_before_are_gone_on_from() -> None:
    made = model(rel_pos_bias=True)
    with torch.no_grad():
        _, mems = made.net(X[:, :SEGMENT], return_mems=True)
    later = made.generate(X[:, SEGMENT:8], 9, temperature=0.0, mems=mems)
    assert torch.equal(later, made.generate(X[:, :8], 9, temperature=0.0))
    assert not torch.equal(later, made.generate(X[:, SEGMENT:8], 9, temperature=0.0))


def test_what_does_not_count_is_padding_to_the_model_and_a_segment_of_it_costs_nothing() -> None:
    made, x = model(rel_pos_bias=True), X.clone()
    x[:, 6:] = made.ignore_index
    first = F.cross_entropy(made.net(x[:, :5]).flatten(0, 1), x[:, 1:6].flatten())
    assert torch.allclose(made(x), first * 5 / 17)
    assert made(x).isfinite()


def test_sampling_draws_as_it_is_told_and_filters_have_names() -> None:
    made = model(rel_pos_bias=True)
    draw = lambda seed, **options: made.generate(X[:, :3], 9, generator=torch.Generator().manual_seed(seed), **options)
    assert torch.equal(draw(1, filter_logits_fn='min_p'), draw(1, filter_logits_fn='min_p'))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(draw(1, filter_kwargs={'k': 1}), made.generate(X[:, :3], 9, temperature=0.0))


def test_ends_count_when_every_row_has_one() -> None:
    made = model(pad_value=11, rel_pos_bias=True)
    free = made.generate(X[:, :3], 12, temperature=0.0)
    assert made.generate(X[0, :3], 12, temperature=0.0).equal(free[0])
    end = int(free[0, 4])
    stopped = made.generate(X[:1, :3], 12, temperature=0.0, eos_token=end)
    upto = free[0].tolist().index(end) + 1
    assert stopped[0].tolist() == free[0, :upto].tolist()
    assert made.generate(X[:, :3], 0, eos_token=end).shape == (2, 0)


def test_every_module_gets_its_mode_back() -> None:
    made = model(rel_pos_bias=True).train()
    made.net.token_emb.eval()
    made.generate(X[:, :3], 2)
    assert made.training and made.net.attn_layers.training and not made.net.token_emb.training
