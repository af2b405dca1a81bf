"""The outputs at the end of a growing sequence, exactly those of its whole latest window.

While the sequence fits the model's length, each entry is computed once, by state. When the window begins to slide, entries that
were kept would remember what has left it, so from there the whole window is run for each step.
"""

from __future__ import annotations

from typing import Any

from x_transformers.decoding.generate import Stepper, last


class Rollout:
    """`outputs(sequence so far)` of a model at its last entry; the sequence is whatever the model takes and can be cut."""

    def __init__(self, net: Any, start: int, steps: int, cache_kv: bool, kwargs: dict[str, Any]):
        self.net, self.kwargs, self.window = net, kwargs, net.max_seq_len
        total = start + steps
        by_state = cache_kv and net.can_cache_kv and (not self.window or start <= self.window)
        self.stepper = Stepper(net, min(total, self.window or total), kwargs) if by_state else None

    def outputs(self, sequence: Any) -> Any:
        if self.stepper is not None and (not self.window or sequence.shape[1] <= self.window):
            return self.stepper.logits(sequence, None)
        x = self.net(last(sequence, self.window), return_embeddings=True, **self.kwargs)
        return self.net.logits(x[:, -1])
