"""The laws for every flag of every model: tokens, vectors, numbers and several inputs share a body, so they share its laws."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from law_cases import perturb
from torch import Tensor

from x_transformers import (
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    MultiInputTransformerWrapper,
    TransformerWrapper,
    ViTransformerWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)
from x_transformers.errors import DecodeError, FlagError, InputError
from x_transformers.flags import catalogue
from x_transformers.state import map_tensors, tensors

LENGTH, BOUND = 11, 1e-10
STACK = {'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8}
KINDS: dict[type, dict[str, Any]] = {
    TransformerWrapper: {'num_tokens': 9},
    ContinuousTransformerWrapper: {'dim_in': 3, 'dim_out': 4},
    XValTransformerWrapper: {'num_tokens': 9, 'numerical_token_id': 2},
    MultiInputTransformerWrapper: {'num_tokens': {'type': 9, 'keys': 5}},
}
TOGETHER: list[dict[str, Any]] = [
    {'num_memory_tokens': 2, 'use_cls_token': True, 'num_cls_tokens': 2},
    {'num_memory_tokens': 2, 'average_pool_embed': True, 'post_emb_norm': True},
    {'num_memory_tokens': 1, 'recycling': True},
    {'recycling': True, 'average_pool_embed': True},
    {'memory_tokens_interspersed_every': 3, 'num_memory_tokens': 2, 'recycling': True},
]


@dataclass(frozen=True)
class Model:
    """A kind of model, and the flags that are switched on."""

    kind: type
    name: str
    flags: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f'{self.kind.__name__} {self.name}'

    @property
    def stack(self) -> type:
        """CLS tokens must see what stands behind them."""
        return Encoder if 'use_cls_token' in self.flags else Decoder

    def build(self, stack: type | None = None, flags: dict[str, Any] | None = None) -> Any:
        """In float64 and evaluation mode."""
        torch.manual_seed(0)
        flags = self.flags if flags is None else flags
        layers = (stack or self.stack)(**STACK)
        net = self.kind(**{**KINDS[self.kind], 'max_seq_len': 16, 'attn_layers': layers, **flags}).double().eval()
        perturb(net)
        return net

    @property
    def pooled(self) -> bool:
        return bool(self.flags.keys() & {'average_pool_embed', 'use_cls_token'})

    def inputs(self, n: int = LENGTH, seed: int = 1) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the model takes: two rows."""
        draw = torch.Generator().manual_seed(seed)
        ids = lambda count: torch.randint(0, count, (2, LENGTH), generator=draw)[:, :n]
        floats = lambda *shape: torch.randn(2, LENGTH, *shape, generator=draw, dtype=torch.float64)[:, :n]
        makers: dict[type, Callable[[], tuple[Any, ...]]] = {
            TransformerWrapper: lambda: (ids(9),),
            ContinuousTransformerWrapper: lambda: (floats(self.flags.get('dim_in', 3)),),
            XValTransformerWrapper: lambda: (ids(4), floats()),
            MultiInputTransformerWrapper: lambda: ({'type': ids(9), 'keys': ids(5)},),
        }
        beside: dict[str, Any] = {'recycle_steps': 2} if self.flags.get('recycling') else {}
        if 'embed_num_tokens' in self.flags:
            beside['embed_ids'] = {name: ids(count) for name, count in self.flags['embed_num_tokens'].items()}
        return makers[self.kind](), beside

    def rows(self, out: Any) -> list[Tensor]:
        """Every output, with the batch in front."""
        return [part for t in tensors(out) for part in (t.unbind() if self.flags.get('probabilistic') else (t,))]


def cases() -> list[Model]:
    """One per flag and kind, and a few together; each kind refuses none of its own."""
    found = []
    for kind in KINDS:
        found.append(Model(kind, 'defaults'))
        found += [Model(kind, e.name, dict(e.example)) for e in catalogue(kind.config_class) if e.example]  # type: ignore[attr-defined]
        found += [Model(kind, ', '.join(flags), flags) for flags in TOGETHER]
    return found


CASES = cases()
BY_TOKEN = [case for case in CASES if not case.pooled]
each = partial(pytest.mark.parametrize, 'case', ids=str)


