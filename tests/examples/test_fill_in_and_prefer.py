"""The examples of wrappers run at a tiny size and print their measures."""
import re

import fill_in
import prefer
import pytest
import torch


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def test_words_are_palindromes_and_are_told_from_others():
    words = fill_in.words(8)
    assert words.shape == (8, fill_in.LENGTH)
    assert torch.equal(words, words.flip(-1)) and words.max() < fill_in.LETTERS


@pytest.mark.parametrize('critic', [[], ['--critic']])
def test_filling_in_prints_how_many_words_are_right(critic, capsys):
    assert fill_in.main(['--steps', '5', '--batch', '4', *critic]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r'written in \d+ steps?: \d+\.\d% right', out)) == 4
    assert re.search(r'for example:( [a-h_]{12}){4}\n$', out)


def test_filling_in_is_learned():
    model, words = fill_in.build(critic=False), fill_in.words(256)
    loss = lambda: sum(float(model(words).loss.detach()) for _ in range(8))     # masks are random
    before = loss()
    fill_in.train(model, 60, 32)
    assert loss() < 0.9 * before


def test_answers_are_the_digits_in_order():
    asked = torch.tensor([[3, 1, 9, 0], [2, 5, 4, 7]])
    assert prefer.answered(asked, torch.tensor([True, False])).tolist() == [[3, 1, 9, 0, 10, 0, 1, 3, 9], [2, 5, 4, 7, 10, 7, 5, 4, 2]]


def test_preferring_prints_shares_before_and_after(capsys):
    assert prefer.main(['--steps', '3', '--preference-steps', '2']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == ['before preferences', 'after preferences']
    for line in lines:
        assert sum(map(float, re.findall(r'(\d+\.\d)%', line))) == pytest.approx(100, abs=0.2)


def test_preferences_move_a_model_even_in_a_few_steps():
    model = prefer.build()
    asked = prefer.questions(16)
    margin = lambda: float(model(prefer.answered(asked, False)).detach() - model(prefer.answered(asked, True)).detach())
    before = margin()
    prefer.learn_to_prefer(model, 5, likelihood=0.0)
    assert margin() > before
