"""Processors of logits against their formulas, token by token, and what generation does with functions of one's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper, XLAutoregressiveWrapper
from x_transformers.decoding.processors import FrequencyPenalty, LogitBias, MinLength, NoRepeatNgrams, PresencePenalty, RepetitionPenalty
from x_transformers.errors import InputError

VOCABULARY = 5
DRAW = torch.Generator().manual_seed(0)
TOKENS = torch.randint(0, VOCABULARY, (40, 9), generator=DRAW)
LOGITS = torch.randn(40, VOCABULARY, generator=DRAW, dtype=torch.float64)
STARTS = torch.arange(40) % 8


def ngrams(row: list[int], size: int) -> set[int]:
    """The tokens that would repeat `size` of them."""
    seen = {tuple(row[at : at + size]) for at in range(len(row) - size + 1)}
    return {token for token in range(VOCABULARY) if tuple([*row, token][-size:]) in seen and len(row) + 1 >= size}


BY_HAND: dict[str, tuple[Any, Any]] = {  # processor, and its logit of a token behind a row
    'repetition': (RepetitionPenalty(1.3), lambda row, i, x: (x / 1.3 if x > 0 else x * 1.3) if i in row else x),
    'presence': (PresencePenalty(0.7), lambda row, i, x: x - 0.7 * (i in row)),
    'frequency': (FrequencyPenalty(0.7), lambda row, i, x: x - 0.7 * row.count(i)),
    'tokens once': (NoRepeatNgrams(1), lambda row, i, x: -math.inf if i in ngrams(row, 1) else x),
    'pairs once': (NoRepeatNgrams(2), lambda row, i, x: -math.inf if i in ngrams(row, 2) else x),
    'triples once': (NoRepeatNgrams(3), lambda row, i, x: -math.inf if i in ngrams(row, 3) else x),
    'length': (MinLength(6, 2), lambda row, i, x: -math.inf if i == 2 and len(row) < 6 else x),
    'bias': (LogitBias({1: 2.5, 3: -math.inf}), lambda row, i, x: x + {1: 2.5, 3: -math.inf}.get(i, 0.0)),
}


@pytest.mark.parametrize('name', BY_HAND)
@pytest.mark.parametrize('padded', [False, True])
def test_a_processor_is_its_formula(name: str, padded: bool) -> None:
    processor, formula = BY_HAND[name]
    out = processor(TOKENS, LOGITS, start=STARTS) if padded else processor(TOKENS, LOGITS)
    rows = [row[start if padded else 0 :] for row, start in zip(TOKENS.tolist(), STARTS.tolist())]
    expected = [[formula(row, i, x) for i, x in enumerate(line)] for row, line in zip(rows, LOGITS.tolist())]
    assert torch.allclose(out, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)


@pytest.mark.parametrize('kind, value', [(PresencePenalty, 0.7), (FrequencyPenalty, 0.7), (RepetitionPenalty, 1.3), (NoRepeatNgrams, 2)])
def test_with_after_only_what_was_made_counts(kind: Any, value: Any) -> None:
    assert torch.equal(kind(value, after=4)(TOKENS, LOGITS), kind(value)(TOKENS[:, 4:], LOGITS))
    assert torch.equal(kind(value, after=4)(TOKENS, LOGITS, start=STARTS)[6], kind(value)(TOKENS[:, 6:], LOGITS)[6])
    assert torch.equal(MinLength(3, 1, after=7)(TOKENS, LOGITS), MinLength(3, 1)(TOKENS[:, 7:], LOGITS))


@pytest.mark.parametrize('name', BY_HAND)
def test_tokens_that_have_no_logit_are_read_over(name: str) -> None:
    few, (processor, formula) = LOGITS[:, :4], BY_HAND[name]
    expected = [[formula(row, i, x) for i, x in enumerate(line)] for row, line in zip(TOKENS.tolist(), few.tolist())]
    assert torch.allclose(processor(TOKENS, few), torch.tensor(expected, dtype=torch.float64), rtol=1e-12)


def model(vocabulary: int = 13, **flags: Any) -> AutoregressiveWrapper:
    torch.manual_seed(0)
    stack = Decoder(**{'dim': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8, 'rotary_pos_emb': True, **flags})
    net = TransformerWrapper(num_tokens=vocabulary, max_seq_len=32, max_mem_len=32, attn_layers=stack)
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return AutoregressiveWrapper(net.double(), pad_value=12)


PROMPT = torch.randint(0, 13, (2, 4), generator=torch.Generator().manual_seed(1))
LENS = torch.tensor([4, 2])


def by_hand(made: AutoregressiveWrapper, row: Tensor, steps: int, processors: list[Any]) -> Tensor:
    """The most probable tokens behind a row (t,), of logits that were processed."""
    out = row[None]
    for _ in range(steps):
        logits = made.net.eval()(out)[:, -1]
        for each in processors:
            logits = each(out, logits)
        out = torch.cat((out, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return out[0, len(row) :]


PROCESSORS = [RepetitionPenalty(1.5), NoRepeatNgrams(2), LogitBias({3: 1.0}), lambda out, logits: logits + F.one_hot(out[:, -1], 13)]


@pytest.mark.parametrize('more', [{}, {'cache_kv': False}, {'num_return_sequences': 1}], ids=str)
def test_processors_stand_between_the_model_and_the_choice(more: dict[str, Any]) -> None:
    made = model()
    out = made.generate(PROMPT, 8, temperature=0.0, prompt_lens=LENS, logits_processors=PROCESSORS, **more).view(2, 8)
    for row, n in enumerate(LENS.tolist()):
        assert torch.equal(out[row], by_hand(made, PROMPT[row, :n], 8, PROCESSORS))
    one = made.beam_search(PROMPT, 8, num_beams=1, prompt_lens=LENS, logits_processors=PROCESSORS).sequences[:, 0]
    assert torch.equal(one, out)
    segments = XLAutoregressiveWrapper(made.net).generate(PROMPT, 8, temperature=0.0, logits_processors=PROCESSORS)
    assert torch.equal(segments, made.generate(PROMPT, 8, temperature=0.0, logits_processors=PROCESSORS))


class Once:
    """As transformers has them: `__call__(input_ids, scores)`."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.scatter(1, input_ids, -torch.inf)


