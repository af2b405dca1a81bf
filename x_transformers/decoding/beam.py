"""Beam search: the sequences of the best scores, kept side by side (as a best-first search with pruning: 2007.03909).

A beam holds hypotheses that have ended beside those that go on. Each step scores every continuation of every
hypothesis, one that has ended continuing with nothing, and keeps the best. The score is the sum of the tokens'
log-probabilities over the length to the power of `length_penalty`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from x_transformers.decoding.prompts import Prompts
from x_transformers.decoding.sources import Source
from x_transformers.errors import InputError, quoted
from x_transformers.inputs import whole, within

LARGEST = 1e9  # the power of a length


class Beams(NamedTuple):
    """The best sequences of each prompt, the best first."""

    sequences: Tensor  # (..., r, k) new tokens
    scores: Tensor  # (..., r)


def beam_search(
    source: Source, prompts: Prompts, seq_len: int, width: int, eos_token: int | None, length_penalty: float, pad_value: int
) -> Beams:
    """The beam behind prompts (b, t) after at most `seq_len` tokens: sequences (b, width, k), scores (b, width)."""
    out, start, b = prompts.tokens, prompts.start, len(prompts.tokens)
    made = out.new_empty((b, 1, 0))
    ended = torch.zeros_like(out[:, :1], dtype=torch.bool) if eos_token is None else prompts.ended(eos_token)[:, None]
    length, total = torch.zeros_like(ended, dtype=torch.long), None
    for _ in range(seq_len):
        logits = source.logits(out, start)[:, -1]
        step = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)).view(b, -1, logits.shape[-1])
        if eos_token is not None:
            step = step.masked_fill(ended[..., None], -torch.inf)
            step[..., eos_token] = step[..., eos_token].masked_fill(ended, 0.0)  # nothing more, for sure
        longer = length + (~ended).long()
        sums = step if total is None else total[..., None] + step
        ranked = normed(sums, longer[..., None], length_penalty)  # b w v
        best = ranked.flatten(1).topk(min(width, ranked[0].numel()), dim=-1).indices
        parent, token = best // step.shape[-1], best % step.shape[-1]

        total, length, before = sums.flatten(1).gather(1, best), longer.gather(1, parent), ended.gather(1, parent)
        made = torch.cat((take(made, parent), token.masked_fill(before, pad_value)[..., None]), dim=-1)
        rows = (parent + torch.arange(b, device=out.device)[:, None] * step.shape[1]).flatten()
        out = torch.cat((out[rows], token.view(-1, 1)), dim=1)
        start = None if start is None else start[rows]
        ended = before if eos_token is None else before | (token == eos_token)
        if eos_token is not None and bool((ended | total.isinf()).all()):
            break
        source.reorder(rows)
    if total is None:
        return Beams(made, torch.zeros_like(length, dtype=torch.float32))
    return Beams(made, normed(total, length, length_penalty))


def normed(total: Tensor, length: Tensor, length_penalty: float) -> Tensor:
    """The score of sums of log-probabilities over so many tokens."""
    return total / length.clamp(min=1).to(total.dtype) ** length_penalty


def take(t: Tensor, index: Tensor) -> Tensor:
    """Rows (b, w, n) of each beam."""
    return t.gather(1, index[..., None].expand(-1, -1, t.shape[-1]))


def check_beam(
    num_beams: int, num_return_sequences: int, length_penalty: float, seq_len: int, eos_token: int | None, vocabulary: int | None
) -> None:
    """Numbers that a beam search takes, and whether there are as many sequences as it should return."""
    for name, number in (('num_beams', num_beams), ('num_return_sequences', num_return_sequences)):
        if (whole(number) or 0) < 1:
            raise InputError(f'{name}={quoted(number)} is not possible; expected a number of at least 1')
    if num_return_sequences > num_beams:
        raise InputError(f'num_return_sequences={num_return_sequences} is more than num_beams={num_beams}; raise num_beams')
    if not within(length_penalty, -LARGEST, LARGEST):
        raise InputError(
            f'length_penalty={quoted(length_penalty)} is not possible; expected a number, such as 0 (none) or 1 (mean per token)'
        )
    if vocabulary is None:  # a head of one's own
        return
    if number_of_sequences(vocabulary, seq_len, eos_token is not None, num_return_sequences) < num_return_sequences:
        raise InputError(
            f'num_return_sequences={num_return_sequences} with seq_len={seq_len} and {vocabulary} tokens: there are not so many sequences'
        )


def number_of_sequences(vocabulary: int, seq_len: int, may_end: bool, enough: int) -> int:
    """How many sequences there are, counted until there are enough."""
    going_on = vocabulary - 1 if may_end else vocabulary
    open_, ended = 1, 0
    for _ in range(seq_len):
        open_, ended = open_ * going_on, ended + (open_ if may_end else 0)
        if open_ + ended >= enough:
            break
    return open_ + ended