def part_of(inputs: tuple[tuple[Any, ...], dict[str, Any]], rows: slice, tokens: slice) -> tuple[Any, Any]:
    """Some rows and some tokens of what a model takes."""
    return tuple(map_tensors(lambda t: t[rows, tokens], inputs[0])), map_tensors(lambda t: t[rows, tokens], inputs[1])


def apart(a: list[Tensor], b: list[Tensor]) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def run(case: Model, net: Any, **beside: Any) -> list[Tensor]:
    given, own = case.inputs()
    return case.rows(net(*given, **own, **beside))


DECLARED = (*KINDS, ContinuousAutoregressiveWrapper, ViTransformerWrapper, XTransformer, XValAutoregressiveWrapper)
NO_EXAMPLE = {  # flags that there is nothing to switch on for
    'num_tokens', 'max_seq_len', 'attn_layers', 'max_mem_len', 'shift_mem_down', 'token_emb', 'to_logits', 'emb_dim', 'numerical_token_id',
    'net', 'ignore_index', 'pad_value', 'loss_fn', 'image_size', 'patch_size', 'dim',
}  # fmt: skip


@pytest.mark.parametrize('kind', DECLARED)
def test_every_flag_says_what_it_does(kind: Any) -> None:
    for entry in catalogue(kind.config_class):
        if entry.name.startswith(('enc_', 'dec_')):  # those of models and stacks, under other names
            continue
        assert entry.doc.endswith('.') and len(entry.doc) > 10, entry.name
        assert entry.example or entry.name in NO_EXAMPLE, entry.name
        assert entry.paper is None or re.fullmatch(r'https://.+|\d{4}\.\d{4,5}', entry.paper), entry.name
        assert not entry.example or entry.name in entry.example, entry.name


@each(argvalues=CASES)
def test_a_training_step_reaches_every_parameter(case: Model) -> None:
    net = case.build()
    found = dict(zip((name for name, _ in net.named_parameters()), gradients(case, net), strict=True))
    assert [name for name, grad in found.items() if grad is None or not grad.isfinite().all() or grad.abs().max() == 0] == []


def gradients(case: Model, net: Any) -> list[Tensor]:
    sum(t.square().sum() for t in run(case, net)).backward()  # type: ignore[union-attr]
    return [p.grad for p in net.parameters()]


@each(argvalues=[case for case in CASES if case.flags])
def test_no_flag_is_dead(case: Model) -> None:
    """It changes the parameters, the numbers, or what it says it changes."""
    last = next(reversed(case.flags))
    rest = {name: value for name, value in case.flags.items() if name != last}
    if last == 'probabilistic':
        rest['dim_out'] = 3
    net, without = case.build(), case.build(flags=rest)
    if last == 'train_max_recycle_steps':
        assert max(net.train()._steps(ASKED) for _ in range(40)) == 2 < max(without.train()._steps(ASKED) for _ in range(40))
        return
    if {n: t.shape for n, t in net.state_dict().items()} != {n: t.shape for n, t in without.state_dict().items()}:
        return
    without.load_state_dict(net.state_dict())
    if last == 'emb_frac_gradient':
        assert apart(run(case, net), run(case, without)) < BOUND < apart(gradients(case, net), gradients(case, without))
        return
    if last == 'attn_z_loss_weight':
        given, beside = case.inputs()
        heavy, light = (model(*given, **beside, return_attn_z_loss=True)[1].attn_z_loss for model in (net, without))
        assert torch.allclose(heavy, 1000 * light)
        return
    if last == 'emb_dropout':
        net.train()
    got, plain = run(case, net), run(Model(case.kind, '', rest), without)
    assert [t.shape for t in got] != [t.shape for t in plain] or apart(got, plain) > 1e-6


@each(argvalues=CASES)
def test_a_config_and_a_state_dict_rebuild_the_model(case: Model) -> None:
    net = case.build()
    keywords = net.config.keywords()
    twin = case.kind(**{**keywords, 'attn_layers': case.stack(**keywords['attn_layers'].config.keywords())}).double().eval()
    twin.load_state_dict(net.state_dict(), strict=True)
    assert apart(run(case, twin), run(case, net)) == 0
    assert case.kind(**keywords).config == net.config


@each(argvalues=CASES)
def test_copies_give_the_same_and_stand_alone(case: Model) -> None:
    net = case.build()
    want = [t.detach() for t in run(case, net)]
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.5)
        assert apart(run(case, twin), want) == 0
        net.load_state_dict(twin.state_dict())


