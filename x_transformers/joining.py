"""States that grew, made into one that goes on: in buffers with room for what comes, or rows of several lengths together.

Rows of several lengths stand side by side as left-padded ones do, so what a shorter one remembers moves behind padding. That is
known of what the library's own branches remember.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.call import Span
from x_transformers.errors import DecodeError
from x_transformers.ring import WindowKeys
from x_transformers.state import Beside, ContextKeys, Fresh, Keys, Lost, StackState, Tail, map_tensors, tensors


def with_room(state: StackState, more: int) -> StackState:
    """The same in buffers of its own, with room for so many tokens more."""
    capacity = state.length + more

    def roomy(keys: Any) -> Any:
        if isinstance(keys, WindowKeys):
            return replace(keys, preallocated=True).slide()
        if isinstance(keys, Keys):
            return Fresh(memory_mask=keys.memory_mask, capacity=capacity).start(keys.records, keys.lead)
        return keys

    return replace(state, layers=tuple(of_keys(roomy, layer) for layer in state.layers))


def slid(state: StackState, coming: int) -> StackState:
    """The same, whose windows slid before so many tokens come, which then need not: a graph of one step stays one."""
    slide = lambda keys: keys.slide(coming) if isinstance(keys, WindowKeys) else keys
    return replace(state, layers=tuple(of_keys(slide, layer) for layer in state.layers))


def joined(states: Sequence[StackState], paddings: Sequence[int], sizes: Sequence[int]) -> StackState:
    """Rows of all, one state behind the other: `sizes` rows each, in front of which so much padding makes all of one length."""
    padded = [behind_padding(*each) for each in zip(states, paddings, sizes, strict=True)]
    layers = [aligned(each) for each in zip(*(state.layers for state in padded), strict=True)]
    whole = [replace(state, layers=each) for state, each in zip(padded, zip(*layers, strict=True), strict=True)]
    rows = lambda *ts: torch.cat([t.expand(size, *t.shape[1:]) for t, size in zip(ts, sizes, strict=True)])
    return map_tensors(rows, *whole)


def behind_padding(state: StackState, count: int, rows: int) -> StackState:
    """Tokens that moved `count` to the right; memories and keys of no token stay in front."""
    keys, tokens, device = state.keys, state.seen + state.extra, tensors(state.layers)[0].device
    memory = keys.length - tokens

    def insert(t: Tensor, between: Tensor) -> Tensor:
        return torch.cat((t[:, :memory], between.expand(len(t), -1), t[:, memory:]), dim=1)

    pos = insert(keys.positions(device), torch.arange(-count, 0, device=device)[None])
    seen = torch.ones((1, keys.length), dtype=torch.bool, device=device) if keys.visible is None else keys.visible
    span = Span(keys.start, keys.length + count, pos, insert(seen, torch.zeros((1, count), dtype=torch.bool, device=device)))

    def move(kept: Any) -> Any:
        if isinstance(kept, WindowKeys):
            return replace(kept, kept=kept.kept if kept.gone else move(kept.kept), total=kept.total + count)
        if isinstance(kept, Keys):
            return replace(kept, records={name: moved(t, kept.length - tokens + kept.lead) for name, t in kept.records.items()})
        if kept is None or isinstance(kept, (ContextKeys, Lost)):
            return kept
        raise DecodeError(
            f'a {type(kept).__name__} does not say how rows of several lengths go together, so prompt_lens cannot be combined with prefix '
            'here; generate from prompts of one length at a time'
        )

    def moved(t: Tensor, at: int) -> Tensor:
        return torch.cat((t[..., :at, :], F.pad(t[..., at:, :], (0, 0, count, 0))), dim=-2)

    padding = torch.full((rows,), count, device=device)
    return replace(state, keys=span, layers=tuple(of_keys(move, layer) for layer in state.layers), padding=padding)


def aligned(layers: tuple[Any, ...]) -> list[Any]:
    """Of windows that slid by different lengths, as much as all remember."""
    remembered: list[int] = []

    def measure(keys: Any) -> Any:
        remembered.append(keys.length if isinstance(keys, WindowKeys) else 0)
        return keys

    for layer in layers:
        of_keys(measure, layer)
    least = min(remembered)
    cut = lambda keys: replace(keys, kept=keys.kept.keep(least)) if least else keys
    return [of_keys(cut, layer) for layer in layers]


def of_keys(fn: Callable[[Any], Any], layer: Any) -> Any:
    """`fn` of what a layer remembers beside its latest inputs."""
    return replace(layer, inner=of_keys(fn, layer.inner)) if isinstance(layer, (Tail, Beside)) else fn(layer)
