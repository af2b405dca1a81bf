"""Every model is plain data and numbers: its flags go through JSON, and a folder gives it back, for every flag of the catalogue."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from law_cases import (
    BASE,
    DECODERS,
    ENCODERS,
    Case,
    build_model,
    build_stack,
    context_of,
    embeddings,
    perturb,
    tokens,
    training_cases,
    wrapper_cases,
)
from torch import Tensor, nn

import x_transformers
from x_transformers import (
    DPO,
    Attention,
    AutoregressiveWrapper,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    FeedForward,
    MultiInputTransformerWrapper,
    NeoMLP,
    NonAutoregressiveWrapper,
    PrefixDecoder,
    TransformerWrapper,
    ViTransformerWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
    load,
)
from x_transformers.errors import CheckpointError, FlagError
from x_transformers.flags import catalogue
from x_transformers.flags.plain import describe_part, plain

COVERED = {case.name for case in DECODERS}
STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS if case.name not in COVERED]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]
MODELS = [*wrapper_cases(), *training_cases()]


def no_data(keywords: dict[str, Any]) -> list[str]:
    """Flags of which no file can hold the value."""
    return [name for name, value in keywords.items() if callable(value)]


def same_state(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(t, theirs[name]) and t.dtype == theirs[name].dtype for name, t in ours.items())


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_a_stack_comes_back_from_json_and_from_a_folder(kind: Any, case: Case, tmp_path: Path) -> None:
    stack, foreign = build_stack(kind, case), no_data(case.keywords)
    again = {name: case.keywords[name] for name in foreign}
    if foreign:
        with pytest.raises(FlagError, match=foreign[0]):
            stack.save(tmp_path / 'refused')
        assert not (tmp_path / 'refused').exists()
        with pytest.raises(FlagError, match=foreign[0]):
            stack.config.to_json()
    else:
        assert kind.config_class.from_json(stack.config.to_json()) == stack.config
    stack.save(tmp_path, leave_out=foreign)
    if foreign:
        with pytest.raises(CheckpointError, match=foreign[0]):
            load(tmp_path)
    twin = load(tmp_path, **again).eval()
    assert type(twin) is kind and twin.config == stack.config and same_state(twin, stack)
    assert torch.equal(twin(embeddings(), **context_of(case)), stack(embeddings(), **context_of(case)))


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_a_model_comes_back_from_json_and_from_a_folder(case: Case, tmp_path: Path) -> None:
    model = build_model(case)
    model.save(tmp_path)
    twin = AutoregressiveWrapper.load(tmp_path).eval()
    assert describe_part(twin) == describe_part(model) and same_state(twin, model)
    assert torch.equal(twin.net(tokens()), model.net(tokens()))
    net = TransformerWrapper(**TransformerWrapper.config_class.from_json(model.net.config.to_json()).keywords())  # type: ignore[attr-defined]
    assert net.config.to_json() == model.net.config.to_json()
    assert [tuple(t.shape) for t in net.state_dict().values()] == [tuple(t.shape) for t in model.net.state_dict().values()]


def stack(kind: Any = Decoder, **flags: Any) -> Any:
    return kind(**{**BASE, 'depth': 1, **flags})


def token_net(kind: Any = Decoder, **flags: Any) -> Any:
    return TransformerWrapper(**{'num_tokens': 9, 'max_seq_len': 12, 'attn_layers': stack(kind), **flags})


def both_sides(**flags: Any) -> dict[str, Any]:
    sides = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in {'num_tokens': 9, 'max_seq_len': 8, 'depth': 1}.items()}
    return {'dim': 16, **sides, **flags}


Making = tuple[Any, dict[str, Any]]


def bases() -> dict[str, Making]:
    """Every public class beside stacks and token models, each with the fewest keywords."""
    continuous = {'dim_in': 3, 'dim_out': 3, 'max_seq_len': 12}
    return {
        'Attention': (Attention, {'dim': 16, 'heads': 4, 'dim_head': 12}),
        'FeedForward': (FeedForward, {'dim': 16}),
        'TransformerWrapper': (TransformerWrapper, {'num_tokens': 9, 'max_seq_len': 12, 'attn_layers': Encoder}),
        'ViTransformerWrapper': (ViTransformerWrapper, {'image_size': (8, 12), 'patch_size': 4, 'attn_layers': Encoder}),
        'ContinuousTransformerWrapper': (ContinuousTransformerWrapper, {**continuous, 'attn_layers': Encoder}),
        'XValTransformerWrapper': (
            XValTransformerWrapper, {'num_tokens': 9, 'numerical_token_id': 2, 'max_seq_len': 12, 'attn_layers': Encoder},
        ),
        'MultiInputTransformerWrapper': (
            MultiInputTransformerWrapper, {'num_tokens': {'class': 9, 'flags': 5, 'keys': 3}, 'max_seq_len': 12, 'attn_layers': Encoder},
        ),
        'XTransformer': (XTransformer, both_sides()),
        'NeoMLP': (NeoMLP, {'dim_in': 2, 'dim_hidden': 0, 'dim_out': 2, 'dim_model': 16, 'depth': 1}),
        'XLAutoregressiveWrapper': (XLAutoregressiveWrapper, {'net': token_net}),
        'NonAutoregressiveWrapper': (NonAutoregressiveWrapper, {'net': token_net, 'mask_id': 8}),
        'ContinuousAutoregressiveWrapper': (ContinuousAutoregressiveWrapper, {'net': 'ContinuousTransformerWrapper'}),
        'XValAutoregressiveWrapper': (XValAutoregressiveWrapper, {'net': 'XValTransformerWrapper'}),
        'DPO': (DPO, {'model': token_net}),
    }  # fmt: skip


def make(name: str, flags: dict[str, Any]) -> Any:
    kind, keywords = bases()[name]
    keywords = {**keywords, **flags}
    causal = 'memory_tokens_interspersed_every' in flags
    for key, value in keywords.items():
        if value is Encoder:
            keywords[key] = stack(Decoder if causal else Encoder)
        elif value is token_net:
            keywords[key] = token_net()
        elif key == 'net' and isinstance(value, str):
            keywords[key] = make(value, {})
    torch.manual_seed(0)
    model = kind(**keywords).double().eval()
    perturb(model)
    return model


def examples() -> list[Any]:
    """One case for each class, and for every flag with an example; those of attention and feed-forwards are stored in stacks."""
    found = []
    for name, (kind, _) in bases().items():
        entries = [] if name == 'XTransformer' else [e for e in catalogue(kind.config_class) if e.example]  # its flags: below
        cases: dict[str, dict[str, Any]] = {'defaults': {}, **{e.name: dict(e.example or {}) for e in entries}}
        if name == 'XTransformer':
            cases['tied'] = {'tie_token_emb': True, 'dec_tie_embedding': True, 'enc_rel_pos_bias': True}
        if name == 'NonAutoregressiveWrapper':
            cases['a critic of its own'] = {'token_critic': 'critic'}
        found += [pytest.param(name, flags, id=f'{name} {flag}') for flag, flags in cases.items()]
    return found


@pytest.mark.parametrize('name, flags', examples())
def test_every_class_comes_back_with_every_flag(name: str, flags: dict[str, Any], tmp_path: Path) -> None:
    flags = {key: token_net(logits_dim=1) if value == 'critic' else value for key, value in flags.items()}
    try:
        model = make(name, flags)
    except FlagError as error:  # a flag that is not for this stack, or not alone
        assert any(key in str(error) for key in flags), error
        return
    foreign = [key for key in no_data(flags) if not hasattr(flags[key], 'config')]
    model.save(tmp_path, leave_out=foreign)
    twin = type(model).load(tmp_path, **{key: flags[key] for key in foreign}).eval()
    assert type(twin) is type(model) and same_state(twin, model)
    out = frozenset(foreign)
    assert describe_part(twin, out) == describe_part(model, out)
    assert {n for n, p in twin.named_parameters() if p.requires_grad} == {n for n, p in model.named_parameters() if p.requires_grad}
    assert ties(twin) == ties(model)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(twin.buffers(), model.buffers(), strict=True))


@pytest.mark.parametrize('entry', [e for e in catalogue(XTransformer.config_class) if e.example], ids=lambda entry: entry.name)  # type: ignore[attr-defined]
def test_a_config_of_two_sides_comes_back_from_json(entry: Any) -> None:
    kind: Any = XTransformer.config_class  # type: ignore[attr-defined]
    flags = dict(entry.example)
    try:
        config = kind.of(None, (), both_sides(**flags))
    except FlagError as error:
        assert any(name in str(error) for name in flags), error
        return
    foreign = no_data(flags)
    if foreign:
        with pytest.raises(FlagError, match=foreign[0]):
            config.to_json()
    else:
        assert kind.from_json(config.to_json()) == config


def ties(model: nn.Module) -> list[list[str]]:
    """Names that are one tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return sorted(group for group in names.values() if len(group) > 1)


