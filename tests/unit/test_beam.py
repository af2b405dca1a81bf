"""Beam search against exhaustive search, against greedy decoding, and against the log-probabilities of the model."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.decoding.beam import number_of_sequences

END, PAD = 2, 9


def model(vocabulary: int = 4, max_seq_len: int = 16, stack: type = Decoder, **flags: Any) -> AutoregressiveWrapper:
    torch.manual_seed(1)
    layers = stack(**{'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8, **flags})
    net = TransformerWrapper(num_tokens=vocabulary, max_seq_len=max_seq_len, attn_layers=layers)
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return AutoregressiveWrapper(net.double(), pad_value=PAD)


PROMPT = torch.tensor([[0, 1, 3], [3, 3, 1]])


def log_probability(made: AutoregressiveWrapper, prompt: Tensor, continuation: list[int]) -> Tensor:
    """Of one continuation (k,) of one prompt (t,), token by token."""
    total = torch.zeros((), dtype=torch.float64)
    for i, token in enumerate(continuation):
        before = torch.cat((prompt, torch.tensor(continuation[:i], dtype=torch.long)))
        total = total + made.net(before[None])[0, -1].log_softmax(dim=-1)[token]
    return total


def continuations(vocabulary: int, length: int, end: int | None) -> list[list[int]]:
    """Every sequence of that length, or shorter where it ends."""
    cut = lambda row: row[: row.index(end) + 1] if end in row else row
    return [list(row) for row in {tuple(cut(row)) for row in itertools.product(range(vocabulary), repeat=length)}]


def exhaustive(made: AutoregressiveWrapper, prompt: Tensor, length: int, end: int | None, penalty: float) -> list[tuple[float, list[int]]]:
    """All sequences by their score, the best first."""
    with torch.no_grad():
        rows = continuations(made.net.num_tokens, length, end)
        scored = [(float(log_probability(made, prompt, row)) / len(row) ** penalty, row) for row in rows]
    return sorted(scored, reverse=True)


@pytest.mark.parametrize('end', [None, END])
@pytest.mark.parametrize('penalty', [0.0, 1.0, 2.0, -1.0])
def test_a_beam_wide_enough_finds_what_exhaustive_search_finds(end: int | None, penalty: float) -> None:
    made = model(rotary_pos_emb=True)
    beams = made.beam_search(PROMPT[:, :2], 4, num_beams=256, eos_token=end, length_penalty=penalty, num_return_sequences=40)
    for row in range(2):
        expected = exhaustive(made, PROMPT[row, :2], 4, end, penalty)[:40]
        assert [tokens + [PAD] * (4 - len(tokens)) for _, tokens in expected] == beams.sequences[row].tolist()
        assert torch.allclose(beams.scores[row], torch.tensor([score for score, _ in expected], dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize('seed', range(6))
def test_a_beam_of_one_is_greedy_also_where_it_ends(seed: int) -> None:
    made = model(vocabulary=5, rotary_pos_emb=True)
    prompt = torch.randint(3, 5, (3, 4), generator=torch.Generator().manual_seed(seed))
    lens = torch.tensor([4, 2, 3])
    greedy = made.generate(prompt, 9, temperature=0.0, eos_token=END, prompt_lens=lens)
    assert torch.equal(made.beam_search(prompt, 9, num_beams=1, eos_token=END, prompt_lens=lens).sequences[:, 0], greedy)


@pytest.mark.parametrize('cache_kv', [True, False])
@pytest.mark.parametrize('flags', [{'rotary_pos_emb': True}, {}, {'shift_tokens': 1, 'rel_pos_bias': True}])
def test_a_ragged_prompt_finds_what_it_finds_alone(flags: dict[str, Any], cache_kv: bool) -> None:
    made = model(vocabulary=7, **flags)
    options: dict[str, Any] = {'num_beams': 3, 'eos_token': END, 'num_return_sequences': 2, 'length_penalty': 0.6}
    together = made.beam_search(PROMPT, 6, prompt_lens=torch.tensor([3, 1]), cache_kv=cache_kv, **options)
    for row, length in enumerate((3, 1)):
        alone = made.beam_search(PROMPT[row, :length], 6, **options)
        assert torch.allclose(together.scores[row], alone.scores, atol=1e-10)
        assert torch.equal(together.sequences[row, :, : alone.sequences.shape[-1]], alone.sequences)
        assert bool((together.sequences[row, :, alone.sequences.shape[-1] :] == PAD).all())


def test_inputs_of_the_model_follow_the_beams() -> None:
    made, context = model(vocabulary=7, cross_attend=True), torch.randn(2, 5, 16, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    for cache_kv in (True, False):
        both = made.beam_search(PROMPT, 5, num_beams=3, context=context, context_mask=mask, cache_kv=cache_kv)
        for row in range(2):
            length = int(mask[row].sum())
            alone = made.beam_search(PROMPT[row : row + 1], 5, num_beams=3, context=context[row : row + 1, :length])
            assert torch.equal(both.sequences[row], alone.sequences[0])


def test_a_wider_beam_is_never_worse_here_and_axes_stay() -> None:
    made = model(vocabulary=7, rotary_pos_emb=True)
    best = [made.beam_search(PROMPT, 6, num_beams=width).scores for width in (1, 4, 64)]
    assert bool((best[1] > best[0] - 1e-9).all()) and bool((best[2] > best[1] - 1e-9).all())
    one = made.beam_search(PROMPT[0], 6, num_beams=4, num_return_sequences=3)
    assert one.sequences.shape == (3, 6) and one.scores.shape == (3,)
    stacked = made.beam_search(PROMPT[None].expand(2, -1, -1), 6, num_beams=4, num_return_sequences=3)
    assert stacked.sequences.shape == (2, 2, 3, 6) and torch.equal(stacked.sequences[1, 0], one.sequences)


def test_a_search_stops_when_nothing_goes_on_and_a_prompt_that_has_ended_stays() -> None:
    made = model(rotary_pos_emb=True)
    over = made.beam_search(torch.tensor([[0, END]]), 5, num_beams=2, eos_token=END)
    assert over.sequences.tolist() == [[[PAD]]] and over.scores.tolist() == [[0.0]]
    assert made.beam_search(PROMPT, 0, num_beams=2).sequences.shape == (2, 1, 0)


def test_a_window_slides_under_the_beams() -> None:
    made = model(vocabulary=7, max_seq_len=5, depth=1, rotary_pos_emb=True)
    kept, anew = (made.beam_search(PROMPT, 9, num_beams=3, cache_kv=cache_kv) for cache_kv in (True, False))
    assert torch.equal(kept.sequences, anew.sequences) and torch.allclose(kept.scores, anew.scores)


def test_sequences_are_counted() -> None:
    for vocabulary, length, end in itertools.product((1, 2, 3), (0, 1, 2, 3), (None, 0)):
        assert number_of_sequences(vocabulary, length, end is not None, 10**9) == len(continuations(vocabulary, length, end))
