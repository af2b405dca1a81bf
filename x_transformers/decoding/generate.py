"""The loop that turns next-token logits into tokens, one or several at a time, and what makes rows end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from x_transformers.decoding.callables import Stop
from x_transformers.decoding.prompts import Prompts
from x_transformers.decoding.sources import Source
from x_transformers.toolbox import evaluating


class Advance(Protocol):
    def __call__(self, out: Tensor, start: Tensor | None, over: Tensor, most: int) -> Tensor:
        """From tokens so far (b, t) to 1 to `most` further ones (b, k); rows that are `over` (b,) may get any."""


@dataclass(frozen=True)
class Ends:
    """What a row ends by: a token, or what a function says of the tokens so far."""

    eos_token: int | None = None
    stops: Sequence[Stop] = ()

    def before(self, prompts: Prompts) -> Tensor:
        """(b,) bool: prompts that hold the end token."""
        if self.eos_token is None:
            return torch.zeros_like(prompts.tokens[:, 0], dtype=torch.bool)
        return prompts.ended(self.eos_token)

    def after(self, out: Tensor, over: Tensor) -> Tensor:
        """(b,) bool: rows that are over behind the latest of the tokens (b, t)."""
        if self.eos_token is not None:
            over = over | (out[:, -1] == self.eos_token)
        for stop in self.stops:
            over = over | stop(out)
        return over

    @property
    def possible(self) -> bool:
        return self.eos_token is not None or bool(self.stops)


@dataclass(frozen=True)
class OneByOne:
    """Advances by one token."""

    source: Source
    choose: Callable[[Tensor], Tensor]

    def __call__(self, out: Tensor, start: Tensor | None, over: Tensor, most: int) -> Tensor:
        return self.choose(self.source.logits(out, start)[:, -1])[:, None]


@torch.no_grad()
def tokens(advance: Advance, prompts: Prompts, seq_len: int, ends: Ends, nets: Sequence[nn.Module]) -> Iterator[tuple[Tensor, Tensor]]:
    """Up to `seq_len` times: the next token (b,) of each row, and whether the row had ended before it (b,).

    Stops when every row has ended. The modules are in evaluation mode only while they compute.
    """
    out, over, evaluation = prompts.tokens, ends.before(prompts), evaluating(*nets)
    final = out.shape[1] + seq_len
    while out.shape[1] < final:
        with evaluation:
            new = advance(out, prompts.start, over, final - out.shape[1])
        for token in new.unbind(dim=1):
            out = torch.cat((out, token[:, None]), dim=1)
            yield token, over
            over = ends.after(out, over)
            if ends.possible and bool(over.all()):
                return
