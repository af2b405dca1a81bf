"""The one interface of what stands in a layer: (x, call, depth, state) -> (y, state).

A module with `takes_call = True` has it: `module(x, call=, depth=, state=)`. Every other module remembers
nothing and stays plain, `module(x) -> y`; that includes one that a user puts in place of ours.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from x_transformers.call import Call, Depth


def run_branch(branch: nn.Module, x: Tensor, call: Call, depth: Depth | None, state: Any) -> tuple[Tensor, Any]:
    """Call a branch by what it is, through `__call__` so that hooks see it."""
    if getattr(branch, 'takes_call', False):
        return branch(x, call=call, depth=depth, state=state)
    return branch(x), None


def scaled(out: Any, gain: Tensor | float) -> Any:
    """`out`, or the first of a tuple, times `gain`."""
    return (out[0] * gain, *out[1:]) if isinstance(out, tuple) else out * gain


class Scale(nn.Module):
    """`value` times the output of `fn`; of a tuple, only its first element. Macaron halves its feed-forwards by it."""

    def __init__(self, value: float, fn: nn.Module):
        super().__init__()
        self.value = value
        self.fn = fn

    @property
    def takes_call(self) -> bool:
        return getattr(self.fn, 'takes_call', False)

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        return scaled(self.fn(x, **kwargs), self.value)