@each(argvalues=CASES)
def test_pieces_equal_the_whole_or_are_refused_with_a_reason(case: Model) -> None:
    net, (given, beside) = case.build(), case.inputs()
    first = part_of((given, {}), slice(None), slice(0, 4))[0]
    if net.why_not_decode:
        reason = next((name for name in case.flags if name in net.why_not_decode), 'Encoder')
        with pytest.raises(DecodeError, match=reason):
            net(*first, **beside, return_state=True)
        _, seen = net(*given, **beside, return_intermediates=True)
        with pytest.raises(DecodeError, match=reason):
            net(*given, **beside, cache=seen)
        return
    with torch.no_grad():
        whole = case.rows(net(*given, **beside))
        for capacity in (None, LENGTH):
            state, outs, at = net.empty_state(capacity=capacity), [], 0
            for n in (4, 1, 6):
                piece, own = part_of((given, beside), slice(None), slice(at, at + n))
                out, state = net(*piece, **own, state=state, return_state=True)
                outs.append(case.rows(out))
                at += n
            assert apart([torch.cat(parts, dim=1) for parts in zip(*outs, strict=True)], whole) < BOUND


@each(argvalues=BY_TOKEN)
def test_a_cache_goes_on_from_the_whole_sequence_or_the_new_part(case: Model) -> None:
    net, inputs = case.build(), case.inputs()
    if net.why_not_decode:
        return
    upto = lambda begin, end: part_of(inputs, slice(None), slice(begin, end))
    with torch.no_grad():
        whole, outs, cache = case.rows(net(*inputs[0], **inputs[1])), [], None
        for begin, end in ((0, 5), (0, 6), (6, 8), (0, LENGTH)):
            given, own = upto(begin, end)
            out, cache = net(*given, **own, cache=cache, return_intermediates=True)
            outs.append(case.rows(out))
    assert apart([torch.cat(parts, dim=1) for parts in zip(*outs, strict=True)], whole) < BOUND


@each(argvalues=BY_TOKEN)
def test_nothing_before_a_changed_token_moves(case: Model) -> None:
    net, (given, beside) = case.build(), case.inputs()
    other, _ = case.inputs(seed=2)
    spliced = tuple(swap(a, b, 6) for a, b in zip(given, other, strict=True))
    with torch.no_grad():
        a, b = case.rows(net(*given, **beside)), case.rows(net(*spliced, **beside))
    assert apart([t[:, :6] for t in a], [t[:, :6] for t in b]) < BOUND < apart([t[:, 6:] for t in a], [t[:, 6:] for t in b])


@each(argvalues=CASES)
def test_packed_documents_are_what_they_are_alone_or_are_refused_with_a_reason(case: Model) -> None:
    net, inputs, ids = case.build(), case.inputs(), torch.tensor([[5] * 4 + [2] * 7, [2] * 4 + [6] * 6 + [-1]])
    of_rows = case.flags.keys() & {'num_memory_tokens', 'use_cls_token', 'average_pool_embed'}
    if of_rows:
        with pytest.raises(InputError, match='|'.join(of_rows)):
            run(case, net, document_ids=ids)
        return
    with torch.no_grad():
        packed = run(case, net, document_ids=ids)
        for rows, at in ((slice(2), slice(0, 4)), (slice(0, 1), slice(4, 11)), (slice(1, 2), slice(4, 10))):
            own, beside = part_of(inputs, rows, at)
            assert apart([t[rows, at] for t in packed], case.rows(net(*own, **beside))) < BOUND


def swap(a: Any, b: Any, at: int) -> Any:
    """The first tokens of one, the later ones of the other."""
    if isinstance(a, dict):
        return {name: swap(a[name], b[name], at) for name in a}
    return torch.cat((a[:, :at], b[:, at:]), dim=1)


@each(argvalues=CASES)
def test_left_padding_changes_nothing_or_is_refused(case: Model) -> None:
    net, inputs, start = case.build(), case.inputs(), torch.tensor([0, 4])
    given, beside = inputs
    if 'memory_tokens_interspersed_every' in case.flags:
        with pytest.raises(InputError, match='memory_tokens_interspersed_every'):
            net(*given, **beside, seq_start_pos=start)
        return
    alone, own = part_of(inputs, slice(1, 2), slice(4, None))
    with torch.no_grad():
        padded, row = case.rows(net(*given, **beside, seq_start_pos=start)), case.rows(net(*alone, **own))
    assert apart([t[1:] if case.pooled else t[1:, 4:] for t in padded], row) < BOUND


