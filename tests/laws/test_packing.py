"""Documents packed in a row are what they are alone: outputs, losses and gradients, for every flag, or the call is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from law_cases import LENGTH, STACKS, Case, build_model, build_stack, context_of, drawn, embeddings, named, tokens
from packing import IDS, PLACES, beside_document, beside_rows, document
from subjects import MODEL_FLAGS, Subject, further
from subjects import Case as Flags
from torch import Tensor, nn
from torch.export import Dim

from x_transformers import AutoregressiveWrapper, Decoder, Encoder
from x_transformers.decoding.nets import why_no_logits
from x_transformers.errors import InputError


def gradients(total: Any, module: nn.Module, **more: Tensor) -> dict[str, Tensor]:
    """Of what goes in, and of every parameter; zero where there is none."""
    found = {**more, **{name: p for name, p in module.named_parameters() if p.requires_grad}}
    grads = torch.autograd.grad(total, list(found.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(found, grads, strict=True))


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, t in other.items() if not (one[name] - t).abs().max() <= 1e-10 * max(1.0, t.abs().max().item())] == []


@pytest.mark.parametrize('kind, case', STACKS, ids=named)
def test_packed_documents_are_what_they_are_alone_with_gradients(kind: type, case: Case) -> None:
    stack, x, probe, inputs = build_stack(kind, case), embeddings().requires_grad_(), drawn(9, LENGTH, 16), context_of(case)
    if stack.has_module_beside:
        with pytest.raises(InputError, match='attn_hybrid_module'):
            stack(x, **beside_rows(inputs))
        return
    packed = stack(x, **beside_rows(inputs))
    alone = {size: stack(document(x, size), **beside_document(inputs, size)) for size in PLACES}
    alike({str(size): document(packed, size) for size in PLACES}, {str(size): out for size, out in alone.items()})
    total = (packed * probe)[IDS >= 0].sum()
    apart = sum((out * document(probe, size)).sum() for size, out in alone.items())
    alike(gradients(total, stack, x=x), gradients(apart, stack, x=x))


@pytest.mark.parametrize('kind, case', STACKS, ids=named)
def test_no_token_sees_another_document(kind: type, case: Case) -> None:
    stack, x, inputs = build_stack(kind, case), embeddings(), beside_rows(context_of(case))
    if stack.has_module_beside:
        return
    changed = x.clone()
    changed[IDS == 2] += 3 + torch.arange(16)
    with torch.no_grad():
        moved = (stack(changed, **inputs) - stack(x, **inputs)).abs().amax(dim=-1)
    assert moved[IDS != 2].max() < 1e-12
    assert moved[IDS == 2].max() > 1e-6


OF_ROWS = ('num_memory_tokens', 'use_cls_token', 'average_pool_embed')  # what reads or writes a whole row
MODELS = [name for name in MODEL_FLAGS if name != 'mask_prob']  # which draws what it hides


@pytest.mark.parametrize('name', MODELS)
def test_the_loss_of_packed_rows_is_that_of_their_documents_with_gradients(name: str) -> None:
    s = Subject(Flags('model', (name,)))
    if s.case.on(*OF_ROWS) or why_no_logits(s.net):
        return

    def loss(cut: Any, **beside: Any) -> Tensor:
        given = {each: cut(t) for each, t in s.given.items()}
        beside = {**beside, **further({each: t[:, :-1] for each, t in given.items()}), **s.beside()}
        return s.model(given['x'] % s.net.num_logits, **beside)

    if name == 'add_attn_z_loss':
        with pytest.raises(InputError, match=name):
            loss(lambda t: t, document_ids=IDS)
        return
    packed = loss(lambda t: t, document_ids=IDS)
    alone = sum((size - 1) * loss(lambda t, size=size: document(t, size)) for size in PLACES) / sum(size - 1 for size in PLACES)
    assert (packed - alone).abs() < 1e-10
    alike(gradients(packed, s.model), gradients(alone, s.model))


KEPT = torch.tensor([[1, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1], [1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1]], dtype=torch.bool)
PAIRS = drawn(11, 4 * LENGTH, LENGTH).view(2, 4, LENGTH, LENGTH)
BY_TOKEN = {'mask': KEPT, 'self_attn_kv_mask': KEPT, 'pos': torch.arange(24).view(2, 12) * 2 % 13}
BY_PAIR = {'attn_mask': (PAIRS > 0) | torch.eye(LENGTH, dtype=torch.bool), 'attn_bias': PAIRS}
UNDER: list[tuple[type, dict[str, Any]]] = [
    (Decoder, {'rotary_pos_emb': True, 'attn_num_mem_kv': 2}),
    (Decoder, {'rel_pos_bias': True, 'attn_max_attend_past': 3, 'shift_tokens': 1, 'attn_flash': False}),
    (Encoder, {'alibi_pos_bias': True}),
]


def square(t: Tensor, size: int) -> Tensor:
    """(2, h, n, n) -> (2, h, size, size): the pairs of each row's document of so many tokens."""
    return torch.stack([t[row, :, at : at + size, at : at + size] for row, at in enumerate(PLACES[size])])


