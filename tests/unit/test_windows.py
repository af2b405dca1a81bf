"""Windows: blocks equal the readable form, nothing of the size of all pairs is formed, and a state stays small."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from x_transformers import Attention, AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper, ring
from x_transformers.attention import windowed
from x_transformers.attention.attend import Attend
from x_transformers.attention.backends import Scored
from x_transformers.attention.masks import KeyRule, visible
from x_transformers.attention.naive import naive_attention
from x_transformers.attention.windowed import Blocks, InBlocks
from x_transformers.call import Span
from x_transformers.errors import DecodeError
from x_transformers.ring import WindowKeys, first_keys
from x_transformers.state import FixedKeys, Fresh, Keys, tensors

CPU = torch.device('cpu')
F64 = {'dtype': torch.float64}


def in_blocks(blocks: Blocks, window: int, lead: int, n: int, earlier: int) -> InBlocks:
    queries, keys = Span(earlier, n), Span(0, earlier + n)
    limits = lambda spans: Scored(visible(KeyRule(True, window), *spans, None, lead, CPU))
    return InBlocks(blocks, lead, limits(blocks.head_spans(queries, keys)), limits(blocks.block_spans(queries, keys, 2)))


@pytest.mark.parametrize('n, earlier, lead, groups', [(17, 0, 0, 4), (12, 0, 2, 2), (20, 3, 1, 1), (13, 9, 0, 4)])
@pytest.mark.parametrize('window, smallest, largest', [(0, 2, 8), (1, 3, 8), (3, 2, 8), (4, 2, 2), (5, 2, 2)])
@pytest.mark.parametrize('flash', [False, None])
def test_blocks_equal_the_readable_form_with_gradients(
    n: int, earlier: int, lead: int, groups: int, window: int, smallest: int, largest: int, flash: bool | None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(windowed, 'SMALLEST', smallest)
    monkeypatch.setattr(windowed, 'LARGEST', largest)
    draw = lambda heads, length, width: torch.randn(2, heads, length, width, **F64, requires_grad=True)
    inputs = draw(4, n, 8), draw(groups, lead + earlier + n, 8), draw(groups, lead + earlier + n, 6)
    blocks = Blocks.of(window, n, earlier + n)
    assert blocks is not None and blocks.width >= window + blocks.size
    i, j = torch.arange(earlier, earlier + n)[:, None], torch.arange(-lead, earlier + n)
    allowed = (j < 0) | ((j <= i) & (i - j <= window))
    expected = naive_attention(*inputs, allowed, torch.zeros(1, 1, 1, 1, **F64), 0.3)
    out = Attend(flash=flash, scale=0.3).run(*inputs, in_blocks(blocks, window, lead, n, earlier))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    probe = torch.randn_like(out)
    for got, want in zip(torch.autograd.grad(out, inputs, probe), torch.autograd.grad(expected, inputs, probe), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('window, queries', [(128, 383), (16, 100), (300, 1000)])
def test_a_window_that_is_not_much_shorter_than_the_sequence_is_a_mask(window: int, queries: int) -> None:
    assert Blocks.of(window, queries, queries) is None
    assert Blocks.of(window, 4 * queries, 4 * queries) is not None


class Largest(TorchDispatchMode):
    """The largest number of elements that any operation made room for: views have none of their own."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, Tensor):
                self.elements = max(self.elements, t.untyped_storage().nbytes() // t.element_size())
        return out


POSITIONS: list[dict[str, Any]] = [
    {}, {'rotary_pos_emb': True}, {'rotary_xpos': True}, {'alibi_pos_bias': True}, {'rel_pos_bias': True}, {'dynamic_pos_bias': True},
    {'attn_data_dependent_alibi': True}, {'attn_data_dependent_alibi': True, 'attn_data_dependent_alibi_per_row': True},
    {'attn_use_cope': True},
]  # fmt: skip
LONG = 1024


def largest(flags: dict[str, Any], **inputs: Any) -> int:
    """Elements of the largest tensor of a forward and backward pass over 1,024 tokens."""
    stack, seen = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, **flags), Largest()
    with seen:
        out = stack(torch.randn(1, LONG, 16), **inputs)
        (out[0] if isinstance(out, tuple) else out).square().sum().backward()
    return seen.elements


