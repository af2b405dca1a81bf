"""Layers computed again in the backward pass give the same numbers and gradients; so do parameters that are handed in."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from law_cases import BASE, DECODERS, STACKS, Case, build_model, build_stack, context_of, drawn, embeddings, named, tokens
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from x_transformers import Decoder, TransformerWrapper, XLAutoregressiveWrapper

NOT_BY_SAMPLE = {  # flags whose gradients torch.func does not take per sample, and what it says
    'checkpoint': "don't yet support saved tensor hooks",
    'attn_hybrid_module': 'broadcast',
    'attn_hybrid_fold_axial_dim': 'broadcast',
    'a folded LSTM beside attention, wide values, shifted': 'broadcast',
}


def gradients(stack: nn.Module, x: Tensor, **inputs: Any) -> list[Tensor | None]:
    """The output, and the gradients of what goes in and of every parameter."""
    stack.zero_grad()
    torch.manual_seed(0)
    random.seed(0)
    x = x.clone().requires_grad_()
    out = stack(x, **inputs)
    out = out[0] if isinstance(out, tuple) else out
    (out.square().sum() + 0 * x.sum()).backward()
    return [out, *(None if t.grad is None else t.grad.clone() for t in (x, *stack.parameters()))]


def alike(ours: list[Tensor | None], wanted: list[Tensor | None]) -> None:
    for one, other in zip(ours, wanted, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or (one - other).abs().max() <= 1e-11 * max(1.0, other.abs().max().item())


@pytest.mark.parametrize('kind, case', STACKS, ids=named)
def test_layers_computed_again_give_the_same_gradients(kind: type, case: Case) -> None:
    """In training, where parts are dropped by chance, and with everything shown that a caller can ask to see."""
    kept, again = build_stack(kind, case, checkpoint=False), build_stack(kind, case, checkpoint=True)
    x, inputs = embeddings(), context_of(case)
    alike(gradients(again.train(), x, **inputs), gradients(kept.train(), x, **inputs))
    shown = {'return_hiddens': True, **inputs}
    alike(gradients(again.eval(), x, **shown), gradients(kept.eval(), x, **shown))
    seen, same = again(x, **shown)[1], kept(x, **shown)[1]
    for name in ('hiddens', 'layer_hiddens', 'memories'):
        alike(getattr(seen, name), getattr(same, name))
    assert [one.layer_type for one in seen.attn_intermediates] == [one.layer_type for one in same.attn_intermediates]


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_memories_and_padding_reach_layers_computed_again(case: Case) -> None:
    kept, again = build_stack(Decoder, case, checkpoint=False), build_stack(Decoder, case, checkpoint=True)
    steps = [step.kind for step in kept.plan.steps()].count('a')
    inputs = {**context_of(case, memory=3), 'seq_start_pos': torch.tensor([0, 4]), 'mems': [drawn(9, 3, BASE['dim'])] * steps}
    alike(gradients(again, embeddings(), **inputs), gradients(kept, embeddings(), **inputs))


def test_a_state_goes_on_through_layers_computed_again() -> None:
    case = Case('', {'rotary_pos_emb': True, 'attn_num_mem_kv': 1})
    kept, again, x = build_stack(Decoder, case), build_stack(Decoder, case, checkpoint=True), embeddings()
    for state in (None, again.empty_state(capacity=12)):
        ends = []
        for n in (5, 1, 6):
            at = sum(end.shape[1] for end in ends)
            out, state = again(x[:, at : at + n], state=state, return_state=True)
            ends.append(out)
        assert (torch.cat(ends, dim=1) - kept(x)).abs().max() < 1e-10


def test_segments_train_alike_when_layers_are_computed_again() -> None:
    losses = []
    for again in (False, True):
        torch.manual_seed(0)
        stack = Decoder(**BASE, rotary_pos_emb=True, checkpoint=again)
        model = XLAutoregressiveWrapper(TransformerWrapper(num_tokens=32, max_seq_len=4, max_mem_len=4, attn_layers=stack)).double()
        loss = model(tokens())
        loss.backward()
        losses.append([loss, *(p.grad for p in model.parameters())])
    alike(*losses)


def test_nothing_inside_a_layer_is_kept() -> None:
    """What autograd saves between the passes is what enters the layers, whatever is as large as the scores is not among it."""
    sizes: dict[bool, list[int]] = {}
    for again in (False, True):
        stack, x = Decoder(dim=16, depth=4, heads=4, attn_flash=False, checkpoint=again), torch.randn(1, 64, 16, requires_grad=True)
        saved = sizes.setdefault(again, [])
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            stack(x)
    assert max(sizes[False]) >= 4 * 64 * 64 > max(sizes[True])
    assert sum(sizes[True]) < sum(sizes[False]) / 10


@pytest.mark.filterwarnings('ignore:There is a performance drop')  # kernels that PyTorch runs row by row
@pytest.mark.parametrize('kind, case', STACKS, ids=named)
def test_parameters_can_be_handed_in_and_gradients_taken_per_sample(kind: type, case: Case) -> None:
    stack, x, inputs = build_stack(kind, case), embeddings(), context_of(case)
    given = {name: 1.5 * p.detach() for name, p in stack.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        row = {name: t[None] for name, t in inputs.items()}
        return functional_call(stack, parameters, (x[None],), row).square().sum()

    by_hand = functional_call(stack, given, (x,), inputs)
    by_sample = vmap(grad(loss), in_dims=(None, 0, 0), randomness='different')
    if case.name in NOT_BY_SAMPLE:
        with pytest.raises(RuntimeError, match=NOT_BY_SAMPLE[case.name]):
            by_sample(given, x, inputs)
    else:
        found = by_sample(given, x, inputs)
    with torch.no_grad():
        for p in stack.parameters():
            p.mul_(1.5)
    assert (by_hand - stack(x, **inputs)).abs().max() < 1e-10
    for row in range(len(x)) if case.name not in NOT_BY_SAMPLE else ():
        one = slice(row, row + 1)
        _, _, *wanted = gradients(stack, x[one], **context_of(case, one))
        for name, want in zip(given, wanted, strict=True):
            assert (found[name][row] - (0 if want is None else want)).abs().max() <= 1e-10 * max(1.0, found[name].abs().max().item())


@pytest.mark.filterwarnings('ignore:There is a performance drop')
def test_a_model_gives_gradients_per_sample() -> None:
    net, ids = build_model(Case('')).net, tokens()
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(given: dict[str, Tensor], row: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, given, (row[None, :-1],))[0], row[1:])

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, ids)
    for row, one in enumerate(ids):
        net.zero_grad()
        loss(dict(net.named_parameters()), one).backward()
        assert all(p.grad is not None and (found[name][row] - p.grad).abs().max() < 1e-10 for name, p in net.named_parameters())
