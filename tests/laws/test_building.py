"""Every flag builds, trains, is alive, and comes back from its config and its state dict."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
import torch
from law_cases import (
    DECODERS,
    ENCODERS,
    Case,
    build_model,
    build_stack,
    context_of,
    embeddings,
    refused,
    tokens,
    training_cases,
    wrapper_cases,
)
from torch import nn

from x_transformers import (
    DPO,
    AutoregressiveWrapper,
    CrossAttender,
    Decoder,
    Encoder,
    NeoMLP,
    NonAutoregressiveWrapper,
    PrefixDecoder,
    TransformerWrapper,
    XLAutoregressiveWrapper,
)
from x_transformers.flags import catalogue

STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]
MODELS = [*wrapper_cases(), *training_cases()]

SAME_NUMBERS = {  # flags that promise not to change a number, and why
    'defaults': 'nothing is switched on',
    'flash': 'another backend',
    'onnxable': 'another backend',
    'attend_sdp_kwargs': 'other kernels of a backend',
    'norm_add_unit_offset': 'another way to store the same gains',
    'zero_init_output': 'another start of the same function',
    'zero_init_branch_output': 'another start of the same function',
    'dropout': 'only in training',
    'checkpoint': 'what is kept of a layer, and what is computed again',
    'layerscale_init_value': 'another start of the same function',
    'straight_through': 'only in the gradient',
}
ACCEPTED = {  # flags without an example that promise the same: a value that is not the default, and why
    'pre_norm_has_final_norm': (False, 'had no effect in 2.0.1 either'),
    'disable_abs_pos_emb': (True, 'concerns the model around the stack'),
}
NO_EXAMPLE = {  # flags that there is nothing to switch on for
    'dim', 'depth', 'num_tokens', 'max_seq_len', 'attn_layers', 'net', 'ignore_index', 'pad_value', 'token_emb', 'to_logits',
    'max_mem_len', 'shift_mem_down', 'pre_norm_has_final_norm', 'disable_abs_pos_emb', 'attn_dim_out', 'cross_attn_dim_out', 'ff_dim_out',
    'attn_hybrid_mask_kwarg', 'mask_id', 'token_critic', 'model', 'dim_in', 'dim_hidden',
    'dim_out', 'dim_model',
}  # fmt: skip
ALL = (
    Decoder, Encoder, PrefixDecoder, CrossAttender, TransformerWrapper, AutoregressiveWrapper, XLAutoregressiveWrapper,
    NonAutoregressiveWrapper, DPO, NeoMLP,
)  # fmt: skip


def keeps_numbers(name: str) -> bool:
    return any(name == kept or name.endswith(f'_{kept}') for kept in SAME_NUMBERS)


def fill(module: nn.Module) -> None:
    """The same numbers for parameters of the same name, whatever else there is."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(sum(map(ord, name)))
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def gradients_of(module: nn.Module, loss: torch.Tensor) -> dict[str, Any]:
    loss.backward()
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_a_training_step_reaches_every_parameter(kind: type, case: Case) -> None:
    stack = build_stack(kind, case)
    if 'dropout' not in case.name:
        stack.train()
    found = gradients_of(stack, stack(embeddings(), **context_of(case)).square().sum())
    assert [name for name, grad in found.items() if grad is None] == []
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in found.values())


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_a_model_trains_and_its_loss_reaches_every_parameter(case: Case) -> None:
    model = build_model(case)
    if 'return_only_embed' in case.model:
        loss = model.net(tokens()).square().sum()
    elif 'logits_dim' in case.model:  # fewer logits than tokens: predict what has one
        loss = model(tokens() % case.model['logits_dim'])
    else:
        loss = model(tokens())
    found = gradients_of(model, loss)
    assert [name for name, grad in found.items() if grad is None] == []
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in found.values())


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: t.shape for name, t in module.state_dict().items()}


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_no_flag_is_dead(kind: type, case: Case) -> None:
    """Switching it on changes the parameters or the numbers, unless it promises not to."""
    if case.name in case.stack and refused(kind, case.without):
        return  # the rest of its example cannot do without it
    stack, without, x, inputs = build_stack(kind, case), build_stack(kind, case.without), embeddings(), context_of(case)
    if keeps_numbers(case.name):
        stack, without = filled_but_gains(kind, case), filled_but_gains(kind, case.without)
        assert (stack(x, **inputs) - without(x, **inputs)).abs().max() < 1e-12
        if case.name.endswith('dropout'):
            stack.train()
            torch.manual_seed(0)
            random.seed(0)
            assert len({stack(x, **inputs).sum().item() for _ in range(8)}) > 1
        return
    fill(stack)
    fill(without)
    plain = {} if case.name == 'cross_attend' else inputs
    assert shapes(stack) != shapes(without) or not torch.allclose(stack(x, **inputs), without(x, **plain), atol=1e-9)


def filled_but_gains(kind: type, case: Case) -> Any:
    """A stack whose numbers can be compared however the gains of norms are stored: they stay as they start."""
    torch.manual_seed(0)
    stack = kind(**case.keywords).double().eval()
    of_norm = lambda name: name.endswith('gamma') and not re.fullmatch(r'layers\.\d+\.1\.gamma', name)
    gains = {name: t.clone() for name, t in stack.state_dict().items() if of_norm(name)}
    fill(stack)
    stack.load_state_dict(gains, strict=False)
    return stack


