"""Next-token logits of a growing sequence, each token computed once.

`Stepper` feeds a model what is new and keeps its state; a window that reaches the model's length slides.
`Refeeder` gives models that cannot go on from earlier tokens the whole window each time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.errors import DecodeError, InputError

SLACK = 128  # room beyond the window, so that sliding seldom moves memory


class Stepper:
    """Decodes by state: `logits(tokens so far) -> (b, vocabulary)`."""

    def __init__(self, net: Any, total: int, kwargs: dict[str, Any]):
        self.net, self.kwargs, self.window = net, dict(kwargs), net.max_seq_len
        slides = bool(self.window) and total > self.window
        self.state = net.empty_state(capacity=(self.window + SLACK if slides else total) + ahead(kwargs))
        self.fed = 0
        self.start: Tensor | None = None

    def logits(self, out: Tensor, start: Tensor | None) -> Tensor:
        new = out[:, self.fed :] if self.fed else last(out, self.window)
        if self.fed:
            room = max(self.window - new.shape[1], 0)
            if self.window and self.state.remembered > room:  # what stands ahead of the tokens takes no room
                self.state = self.state.keep(room)
        else:
            self.start = moved(start, out.shape[1] - new.shape[1])
        given = {**self.kwargs, 'seq_start_pos': self.start, 'state': self.state}
        x, self.state = self.net(new, return_state=True, return_embeddings=True, **given)
        self.kwargs = {key: value for key, value in self.kwargs.items() if key not in FIRST_ONLY}
        self.fed = out.shape[1]
        return self.net.logits(x[:, -1])


FIRST_ONLY = ('mems', 'mem_masks', 'prepend_embeds', 'prepend_mask')  # remembered by the state


class Refeeder:
    """Runs the whole window for every token."""

    def __init__(self, net: Any, kwargs: dict[str, Any]):
        self.net, self.kwargs = net, kwargs

    def logits(self, out: Tensor, start: Tensor | None) -> Tensor:
        x = last(out, self.net.max_seq_len)
        start = moved(start, out.shape[1] - x.shape[1])
        given = self.kwargs if start is None else {**self.kwargs, 'seq_start_pos': start}
        return self.net(x, **given)[:, -1]


def stepper_for(net: nn.Module, total: int, cache_kv: bool, kwargs: dict[str, Any], eos: bool, prompt: int) -> Stepper | Refeeder:
    """How to decode `total` tokens with this model."""
    if not cache_kv or not hasattr(net, 'empty_state') or not net.can_cache_kv:
        return Refeeder(net, kwargs)
    limit: int = net.max_seq_len  # type: ignore[assignment]
    over = limit and total - 1 > limit and not net.can_cache_kv_outside_max_seq_len
    if over and (prompt > limit or not eos):  # an end token may come in time
        raise DecodeError(too_long(prompt, total, limit))
    return Stepper(net, total, kwargs)


def too_long(prompt: int, total: int, limit: int) -> str:
    return (
        f'a prompt of {prompt} tokens with seq_len={total - prompt} goes beyond max_seq_len={limit}, where keys that were '
        'kept cannot slide along (absolute positions, memory tokens); shorten them, use cache_kv=False, or build the model without these'
    )


def last(out: Tensor, window: int) -> Tensor:
    """The latest `window` tokens; all with a window of 0."""
    return out[:, -window:] if window else out


def moved(start: Tensor | None, dropped: int) -> Tensor | None:
    """Where sequences start after `dropped` tokens have left the window."""
    return None if start is None else (start - dropped).clamp(min=0)


def ahead(kwargs: dict[str, Any]) -> int:
    """Entries that go ahead of the tokens."""
    embeds = kwargs.get('prepend_embeds')
    return 0 if embeds is None else embeds.shape[1]


def align_right(t: Tensor, lens: Tensor, pad_id: int = 0) -> Tensor:
    """Ragged rows (b, n) of the given lengths (b,), moved to the right, padding in front.

    >>> align_right(torch.tensor([[1, 2, 3]]), torch.tensor([2]))
    tensor([[0, 1, 2]])
    """
    b, n = t.shape
    if lens.ndim != 1 or lens.shape[0] != b:
        raise InputError(f'prompt_lens has shape {tuple(lens.shape)}, expected ({b},), the length of each prompt')
    if int(lens.max()) > n or int(lens.min()) < 1:
        raise InputError(f'prompt_lens={lens.tolist()} is not possible: expected lengths from 1 to {n}, the width of the prompts')
    source = torch.arange(n, device=t.device) - (n - lens)[:, None]
    return t.gather(1, source.clamp(min=0)).masked_fill(source < 0, pad_id)
