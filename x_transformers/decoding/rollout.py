"""The outputs at the end of a growing sequence, exactly those of its whole latest window.

While the sequence fits the model's length, each entry is computed once, by state. When the window begins to slide, entries that
were kept would remember what has left it, so from there the whole window is run for each step; and always with a forward that
is not ours alone (a subclass with one of its own, hooks), by which the model then goes on.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from x_transformers.decoding.nets import has_own_forward
from x_transformers.decoding.sources import FIRST_ONLY, ahead, last, moved, with_mask


class Rollout:
    """`outputs(sequence so far)` of a model at its last entry; a sequence is a tensor, or has `parts` that are, and can be cut."""

    def __init__(self, net: Any, start: int, steps: int, cache_kv: bool, kwargs: dict[str, Any]):
        self.net, self.kwargs, self.window, self.fed = net, dict(kwargs), net.max_seq_len, 0
        total = start + steps
        fits = not self.window or start <= self.window
        self.own = has_own_forward(net)
        steps_on = cache_kv and net.can_cache_kv and fits and not self.own
        self.state = net.empty_state(min(total, self.window or total) + ahead(kwargs)) if steps_on else None

    def outputs(self, sequence: Any) -> Any:
        n = sequence.shape[1]
        if self.state is None or self.window and n > self.window:
            shown = last(sequence, self.window)
            given = with_mask(self.kwargs, shown.shape[1], n)
            if given.get('seq_start_pos') is not None:
                given = {**given, 'seq_start_pos': moved(given['seq_start_pos'], n - shown.shape[1])}
            if self.own:
                return at_end(self.run(shown, **given))
            return self.net.read_out(self.run(shown, return_embeddings=True, **given)[:, -1])
        given = {key: value for key, value in self.kwargs.items() if not self.fed or key not in FIRST_ONLY}
        x, self.state = self.run(sequence[:, self.fed :], state=self.state, return_state=True, return_embeddings=True, **given)
        self.fed = n
        return self.net.read_out(x[:, -1])

    def run(self, sequence: Any, **given: Any) -> Any:
        parts = (sequence,) if isinstance(sequence, Tensor) else sequence.parts
        return self.net(*parts, **given)


def at_end(outputs: Any) -> Any:
    """The last of vectors (..., n, d), or of both logits (b, n, v) and numbers (b, n)."""
    return outputs[..., -1, :] if isinstance(outputs, Tensor) else tuple(each[:, -1] for each in outputs)
