"""A stack is the formula of its flags: for every flag it gives what the papers say, written anew pair by pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from by_the_papers import attention, stack_by_the_papers
from law_cases import DECODERS, ENCODERS, LENGTH, Case, build_stack, context_of, embeddings

from x_transformers import Attention, Decoder, Encoder
from x_transformers.errors import DecodeError

STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_a_stack_is_what_the_papers_say(kind: type, case: Case) -> None:
    stack, x, inputs = build_stack(kind, case), embeddings(), context_of(case)
    bound = 1e-6 if stack.config.uses_rotary else 1e-9  # frequencies are kept in single precision
    with torch.no_grad():
        assert (stack(x, **inputs) - stack_by_the_papers(stack, x, **inputs)).abs().max() < bound


STRAIGHT_THROUGH = ('hard', 'straight_through')  # flags whose gradient is not that of what they compute, which is their point
DIFFERENTIABLE = [(kind, case) for kind, case in STACKS if not case.name.endswith(STRAIGHT_THROUGH)]


@pytest.mark.parametrize('kind, case', DIFFERENTIABLE, ids=[f'{kind.__name__} {case}' for kind, case in DIFFERENTIABLE])
def test_gradients_are_those_of_what_the_papers_say(kind: type, case: Case) -> None:
    stack, x, inputs = build_stack(kind, case), embeddings().requires_grad_(), context_of(case)
    learning = [x, *(p for p in stack.parameters() if p.requires_grad)]
    out, want = stack(x, **inputs), stack_by_the_papers(stack, x, **inputs)
    probe = torch.randn_like(want)
    ours, theirs = (torch.autograd.grad(t, learning, probe, allow_unused=True, materialize_grads=True) for t in (out, want))
    for got, expected in zip(ours, theirs, strict=True):
        assert (got - expected).abs().max() < (1e-5 if stack.config.uses_rotary else 1e-9) * (1 + expected.abs().max())


PLACED = ('rotary', 'alibi', 'rel_pos', 'dynamic_pos')


@pytest.mark.parametrize('case', [case for case in DECODERS if case.name.startswith(PLACED)], ids=str)
def test_positions_of_ones_own_are_what_the_papers_take(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    pos = torch.tensor([[0, 1, 2, 4, 5, 7, 8, 9, 12, 13, 14, 20], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    with torch.no_grad():
        assert (stack(x, pos=pos) - stack_by_the_papers(stack, x, pos=pos)).abs().max() < 1e-6


OF_ATTENTION = ('attn_', *PLACED)
ATTENTIONS = [(kind, case) for kind, case in STACKS if any(name.startswith(OF_ATTENTION) for name in case.stack)]


def angles_of(stack: Any, module: Attention, length: int) -> Any:
    """What the rotary embedding of a stack, or that of this attention, gives to attention outside of a stack."""
    rotary = stack.rotary_pos_emb if module.config.rotary is None else stack.rotary_pos_emb[module.config.rotary]
    return None if rotary is None else rotary.forward_from_seq_len(length)


@pytest.mark.parametrize('kind, case', ATTENTIONS, ids=[f'{kind.__name__} {case}' for kind, case in ATTENTIONS])
def test_attention_outside_of_a_stack_is_what_the_papers_say(kind: type, case: Case) -> None:
    stack = build_stack(kind, case)
    module = next(part for part in stack.modules() if isinstance(part, Attention) and not part.config.cross)
    inputs = [embeddings(seed) for seed in ((2, 3, 4) if module.config.qkv_receive_diff_residuals else (2,))]
    angles = angles_of(stack, module, LENGTH)
    with torch.no_grad():
        out = module(torch.stack(inputs) if len(inputs) > 1 else inputs[0], rotary_pos_emb=angles, rel_pos=stack.rel_pos)
        want = attention(stack, 'a', module, inputs, None, None, {'pos': torch.arange(LENGTH)[None]})
    assert (out - want).abs().max() < 1e-6


NO_MEMORY = {'attn_hybrid_module', 'qkv_receive_diff_residuals'}  # what stands beside sees none; three inputs have none
REMEMBERING = [(kind, case) for kind, case in ATTENTIONS if not NO_MEMORY & set(case.stack)]


@pytest.mark.parametrize('kind, case', REMEMBERING, ids=[f'{kind.__name__} {case}' for kind, case in REMEMBERING])
def test_hidden_memory_of_attention_outside_of_a_stack_may_as_well_be_missing(kind: type, case: Case) -> None:
    stack = build_stack(kind, case)
    module = next(part for part in stack.modules() if isinstance(part, Attention) and not part.config.cross)
    x, mem, hidden = embeddings(), embeddings(3, length=5), torch.tensor([[True] * 5, [False] * 2 + [True] * 3])
    angles = angles_of(stack, module, LENGTH + 5)
    later = None if angles is None else tuple(t[:, 2:] if isinstance(t, torch.Tensor) else t for t in angles)
    with torch.no_grad():
        padded = module(x, mem=mem, mem_mask=hidden, rotary_pos_emb=angles, rel_pos=stack.rel_pos)[1:]
        alone = module(x[1:], mem=mem[1:, 2:], rotary_pos_emb=later, rel_pos=stack.rel_pos)
    assert (padded - alone).abs().max() < 1e-10


@pytest.mark.parametrize('case', [case for kind, case in REMEMBERING if kind is Decoder], ids=str)
def test_attention_outside_of_a_stack_goes_on_from_its_intermediates_or_says_why_not(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    module = next(part for part in stack.modules() if isinstance(part, Attention) and not part.config.cross)
    given = {'rotary_pos_emb': angles_of(stack, module, LENGTH), 'rel_pos': stack.rel_pos}
    first = {**given, 'rotary_pos_emb': angles_of(stack, module, 8)}
    with torch.no_grad():
        whole = module(x, **given)
        begun, cache = module(x[:, :8], return_intermediates=True, **first)
        if needs := [name for name in ('attn_data_dependent_alibi', 'attn_selective') if any(flag.startswith(name) for flag in case.stack)]:
            with pytest.raises(DecodeError, match=needs[0]):
                module(x[:, 8:], cache=cache, **given)
            return
        assert (torch.cat((begun, module(x[:, 8:], cache=cache, **given)), dim=1) - whole).abs().max() < 1e-10
