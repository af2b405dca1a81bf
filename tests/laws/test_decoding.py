"""The split law: a sequence run in pieces, the state passed on, equals the sequence run whole."""

from __future__ import annotations

import pytest
import torch
from law_cases import (
    DECODERS,
    ENCODERS,
    LENGTH,
    Case,
    build_model,
    build_stack,
    cannot_rewind,
    context_of,
    embeddings,
    in_pieces,
    so_far,
    tokens,
    wrapper_cases,
)

from x_transformers import Decoder, Encoder, PrefixDecoder
from x_transformers.errors import DecodeError

CUTS = ((5, 1, 1, 4, 1), (1,) * LENGTH, (LENGTH,), (7, 5), (2, 7, 3))
BOUND = 1e-10
MODELS = [*(Case(case.name, case.stack) for case in DECODERS), *wrapper_cases()]
HEADLESS = {'return_only_embed'}  # nothing to generate with
GENERATORS = [case for case in MODELS if case.name not in HEADLESS and not case.per_token]  # what belongs to tokens to come is unknown


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_pieces_equal_the_whole(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch.no_grad():
        whole = stack(x, **inputs)
        for cut in CUTS:
            for capacity in (None, LENGTH):
                out, _ = in_pieces(stack, x, cut, stack.empty_state(capacity=capacity), **inputs)
                assert differ(out, whole) < BOUND, (cut, capacity)


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_pieces_of_a_left_padded_batch_equal_the_whole(case: Case) -> None:
    stack, x, start = build_stack(Decoder, case), embeddings(), torch.tensor([0, 4])
    inputs = {**context_of(case), 'seq_start_pos': start}
    with torch.no_grad():
        whole = stack(x, **inputs)
        for capacity in (None, LENGTH):
            out, _ = in_pieces(stack, x, (2, 3, 1, 6), stack.empty_state(capacity=capacity), **inputs)
            assert differ(out[0], whole[0]) < BOUND
            assert differ(out[1, 4:], whole[1, 4:]) < BOUND


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_pieces_after_transformer_xl_memory_equal_the_whole(case: Case) -> None:
    stack, x = build_stack(Decoder, case), embeddings()
    layers = sum(step.kind == 'a' for step in stack.plan.steps())
    inputs = {**context_of(case, memory=3), 'mems': [embeddings(seed=10 + i, length=3) for i in range(layers)]}
    with torch.no_grad():
        whole = stack(x, **inputs)
        for capacity in (None, LENGTH):
            out, _ = in_pieces(stack, x, (5, 1, 6), stack.empty_state(capacity=capacity), **inputs)
            assert differ(out, whole) < BOUND, capacity


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_state_can_be_reordered_and_kept(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    turned = {name: t.flip(0) for name, t in inputs.items()}
    with torch.no_grad():
        whole = stack(x, **inputs)
        for capacity in (None, LENGTH):
            _, (state, later) = in_pieces(stack, x, (6, 3), stack.empty_state(capacity=capacity), **inputs)
            swapped, _ = stack(x[:, 6:].flip(0), state=state.reorder(torch.tensor([1, 0])), return_state=True, **turned)
            assert differ(swapped.flip(0), whole[:, 6:]) < BOUND
            if capacity is None:  # a growing state is a snapshot: the older one stays what it was
                again, _ = stack(x[:, 6:], state=state, return_state=True, **inputs)
                assert differ(again, whole[:, 6:]) < BOUND
                assert later.seen == 9


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_state_can_be_rewound_or_says_why_not(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch.no_grad():
        whole = stack(x, **inputs)
        for capacity in (None, LENGTH + 4):
            _, (state,) = in_pieces(stack, x[:, :9], (9,), stack.empty_state(capacity=capacity), **inputs)
            if name := cannot_rewind(case):
                with pytest.raises(DecodeError, match=f'{name} cannot take back 3 tokens'):
                    state.rewind(3)
                continue
            out, _ = stack(x[:, 6:], state=state.rewind(3), return_state=True, **inputs)
            assert differ(out, whole[:, 6:]) < BOUND, capacity


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_state_rewound_to_nothing_starts_again(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    if cannot_rewind(case):  # refuses, as above
        return
    with torch.no_grad():
        whole = stack(x, **inputs)
        for capacity in (None, 2 * LENGTH):
            _, (state,) = in_pieces(stack, x[:, :3], (3,), stack.empty_state(capacity=capacity), **inputs)
            out, _ = in_pieces(stack, x, (5, 7), state.rewind(3), **inputs)
            assert differ(out, whole) < BOUND, capacity


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_state_forgets_the_same_however_it_is_kept(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch.no_grad():
        outs = []
        for capacity in (None, 8):
            state, each = stack.empty_state(capacity=capacity), []
            for t in range(LENGTH):
                out, state = stack(x[:, t : t + 1], state=state.keep(5), return_state=True, **so_far(inputs, t + 1))
                each.append(out)
            assert state.length == 6
            assert state.seen == LENGTH
            outs.append(torch.cat(each, dim=1))
        assert differ(outs[0], outs[1]) < BOUND
        assert differ(outs[0][:, :6], stack(x[:, :6], **so_far(inputs, 6))) < BOUND


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_one_row_becomes_many_beams(case: Case) -> None:
    stack, inputs, x = build_stack(Decoder, case), context_of(case, slice(0, 1)), embeddings()
    beams = {name: t.expand(2, *t.shape[1:]) for name, t in inputs.items()}
    both = torch.cat((x[:1, :6].expand(2, -1, -1), x[:, 6:]), dim=1)
    with torch.no_grad():
        whole = stack(both, **beams)
        for capacity in (None, LENGTH):
            _, (state,) = in_pieces(stack, x[:1, :6], (6,), stack.empty_state(capacity=capacity), **inputs)
            out, _ = stack(x[:, 6:], state=state.reorder(torch.tensor([0, 0])), return_state=True, **beams)
            assert differ(out, whole[:, 6:]) < BOUND, capacity


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_positions_of_ones_own_travel_with_the_pieces(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    pos = torch.tensor([[0, 1, 2, 4, 5, 7, 8, 9, 12, 13, 14, 20], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    with torch.no_grad():
        whole, outs, state = stack(x, pos=pos, **inputs), [], None
        for begin, end in ((0, 5), (5, 6), (6, LENGTH)):
            out, state = stack(x[:, begin:end], pos=pos[:, begin:end], state=state, return_state=True, **so_far(inputs, end))
            outs.append(out)
    assert differ(torch.cat(outs, dim=1), whole) < BOUND


def test_an_order_of_ones_own_goes_on_in_that_order_only() -> None:
    stack, x, order = build_stack(Decoder, Case('', {'rotary_pos_emb': True})), embeddings(), (0, 1, 0, 1, 2, 3, 3)
    with torch.no_grad():
        whole = stack(x, layers_execute_order=order)
        for capacity in (None, LENGTH):
            out, states = in_pieces(stack, x, (5, 1, 6), stack.empty_state(capacity=capacity), layers_execute_order=order)
            assert differ(out, whole) < BOUND
    with pytest.raises(DecodeError, match=r'of 7 executed layers, \(0, 1, 0, 1, 2, 3, 3\), but this call runs 4, \(0, 1, 2, 3\)'):
        stack(x, state=states[0], return_state=True)
    _, (state,) = in_pieces(stack, x[:, :5], (5,))
    with pytest.raises(DecodeError, match=r'but this call runs 4, \(1, 0, 3, 2\)'):
        stack(x[:, 5:], state=state, return_state=True, layers_execute_order=(1, 0, 3, 2))


def test_a_state_that_is_full_says_so() -> None:
    stack, x = build_stack(Decoder, Case('')), embeddings()
    with pytest.raises(DecodeError, match='capacity=8 is too small for 12 tokens'):
        stack(x, state=stack.empty_state(capacity=8), return_state=True)


def test_a_window_that_slides_costs_no_more_memory_and_forgets_the_same() -> None:
    stack = build_stack(Decoder, Case('', {'rotary_pos_emb': True, 'attn_num_mem_kv': 2}))
    x = embeddings(length=40)
    growing, fixed = stack.empty_state(), stack.empty_state(capacity=8)
    with torch.no_grad():
        for t in range(40):
            a, growing = stack(x[:, t : t + 1], state=growing.keep(5), return_state=True)
            b, fixed = stack(x[:, t : t + 1], state=fixed.keep(5), return_state=True)
            assert differ(a, b) < BOUND
    assert growing.length == fixed.length == 6
    assert fixed.seen == 40


@pytest.mark.parametrize('kind', [Encoder, PrefixDecoder])
def test_bidirectional_stacks_refuse_to_go_on(kind: type) -> None:
    stack, x = build_stack(kind, Case('')), embeddings()
    with pytest.raises(DecodeError, match='looks at later tokens'):
        stack(x, return_state=True)
    assert not stack.can_cache_kv


def test_every_encoder_flag_refuses_to_go_on_too() -> None:
    for case in ENCODERS:
        if 'only_cross' not in case.stack and 'a' in build_stack(Encoder, case).layer_types:
            with pytest.raises(DecodeError):
                build_stack(Encoder, case)(embeddings(), return_state=True, **context_of(case))


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_cached_generation_equals_uncached_and_ragged_prompts_equal_each_alone(case: Case) -> None:
    model, prompt, inputs = build_model(case), tokens(6), context_of(case)
    alone = context_of(case, slice(0, 1))
    whole = model.generate(prompt, 10, temperature=0.0, cache_kv=False, **inputs)
    assert torch.equal(model.generate(prompt, 10, temperature=0.0, **inputs), whole)
    ragged = model.generate(prompt, 10, temperature=0.0, prompt_lens=torch.tensor([3, 6]), **inputs)
    assert torch.equal(ragged[:1], model.generate(prompt[:1, :3], 10, temperature=0.0, **alone))
    assert torch.equal(ragged[1], whole[1])


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_a_model_goes_on_by_state_and_by_cache_alike(case: Case) -> None:
    net, x, inputs = build_model(case).net, tokens(), context_of(case)
    with torch.no_grad():
        whole = net(x, **inputs)
        out, _ = in_pieces(net, x, (4, 1, 7), net.empty_state(capacity=LENGTH), **inputs)
        assert differ(out, whole) < BOUND
        first, cache = net(x[:, :5], return_intermediates=True, **so_far(inputs, 5))
        second, cache = net(x[:, :6], cache=cache, return_intermediates=True, **so_far(inputs, 6))  # 2.0.1's way: the whole so far
        third, cache = net(x[:, 6:9], cache=cache, return_intermediates=True, **so_far(inputs, 9))  # or the new tokens
        fourth = net(x, cache=cache, **inputs)
        assert differ(torch.cat((first, second, third, fourth), dim=1), whole) < BOUND


def left_padded(case: Case, cut: tuple[int, ...]) -> None:
    net, x, given = build_model(case).net, tokens(), {**context_of(case), 'seq_start_pos': torch.tensor([0, 4])}
    with torch.no_grad():
        whole = net(x, **given)
        out, _ = in_pieces(net, x, cut, net.empty_state(capacity=LENGTH), **given)
    assert differ(out[0], whole[0]) < BOUND
    assert differ(out[1, 4:], whole[1, 4:]) < BOUND


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_left_padded_tokens_go_on_by_state(case: Case) -> None:
    left_padded(case, (5, 1, 6))


@pytest.mark.parametrize('case', MODELS, ids=str)
def test_a_first_chunk_of_padding_alone_is_exact_or_refused(case: Case) -> None:
    if 'num_memory_tokens' not in case.model:
        return left_padded(case, (2, 4, 1, 5))
    with pytest.raises(DecodeError, match='num_memory_tokens'):
        left_padded(case, (2, 4, 1, 5))


def relative(case: Case) -> bool:
    """Whether only distances count, so that memories may make the tokens start at zero again.

    Rotary turns a query against memory keys and placed contexts, which stay where they are. Memories are rows before
    anything is shifted or injected, and one row serves keys and values; what cannot be rewound remembers more than rows.
    """
    rotary = any(name.startswith('rotary') for name in case.stack)
    fixed = 'attn_num_mem_kv' in case.stack or case.context_width is not None
    differs = {'reinject_input', 'qkv_receive_diff_residuals'} & set(case.stack)
    return not differs and not cannot_rewind(case) and not case.per_token and not (rotary and fixed)


@pytest.mark.parametrize('case', [case for case in DECODERS if relative(case)], ids=str)
@pytest.mark.parametrize('length', [0, 3])
def test_transformer_xl_memory_equals_a_state_that_keeps_as_much(case: Case, length: int) -> None:
    model = build_model(Case(case.name, {**case.stack, 'disable_abs_pos_emb': True}, {'max_mem_len': length}))
    net, x, inputs = model.net, tokens(), context_of(case)
    with torch.no_grad():
        mems = state = None
        for part in x.split(4, dim=1):
            by_memory, mems = net(part, mems=mems, return_mems=True, **inputs)
            state = state if state is None or not length else state.keep(length)
            by_state, state = net(part, state=state, return_state=True, **inputs)
            assert differ(by_memory, by_state) < BOUND
    assert all(mem.shape[1] == (length or LENGTH) for mem in mems)


def test_memories_shifted_down_come_from_the_layer_above() -> None:
    plain = build_model(Case('', {'alibi_pos_bias': True, 'depth': 3})).net
    moved = build_model(Case('', {'alibi_pos_bias': True, 'depth': 3}, {'shift_mem_down': 1})).net
    x, y = tokens().split((5, 7), dim=1)
    with torch.no_grad():
        _, mems = plain(x, return_mems=True)
        assert differ(moved(y, mems=mems), plain(y, mems=[*mems[1:], mems[0]])) < 1e-12
        assert differ(moved(y, mems=mems), plain(y, mems=mems)) > 1e-6


def test_more_new_tokens_than_are_remembered_go_on_where_the_call_says_so() -> None:
    net, x = build_model(Case('')).net, tokens()
    with torch.no_grad():
        whole = net(x)
        first, cache = net(x[:, :2], return_intermediates=True)
        rest = net(x[:, 2:], cache=cache, input_not_include_cache=True)
    assert differ(torch.cat((first, rest), dim=1), whole) < BOUND


def test_padding_that_looks_like_an_end_token_ends_nothing() -> None:
    model, prompt = build_model(Case('', {'rotary_pos_emb': True})), tokens(6).clamp(min=1)
    ragged = model.generate(prompt, 8, temperature=0.0, prompt_lens=torch.tensor([3, 6]), eos_token=0)
    alone = model.generate(prompt[:1, :3], 8, temperature=0.0, eos_token=0)
    assert torch.equal(ragged[:1, : alone.shape[1]], alone)
    assert ragged.any()


@pytest.mark.parametrize('name', ['mask', 'self_attn_kv_mask', 'sum_embeds', 'pos'])
def test_what_belongs_to_tokens_may_come_with_the_whole_sequence_or_the_new_part(name: str) -> None:
    net, x = build_model(Case('', {'alibi_pos_bias': True})).net, tokens()
    hidden = torch.ones(2, LENGTH, dtype=torch.bool)
    hidden[1, [3, 9]] = False
    beside = {'mask': hidden, 'self_attn_kv_mask': hidden, 'sum_embeds': embeddings(), 'pos': torch.arange(3, 3 + LENGTH)}[name]
    cut = lambda begin, end: {name: beside[begin:end] if beside.ndim == 1 else beside[:, begin:end]}
    with torch.no_grad():
        whole = net(x, **cut(0, LENGTH))
        first, cache = net(x[:, :8], return_intermediates=True, **cut(0, 8))
        for again in (net(x, cache=cache, **cut(0, LENGTH)), net(x[:, 8:], cache=cache, **cut(8, LENGTH))):
            assert differ(torch.cat((first, again), dim=1), whole) < BOUND
