"""The outputs at the end of a growing sequence, exactly those of its whole latest window.

While the sequence fits the model's length, each entry is computed once, by state. When the window begins to slide, entries that
were kept would remember what has left it, so from there the whole window is run for each step.
"""

from __future__ import annotations

from typing import Any


class Rollout:
    """`outputs(sequence so far)` of a model at its last entry; a sequence is whatever the model takes and can be cut."""

    def __init__(self, net: Any, start: int, steps: int, cache_kv: bool, kwargs: dict[str, Any]):
        self.net, self.kwargs, self.window, self.fed = net, dict(kwargs), net.max_seq_len, 0
        total = start + steps
        fits = not self.window or start <= self.window
        self.state = net.empty_state(min(total, self.window or total) + ahead(kwargs)) if cache_kv and net.can_cache_kv and fits else None

    def outputs(self, sequence: Any) -> Any:
        if self.state is None or self.window and sequence.shape[1] > self.window:
            window = sequence[:, -self.window :] if self.window else sequence
            return self.net.logits(self.net(window, return_embeddings=True, **self.kwargs)[:, -1])
        x, self.state = self.net(sequence[:, self.fed :], state=self.state, return_state=True, return_embeddings=True, **self.kwargs)
        self.fed = sequence.shape[1]
        return self.net.logits(x[:, -1])


def ahead(kwargs: dict[str, Any]) -> int:
    """Entries that go ahead of the sequence."""
    embeds = kwargs.get('prepend_embeds')
    return 0 if embeds is None else embeds.shape[1]