@pytest.mark.parametrize('flags', POSITIONS, ids=str)
def test_a_window_forms_nothing_of_the_size_of_all_pairs(flags: dict[str, Any]) -> None:
    per_pair = LONG * 2 * windowed.SMALLEST * 2  # keys that a block meets, heads
    most = 16 * per_pair if 'attn_use_cope' in flags else per_pair  # scores of sixteen positions are read at each
    assert largest({**flags, 'attn_max_attend_past': 16}) <= most
    assert largest({**flags, 'attn_max_attend_past': 16, 'attn_add_zero_kv': True}) <= 1.1 * most
    assert largest({**flags, 'attn_max_attend_past': 16}, mask=torch.rand(1, LONG) > 0.2) <= most


@pytest.mark.parametrize('flags', [{}, {'rotary_pos_emb': True}, {'alibi_pos_bias': True}], ids=str)
def test_a_window_on_both_sides_forms_nothing_of_the_size_of_all_pairs(flags: dict[str, Any]) -> None:
    stack, seen = Encoder(dim=16, depth=1, heads=2, attn_dim_head=8, attn_window=16, **flags), Largest()
    with seen:
        stack(torch.randn(1, LONG, 16), mask=torch.rand(1, LONG) > 0.2).square().sum().backward()
    assert seen.elements <= LONG * 3 * windowed.SMALLEST * 2


BOTH_SIDES: list[dict[str, Any]] = [
    {}, {'rel_pos_bias': True, 'attn_num_mem_kv': 2}, {'alibi_pos_bias': True, 'attn_kv_heads': 2}, {'attn_pre_talking_heads': True},
    {'rotary_pos_emb': True, 'rotary_half_split': True, 'attn_flash': False}, {'attn_data_dependent_alibi': True},
]  # fmt: skip


@pytest.mark.parametrize('flags', BOTH_SIDES, ids=str)
@pytest.mark.parametrize('window, n', [(0, 20), (2, 13), (3, 30), (9, 41)])
def test_blocks_of_a_window_on_both_sides_equal_the_mask_with_gradients(
    window: int, n: int, flags: dict[str, Any], monkeypatch: Any
) -> None:
    torch.manual_seed(0)
    stack = Encoder(dim=16, depth=2, heads=4, attn_dim_head=8, attn_window=window, **flags).double()
    x, mem = torch.randn(2, n, 16, **F64), [torch.randn(2, 3, 16, **F64) for _ in range(2)]
    calls = ({}, {'mask': torch.arange(n) < torch.tensor([[n], [n - 5]])}, {'seq_start_pos': torch.tensor([0, 4])}, {'mems': mem})
    found = []
    for smallest in (1000, 2):  # all keys at once, then blocks
        monkeypatch.setattr(windowed, 'SMALLEST', smallest)
        monkeypatch.setattr(windowed, 'LARGEST', max(smallest, 4))
        for inputs in calls:
            out = stack(x, **inputs)
            gradients = torch.autograd.grad(out.square().sum(), tuple(stack.parameters()))
            found.append((out.detach(), *gradients))
    for whole, cut in zip(found[: len(calls)], found[len(calls) :], strict=True):
        for got, want in zip(cut, whole, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


BIASED: list[dict[str, Any]] = [{'alibi_pos_bias': True}, {'rel_pos_bias': True}, {'dynamic_pos_bias': True}]


@pytest.mark.parametrize('flags', [{}, {'rotary_pos_emb': True}, {'attn_kv_heads': 1}, *BIASED], ids=str)
def test_full_attention_forms_no_pairs_either(flags: dict[str, Any]) -> None:
    assert largest(flags) < LONG * LONG // 2  # a strip of scores that are formed anew, or rows of masks


@pytest.mark.parametrize('flags', [{'attn_flash': False}, {'attn_softclamp_logits': True}, {'attn_use_cope': True}], ids=str)
def test_the_reference_forms_a_strip_at_a_time_unless_it_is_looked_at(flags: dict[str, Any]) -> None:
    assert largest(flags) < LONG * LONG // 2
    assert largest(flags, return_hiddens=True) >= LONG * LONG


@pytest.mark.parametrize('where', ['attn_dropout', 'pre_softmax_talking_heads'])
def test_the_reference_forms_all_pairs_where_a_hook_looks_on(where: str) -> None:
    stack, seen = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, attn_pre_talking_heads=True), []
    getattr(stack.layers[0][1].attend, where).register_forward_hook(lambda module, given, out: seen.append(out.shape[2:]))
    stack(torch.randn(1, 200, 16))
    assert seen == [(200, 200)]


