"""Laws of what trains and generates around models over vectors, numbers and images, and of encoder with decoder."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from law_cases import LENGTH, Case, build_model, perturb, tokens
from torch import Tensor, nn

from x_transformers import (
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    ViTransformerWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)
from x_transformers.flags import catalogue

STACK = {'dim': 16, 'heads': 2, 'attn_dim_head': 8}
SIDE = {'num_tokens': 9, 'max_seq_len': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8}
SIDES = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in SIDE.items()}
ROTARY = {'rotary_pos_emb': True}
each = partial(pytest.mark.parametrize, ids=str)


def alive(model: Any) -> Any:
    perturb(model.double().eval())
    return model


def vectors(flags: dict[str, Any] | None = None, net: dict[str, Any] | None = None, **stack: Any) -> ContinuousAutoregressiveWrapper:
    torch.manual_seed(0)
    layers = Decoder(**{**STACK, 'depth': 2, **stack})
    keywords = {'dim_in': 3, 'dim_out': 3, 'max_seq_len': 10, 'attn_layers': layers, **(net or {})}
    return alive(ContinuousAutoregressiveWrapper(ContinuousTransformerWrapper(**keywords), **(flags or {})))


def numbers(flags: dict[str, Any] | None = None, net: dict[str, Any] | None = None, **stack: Any) -> XValAutoregressiveWrapper:
    torch.manual_seed(0)
    layers = Decoder(**{**STACK, 'depth': 2, **stack})
    keywords = {'num_tokens': 6, 'numerical_token_id': 2, 'max_seq_len': 10, 'attn_layers': layers, **(net or {})}
    return alive(XValAutoregressiveWrapper(XValTransformerWrapper(**keywords), **(flags or {})))


def sides(**flags: Any) -> XTransformer:
    torch.manual_seed(0)
    return alive(XTransformer(**{**{'dim': 16}, **SIDES, **flags}))


def images(**flags: Any) -> ViTransformerWrapper:
    torch.manual_seed(0)
    return alive(ViTransformerWrapper(**{'image_size': 8, 'patch_size': 4, 'attn_layers': Encoder(**STACK, depth=1), **flags}))


def random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ids(*shape: int, seed: int = 5, count: int = 6) -> Tensor:
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))


def flags_of(kind: Any, *without: str) -> list[dict[str, Any]]:
    """The example of every flag of the class itself."""
    own = [e for e in catalogue(kind.config_class) if not e.name.startswith(('enc_', 'dec_')) and e.name not in without]
    return [{}, *(dict(e.example) for e in own if e.example)]


def reaches_everything(model: nn.Module, loss: Tensor) -> None:
    loss.backward()
    found = dict(model.named_parameters())
    assert [name for name, p in found.items() if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().max() == 0] == []


@each('flags', flags_of(ContinuousAutoregressiveWrapper))
@each('net', [{}, {'probabilistic': True}, {'num_memory_tokens': 2}])
def test_a_loss_of_vectors_reaches_every_parameter(flags: dict[str, Any], net: dict[str, Any]) -> None:
    model, mask = vectors(flags, net), torch.arange(9) < torch.tensor([[9], [6]])
    reaches_everything(model, model(random(2, 9, 3), mask=mask))


@each('flags', flags_of(XValAutoregressiveWrapper))
@each('net', [{}, {'tie_embedding': True}, {'num_memory_tokens': 2, 'emb_dim': 12}])
def test_a_loss_of_numbers_reaches_every_parameter(flags: dict[str, Any], net: dict[str, Any]) -> None:
    model = numbers(flags, net)
    reaches_everything(model, model(ids(2, 9), random(2, 9)))


@each('flags', [*flags_of(XTransformer), {'enc_num_memory_tokens': 2, 'dec_num_memory_tokens': 1}, {'dec_tie_embedding': True}])
def test_a_loss_of_a_target_reaches_every_parameter_of_both_sides(flags: dict[str, Any]) -> None:
    model = sides(**flags).train()
    reaches_everything(model, model(ids(2, 9), ids(2, 7), mask=torch.arange(9) < torch.tensor([[9], [6]])))


@each('flags', flags_of(ViTransformerWrapper))
def test_a_loss_of_images_reaches_every_parameter(flags: dict[str, Any]) -> None:
    model = images(**flags)
    reaches_everything(model, model(random(2, model.channels, 8, 8)).square().sum())


@each('flags', flags_of(ViTransformerWrapper)[1:])
def test_no_flag_for_images_is_dead(flags: dict[str, Any]) -> None:
    model, without = images(**flags), images()
    if 'emb_dropout' in flags:
        image = random(2, 3, 8, 8)
        assert not torch.equal(model.train()(image), model.eval()(image))
        return
    assert {n: t.shape for n, t in model.state_dict().items()} != {n: t.shape for n, t in without.state_dict().items()}


@each('flags', [*flags_of(XTransformer), {'enc_rotary_pos_emb': True, 'dec_cross_attn_kv_heads': 1}])
def test_flags_and_weights_rebuild_both_sides_and_copies_stand_alone(flags: dict[str, Any]) -> None:
    model, source, target = sides(**flags), ids(2, 9), ids(2, 7)
    want = model(source, target).detach()
    twin = XTransformer(**model.config.keywords()).double().eval()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert twin.config == model.config
    assert type(model.encoder.attn_layers)(**model.encoder.attn_layers.config.keywords()).config == model.encoder.attn_layers.config
    assert torch.equal(twin(source, target), want)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(copied(source, target), want)


@each('flags', flags_of(ViTransformerWrapper))
def test_flags_and_weights_rebuild_a_model_of_images(flags: dict[str, Any]) -> None:
    model = images(**flags)
    keywords = model.config.keywords()
    twin = ViTransformerWrapper(**{**keywords, 'attn_layers': Encoder(**keywords['attn_layers'].config.keywords())}).double().eval()
    twin.load_state_dict(model.state_dict(), strict=True)
    image = random(2, model.channels, 8, 8)
    assert torch.equal(twin(image), model(image))


STACKS = [{}, ROTARY, {'alibi_pos_bias': True, 'shift_tokens': 1}, {'attn_kv_heads': 1, 'attn_num_mem_kv': 2}]
NETS = [{}, {'num_memory_tokens': 2}, {'max_seq_len': 0}, {'max_seq_len': 5}, {'max_seq_len': 2}, {'max_seq_len': 1}]


@each('stack', STACKS)
@each('net', NETS)
def test_vectors_made_by_state_are_those_of_the_whole_window_each_time(stack: dict[str, Any], net: dict[str, Any]) -> None:
    model, start = vectors(net=net, **stack), random(2, 3, 3)
    by_hand = start
    for _ in range(7):
        window = by_hand[:, -model.max_seq_len :] if model.max_seq_len else by_hand
        by_hand = torch.cat((by_hand, model.net(window)[:, -1:]), dim=1)
    for cache_kv in (True, False):
        made = model.train().generate(start, 7, cache_kv=cache_kv)
        assert (made - by_hand[:, 3:]).abs().max() < 1e-10
    assert (model.generate(start[0], 7) - made[0]).abs().max() < 1e-10
    assert model.training


@each('stack', STACKS)
@each('net', NETS)
def test_numbers_made_by_state_are_those_of_the_whole_window_each_time(stack: dict[str, Any], net: dict[str, Any]) -> None:
    model, tokens, values = numbers(net=net, **stack), ids(2, 3), random(2, 3)
    out, said = tokens, values
    for _ in range(7):
        window = slice(-model.max_seq_len or None, None)
        logits, number = model.net(out[:, window], said[:, window])
        out, said = torch.cat((out, logits[:, -1:].argmax(dim=-1)), dim=1), torch.cat((said, number[:, -1:]), dim=1)
    for cache_kv in (True, False):
        made = model.generate(tokens, values, 7, temperature=0.0, cache_kv=cache_kv)
        assert torch.equal(made.sampled_token_ids, out[:, 3:])
        assert torch.equal(made.is_number_mask, out[:, 3:] == 2)
        assert (made.sampled_numbers - said[:, 3:])[made.is_number_mask].abs().sum() < 1e-9
        assert made.sampled_numbers[~made.is_number_mask].isnan().all()


@each('flags', [{}, {'enc_num_memory_tokens': 2}, {'dec_num_memory_tokens': 2}, {'dec_rotary_pos_emb': True, 'dec_shift_tokens': 1}])
def test_a_target_written_by_state_is_that_of_the_whole_each_time(flags: dict[str, Any]) -> None:
    model, source, start = sides(**flags, enc_emb_dropout=0.5, dec_attn_dropout=0.5).train(), ids(2, 9), ids(2, 3)
    mask = torch.arange(9) < torch.tensor([[9], [6]])
    whole = model.generate(source, start, 6, mask=mask, temperature=0.0, cache_kv=False)
    assert torch.equal(model.generate(source, start, 6, mask=mask, temperature=0.0), whole)
    ragged = model.generate(source, start, 6, mask=mask, temperature=0.0, prompt_lens=torch.tensor([3, 1]))
    assert torch.equal(ragged[1:], model.generate(source[1:, :6], start[1:, :1], 6, temperature=0.0))
    assert torch.equal(ragged[:1], whole[:1])
    assert all(part.training for part in model.modules())


def test_embeddings_ahead_of_a_source_are_read_and_never_hidden() -> None:
    model, source, target, ahead = sides(), ids(2, 9), ids(2, 7), random(2, 2, 16)
    mask = torch.arange(9) < torch.tensor([[9], [6]])
    padded = model(source[1:], target[1:], mask=mask[1:], src_prepend_embeds=ahead[1:])
    assert (padded - model(source[1:, :6], target[1:], src_prepend_embeds=ahead[1:])).abs() < 1e-10
    assert (padded - model(source[1:, :6], target[1:])).abs() > 1e-6
    made = model.generate(source, ids(2, 1), 4, mask=mask, src_prepend_embeds=ahead, temperature=0.0)
    assert torch.equal(made[1:], model.generate(source[1:, :6], ids(2, 1)[1:], 4, src_prepend_embeds=ahead[1:], temperature=0.0))


@pytest.mark.parametrize('build', [vectors, numbers, sides, images], ids=lambda build: build.__name__)
def test_a_wrapper_compiles_into_one_graph_and_gives_the_same(build: Any) -> None:
    torch.compiler.reset()
    model = build()
    given = {
        vectors: (random(2, 9, 3),),
        numbers: (ids(2, 9), random(2, 9)),
        sides: (ids(2, 9), ids(2, 7)),
        images: (random(2, 3, 8, 8),),
    }[build]
    assert (torch.compile(model, fullgraph=True, backend='eager')(*given) - model(*given)).abs().max() < 1e-10


def test_hidden_earlier_tokens_join_those_that_the_caller_hides() -> None:
    model, x = build_model(Case('', training={'mask_prob': 1e-9})), tokens()
    seen = torch.ones(2, LENGTH - 1, dtype=torch.bool)
    seen[:, 3] = False
    assert (model(x, self_attn_kv_mask=seen) - build_model(Case(''))(x, self_attn_kv_mask=seen)).abs() < 1e-12
