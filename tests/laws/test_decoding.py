"""The split law: a sequence run in pieces, the state passed on, equals the sequence run whole."""

from __future__ import annotations

import pytest
import torch
from law_cases import DECODERS, ENCODERS, LENGTH, Case, build_model, build_stack, context_of, embeddings, in_pieces, tokens, wrapper_cases

from x_transformers import Decoder, Encoder, PrefixDecoder
from x_transformers.errors import DecodeError

CUTS = ((5, 1, 1, 4, 1), (1,) * LENGTH, (LENGTH,), (7, 5), (2, 7, 3))
BOUND = 1e-10
MODELS = [*(Case(case.name, case.stack) for case in DECODERS), *wrapper_cases()]
HEADLESS = {'return_only_embed'}  # nothing to generate with
GENERATORS = [case for case in MODELS if case.name not in HEADLESS]


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
    inputs = {**context_of(case), 'mems': [embeddings(seed=10 + i, length=3) for i in range(layers)]}
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
            if 'shift_tokens' in case.stack:
                with pytest.raises(DecodeError, match='shift_tokens cannot take back 3 tokens'):
                    state.rewind(3)
                continue
            out, _ = stack(x[:, 6:], state=state.rewind(3), return_state=True, **inputs)
            assert differ(out, whole[:, 6:]) < BOUND, capacity


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
        state, outs = net.empty_state(capacity=LENGTH), []
        for part in x.split((4, 1, 7), dim=1):
            out, state = net(part, state=state, return_state=True, **inputs)
            outs.append(out)
        assert differ(torch.cat(outs, dim=1), whole) < BOUND
        first, cache = net(x[:, :5], return_intermediates=True, **inputs)
        second, cache = net(x[:, :6], cache=cache, return_intermediates=True, **inputs)  # 2.0.1's way: the whole sequence so far
        third, cache = net(x[:, 6:9], cache=cache, return_intermediates=True, **inputs)  # or the new tokens
        fourth = net(x, cache=cache, **inputs)
        assert differ(torch.cat((first, second, third, fourth), dim=1), whole) < BOUND