class AtLength:
    """A stopping criterion as transformers has them: it takes scores and other keywords."""

    def __init__(self, length: int):
        self.length = length

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.length)


def test_those_of_transformers_have_the_same_shape() -> None:
    out = model().generate(PROMPT, 6, temperature=0.0, logits_processors=[Once()], stopping_criteria=[AtLength(7)])
    assert out.shape == (2, 3) and all(len({*row}) == 3 and not {*row} & {*before} for row, before in zip(out.tolist(), PROMPT.tolist()))


@pytest.mark.parametrize('more', [{}, {'num_return_sequences': 2}], ids=str)
def test_a_row_stops_with_the_token_that_a_criterion_speaks_of(more: dict[str, Any]) -> None:
    made = model()
    free = made.generate(PROMPT, 9, temperature=0.0).tolist()
    first, second = free[0][3], free[1][6]
    stops = [lambda out: out[:, -1] == first, lambda out: (out[:, -1] == second) & (out.shape[1] > 6)]
    out = made.generate(PROMPT, 9, temperature=0.0, stopping_criteria=stops, **more)
    for row, before in enumerate(free):
        ended = [at for at, token in enumerate(before) if token == first or token == second and at >= 2]
        wanted = (before[: ended[0] + 1] + [12] * 9)[: out.shape[-1]]
        assert out[row].view(-1, out.shape[-1]).tolist() == [wanted] * more.get('num_return_sequences', 1)
    assert made.generate(PROMPT, 9, stopping_criteria=[lambda out: out.shape[1] == 6]).shape == (2, 2)
    segments = XLAutoregressiveWrapper(made.net).generate(PROMPT, 9, stopping_criteria=[lambda out: out.shape[1] == 6])
    assert segments.shape == (2, 2)


def test_several_sequences_have_an_axis_of_their_own() -> None:
    made = model()
    assert made.generate(PROMPT, 3, num_return_sequences=4).shape == (2, 4, 3)
    assert made.generate(PROMPT[0], 3, num_return_sequences=1).shape == (1, 3)
    assert made.generate(PROMPT, 0, num_return_sequences=4).shape == (2, 4, 0)
    assert [token.shape for token in made.stream(PROMPT[None], 2, num_return_sequences=3)] == [(1, 2, 3)] * 2
    sampled = made.generate(PROMPT[:1], 6, temperature=3.0, num_return_sequences=20, generator=torch.Generator().manual_seed(0))
    assert len({tuple(row) for row in sampled[0].tolist()}) > 10


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    'nothing': ({'logits_processors': [lambda out, logits: None]}, r'<lambda> returned a NoneType, expected logits \(2, 13'),
    'one logit': ({'logits_processors': [lambda out, logits: logits[:, :1]]}, r'returned torch.float64 of shape \(2, 1\), expected'),
    'whole numbers': ({'logits_processors': [lambda out, logits: logits.long()]}, r'returned torch.int64 of shape \(2, 13\), expected'),
    'no token': ({'logits_processors': [lambda out, logits: logits - torch.inf]}, 'leave a row no token that is possible; rule out less'),
    'a number': ({'stopping_criteria': [lambda out: 1]}, r'stopping_criteria: <lambda> returned 1, expected True or False, or a bool'),
    'numbers': ({'stopping_criteria': [lambda out: out[:, -1]]}, r'returned torch.int64 of shape \(2,\), expected True or False'),
    'a draft of floats': ({'draft': lambda out, count: torch.zeros(2, count)}, r'draft returned torch.float32 of shape \(2, 4\), expected'),
    'a draft too short': ({'draft': lambda out, count: out[:, :1]}, r'expected token ids \(2, 4\) of torch.long'),
    'a draft of strange tokens': ({'draft': lambda out, count: out[:, :count] + 99}, r'x holds the token id 1\d\d, but num_tokens=13'),
}


@pytest.mark.parametrize('name', WRONG)
def test_a_function_that_returns_something_else_is_named(name: str) -> None:
    given, sentence = WRONG[name]
    with pytest.raises(InputError, match=sentence):
        model().generate(PROMPT, 6, **given)
