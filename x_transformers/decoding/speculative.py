"""Speculative decoding (2211.17192, 2302.01318): tokens that are cheap to propose, checked together by one call of the model.

A proposal x, drawn from q, is kept with probability min(1, p(x) / q(x)), where p is what the model would have drawn from; in place
of the first that is not, a token is drawn from what p has more than q. So each row is distributed as if the model had drawn it all,
and with temperature 0, where p and q are certain, it is the same row. Rows advance together, by as much as the row of which least
was kept: where to cut a row does not depend on what it holds beyond the cut, so its distribution stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from x_transformers.decoding.sampling import Choice
from x_transformers.decoding.sources import Rewindable
from x_transformers.errors import InputError

Proposals = tuple[Tensor, Tensor | None]  # ids (b, k), and the distributions (b, k, v) that they were drawn from; None: they are certain


class Drafter(Protocol):
    def begin(self, out: Tensor, start: Tensor | None) -> None:
        """Read the prompts."""

    def propose(self, out: Tensor, start: Tensor | None, count: int) -> Proposals: ...

    def rewind(self, length: int) -> None: ...


@dataclass(frozen=True)
class ModelDrafter:
    """A model proposes what it would have chosen itself."""

    source: Rewindable
    choose: Choice

    def begin(self, out: Tensor, start: Tensor | None) -> None:
        self.source.logits(out, start)

    def propose(self, out: Tensor, start: Tensor | None, count: int) -> Proposals:
        probs = []
        for _ in range(count):
            probs.append(self.choose.probs(self.source.logits(out, start)[:, -1]))
            out = torch.cat((out, self.choose.draw(probs[-1])[:, None]), dim=1)
        return out[:, -count:], torch.stack(probs, dim=1)

    def rewind(self, length: int) -> None:
        self.source.rewind(length)


@dataclass(frozen=True)
class FunctionDrafter:
    """A function proposes (tokens so far (b, t), count) -> ids (b, count)."""

    function: Callable[[Tensor, int], Tensor]

    def begin(self, out: Tensor, start: Tensor | None) -> None:
        """It is given all tokens each time."""

    def propose(self, out: Tensor, start: Tensor | None, count: int) -> Proposals:
        made: Any = self.function(out, count)
        if not isinstance(made, Tensor) or made.shape != (len(out), count) or made.dtype != torch.long:
            got = f'{made.dtype} of shape {tuple(made.shape)}' if isinstance(made, Tensor) else f'a {type(made).__name__}'
            raise InputError(f'draft returned {got}, expected token ids ({len(out)}, {count}) of torch.long')
        return made, None

    def rewind(self, length: int) -> None:
        """It remembers nothing."""


def prompt_lookup(tokens: Tensor, count: int, ngram: int = 2) -> Tensor:
    """What followed the latest `ngram` tokens (b, t) where they stood before, latest first: a draft for texts that repeat themselves.

    Rows in which they did not propose their latest token again.

    >>> prompt_lookup(torch.tensor([[7, 1, 2, 3, 4, 1, 2]]), 3)
    tensor([[3, 4, 1]])
    """
    b, t = tokens.shape
    ngram = min(ngram, t - 1)
    if ngram < 1:
        return tokens[:, -1:].expand(b, count)
    grams = tokens[:, :-1].unfold(1, ngram, 1)  # b w ngram, each with a token behind it
    found = (grams == tokens[:, None, -ngram:]).all(dim=-1)
    at = torch.arange(1, found.shape[1] + 1, device=tokens.device).mul(found).amax(dim=-1)  # 0 where there is none
    behind = (at + ngram - 1)[:, None] + torch.arange(count, device=tokens.device)
    behind = torch.where(at[:, None] > 0, behind, t - 1)
    period = (t - at - ngram + 1)[:, None]  # what goes on beyond the latest token repeats what stands between
    return tokens.gather(1, torch.where(behind < t, behind, t - period + (behind - t) % period))


class Speculative:
    """Advances by what a drafter proposes and the model keeps, and one token more.

    `window` tokens is how far both can go without forgetting any; behind that, and for the last token, there are no proposals.
    """

    def __init__(self, source: Rewindable, drafter: Drafter, choose: Choice, count: int, window: int):
        self.source, self.drafter, self.choose, self.count, self.window, self.begun = source, drafter, choose, count, window, False

    def __call__(self, out: Tensor, start: Tensor | None, over: Tensor, most: int) -> Tensor:
        room = self.window - out.shape[1] if self.window else most
        count = min(self.count, most - 1, room)
        if not self.begun:  # the prompts alone, whose copies are still alike
            self.begun = True
            self.drafter.begin(out, start)
            count = 0
        if count < 1:
            return self.choose(self.source.logits(out, start)[:, -1])[:, None]
        drafts, q = self.drafter.propose(out, start, count)
        p = self.choose.probs(self.source.logits(torch.cat((out, drafts), dim=1), start, count + 1))
        certain = drafts[..., None] == torch.arange(p.shape[-1], device=p.device)
        made = kept(p, certain.to(p.dtype) if q is None else q, drafts, over, self.choose)
        for each in (self.source, self.drafter):
            each.rewind(out.shape[1] + made.shape[1] - 1)
        return made


def kept(p: Tensor, q: Tensor, drafts: Tensor, over: Tensor, choose: Choice) -> Tensor:
    """(b, m + 1) ids: of drafts (b, k) drawn from q (b, k, v) those that every row keeps under p (b, k + 1, v), and one token more.

    Rows that are over keep everything. A function may propose what the model can read and not make, which has no chance.
    """
    k, v = drafts.shape[1], p.shape[-1]
    chance = lambda t: t.gather(-1, drafts[..., None].clamp(max=v - 1))[..., 0].masked_fill(drafts >= v, 0.0)  # b k
    keeps = (choose.uniform(drafts) * chance(q) < chance(p[:, :k])) | over[:, None]
    m = int(keeps.long().cumprod(dim=1).sum(dim=1).min())
    if m == k:
        return torch.cat((drafts, choose.draw(p[:, k])[:, None]), dim=1)
    rest = (p[:, m] - q[:, m]).clamp(min=0)
    rest = torch.where(rest.sum(dim=-1, keepdim=True) > 0, rest, p[:, m])  # nothing is left where all is kept
    more = torch.where(keeps[:, m], drafts[:, m], choose.draw(rest))
    return torch.cat((drafts[:, :m], more[:, None]), dim=1)
