"""Which tokens are chosen: every row as it would be by hand, by the model's own logits of all it may see."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from law_cases import Case, build_model, perturb, tokens
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.decoding.sampling import FILTER_LOGITS_FN, contrastive_decode_fn

PAD = 31
STACKS = [
    {},
    {'rotary_pos_emb': True, 'attn_kv_heads': 2},
    {'alibi_pos_bias': True, 'shift_tokens': 1},
    {'rel_pos_bias': True, 'attn_num_mem_kv': 1},
]
each = pytest.mark.parametrize('stack', STACKS, ids=str)
cached = pytest.mark.parametrize('cache_kv', [True, False])


def by_hand(net: Any, row: list[int], count: int, end: int | None = None, window: int = 0) -> list[int]:
    """The best next token of the latest `window` tokens, `count` times, and padding behind an end."""
    made: list[int] = []
    while len(made) < count:
        if end is not None and end in [*row, *made]:
            return made + [PAD] * (count - len(made))
        with torch.no_grad():
            made.append(int(net(torch.tensor([[*row, *made][-window:]]))[0, -1].argmax()))
    return made


@cached
@each
def test_rows_go_on_to_their_end_and_no_further(stack: dict[str, Any], cache_kv: bool) -> None:
    model, prompt, lens = build_model(Case('', stack, training={'pad_value': PAD})), tokens(6), [6, 4]
    free = [by_hand(model.net, row[:n], 9) for row, n in zip(prompt.tolist(), lens, strict=True)]
    for end in {free[0][1], free[0][4], free[1][3], int(prompt[0, 2]), 0}:
        want = [by_hand(model.net, row[:n], 9, end) for row, n in zip(prompt.tolist(), lens, strict=True)]
        made = model.generate(prompt, 9, temperature=0.0, prompt_lens=torch.tensor(lens), eos_token=end, cache_kv=cache_kv)
        assert made.tolist() == [row[: made.shape[1]] for row in want]
        assert made.shape[1] == 9 or all(end in [*row[:n], *out] for row, n, out in zip(prompt.tolist(), lens, made.tolist(), strict=True))


@cached
@pytest.mark.parametrize(
    'flags', [{'rotary_pos_emb': True}, {'alibi_pos_bias': True}, {'rel_pos_bias': True, 'attn_num_mem_kv': 1}], ids=str
)
@pytest.mark.parametrize('lens', [(5, 5), (5, 2)], ids=str)
def test_a_window_slides_over_each_row(flags: dict[str, Any], lens: tuple[int, int], cache_kv: bool) -> None:
    """With one layer, keys that are kept hold nothing of the tokens that have left the window."""
    model, prompt = build_model(Case('', {**flags, 'depth': 1, 'disable_abs_pos_emb': True}), max_seq_len=6), tokens(5)
    made = model.generate(prompt, 12, temperature=0.0, prompt_lens=torch.tensor(lens), cache_kv=cache_kv)
    assert made.tolist() == [by_hand(model.net, row[:n], 12, window=6) for row, n in zip(prompt.tolist(), lens, strict=True)]


# ------------------------------------------------------------------------------------------------ what is kept of logits


def kept_by(name: str, probs: list[float]) -> set[int]:
    """The tokens that a filter keeps, by its definition, of 20."""
    order = sorted(range(len(probs)), key=lambda i: -probs[i])
    sums = [sum(probs[i] for i in order[:k]) for k in range(len(order))]  # of those before
    return {
        'top_k': set(order[:3]),
        'top_p': {i for i, before in zip(order, sums, strict=True) if before <= 0.7},
        'top_a': {i for i in order if probs[i] >= 0.2 * max(probs) ** 2},
        'min_p': {i for i in order if probs[i] >= 0.15 * max(probs)},
    }[name]


GIVEN = {'top_k': {'k': 3}, 'top_p': {'thres': 0.7}, 'top_a': {'min_p_ratio': 0.2}, 'min_p': {'min_p': 0.15}}


@pytest.mark.parametrize('name', FILTER_LOGITS_FN)
def test_a_filter_keeps_what_its_definition_says_and_changes_no_logit(name: str) -> None:
    logits = 2 * torch.randn(16, 20, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    out = FILTER_LOGITS_FN[name](logits, **GIVEN[name])
    for row, before in zip(out, logits, strict=True):
        kept = kept_by(name, before.softmax(dim=-1).tolist())
        assert {i for i, value in enumerate(row.tolist()) if value > -math.inf} == kept
        assert all(row[i] == before[i] for i in kept)


def test_samples_follow_the_probabilities_of_what_is_kept() -> None:
    model = build_model(Case('', {'rotary_pos_emb': True}))
    row = tokens(3)[:1]
    logits, kept = model.net(row)[0, -1].detach().topk(4)
    made = model.generate(row.expand(3000, -1), 1, temperature=0.7, filter_kwargs={'k': 4}, generator=torch.Generator().manual_seed(2))
    shares = (made == kept).double().mean(dim=0)
    assert (shares - (logits / 0.7).softmax(dim=-1)).abs().max() < 0.03


def test_a_contrast_sharpens_what_the_expert_finds_plausible() -> None:
    """2309.09117, equation 4, in logits: (1 + beta) expert - beta amateur, of tokens of at least alpha times the largest probability."""
    expert, amateur = torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    made = contrastive_decode_fn(expert, amateur, alpha=0.2, beta=0.4)
    probs = expert.softmax(dim=-1)
    plausible = probs >= 0.2 * probs.amax(dim=-1, keepdim=True)
    assert (made - (1.4 * expert - 0.4 * amateur))[plausible].abs().max() < 1e-12
    assert (made[~plausible] < -1e30).all()


# ------------------------------------------------------------------------------------------------ beams


def small() -> AutoregressiveWrapper:
    torch.manual_seed(0)
    net = TransformerWrapper(
        num_tokens=4, max_seq_len=12, attn_layers=Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True)
    )
    model = AutoregressiveWrapper(net, pad_value=3).double().eval()
    perturb(model)
    with torch.no_grad():
        net.to_logits.weight.mul_(4)
    return model


def scored(model: AutoregressiveWrapper, prompt: Tensor, length: int, end: int, penalty: float) -> dict[tuple[int, ...], float]:
    """Every continuation, up to its end and padded, and its score."""
    found = {}
    for row in itertools.product(range(4), repeat=length):
        row = row[: row.index(end) + 1] if end in row else row
        with torch.no_grad():
            said = model.net(torch.cat((prompt, torch.tensor(row)))[None, :-1])[0, len(prompt) - 1 :].log_softmax(dim=-1)
        total = sum(float(said[t, token]) for t, token in enumerate(row))
        found[row + (3,) * (length - len(row))] = total / len(row) ** penalty
    return found


@pytest.mark.parametrize('penalty', [0.0, 0.7, 2.0])
def test_wide_beams_find_the_best_of_all_sequences_with_their_scores(penalty: float) -> None:
    model, prompt = small(), torch.tensor([[0, 2, 0], [2, 2, 3]])
    beams = model.beam_search(prompt, 3, num_beams=64, eos_token=1, length_penalty=penalty, num_return_sequences=12)
    for row in range(2):
        every = scored(model, prompt[row], 3, 1, penalty)
        best = sorted(every, key=lambda sequence: -every[sequence])[:12]
        assert [tuple(sequence) for sequence in beams.sequences[row].tolist()] == best
        assert beams.scores[row].tolist() == pytest.approx([every[sequence] for sequence in best], rel=1e-9)


@cached
def test_narrow_beams_go_on_from_their_own_hypotheses(cache_kv: bool) -> None:
    """The beam by hand: the best continuations of the kept ones, step by step; one that has ended stays as it is."""
    model, prompt = small(), torch.tensor([[0, 2, 0], [2, 2, 3]])
    beams = model.beam_search(prompt, 6, num_beams=3, eos_token=1, length_penalty=0.0, num_return_sequences=3, cache_kv=cache_kv)
    for row in range(2):
        held: list[tuple[float, list[int]]] = [(0.0, [])]
        for _ in range(6):
            grown = []
            for total, made in held:
                with torch.no_grad():
                    said = model.net(torch.cat((prompt[row], torch.tensor(made, dtype=torch.long)))[None])[0, -1].log_softmax(dim=-1)
                grown += [(total, made)] if 1 in made else [(total + float(said[token]), [*made, token]) for token in range(4)]
            held = sorted(grown, key=lambda each: -each[0])[:3]
        width = beams.sequences.shape[-1]
        assert beams.sequences[row].tolist() == [made + [3] * (width - len(made)) for _, made in held]
        assert beams.scores[row].tolist() == pytest.approx([total for total, _ in held], rel=1e-9)
