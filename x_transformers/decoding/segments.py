"""Logits by segment recurrence (Transformer-XL, 1901.02860): a segment sees itself and the memories of those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from x_transformers.decoding.nets import has_own_forward, logits_of
from x_transformers.decoding.sources import Stepper, Way, ahead, rows_of

Mems = Sequence[Tensor | None] | None


class Segments:
    """A source of logits that starts anew at each segment: there the memories become those of the whole segment before."""

    def __init__(self, net: Any, length: int, kwargs: dict[str, Any], mems: Mems = None, cache_kv: bool = True):
        self.net, self.length, self.kwargs, self.mems = net, length, kwargs, mems
        self.steps = cache_kv and net.can_cache_kv and not has_own_forward(net)
        self.begin = 0  # where the current segment begins
        self.stepper: Stepper | None = None

    def logits(self, out: Tensor, start: Tensor | None, count: int = 1) -> Tensor:
        while out.shape[1] - self.begin > self.length:
            segment = out[:, self.begin : self.begin + self.length]
            _, self.mems = self.net(segment, mems=self.mems, return_mems=True, **self.kwargs)
            self.begin, self.stepper = self.begin + self.length, None
        current, given = out[:, self.begin :], {**self.kwargs, 'mems': self.mems}
        self.batch = len(out)
        if not self.steps:
            padded = {} if start is None else {'seq_start_pos': start}
            return logits_of(self.net(current, **given, **padded), self.batch)[:, -count:]
        if self.stepper is None:
            state = self.net.empty_state(capacity=self.length + ahead(given))
            self.stepper = Stepper(self.net, 0, given, Way(), state)
        return self.stepper.logits(current, start, count)

    def reorder(self, index: Tensor) -> None:
        self.mems, self.kwargs = rows_of(self.mems, index, self.batch), rows_of(self.kwargs, index, self.batch)
        if self.stepper is not None:
            self.stepper.reorder(index)