@pytest.mark.parametrize('kind', [Decoder, Encoder])
@pytest.mark.parametrize('name', ACCEPTED)
def test_a_flag_that_is_only_accepted_changes_nothing(kind: type, name: str) -> None:
    stack = {'cross_attend': True} if name.startswith('cross_') else {}
    with_it, without = Case('', {**stack, name: ACCEPTED[name][0]}), Case('', stack)
    inputs = context_of(without)
    assert torch.equal(build_stack(kind, with_it)(embeddings(), **inputs), build_stack(kind, without)(embeddings(), **inputs))


@pytest.mark.parametrize('case', [case for case in MODELS if case.name in case.model or case.name in case.training], ids=str)
def test_no_flag_of_a_model_is_dead(case: Case) -> None:
    model, without = build_model(case), build_model(case.without)
    fill(model)
    fill(without)
    if shapes(model) != shapes(without):
        return
    if 'dropout' in case.name:
        assert torch.equal(model.net(tokens()), without.net(tokens()))
        model.train()
    torch.manual_seed(0)
    alike = torch.allclose(model(tokens()), without(tokens()), atol=1e-9)
    assert alike == (case.name == 'loss_chunk_size')  # it says how the loss is made, not what it is


@pytest.mark.parametrize('case', [case for case in DECODERS if 'zero_init' in case.name], ids=str)
def test_zero_initialised_branches_start_at_zero(case: Case) -> None:
    torch.manual_seed(0)
    stack = Decoder(**case.keywords)
    starts = [p for name, p in stack.named_parameters() if ('to_out' in name or 'ff.2' in name) and p.abs().max() == 0]
    assert starts


@pytest.mark.parametrize('case', [case for case in DECODERS if re.search('norm|scale', case.name)], ids=str)
def test_a_new_stack_is_the_same_however_its_gains_are_stored(case: Case) -> None:
    outs = []
    for offset in (True, False):
        torch.manual_seed(0)
        stack = Decoder(**{**case.keywords, 'norm_add_unit_offset': offset}).double().eval()
        outs.append(stack(embeddings(), **context_of(case)))
    assert (outs[0] - outs[1]).abs().max() < 1e-6  # gains start in single precision


def test_straight_through_differs_in_its_gradient_alone() -> None:
    results = []
    for through in (False, True):
        stack = build_stack(Decoder, Case('', {'attn_sparse_topk': 2, 'attn_sparse_topk_straight_through': through}))
        x = embeddings().requires_grad_()
        out = stack(x)
        results.append((out.detach(), torch.autograd.grad(out.square().sum(), x)[0]))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-12)
    assert not torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_a_config_and_a_state_dict_rebuild_the_stack(kind: type, case: Case) -> None:
    stack = build_stack(kind, case)
    twin = kind(**stack.config.keywords()).double().eval()
    assert twin.config == stack.config
    twin.load_state_dict(stack.state_dict(), strict=True)
    assert torch.equal(twin(embeddings(), **context_of(case)), stack(embeddings(), **context_of(case)))


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_a_config_and_a_state_dict_rebuild_the_model(case: Case) -> None:
    model = build_model(case)
    net = TransformerWrapper(**{**model.net.config.keywords(), 'attn_layers': Decoder(**model.net.attn_layers.config.keywords())})
    twin = AutoregressiveWrapper(**{**model.config.keywords(), 'net': net}).double().eval()
    assert TransformerWrapper(**model.net.config.keywords()).config == model.net.config
    assert AutoregressiveWrapper(**model.config.keywords()).config == model.config
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(twin.net(tokens()), model.net(tokens()))


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_defaults_written_out_change_nothing(kind: type, case: Case) -> None:
    """Cross-attention starts from the flags of self-attention, so its defaults are written out only where there are none."""
    follows = any(name.startswith('attn_') for name in case.keywords)
    free = [e for e in catalogue(kind.config_class) if not e.required and not (follows and e.name.startswith('cross_attn_'))]
    assert kind(**{**{e.name: e.default for e in free}, **case.keywords}).config == kind(**case.keywords).config


@pytest.mark.parametrize('kind', [Decoder, Encoder, PrefixDecoder, CrossAttender])
def test_all_defaults_written_out_change_nothing(kind: type) -> None:
    defaults = {e.name: e.default for e in catalogue(kind.config_class) if not e.required}
    assert kind(**{**defaults, 'dim': 16, 'depth': 1}).config == kind(dim=16, depth=1).config


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_defaults_of_a_model_written_out_change_nothing(case: Case) -> None:
    model, written = build_model(case), lambda kind: {e.name: e.default for e in catalogue(kind.config_class) if not e.required}
    net, training = model.net.config.keywords(), model.config.keywords()
    assert TransformerWrapper(**{**written(TransformerWrapper), **net}).config == model.net.config
    assert AutoregressiveWrapper(**{**written(AutoregressiveWrapper), **training}).config == model.config


@pytest.mark.parametrize('kind', ALL, ids=lambda kind: kind.__name__)
def test_every_flag_says_what_it_does(kind: Any) -> None:
    for entry in catalogue(kind.config_class):
        assert entry.doc.endswith('.') and len(entry.doc) > 10, entry.name
        assert entry.example or entry.name in NO_EXAMPLE, entry.name
        assert entry.paper is None or re.fullmatch(r'https://.+|\d{4}\.\d{4,5}', entry.paper), entry.name
        if entry.example:
            assert entry.name in entry.example, entry.name


def test_no_flag_without_an_example_is_excused_in_vain() -> None:
    assert {entry.name for kind in ALL for entry in catalogue(kind.config_class) if not entry.example} == NO_EXAMPLE
