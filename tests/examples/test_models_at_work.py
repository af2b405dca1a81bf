"""The examples of models run at a tiny size: their tasks are what they say, they learn, print their measures and draw."""
import re

import arithmetic
import digits
import forecast
import pytest
import sort
import torch


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def falls(losses):
    fifth = len(losses) // 5
    return sum(losses[-fifth:]) < 0.8 * sum(losses[:fifth])


def is_png(path):
    return path.read_bytes().startswith(b'\x89PNG')


# digits


def test_digits_are_held_out_alike_by_the_same_seed():
    images, held_out, labels, right = digits.digits(seed=3)
    assert (len(images), len(held_out)) == (len(labels), len(right)) == (1437, 360)
    assert images.shape[1:] == (1, 8, 8) and images.min() == -1 and images.max() == 1
    assert right.bincount().min() >= 34                          # all digits alike
    assert torch.equal(held_out, digits.digits(seed=3)[1]) and not torch.equal(held_out, digits.digits(seed=4)[1])


def test_digits_are_shifted_by_a_pixel_at_most():
    image = torch.full((1, 1, 8, 8), -1.0)
    image[..., 4, 4] = 1
    places = {tuple((digits.shifted(image)[0, 0] == 1).nonzero()[0].tolist()) for _ in range(200)}
    assert places == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}


@pytest.mark.parametrize('patch', [(1, 8), (4, 4)])
def test_digits_are_learned(patch):
    images, _, labels, _ = digits.digits(seed=0)
    assert falls(digits.train(digits.build(patch), images, labels, steps=60, batch=32))