@pytest.mark.parametrize('keys', [150, 50])
def test_more_queries_than_keys_give_what_all_pairs_give(keys: int) -> None:
    attention = Attention(dim=16, heads=2, dim_head=8, causal=True, flash=False).double()
    x, context = torch.randn(1, 200, 16, dtype=torch.float64), torch.randn(1, keys, 16, dtype=torch.float64)
    torch.testing.assert_close(attention(x, context), attention(x, context, return_intermediates=True)[0])


REFERENCE: list[dict[str, Any]] = [{'attn_flash': False}, {'attn_softclamp_logits': True}, {'attn_use_cope': True}]


@pytest.mark.parametrize('flags', REFERENCE, ids=str)
@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::torch.jit.TracerWarning')
def test_a_graph_of_any_length_is_not_bound_to_strips(flags: dict[str, Any]) -> None:
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, **flags)
    example, others = torch.randn(1, 300, 16), [torch.randn(1, n, 16) for n in (400, 200, 20)]
    exported = torch.export.export(stack, (example,), dynamic_shapes={'x': {1: torch.export.Dim('n', min=2, max=500)}}).module()
    traced = torch.jit.trace(stack, example, check_trace=False)
    for x in others:
        torch.testing.assert_close(exported(x), stack(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(traced(x), stack(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('flags', BIASED, ids=str)
@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::torch.jit.TracerWarning')
def test_a_trace_of_a_bias_by_distance_serves_any_length(flags: dict[str, Any]) -> None:
    stack = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, **flags)
    traced, x = torch.jit.trace(stack, torch.randn(1, 300, 16), check_trace=False), torch.randn(1, 200, 16)
    torch.testing.assert_close(traced(x), stack(x), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ what is remembered


def some(n: int) -> dict[str, Tensor]:
    return {'k': torch.randn(2, 3, n, 4), 'v': torch.randn(2, 3, n, 5)}


@pytest.mark.parametrize('capacity', [None, 1000])
@pytest.mark.parametrize('lead', [0, 2])
@pytest.mark.parametrize('seed', range(4))
def test_a_window_holds_the_latest_of_what_growing_keys_hold_after_any_history(seed: int, lead: int, capacity: int | None) -> None:
    torch.manual_seed(seed)
    dice, window, first = random.Random(seed), 20, some(lead + 3)
    grown, kept = Fresh().start(first, lead), first_keys(Fresh(capacity=capacity), first, lead, window)
    assert isinstance(grown, Keys) and isinstance(kept, WindowKeys)
    older: list[tuple[WindowKeys, Tensor]] = []
    for _ in range(150):
        action, n = dice.choice(('append', 'append', 'append', 'keep', 'rewind')), dice.randint(1, 40)
        if action == 'append':
            new = some(n)
            older.append((kept, kept.read()['k'].clone()))
            met = kept.append(new)
            grown, kept = grown.append(new), met.slide()
            near = slice(-min(window, grown.length), None)
            assert torch.equal(met.read()['v'][..., near, :], grown.read()['v'][..., near, :])
        elif action == 'keep' and dice.random() < 0.2:
            grown, kept = grown.keep(n), kept.keep(n)
            older.clear()  # preallocated keys are cut in place
        elif action == 'rewind' and n < grown.length and (kept.gone == 0 or kept.length - n >= window):
            grown, kept = grown.rewind(n), kept.rewind(n)
            older.clear()
        assert grown.length == kept.length + kept.gone and kept.length <= window + 2 * ring.SPARE
        assert kept.gone == 0 or kept.length >= window
        for name, t in kept.read().items():
            assert torch.equal(t[..., :lead, :], first[name][..., :lead, :])
            assert torch.equal(t[..., lead:, :], grown.read()[name][..., grown.length + lead - kept.length :, :])
    assert all(torch.equal(state.read()['k'], k) for state, k in older)  # an older state still reads what it did


def test_a_window_takes_back_what_it_remembers_and_refuses_more() -> None:
    kept = first_keys(Fresh(), some(300), 0, 20)
    assert isinstance(kept, WindowKeys) and kept.slide().length == 20 + ring.SPARE
    assert kept.slide().rewind(ring.SPARE).length == 20
    with pytest.raises(DecodeError, match=r'a window of 20 .* cannot take back 65 tokens.*only the latest 64 tokens'):
        kept.slide().rewind(ring.SPARE + 1)


def test_less_room_than_a_window_needs_is_the_room_that_was_asked_for() -> None:
    assert isinstance(first_keys(Fresh(capacity=40), some(3), 0, 20), FixedKeys)


@pytest.mark.parametrize('capacity', [None, 1000])
def test_a_state_of_a_window_stays_small_however_long_the_sequence_gets(capacity: int | None) -> None:
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, attn_max_attend_past=8, attn_num_mem_kv=1, rotary_pos_emb=True).double()
    x, sizes, outs = torch.randn(2, 700, 16, **F64), [], []
    with torch.no_grad():
        whole, state = stack(x), stack.empty_state(capacity=capacity)
        for part in x.split([300, *[1] * 350, 50], dim=1):
            out, state = stack(part, state=state, return_state=True)
            outs.append(out)
            sizes.append(sum(t.untyped_storage().nbytes() for t in tensors(state.layers)))
    torch.testing.assert_close(torch.cat(outs, dim=1), whole, rtol=1e-10, atol=1e-10)
    tokens = 8 + 2 * ring.SPARE + 1
    assert max(sizes) <= 2 * 2 * (2 * 2 * 8 * 8) * tokens  # two layers, keys and values of two rows and heads of eight doubles
    assert state.seen == 700


def test_a_model_with_a_window_generates_what_it_generates_without_a_state() -> None:
    net = TransformerWrapper(
        num_tokens=32, max_seq_len=400, attn_layers=Decoder(dim=16, depth=2, heads=2, attn_max_attend_past=4, rotary_pos_emb=True)
    )
    model, prompt = AutoregressiveWrapper(net.double()), torch.randint(0, 32, (2, 290))
    whole = model.generate(prompt, 12, temperature=0.0, cache_kv=False)
    assert torch.equal(model.generate(prompt, 12, temperature=0.0), whole)
    ragged = model.generate(prompt, 12, temperature=0.0, prompt_lens=torch.tensor([250, 290]))
    assert torch.equal(ragged[1], whole[1])
    assert torch.equal(ragged[:1], model.generate(prompt[:1, :250], 12, temperature=0.0))


def test_each_layer_remembers_no_more_than_its_own_window() -> None:
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=3, heads=2, attn_dim_head=8, attn_max_attend_past=(4, None, 200), alibi_pos_bias=True).double().eval()
    x = torch.randn(2, 400, 16, dtype=torch.float64)
    outs, state = [], None
    with torch.no_grad():
        whole, alike = stack(x), Decoder(**{**stack.config.keywords(), 'attn_max_attend_past': None}).double().eval()
        alike.load_state_dict(stack.state_dict())
        for at in range(0, 400, 50):
            out, state = stack(x[:, at : at + 50], state=state, return_state=True)
            outs.append(out)
    torch.testing.assert_close(torch.cat(outs, dim=1), whole)
    assert not torch.allclose(whole, alike(x))
    attentions = [layer for layer, kind in zip(state.layers, stack.layer_types, strict=True) if kind == 'a']
    most = lambda window: window + 2 * ring.SPARE
    assert attentions[1].length == 400 and attentions[0].length <= most(4) and attentions[2].length <= most(200)
