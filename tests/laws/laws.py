"""The laws: one function each, over a built case. A law is added here and holds for every flag, pair and random configuration.

A law that says nothing of some models gives the reason (`unless`); docs/combinations.md shows it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from packing import IDS, PLACES, beside_document, beside_rows, document
from subjects import EVERY, FEW, LENGTH, ROWS, SECOND, SEEN, START, Case, Subject, cast, parameters_that_run
from torch import Tensor

from x_transformers import XTransformer
from x_transformers.errors import DecodeError

BOUND, EXACT = 1e-10, 1e-12
SHORT = 7  # tokens of the second row where it is padded on the right
RIGHT = torch.arange(LENGTH) < torch.tensor([[LENGTH], [SHORT]])


@dataclass(frozen=True)
class Law:
    """What must hold for every model that can be built, or why it says nothing of one."""

    name: str
    sentence: str
    check: Callable[[Subject], None]
    unless: Callable[[Subject], str | None]


LAWS: dict[str, Law] = {}


def law(sentence: str, unless: Callable[[Subject], str | None] = lambda s: None) -> Callable[[Callable[[Subject], None]], Any]:
    def register(check: Callable[[Subject], None]) -> Any:
        LAWS[check.__name__] = Law(check.__name__, sentence, check, unless)
        return check

    return register


def apart(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# ---------------------------------------------------------------------- what laws say nothing of


def looks_ahead(s: Subject) -> str | None:
    return None if s.causal else 'it looks at later tokens'


def has_no_tokens_out(s: Subject) -> str | None:
    return 'it puts out one answer for a row' if s.pooled else looks_ahead(s)


def writes_nothing(s: Subject) -> str | None:
    """What cannot generate; asking for it is an `InputError`."""
    if s.case.on('return_only_embed'):
        return 'without a head there is nothing to choose tokens by'
    if s.net.config.num_output_heads > 1:
        return 'with several heads it is open which one writes'
    if s.case.on('squeeze_out_last_dim'):
        return 'one number for a token is no choice among tokens'
    if s.case.on('embed_num_tokens'):
        return 'the further ids of tokens to come are unknown'
    return has_no_tokens_out(s)


def reads_rows_of_one_length(s: Subject) -> str | None:
    if s.case.on('memory_tokens_interspersed_every'):
        return 'blocks would begin elsewhere in each row (refused when called)'
    return None


def writes_no_ragged_rows(s: Subject) -> str | None:
    return writes_nothing(s) or reads_rows_of_one_length(s)


def has_no_choice(s: Subject) -> str | None:
    if any(name.endswith('attn_flash') for name in s.case.keywords):
        return 'it says itself which backend runs'
    return None if s.fused else 'the reference alone computes what its flags ask for'


# ---------------------------------------------------------------------- the laws


@law('Its config and its state dict rebuild it.')
def rebuilt(s: Subject) -> None:
    assert s.spare.state_dict().keys() == s.model.state_dict().keys()
    assert configs(s.spare) == configs(s.model)
    with torch.no_grad():
        assert apart(s.run(s.given, s.parts(s.spare)[0], **s.beside()), s.whole) == 0


def configs(model: Any) -> Any:
    """What it was built from; stacks are compared by their own configs."""
    if isinstance(model, XTransformer):
        return model.config
    keywords = {name: value for name, value in model.net.config.keywords().items() if name != 'attn_layers'}
    return keywords, model.net.attn_layers.config, {name: value for name, value in model.config.keywords().items() if name != 'net'}


@law('Run in pieces of 1, 2, 7 and all tokens, the state passed on, padded and reordered, it puts out what it does whole, or says why not.')
def pieces(s: Subject) -> None:
    if s.net.why_not_decode:
        with pytest.raises(DecodeError, match=re.escape(s.net.why_not_decode[:40])):
            s.run(s.given, return_state=True, **s.beside())
        return
    beside = s.beside()
    with torch.no_grad():
        for sizes, capacity in ((sizes_of(s), None), ([LENGTH], LENGTH)):
            out = s.cut(sizes, s.net.empty_state(capacity=capacity), **beside)
            assert apart(out, s.whole) < BOUND, (sizes, capacity)
        sizes = [SHORT, *(n for n in sizes_of(s) if n != SHORT)] if s.net.num_memory_tokens else sizes_of(s)
        out = s.cut(sizes, s.net.empty_state(capacity=LENGTH), seq_start_pos=START, **beside)
        assert max(apart(out[0], s.padded[0]), apart(out[1, 4:], s.padded[1, 4:])) < BOUND, sizes
        growing, at = s.net.empty_state(), sum(sizes[:2])
        _, growing = s.run(s.part(EVERY, slice(at)), state=growing, return_state=True, seq_start_pos=START, **beside)
        rest = {name: t.flip(0) for name, t in s.part(EVERY, slice(at, None)).items()}
        turned = {name: t.flip(0) if isinstance(t, Tensor) else t for name, t in beside.items()}
        swapped, _ = s.run(rest, state=growing.reorder(torch.tensor([1, 0])), return_state=True, seq_start_pos=START.flip(0), **turned)
        begin = max(at, 4)  # what padding puts out is of no interest
        assert apart(swapped.flip(0)[:, begin - at :], s.padded[:, begin:]) < BOUND, at


def sizes_of(s: Subject) -> list[int]:
    """A random cut of all tokens, into pieces of 1, 2 and 7."""
    sizes = [7, 2, 1, 1, 1]
    s.draw.shuffle(sizes)
    return sizes


@law('Written by state, tokens are those of the whole window each time.', writes_nothing)
def generated(s: Subject) -> None:
    assert torch.equal(s.written, s.write(ragged=reads_rows_of_one_length(s) is None, cache_kv=False))


@law('Ragged prompts, and padded sources, write what each row writes alone.', writes_no_ragged_rows)
def ragged(s: Subject) -> None:
    for row in range(ROWS):
        assert torch.equal(s.written[row : row + 1], s.write(slice(row, row + 1)))


@law('Nothing before a changed token moves.', has_no_tokens_out)
def causal(s: Subject) -> None:
    t = s.draw.randrange(1, LENGTH)
    changed = {**s.given, 'sum_embeds': s.given['sum_embeds'].clone()}
    changed['sum_embeds'][:, t] += 1 + torch.arange(s.net.emb_dim)  # not the same for all features: a norm would undo that
    with torch.no_grad():
        moved = (s.run(changed, **s.beside()) - s.whole).abs().amax(dim=(0, 2))
    assert moved[:t].max() < EXACT
    assert moved[t] > 1e-6


@law('No gradient comes back from later tokens.', has_no_tokens_out)
def gradient(s: Subject) -> None:
    x, out = s.graph
    (found,) = torch.autograd.grad(out[:, :5].square().sum(), x, retain_graph=True)
    assert found[:, 5:].abs().max() == 0
    assert found[:, :5].abs().amax(dim=(0, 2)).min() > 0


@law('A row padded on the left gives what it gives alone.', reads_rows_of_one_length)
def left(s: Subject) -> None:
    with torch.no_grad():
        alone = s.run(s.part(SECOND, slice(4, None)), **s.beside(SECOND))
    assert apart(s.padded[SECOND] if s.pooled else s.padded[SECOND, 4:], alone) < BOUND


def reads_neighbours(s: Subject) -> str | None:
    if not s.causal and s.case.on('shift_tokens'):
        return 'shifted feed-forwards of an encoder read their neighbours whatever the mask says, as in 2.0.1 (use seq_start_pos)'
    return None


@law('A row padded on the right gives what it gives alone.', lambda s: reads_neighbours(s) or reads_rows_of_one_length(s))
def right(s: Subject) -> None:
    with torch.no_grad():
        padded = s.run(s.given, mask=RIGHT, **s.beside())
        alone = s.run(s.part(SECOND, slice(SHORT)), **s.beside(SECOND))
    assert apart(padded[SECOND] if s.pooled else padded[SECOND, :SHORT], alone) < BOUND


@law('A padded context is what its tokens are alone.', lambda s: None if s.looks else 'it looks at no context')
def context(s: Subject) -> None:
    beside = s.beside(SECOND)
    short = {name: t[:, :FEW] if name.startswith('context') else t for name, t in beside.items()}
    with torch.no_grad():
        padded = s.run(s.given, **s.beside(), context_mask=SEEN)
        assert apart(padded[SECOND], s.run(s.part(SECOND), **short)) < BOUND


@law('Rows do not see each other.')
def rows(s: Subject) -> None:
    assert apart(s.whole[SECOND], s.alone) < EXACT


def reads_whole_rows(s: Subject) -> str | None:
    flag = s.case.on('attn_hybrid_module', 'num_memory_tokens', 'use_cls_token', 'average_pool_embed')
    return f'{flag} reads or writes all documents of a row at once (refused when called)' if flag else None


@law('A packed row gives what its documents give alone, and the gradient that they give.', reads_whole_rows)
def packed(s: Subject) -> None:
    x = s.given['sum_embeds'].clone().requires_grad_()
    given = {**s.given, 'sum_embeds': x}
    together = s.run(given, **beside_rows(s.beside()))
    alone = {size: s.run({name: document(t, size) for name, t in given.items()}, **beside_document(s.beside(), size)) for size in PLACES}
    assert max(apart(document(together, size), out) for size, out in alone.items()) < BOUND
    totals = together[IDS >= 0].square().sum(), sum(out.square().sum() for out in alone.values())
    (one,), (other,) = (torch.autograd.grad(total, x) for total in totals)  # type: ignore[arg-type]
    assert apart(one, other) < BOUND * max(1.0, other.abs().max().item())


@law('A row of which everything is hidden leaves outputs and gradients finite, in float32, bfloat16 and float16.')
def hidden(s: Subject) -> None:
    net = s.parts(s.spare)[0]
    nothing = torch.tensor([[False], [True]])
    context = {'context_mask': SEEN & nothing} if s.looks else {}
    ways = [{'mask': RIGHT & nothing}, {'mask': RIGHT & nothing}, {'seq_start_pos': torch.tensor([LENGTH, 2])}]
    s.draw.shuffle(ways)
    for dtype, way in zip((torch.float32, torch.bfloat16, torch.float16), ways, strict=True):
        way = {'mask': RIGHT & nothing} if reads_rows_of_one_length(s) else way
        given, beside = cast(s.given, dtype), cast(s.beside(), dtype)
        x = given['sum_embeds'].requires_grad_()
        s.spare.to(dtype).zero_grad()
        out = s.run(given, net, **beside, **context, **way)
        out.float().square().mean().backward()
        assert out.isfinite().all(), dtype
        assert all(t.grad is None or t.grad.isfinite().all() for t in (x, *net.parameters())), dtype


@law('Fused kernels give the numbers and gradients of the reference.', has_no_choice)
def backends(s: Subject) -> None:
    padding = {'mask': RIGHT} if reads_rows_of_one_length(s) or s.draw.random() < 0.5 else {'seq_start_pos': START}
    beside = {**padding, **({'context_mask': SEEN} if s.looks else {})}
    found = []
    for model in (s.model, s.twin(flash=False)):
        model.zero_grad()
        torch.manual_seed(0)
        loss = s.loss(model, s.given, **beside)
        loss.backward()
        found.append({'loss': loss.detach(), **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}})
    chosen, reference = found
    assert chosen.keys() == reference.keys()
    assert [name for name, t in reference.items() if not apart(chosen[name], t) <= BOUND * max(1.0, t.abs().max().item())] == []


@law('Evaluated twice it gives the same; trained with the same seed it draws the same, and stays finite.')
def repeated(s: Subject) -> None:
    with torch.no_grad():
        assert torch.equal(s.run(s.given, **s.beside()), s.whole)
    losses = []
    s.model.train()
    for _ in range(2):
        torch.manual_seed(1)
        random.seed(1)
        losses.append(s.loss(s.model, s.given))
    s.model.eval()
    assert torch.equal(*losses)
    assert losses[0].isfinite()


@law('Gradients reach every parameter that runs, and are finite.')
def reached(s: Subject) -> None:
    s.model.zero_grad()
    s.loss(s.model, s.given).backward()
    found = parameters_that_run(s.model)
    assert [name for name, p in found.items() if p.grad is None or not p.grad.isfinite().all()] == []


def verdict(case: Case) -> dict[str, str | None]:
    """Every law over one case: None where it holds, or why it says nothing of it. What does not hold is raised."""
    subject = Subject(case)
    return {each.name: passed(each, subject) for each in LAWS.values()}


def passed(each: Law, subject: Subject) -> str | None:
    reason = each.unless(subject)
    if reason is None:
        try:
            each.check(subject)
        except Exception as error:
            raise AssertionError(f'{subject.case} breaks the law {each.name!r}: {type(error).__name__}: {error}') from error
    return reason