def test_digits_prints_its_accuracy_and_draws(tmp_path, capsys):
    path = tmp_path / 'new' / 'digits.png'
    assert digits.main(['--steps', '3', '--batch', '8', '--out', str(path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r'^held out: \d+\.\d% of 360 digits read right$', out, re.MULTILINE)
    assert out.endswith(f'misread digits drawn to {path}\n') and is_png(path)


# sorting and copying


@pytest.mark.parametrize('held_out', [False, True])
def test_answers_are_sorted_or_copied_and_no_sequence_is_of_both_parts(held_out):
    source, mask, target = sort.problems(200, 9, held_out)
    assert source.shape == mask.shape == (200, 10) and target.shape == (200, 11)
    for row, there, answer in zip(source, mask, target):
        task, letters = row[0], row[1:][there[1:]].tolist()
        assert 5 <= len(letters) <= 9
        assert (sum(letters) % sort.KINDS == 0) == held_out
        written = [sort.START, *(sorted(letters) if task == sort.SORT else letters), sort.END]
        assert answer.tolist() == written + [sort.IGNORED] * (11 - len(written))
    assert set(source[:, 0].tolist()) == {sort.SORT, sort.COPY}


def test_sorting_is_learned():
    assert falls(sort.train(sort.build(4), steps=60, batch=32, length=4))


def test_sort_prints_how_many_sequences_are_right(capsys):
    assert sort.main(['--steps', '3', '--batch', '8', '--length', '4', '--held-out', '100']) == 0
    out = capsys.readouterr().out
    counts = re.findall(r'held out: \d+\.\d\d% of (\d+) sequences (?:sorted|copied) right\nfor example:(?: [a-t]+ -> [a-t]*){3}\n', out)
    assert len(counts) == 2 and sum(map(int, counts)) == 100


# arithmetic


def test_numbers_of_training_and_those_never_seen_are_all_and_none_is_both():
    seen, unseen = arithmetic.split(seed=0)
    assert (len(seen), len(unseen)) == (161, 40)
    assert torch.equal(torch.cat((seen, unseen)).sort().values, torch.arange(-100, 101) / 100)


def test_answers_are_sums_differences_and_products():
    ids, numbers = arithmetic.questions(torch.rand(50), torch.rand(50))
    for tokens, (a, _, b, _, answer) in zip(ids.tolist(), numbers.tolist()):
        assert tokens[::2] == [arithmetic.NUMBER] * 3 and tokens[3] == arithmetic.EQUALS
        assert answer == pytest.approx({'+': a + b, '-': a - b, '×': a * b}[arithmetic.SIGNS[tokens[1]]], abs=1e-6)


def test_arithmetic_is_learned():
    seen, _ = arithmetic.split(seed=0)
    assert falls(arithmetic.train(arithmetic.build(), seen, steps=100, batch=64))


def test_arithmetic_prints_its_error_beside_that_of_the_mean_and_draws(tmp_path, capsys):
    path = tmp_path / 'arithmetic.png'
    assert arithmetic.main(['--steps', '40', '--batch', '32', '--held-out', '50', '--out', str(path)]) == 0
    out = capsys.readouterr().out
    measures = re.findall(r'^questions .*: mean absolute error (\d\.\d{4}); of their mean as every answer (\d\.\d{4})$', out, re.MULTILINE)
    assert len(measures) == 2
    assert len(re.findall(r'^for example: -?\d\.\d\d [-+×] -?\d\.\d\d = -?\d\.\d{3}$', out, re.MULTILINE)) == 3
    assert out.endswith(f'answers drawn to {path}\n') and is_png(path)


# forecasts


def test_naive_forecasts_repeat_what_was():
    series = torch.arange(60.0) ** 2
    last, season, grown = forecast.naive(series, torch.tensor([30, 40]), 14).values()
    assert torch.equal(last, series[[29, 39], None].expand(-1, 14))
    assert torch.equal(season[:, :12], torch.stack((series[18:30], series[28:40]))) and torch.equal(season[:, 12:], season[:, :2])
    assert torch.equal(grown[0, :12], series[18:30] + series[29] - series[17])
    assert torch.equal(grown[0, 12:], series[18:20] + 2 * (series[29] - series[17]))


def test_a_forecast_sees_nothing_from_its_origin_on():
    series, _ = forecast.carbon_dioxide()
    model, origins = forecast.build(context=12), torch.tensor([400, 420])
    made = forecast.forecast(model, series, origins, 6)
    later = series.clone()
    later[400:] += torch.randn(len(series) - 400)
    assert torch.equal(forecast.forecast(model, later, origins, 6)[0], made[0])
    assert not torch.equal(forecast.forecast(model, later, origins, 6)[1], made[1])


def test_a_forecast_without_errors_is_the_series(monkeypatch):
    series, _ = forecast.carbon_dioxide()
    model, origins = forecast.build(context=24), torch.tensor([100, 300])
    true = forecast.windows(series.diff(), origins - 1, 6)       # the change of a month stands one place ahead of it
    mean = forecast.windows(series.diff(), origins - 25, 24).mean(dim=1, keepdim=True)
    monkeypatch.setattr(model, 'generate', lambda start, horizon: (true - mean)[..., None])
    torch.testing.assert_close(forecast.forecast(model, series, origins, 6), forecast.windows(series, origins, 6))


def test_the_series_is_learned():
    series, _ = forecast.carbon_dioxide()
    assert falls(forecast.train(forecast.build(12), series.diff(), steps=100, batch=16))


def test_forecast_prints_its_error_beside_naive_ones_and_draws(tmp_path, capsys):
    path = tmp_path / 'forecast.png'
    assert forecast.main(['--steps', '3', '--batch', '4', '--context', '12', '--horizon', '13', '--out', str(path)]) == 0
    out = capsys.readouterr().out
    assert '108 forecasts of 13 months, mean absolute error in parts per million:\n' in out
    assert len(re.findall(r'^ *\d+\.\d{3}  (?:the model|the last month|the same month .*|and the growth since)$', out, re.MULTILINE)) == 4
    assert out.endswith(f'drawn to {path}\n') and is_png(path)
