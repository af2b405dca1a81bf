"""Every flag builds, trains, is alive, and comes back from its config and its state dict."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from law_cases import DECODERS, ENCODERS, Case, build_model, build_stack, context_of, embeddings, tokens, training_cases, wrapper_cases
from torch import nn

from x_transformers import AutoregressiveWrapper, CrossAttender, Decoder, Encoder, PrefixDecoder, TransformerWrapper
from x_transformers.flags import catalogue

STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]
MODELS = [*wrapper_cases(), *training_cases()]

SAME_NUMBERS = {  # flags that promise not to change a number
    'defaults': 'nothing is switched on',
    'flash': 'another backend',
    'attend_sdp_kwargs': 'other kernels of a backend',
    'norm_add_unit_offset': 'another way to store the same gains',
    'zero_init_output': 'another start of the same function',
    'zero_init_branch_output': 'another start of the same function',
    'dropout': 'only in training',
    'straight_through': 'only in the gradient',
}
NO_EXAMPLE = {  # flags that there is nothing to switch on for
    'dim', 'depth', 'causal', 'num_tokens', 'max_seq_len', 'attn_layers', 'net', 'ignore_index', 'pad_value', 'token_emb', 'to_logits',
    'max_mem_len', 'shift_mem_down', 'pre_norm_has_final_norm', 'disable_abs_pos_emb', 'attn_dim_out', 'cross_attn_dim_out', 'ff_dim_out',
    'attn_custom_attn_fn', 'cross_attn_custom_attn_fn', 'attn_onnxable', 'cross_attn_onnxable',
}  # fmt: skip
ALL = (Decoder, Encoder, PrefixDecoder, CrossAttender, TransformerWrapper, AutoregressiveWrapper)


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
    return {name: parameter.grad for name, parameter in module.named_parameters()}


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


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_no_flag_is_dead(kind: type, case: Case) -> None:
    """Switching it on changes the parameters, the plan or the numbers, unless it promises not to."""
    stack, plain = build_stack(kind, case), {'cross_attend': True} if case.context_width else {}
    without = build_stack(kind, Case('', {} if case.name == 'cross_attend' else plain))
    shapes = lambda m: {name: t.shape for name, t in m.state_dict().items()}
    fill(without), fill(stack)
    x, inputs = embeddings(), context_of(case)
    same = shapes(stack) == shapes(without) and torch.equal(stack(x, **inputs), without(x, **inputs))
    if not keeps_numbers(case.name):
        assert not same
    elif case.name.endswith('dropout'):
        torch.manual_seed(0)
        assert not torch.equal(stack.train()(x, **inputs), stack(x, **inputs))
    elif case.name.endswith('straight_through'):
        assert stack.config.attn.sparse_topk_straight_through or stack.config.cross_attn.sparse_topk_straight_through


@pytest.mark.parametrize('case', [case for case in DECODERS if 'zero_init' in case.name], ids=str)
def test_zero_initialised_branches_start_at_zero(case: Case) -> None:
    torch.manual_seed(0)
    stack = Decoder(**case.keywords)
    starts = [p for name, p in stack.named_parameters() if ('to_out' in name or 'ff.2' in name) and p.abs().max() == 0]
    assert starts


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


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_defaults_written_out_change_nothing(kind: type, case: Case) -> None:
    defaults = {e.name: e.default for e in catalogue(kind.config_class) if not e.required and not e.name.startswith('cross_attn_')}
    written = kind(**{**defaults, **case.keywords})
    assert {**written.config.keywords()} == build_stack(kind, case).config.keywords()


@pytest.mark.parametrize('kind', ALL, ids=lambda kind: kind.__name__)
def test_every_flag_says_what_it_does(kind: Any) -> None:
    for entry in catalogue(kind.config_class):
        assert entry.doc.endswith('.') and len(entry.doc) > 10, entry.name
        assert entry.example or entry.name in NO_EXAMPLE, entry.name
        assert entry.paper is None or re.fullmatch(r'https://.+|\d{4}\.\d{4,5}', entry.paper), entry.name
        if entry.example:
            assert entry.name in entry.example, entry.name
