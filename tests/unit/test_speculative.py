"""Speculative decoding: samples are distributed as the model's own, proposals cost the calls they should, windows and ends hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.decoding.generate import Ends, OneByOne, tokens
from x_transformers.decoding.prompts import read_prompts
from x_transformers.decoding.sampling import Choice, top_k
from x_transformers.decoding.speculative import FunctionDrafter, ModelDrafter, Speculative, prompt_lookup
from x_transformers.toolbox import identity

VOCABULARY = 3


class Table:
    """A source that looks up what follows a token."""

    def __init__(self, table: Tensor):
        self.table, self.calls = table, 0

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        self.calls += 1
        return self.table[out[:, -count:]]

    def reorder(self, index: Tensor) -> None:
        raise NotImplementedError

    def rewind(self, length: int) -> None:
        """Nothing is remembered."""


def drawn(advance: Callable[[], Any], b: int, length: int, times: int) -> Tensor:
    """(times * b, length) sequences behind the token 0."""
    rows = read_prompts(torch.zeros(b, 1, dtype=torch.long))
    made = [torch.stack([token for token, _ in tokens(advance(), rows, length, Ends(), ())], dim=1) for _ in range(times)]
    return torch.cat(made)


def chi_square(made: Tensor, expected: dict[tuple[int, ...], float]) -> float:
    """The statistic over its degrees of freedom, in standard deviations from what is expected of it."""
    counts = dict.fromkeys(expected, 0)
    for row in made.tolist():
        counts[tuple(row)] += 1
    assert all(counts[row] == 0 for row, p in expected.items() if p == 0)
    possible = [row for row, p in expected.items() if p > 0]
    total = sum((counts[row] - len(made) * expected[row]) ** 2 / (len(made) * expected[row]) for row in possible)
    freedom = len(possible) - 1
    return (total - freedom) / (2 * freedom) ** 0.5


def follows(table: Tensor, choose: Choice, length: int) -> dict[tuple[int, ...], float]:
    """The probability of every sequence behind the token 0."""
    probs, found = choose.probs(table), {}
    for row in itertools.product(range(len(table)), repeat=length):
        found[row] = float(torch.stack([probs[a, b] for a, b in itertools.pairwise((0, *row))]).prod())
    return found


def guess(out: Tensor, count: int) -> Tensor:
    """The token after the latest, and so on."""
    return (out[:, -1:] + torch.arange(1, count + 1)) % VOCABULARY


def lookups() -> tuple[Tensor, Tensor, torch.Generator]:
    draw = torch.Generator().manual_seed(3)
    return *(1.5 * torch.randn(2, VOCABULARY, VOCABULARY, generator=draw, dtype=torch.float64)), draw


@pytest.mark.parametrize('how, b, k', [('model', 1, 3), ('model', 3, 2), ('function', 2, 3), ('function', 1, 2), ('itself', 2, 2)])
def test_samples_follow_the_distribution_of_the_model(how: str, b: int, k: int) -> None:
    ours, theirs, draw = lookups()
    choose = Choice(0.8, partial(top_k, k=k), draw)
    drafter: Any = FunctionDrafter(guess) if how == 'function' else ModelDrafter(Table(ours if how == 'itself' else theirs), choose)
    made = drawn(lambda: Speculative(Table(ours), drafter, choose, 2, 0), b, 4, 1800 // b)
    assert abs(chi_square(made, follows(ours, choose, 4))) < 4


def test_the_distribution_of_the_draft_is_another() -> None:
    """What the test above would find if proposals were simply taken."""
    ours, theirs, draw = lookups()
    choose = Choice(0.8, identity, draw)
    expected = follows(ours, choose, 4)
    assert chi_square(drawn(lambda: OneByOne(Table(theirs), choose), 1800, 4, 1), expected) > 20
    assert abs(chi_square(drawn(lambda: OneByOne(Table(ours), choose), 1800, 4, 1), expected)) < 4


def model(seed: int = 0, vocabulary: int = 13, max_seq_len: int = 32, **flags: Any) -> AutoregressiveWrapper:
    torch.manual_seed(seed)
    stack = Decoder(**{'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8, 'rotary_pos_emb': True, **flags})
    net = TransformerWrapper(num_tokens=vocabulary, max_seq_len=max_seq_len, attn_layers=stack)
    for parameter in net.parameters():
        parameter.data.normal_(std=0.4)
    return AutoregressiveWrapper(net.double(), pad_value=11)


PROMPT = torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(1))
LENS = torch.tensor([5, 3])


def test_samples_of_a_model_follow_its_distribution() -> None:
    made, draft, draw = model(vocabulary=3, depth=1), model(4, vocabulary=3, depth=1), torch.Generator().manual_seed(2)
    prompt, more = PROMPT[:1] % 3, {'draft_tokens': 2, 'num_return_sequences': 3, 'filter_kwargs': {'k': 3}, 'generator': draw}
    rows = [made.generate(prompt, 3, draft=draft, **more) for _ in range(150)]
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    said = made.net.eval()(torch.cat((prompt.expand(27, -1), every), dim=1))[:, 4:7].log_softmax(dim=-1).gather(-1, every[..., None])
    expected = dict(zip(map(tuple, every.tolist()), said.sum(dim=(1, 2)).exp().tolist(), strict=True))
    assert abs(chi_square(torch.cat(rows).flatten(0, 1), expected)) < 4


def calls_of(net: Any, run: Any) -> int:
    """How often a model was called."""
    counted, forward = [0], net.attn_layers.forward

    def counting(*args: Any, **keywords: Any) -> Any:
        counted[0] += 1
        return forward(*args, **keywords)

    net.attn_layers.forward = counting
    try:
        run()
    finally:
        del net.attn_layers.forward
    return counted[0]


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_a_draft_that_is_the_model_is_always_right(temperature: float) -> None:
    made = model()
    run = lambda **more: made.generate(PROMPT, 21, prompt_lens=LENS, temperature=temperature, **more)
    assert calls_of(made.net, run) == 21
    twin = model()
    assert calls_of(made.net, lambda: run(draft=twin, draft_tokens=4)) == 1 + 20 // 5


def test_a_state_that_cannot_be_rewound_goes_on_from_an_older_one() -> None:
    made, draft = model(shift_tokens=1), model(4)
    whole = made.generate(PROMPT, 20, temperature=0.0)
    calls = calls_of(made.net, lambda: made.generate(PROMPT, 20, temperature=0.0, draft=draft, draft_tokens=2))
    assert calls <= 20 + 20 // 3 and torch.equal(made.generate(PROMPT, 20, temperature=0.0, draft=draft, draft_tokens=2), whole)


@pytest.mark.parametrize('theirs', [8, 12, 32, 0])
def test_a_window_slides_with_a_draft_as_without(theirs: int) -> None:
    made, draft = model(max_seq_len=12), model(4, max_seq_len=theirs)
    whole = made.generate(PROMPT, 20, temperature=0.0, prompt_lens=LENS)
    assert torch.equal(made.generate(PROMPT, 20, temperature=0.0, prompt_lens=LENS, draft=draft), whole)


@pytest.mark.parametrize('draft', [model(4), prompt_lookup], ids=['model', 'lookup'])
def test_rows_end_with_a_draft_where_they_end_without(draft: Any) -> None:
    made = model()
    free = made.generate(PROMPT, 16, temperature=0.0)
    for end in {int(free[0, 2]), int(free[1, 5]), int(free[0, 9])}:
        for stop in ({'eos_token': end}, {'stopping_criteria': [lambda out, end=end: out[:, -1] == end]}):
            whole = made.generate(PROMPT, 16, temperature=0.0, **stop)
            assert torch.equal(made.generate(PROMPT, 16, temperature=0.0, draft=draft, **stop), whole)
            pieces = list(made.stream(PROMPT, 16, temperature=0.0, draft=draft, num_return_sequences=2, **stop))
            assert torch.equal(torch.stack(pieces, dim=-1), whole[:, None].expand(-1, 2, -1))


def test_processors_and_contrasts_go_with_a_draft() -> None:
    made, draft, amateur = model(), model(4), model(5, depth=1)
    seen = lambda out, logits: logits - 2.0 * torch.zeros_like(logits).scatter(1, out, 1.0)
    for more in ({'logits_processors': [seen]}, {'amateur_model': amateur}, {'amateur_model': amateur, 'logits_processors': [seen]}):
        whole = made.generate(PROMPT, 16, temperature=0.0, **more)
        assert torch.equal(made.generate(PROMPT, 16, temperature=0.0, draft=draft, **more), whole)
        assert not torch.equal(made.generate(PROMPT, 16, temperature=0.0), whole)


def looked_up(row: list[int], count: int, ngram: int) -> list[int]:
    """What followed the latest tokens where they last stood before, one at a time."""
    ngram = min(ngram, len(row) - 1)
    for at in range(len(row) - ngram - 1, -1, -1):
        if ngram and row[at : at + ngram] == row[len(row) - ngram :]:
            period, behind = len(row) - ngram - at, row[at + ngram :]
            return [behind[i % period] for i in range(count)]
    return [row[-1]] * count


def test_a_lookup_proposes_what_followed_before() -> None:
    rows = torch.randint(0, 3, (300, 9), generator=torch.Generator().manual_seed(0))
    for n, count, ngram in itertools.product((1, 2, 5, 9), (1, 3, 6), (1, 2, 3)):
        assert prompt_lookup(rows[:, :n], count, ngram).tolist() == [looked_up(row, count, ngram) for row in rows[:, :n].tolist()]


@pytest.mark.parametrize('draft', [prompt_lookup, lambda tokens, count: torch.full((len(tokens), count), 8)], ids=['copied', 'never made'])
def test_what_the_model_reads_and_cannot_make_is_not_kept(draft: Any) -> None:
    torch.manual_seed(0)
    layers = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, rotary_pos_emb=True)
    made = AutoregressiveWrapper(TransformerWrapper(num_tokens=9, logits_dim=6, max_seq_len=32, attn_layers=layers)).double()
    prompt = torch.tensor([[7, 8, 3, 7, 8], [1, 8, 7, 2, 8]])
    for temperature in (0.0, 1.0):
        out = made.generate(prompt, 9, temperature=temperature, draft=draft, eos_token=0)
        assert int(out.max()) < 6
    assert torch.equal(made.generate(prompt, 9, temperature=0.0, draft=draft), made.generate(prompt, 9, temperature=0.0))