def test_every_public_class_that_has_flags_is_stored_here() -> None:
    flagged = {name for name in x_transformers.__all__ if hasattr(getattr(x_transformers, name), 'config_class')}
    assert flagged == {*bases(), 'Decoder', 'Encoder', 'PrefixDecoder', 'CrossAttender', 'AutoregressiveWrapper'}


@pytest.mark.parametrize('kind, flags', [(PrefixDecoder, {}), (x_transformers.CrossAttender, {'cross_attn_dim_context': 5})], ids=str)
def test_other_stacks_come_back(kind: Any, flags: dict[str, Any], tmp_path: Path) -> None:
    made = stack(kind, **flags)
    made.save(tmp_path)
    assert load(tmp_path).config == made.config == kind.config_class.from_json(made.config.to_json())


@pytest.mark.parametrize('kind, case', [each for each in STACKS if not no_data(each[1].keywords)][::7], ids=str)
def test_loading_in_another_precision_is_loading_and_converting(kind: Any, case: Case, tmp_path: Path) -> None:
    made = build_stack(kind, case).float()
    made.save(tmp_path)
    for dtype in (torch.bfloat16, torch.float64):
        assert same_state(load(tmp_path, dtype=dtype), load(tmp_path).to(dtype))
        assert all(
            a.dtype == b.dtype for a, b in zip(load(tmp_path, dtype=dtype).buffers(), load(tmp_path).to(dtype).buffers(), strict=True)
        )


