"""What was remembered of a shared prompt: everything that goes on from it is as if it had been read with the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.errors import DecodeError
from x_transformers.ring import WindowKeys
from x_transformers.state import map_tensors, tensors

PREFIX, ROWS = torch.randint(0, 13, (2, 5, 6), generator=torch.Generator().manual_seed(1))
LENS = torch.tensor([6, 2, 4, 2, 6])
PLAIN: dict[str, Any] = {'temperature': 0.0}


def model(max_seq_len: int = 64, wrapper: dict[str, Any] | None = None, **flags: Any) -> AutoregressiveWrapper:
    torch.manual_seed(0)
    stack = Decoder(**{'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8, 'rotary_pos_emb': True, **flags})
    net = TransformerWrapper(num_tokens=13, max_seq_len=max_seq_len, attn_layers=stack, **(wrapper or {}))
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return AutoregressiveWrapper(net.double(), pad_value=12)


def both(first: Tensor, rows: Tensor = ROWS) -> Tensor:
    return torch.cat((first.expand(len(rows), -1), rows), dim=1)


@pytest.mark.parametrize('length', [1, 6])
@pytest.mark.parametrize('flags, wrapper', [({}, {}), ({'shift_tokens': 1}, {}), ({'attn_selective': True}, {'num_memory_tokens': 2})])
def test_ragged_prompts_go_on_from_one_prefix(length: int, flags: dict[str, Any], wrapper: dict[str, Any]) -> None:
    made, first = model(wrapper=wrapper, **flags), PREFIX[:1, :length]
    prefix = made.remember(first)
    before = map_tensors(torch.clone, prefix.state)
    for lens in (LENS, torch.full((5,), 6), torch.tensor([1, 2, 3, 4, 5])):
        whole = made.generate(both(first), 8, prompt_lens=length + lens, **PLAIN)
        for more in ({}, {'prefill_chunk': 2}, {'draft': made}):
            assert torch.equal(made.generate(ROWS, 8, prompt_lens=lens, prefix=prefix, **more, **PLAIN), whole)
        padded, start = torch.full_like(ROWS, 7), 6 - lens
        for row, n in enumerate(lens.tolist()):
            padded[row, 6 - n :] = ROWS[row, :n]
        assert torch.equal(made.generate(padded, 8, seq_start_pos=start, prefix=prefix, **PLAIN), whole)
    assert all(torch.equal(a, b) for a, b in zip(tensors(before), tensors(prefix.state), strict=True))


def test_windows_that_slid_by_different_lengths_are_joined() -> None:
    made = model(max_seq_len=0, attn_max_attend_past=8, depth=3)
    draw = torch.Generator().manual_seed(3)
    first, rows = (torch.randint(0, 13, shape, generator=draw) for shape in ((1, 100), (4, 250)))
    lens = torch.tensor([3, 130, 250, 60])
    prefix = made.remember(first)
    with torch.no_grad():
        slid = made.remember(rows[1:2, :130], prefix=prefix).state.layers[0]
    assert isinstance(slid, WindowKeys) and slid.gone
    whole = made.generate(both(first, rows), 6, prompt_lens=100 + lens, **PLAIN)
    assert torch.equal(made.generate(rows, 6, prompt_lens=lens, prefix=prefix, **PLAIN), whole)


@pytest.mark.parametrize('lens', [None, LENS], ids=['even', 'ragged'])
@pytest.mark.parametrize('given', ['mems', 'prepend_embeds'])
def test_what_goes_ahead_goes_ahead_of_the_prefix(given: str, lens: Tensor | None) -> None:
    made, ahead = model(wrapper={'max_mem_len': 3}), torch.randn(1, 3, 16, dtype=torch.float64)
    of = lambda b: {given: [ahead.expand(b, -1, -1)] * 2 if given == 'mems' else ahead.expand(b, -1, -1)}
    whole = made.generate(both(PREFIX[:1]), 8, prompt_lens=None if lens is None else 6 + lens, **of(5), **PLAIN)
    prefix = made.remember(PREFIX[:1], **of(1))
    assert torch.equal(made.generate(ROWS, 8, prompt_lens=lens, prefix=prefix, **PLAIN), whole)


def test_every_way_to_generate_goes_on_from_it() -> None:
    made, other = model(), model(depth=1)
    prefix = made.remember(PREFIX[0], prefill_chunk=2)
    seen = lambda out, logits: logits - 2.0 * torch.zeros_like(logits).scatter(1, out, 1.0)
    for more in ({'amateur_model': other}, {'logits_processors': [seen]}, {'num_return_sequences': 3}, {'draft': other}):
        whole = made.generate(both(PREFIX[:1]), 8, prompt_lens=6 + LENS, **more, **PLAIN)
        assert torch.equal(made.generate(ROWS, 8, prompt_lens=LENS, prefix=prefix, **more, **PLAIN), whole)
    beams = made.beam_search(ROWS, 6, prompt_lens=LENS, prefix=prefix, num_return_sequences=2)
    whole = made.beam_search(both(PREFIX[:1]), 6, prompt_lens=6 + LENS, num_return_sequences=2)
    assert torch.equal(beams.sequences, whole.sequences) and torch.allclose(beams.scores, whole.scores)
    draw = lambda prompt, **more: made.generate(prompt, 6, temperature=2.0, generator=torch.Generator().manual_seed(2), **more)
    assert torch.equal(draw(ROWS[0], prefix=prefix), draw(both(PREFIX[:1])[0]))
    ended = made.generate(ROWS, 4, prefix=made.remember(torch.tensor([3, 11])), eos_token=11)
    assert ended.tolist() == [[12]] * 5


def test_a_window_slides_behind_a_prefix_as_behind_the_whole() -> None:
    made = model(max_seq_len=13)
    prefix = made.remember(PREFIX[:1])
    for more in ({}, {'draft': made}, {'cache_kv': False}):
        whole = made.generate(both(PREFIX[:1]), 12, cache_kv=more.get('cache_kv', True), **PLAIN)
        assert torch.equal(made.generate(ROWS, 12, prefix=prefix, **more, **PLAIN), whole)


def test_the_prompt_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, read = model(), []
    forward = made.net.attn_layers.forward
    monkeypatch.setattr(made.net.attn_layers, 'forward', lambda x, **given: read.append(x.shape[:2]) or forward(x, **given))
    prefix = made.remember(PREFIX[:1])
    made.generate(ROWS, 3, prefix=prefix, num_return_sequences=2)
    assert [tuple(shape) for shape in read] == [(1, 6), (5, 6), (10, 1), (10, 1)]


@dataclass(frozen=True)
class Sum:
    total: Tensor  # (b, 1, d)


class RunningSum(nn.Module):
    """A mixer of one's own: the sum of all tokens so far."""

    takes_call = True

    def forward(self, x: Tensor, call: Any = None, depth: Any = None, state: Any = None) -> Any:
        total = x.cumsum(dim=1) + (state.total if isinstance(state, Sum) else 0.0)
        return total, Sum(total[:, -1:])


def test_a_state_of_ones_own_goes_on_and_is_not_guessed_at_where_rows_differ() -> None:
    made = model()
    made.net.attn_layers.layers[0][1] = RunningSum()
    prefix = made.remember(PREFIX[:1])
    whole = made.generate(both(PREFIX[:1]), 8, **PLAIN)
    assert torch.equal(made.generate(ROWS, 8, prefix=prefix, **PLAIN), whole)
    with pytest.raises(DecodeError, match=r'a Sum does not say how rows of several lengths go together.*prompts of one length at a time'):
        made.generate(ROWS, 8, prefix=prefix, prompt_lens=LENS)