@each(argvalues=CASES)
def test_embeddings_ahead_stand_behind_the_padding(case: Model) -> None:
    net, inputs = case.build(), case.inputs()
    ahead = torch.randn(2, 2, net.emb_dim, dtype=torch.float64)
    if 'memory_tokens_interspersed_every' in case.flags:
        return
    given, beside = inputs
    alone, own = part_of(inputs, slice(1, 2), slice(4, None))
    with torch.no_grad():
        padded = case.rows(net(*given, **beside, seq_start_pos=torch.tensor([0, 4]), prepend_embeds=ahead))
        row = case.rows(net(*alone, **own, prepend_embeds=ahead[1:]))
    assert apart([t[1:] if case.pooled else t[1:, 4:] for t in padded], row) < BOUND


@each(argvalues=CASES)
def test_right_padding_of_an_encoder_changes_nothing(case: Model) -> None:
    if 'memory_tokens_interspersed_every' in case.flags:
        with pytest.raises(FlagError, match='is not possible here'):
            case.build(Encoder)
        return
    net, inputs = case.build(Encoder), case.inputs()
    given, beside = inputs
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [7]])
    alone, own = part_of(inputs, slice(1, 2), slice(0, 7))
    ahead = torch.randn(2, 2, net.emb_dim, dtype=torch.float64)
    with torch.no_grad():
        for more in ({}, {'prepend_embeds': ahead}):
            padded = case.rows(net(*given, **beside, mask=mask, **more))
            row = case.rows(net(*alone, **own, **{name: t[1:] for name, t in more.items()}))
            assert apart([t[1:] if case.pooled else t[1:, : row[0].shape[1]] for t in padded], row) < BOUND


@each(argvalues=[case for case in CASES if case.kind is TransformerWrapper or len(case.flags) == 0])
def test_a_model_compiles_into_one_graph_and_gives_the_same(case: Model) -> None:
    torch.compiler.reset()
    net = case.build()
    compiled = torch.compile(net, fullgraph=True, backend='eager')
    for n in (LENGTH, 7):
        given, beside = case.inputs(n)
        assert apart(case.rows(compiled(*given, **beside)), case.rows(net(*given, **beside))) < BOUND


WATCHES = ('return_intermediates', 'return_mems', 'return_attn', 'return_attn_z_loss', 'return_logit_entropies', 'return_state')


@each(argvalues=[case for case in CASES if len(case.flags) < 2])
def test_whatever_is_watched_the_outputs_are_the_same(case: Model) -> None:
    net, (given, beside) = case.build(), case.inputs()
    with torch.no_grad():
        plain = case.rows(net(*given, **beside))
        for watched in itertools.chain(itertools.combinations(WATCHES, 1), [WATCHES[:2], WATCHES[1:3], WATCHES[1::4], WATCHES]):
            if refuses(net, watched):
                with pytest.raises((DecodeError, InputError)):
                    net(*given, **beside, **dict.fromkeys(watched, True))
                continue
            out = net(*given, **beside, **dict.fromkeys(watched, True))
            assert apart(case.rows(out[0]), plain) < BOUND, watched
            embeds = net(*given, **beside, **dict.fromkeys(watched, True), return_embeddings=True)[0]
            assert apart(case.rows(net.read_out(embeds)) if net._has_head else [embeds], plain) < BOUND, watched
            if net._has_head:
                both, read = net(*given, **beside, **dict.fromkeys(watched, True), return_logits_and_embeddings=True)[0]
                assert apart(case.rows(both), plain) < BOUND
                assert torch.equal(read, net.read_in(embeds))


def refuses(net: Any, watched: tuple[str, ...]) -> bool:
    """States of what cannot decode, entropies of what has no logits."""
    no_logits = isinstance(net, ContinuousTransformerWrapper) or not net._has_head
    return 'return_state' in watched and bool(net.why_not_decode) or 'return_logit_entropies' in watched and no_logits


class Asked:
    recycle_steps = None


ASKED: Any = Asked()