def test_values_of_every_kind_of_number_become_json() -> None:
    numpy = pytest.importorskip('numpy')
    decoder = Decoder(
        dim=numpy.int64(16), depth=numpy.int32(1), attn_dropout=numpy.float32(0.5), layers_execute_order=[0, numpy.int8(1), 0]
    )
    data = json.loads(decoder.config.to_json())
    assert data['flags'] == {'dim': 16, 'depth': 1, 'attn_dropout': 0.5, 'layers_execute_order': [0, 1, 0]}
    assert Decoder.config_class.from_json(decoder.config.to_json()) == decoder.config


@pytest.mark.parametrize('text, words', [
    ('', 'no JSON'), ('[]', 'expected the entries'), ('{"flags": {}, "flags": {}}', 'twice'),
    ('{"flags": {"dim": NaN}, "parts": {}, "given": []}', 'nan'),
    ('{"flags": {"depth": 1}, "parts": {}, "given": []}', "'dim' is required"),
    ('{"flags": {"dim": 16, "depht": 1}, "parts": {}, "given": []}', "did you mean 'depth'"),
    ('{"flags": {"dim": "16", "depth": 1}, "parts": {}, "given": []}', 'a whole number'),
    ('{"flags": {"dim": 16, "depth": 1}, "parts": {}, "given": ["attn_custom_attn_fn"]}', 'was left out'),
    ('[' * 100_000, 'nested too deeply'),
], ids=range(9))  # fmt: skip
def test_text_that_is_no_config_is_refused(text: str, words: str) -> None:
    with pytest.raises(FlagError) as refused, warnings.catch_warnings():
        Decoder.config_class.from_json(text)  # type: ignore[attr-defined]
    assert words in str(refused.value).lower() or words in str(refused.value)


def weird(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1)


@pytest.mark.parametrize('flags, name', [
    ({'attn_custom_attn_fn': weird}, 'attn_custom_attn_fn'),
    ({'attn_qk_norm': True, 'attn_qk_norm_scale': float('inf')}, 'attn_qk_norm_scale=inf'),
    ({'attn_attend_sdp_kwargs': {'enable_math': weird}}, 'attn_attend_sdp_kwargs'),
], ids=['function', 'infinite', 'function in a dict'])  # fmt: skip
def test_a_value_that_is_no_data_is_named_with_the_way_out(flags: dict[str, Any], name: str) -> None:
    with pytest.raises(FlagError) as refused:
        plain(*list(flags.items())[-1])
    assert name in str(refused.value) and 'leave_out' in str(refused.value)
