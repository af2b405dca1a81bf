"""Filters of logits before sampling: logits -> logits with what is ruled out at -inf. Pure functions over the last axis.

Top-k (1805.04833), nucleus or top-p (1904.09751), top-a, min-p (2407.01082), contrastive decoding (2210.15097, 2309.09117).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.errors import InputError, quoted
from x_transformers.inputs import askable
from x_transformers.precision import single


def top_k(logits: Tensor, frac_num_tokens: float = 0.1, k: int | None = None) -> Tensor:
    """Keep the k largest, or the largest tenth (rounded up)."""
    count = min(math.ceil(frac_num_tokens * logits.shape[-1]) if k is None else k, logits.shape[-1])
    if count < 1:
        raise InputError(f'top_k with k={k}, frac_num_tokens={frac_num_tokens} keeps no token; expected at least one')
    kept = logits.topk(count, dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)


def top_p(logits: Tensor, thres: float = 0.9) -> Tensor:
    """Keep the most probable tokens until their probability exceeds `thres`; the first always."""
    ordered, index = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1).roll(1, dims=-1)
    before[..., 0] = 0.0
    dropped = before > thres
    dropped[..., 0] = False
    return torch.full_like(logits, -torch.inf).scatter(-1, index, ordered.masked_fill(dropped, -torch.inf))


def top_a(logits: Tensor, min_p_pow: float = 2.0, min_p_ratio: float = 0.02) -> Tensor:
    """Keep tokens whose probability is at least ratio * (largest probability) ** pow."""
    probs = logits.softmax(dim=-1)
    limit = probs.amax(dim=-1, keepdim=True) ** min_p_pow * min_p_ratio
    return logits.masked_fill(probs < limit, -torch.inf)


def min_p(logits: Tensor, min_p: float = 0.1) -> Tensor:
    """Keep tokens whose probability is at least `min_p` times the largest."""
    probs = logits.softmax(dim=-1)
    return logits.masked_fill(probs < min_p * probs.amax(dim=-1, keepdim=True), -torch.inf)


FILTER_LOGITS_FN: dict[str, Callable[..., Tensor]] = {'top_p': top_p, 'top_k': top_k, 'top_a': top_a, 'min_p': min_p}


def chosen_filter(choice: str | Callable[..., Tensor], keywords: dict[str, Any] | None) -> Callable[[Tensor], Tensor]:
    """A filter by its name or as a function, with its keywords."""
    if isinstance(choice, str):
        if choice not in FILTER_LOGITS_FN:
            near = difflib.get_close_matches(choice, FILTER_LOGITS_FN, 1, cutoff=0.4)
            hint = f'; did you mean {near[0]!r}?' if near else f'; expected one of {sorted(FILTER_LOGITS_FN)}, or a function'
            raise InputError(f'filter_logits_fn={choice!r} is unknown{hint}')
        choice = FILTER_LOGITS_FN[choice]
    if not callable(choice):
        raise InputError(f'filter_logits_fn={quoted(choice)} is not possible; expected one of {sorted(FILTER_LOGITS_FN)}, or a function')
    if keywords is not None and not isinstance(keywords, Mapping):
        raise InputError(f'filter_kwargs={quoted(keywords)} is not possible; expected a dict with the keywords of the filter')
    keep = partial(choice, **(keywords or {}))
    if choice in FILTER_LOGITS_FN.values():
        try:
            keep(torch.zeros(1, 2))  # whatever is wrong with the keywords is found before anything is computed
        except TypeError as error:
            raise InputError(f'filter_kwargs={keywords!r} do not fit the filter: {error}') from error
    return keep


def contrastive_decode_fn(expert_logits: Tensor, amateur_logits: Tensor, alpha: float = 0.1, beta: float = 0.5) -> Tensor:
    """What an expert says more than an amateur, among tokens that the expert finds plausible."""
    cutoff = math.log(alpha) + expert_logits.amax(dim=-1, keepdim=True)
    sharpened = (1 + beta) * expert_logits - beta * amateur_logits
    return sharpened.masked_fill(expert_logits < cutoff, -torch.finfo(expert_logits.dtype).max)


@dataclass(frozen=True)
class Choice:
    """How a token is chosen of logits (..., v): the best at temperature zero, otherwise a sample of what the filter keeps."""

    temperature: float
    keep: Callable[[Tensor], Tensor]
    generator: torch.Generator | None

    def __call__(self, logits: Tensor) -> Tensor:
        """(b, v) -> (b,)."""
        return logits.argmax(dim=-1) if self.temperature == 0.0 else self.draw(self.probs(logits))

    def probs(self, logits: Tensor) -> Tensor:
        """What is drawn from (..., v)."""
        if self.temperature == 0.0:
            return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(single(logits).dtype)
        rows = single(logits).flatten(0, -2)
        kept = self.keep(rows)
        if not isinstance(kept, Tensor) or kept.shape != rows.shape or not kept.is_floating_point():
            got = f'{kept.dtype} of shape {tuple(kept.shape)}' if isinstance(kept, Tensor) else f'a {type(kept).__name__}'
            raise InputError(f'filter_logits_fn returned {got}, expected logits {tuple(rows.shape)}, with -inf for what is ruled out')
        best = kept.amax(dim=-1, keepdim=True)
        if askable(best) and not bool(best.isfinite().all()):
            raise InputError('filter_logits_fn leaves a row no token that is possible, or logits are no numbers; rule out less')
        limits = torch.finfo(kept.dtype)  # beyond them the coldest is the best token, and the hottest any
        return ((kept - best) / min(max(self.temperature, limits.tiny), limits.max)).softmax(dim=-1).view_as(logits)

    def draw(self, probs: Tensor) -> Tensor:
        """(b, v) of any sum -> (b,)."""
        if self.temperature == 0.0:
            return probs.argmax(dim=-1)
        return torch.multinomial(probs, 1, generator=self.generator)[:, 0]

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers from 0 to 1, as many; with temperature zero nothing is left to chance."""
        if self.temperature == 0.0:
            return torch.zeros(like.shape, device=like.device)
        return torch.rand(like.shape, device=like.device, generator=self.generator)
