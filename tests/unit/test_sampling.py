"""Filters of logits against their definitions, one row at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers.decoding.prompts import align_right
from x_transformers.decoding.sampling import FILTER_LOGITS_FN, Choice, contrastive_decode_fn, min_p, top_a, top_k, top_p
from x_transformers.errors import InputError

LOGITS = torch.randn(4, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2


def kept(t: Tensor) -> list[set[int]]:
    return [set(row.isfinite().nonzero().flatten().tolist()) for row in t]


def ranked(row: Tensor) -> list[int]:
    return row.argsort(descending=True).tolist()


@pytest.mark.parametrize('k', [1, 3, 30, 99])
def test_top_k_keeps_the_k_largest(k: int) -> None:
    assert kept(top_k(LOGITS, k=k)) == [set(ranked(row)[:k]) for row in LOGITS]


@pytest.mark.parametrize('share', [0.1, 0.15, 1.0])
def test_top_k_by_share_rounds_up(share: float) -> None:
    assert kept(top_k(LOGITS, frac_num_tokens=share)) == [set(ranked(row)[: math.ceil(share * 30)]) for row in LOGITS]


@pytest.mark.parametrize('thres', [0.0, 0.5, 0.9, 1.0])
def test_top_p_stops_after_the_token_that_crosses_the_threshold(thres: float) -> None:
    expected = []
    for row in LOGITS:
        chosen, total = set(), 0.0
        for token in ranked(row):
            if chosen and total > thres:
                break
            chosen.add(token)
            total += row.softmax(dim=-1)[token].item()
        expected.append(chosen)
    assert kept(top_p(LOGITS, thres=thres)) == expected


def test_top_a_and_min_p_compare_with_the_most_probable() -> None:
    for row, by_a, by_p in zip(LOGITS.softmax(dim=-1), kept(top_a(LOGITS)), kept(min_p(LOGITS, min_p=0.2))):
        assert by_a == {t for t in range(30) if row[t] >= 0.02 * row.max() ** 2}
        assert by_p == {t for t in range(30) if row[t] >= 0.2 * row.max()}


@pytest.mark.parametrize('name', FILTER_LOGITS_FN)
def test_a_filter_keeps_the_best_token_and_changes_no_logit(name: str) -> None:
    out = FILTER_LOGITS_FN[name](LOGITS)
    assert torch.equal(out.argmax(dim=-1), LOGITS.argmax(dim=-1))
    assert torch.equal(out[out.isfinite()], LOGITS[out.isfinite()])


def test_contrast_sharpens_what_the_expert_finds_plausible() -> None:
    amateur = LOGITS.flip(-1)
    out = contrastive_decode_fn(LOGITS, amateur, alpha=0.1, beta=0.5)
    plausible = LOGITS.softmax(dim=-1) >= 0.1 * LOGITS.softmax(dim=-1).amax(dim=-1, keepdim=True)
    torch.testing.assert_close(out[plausible], (1.5 * LOGITS - 0.5 * amateur)[plausible])
    assert bool((out[~plausible] == -torch.finfo(torch.float64).max).all())


def test_temperature_zero_takes_the_best_and_others_sample_by_probability() -> None:
    assert torch.equal(Choice(0.0, lambda t: t, None)(LOGITS), LOGITS.argmax(dim=-1))
    logits, generator = torch.tensor([[0.0, 1.0, -torch.inf]]).expand(20000, -1), torch.Generator().manual_seed(0)
    share = Choice(0.5, lambda t: t, generator)(logits).float().mean().item()
    assert share == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.01)


def test_ragged_rows_move_to_the_right() -> None:
    t, lens = torch.arange(1, 9).view(2, 4), torch.tensor([4, 1])
    assert align_right(t, lens, pad_id=-1).tolist() == [[1, 2, 3, 4], [-1, -1, -1, 5]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_coldest_takes_the_best_and_the_hottest_any_that_is_left(dtype: torch.dtype) -> None:
    logits = top_k(LOGITS.to(dtype), k=3)
    for cold in (1e-30, 1e-45, 5e-324):
        assert torch.equal(Choice(cold, lambda t: t, None).probs(logits).argmax(dim=-1), LOGITS.argmax(dim=-1))
    for hot in (1e30, 1e300):
        assert torch.allclose(Choice(hot, lambda t: t, None).probs(logits), logits.isfinite().to(dtype) / 3)


@pytest.mark.parametrize(
    'keep, said',
    [
        (lambda t: None, 'filter_logits_fn returned a NoneType, expected logits'),
        (lambda t: t[:, :1], r'filter_logits_fn returned torch.float64 of shape \(4, 1\), expected logits \(4, 30\)'),
        (lambda t: t > 0, r'filter_logits_fn returned torch.bool of shape \(4, 30\), expected logits'),
        (lambda t: t - torch.inf, 'filter_logits_fn leaves a row no token that is possible'),
    ],
)
def test_a_filter_that_returns_something_else_is_named(keep: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Choice(1.0, keep, None)(LOGITS)