@pytest.mark.parametrize('name', [*BY_TOKEN, *BY_PAIR])
@pytest.mark.parametrize('kind, flags', UNDER, ids=named)
def test_what_is_given_by_token_and_by_pair_is_that_of_the_documents(kind: type, flags: dict[str, Any], name: str) -> None:
    stack, x, given = build_stack(kind, Case('', flags)), embeddings(), {**BY_TOKEN, **BY_PAIR}[name]
    with torch.no_grad():
        packed = stack(x, **{name: given}, document_ids=IDS)
        for size in PLACES:
            own = square(given, size) if name in BY_PAIR else document(given, size)
            alone = stack(document(x, size), **{name: own})
            assert (document(packed, size) - alone).abs().max() < 1e-10


@pytest.mark.parametrize('flags', [{}, {'attn_max_attend_past': 1}, {'attn_flash': False, 'attn_use_cope': True}], ids=str)
def test_a_query_that_sees_nothing_of_its_document_sees_nothing_of_others(flags: dict[str, Any]) -> None:
    stack, x = build_stack(Decoder, Case('', flags)), embeddings()
    hidden, others = torch.zeros(2, LENGTH, dtype=torch.bool), (IDS == 2) | (IDS == 7)
    hidden[0, :2], hidden[1, 8:10] = True, True  # those that see nothing, of the first document and the last
    changed = x.clone()
    changed[others] += 3 + torch.arange(16)
    with torch.no_grad():
        before, after = (stack(t, self_attn_kv_mask=~hidden, document_ids=IDS) for t in (x, changed))
    assert (after - before)[~others].abs().max() < 1e-12
    assert before.isfinite().all()


def test_what_is_forgotten_by_chance_stays_in_its_document() -> None:
    model = AutoregressiveWrapper(build_model(Case('', {'attn_max_attend_past': 2})).net, mask_prob=0.6)
    x = tokens()
    changed = torch.where(IDS == 2, (x + 1) % 32, x)
    found = []
    for ids in (x, changed):
        torch.manual_seed(0)
        found.append(model(ids, document_ids=IDS, return_outputs=True)[1][0])
    other = IDS[:, :-1] != 2
    assert (found[0] - found[1])[other].abs().max() < 1e-12 < (found[0] - found[1])[~other].abs().max()


def test_packed_rows_train_in_one_graph() -> None:
    case = Case('', {'rotary_pos_emb': True, 'attn_max_attend_past': 3, 'attn_selective': True, 'cross_attend': True, 'checkpoint': True})
    stack, inputs = build_stack(Decoder, case).train(), beside_rows(context_of(case))
    torch.compiler.reset()
    found = []
    for run in (stack, torch.compile(stack, fullgraph=True, backend='aot_eager')):
        x = embeddings().requires_grad_()
        out = run(x, **inputs)
        found.append({'out': out, **gradients(out.square().sum(), stack, x=x)})
    alike(*found)


def test_packed_rows_export_with_any_batch_and_length() -> None:
    stack, sizes = build_stack(Decoder, Case('', {'rel_pos_bias': True, 'shift_tokens': 1})), {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    given = {'x': embeddings(), 'document_ids': IDS}
    program = torch.export.export(stack, (), given, dynamic_shapes=dict.fromkeys(given, sizes)).module()
    other = {'x': embeddings(5)[:, :7].repeat(2, 1, 1), 'document_ids': IDS[:, :7].repeat(2, 1)}
    assert (program(**other) - stack(**other)).abs().max() < 1e-10
