"""How a layer of the stack is run: as it is, computed again in the backward pass (1604.06174), or left out by chance in a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from x_transformers.call import Call, Depth
from x_transformers.flags import Config, flag
from x_transformers.state import Fresh

Run = Callable[[Any, Tensor, Call, Depth, Any], 'tuple[Tensor, Any]']


@dataclass(frozen=True, kw_only=True)
class RunFlags(Config):
    """What is kept of a layer for the backward pass."""

    checkpoint: bool = flag(
        False,
        'Keep only what enters each layer, and compute the layer again in the backward pass: less memory, more time.',
        paper='1604.06174',
    )


def as_it_is(layer: Any, x: Tensor, call: Call, depth: Depth, state: Any) -> tuple[Tensor, Any]:
    return layer(x, call, depth, state)


def recomputed(layer: Any, x: Tensor, call: Call, depth: Depth, state: Any) -> tuple[Tensor, Any]:
    """The same, but nothing inside the layer is kept: the backward pass computes it again, with the same random numbers.

    Both passes must begin alike, so each writes to a `Depth`, shared masks and a `Trace` of its own; what the first wrote
    is handed down. A layer that goes on from earlier tokens is run as it is: its state is kept anyway, and may be written in place.
    """
    if not torch.is_grad_enabled() or not (state is None or isinstance(state, Fresh)):
        return layer(x, call, depth, state)

    before, alone = depth.apart(), call.apart()

    def run(x: Tensor) -> Any:
        own, its = before.apart(), alone.apart()
        out, after = layer(x, its, own, state)
        return out, after, (own.scores, own.values, own.dual, own.normed, own.chosen), its.trace

    out, after, (depth.scores, depth.values, depth.dual, depth.normed, depth.chosen), trace = checkpoint(run, x, use_reentrant=False)
    if call.trace is not None:
        call.trace.layer_hiddens, call.trace.attention = trace.layer_hiddens, trace.attention
    return out, after


def by_chance(run: Run, chance: float, layer: Any, x: Tensor, call: Call, depth: Depth, state: Any) -> tuple[Tensor, Any]:
    """The layer, or with this chance what entered it, in one graph: it is computed either way, and what comes of it is chosen.

    All that it hands down is chosen likewise. Scores that nobody has left are zero; of values, `Depth` is told.
    """
    counts = torch.rand((), device=x.device) >= chance
    layer.residual.prepare(x, depth)  # it may begin a second stream
    before = depth.apart()
    out, after = run(layer, x, call, depth, state)
    if depth.dual is not None and before.dual is not None:
        depth.dual = torch.where(counts, depth.dual, before.dual)
    for kind, scores in depth.scores.items():
        depth.scores[kind] = torch.where(counts, scores, before.scores.get(kind, torch.zeros_like(scores)))
    for kind in depth.values:
        if kind not in before.values:
            depth.chosen[kind] = counts
        elif kind in before.chosen and kind not in depth.chosen:  # it has been looked at, so it is of this kind
            depth.chosen[kind] = counts | before.chosen[kind]
    return torch.where(counts, out, x), after
