"""The one interface of what stands in a layer: (x, call, depth, state) -> (y, state).

A module with `takes_call = True` has it: `module(x, call=, depth=, state=)`; so has one that a user puts around it and that
hands on its keywords. Every other module remembers nothing and stays plain, `module(x) -> y`.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from torch import Tensor, nn

from x_transformers.call import Call, Depth
from x_transformers.errors import DecodeError
from x_transformers.inputs import expect_numbers
from x_transformers.state import Lost


def takes_call(module: nn.Module) -> bool:
    """Whether a module says so, or says nothing and hands on its keywords to one inside that does."""
    says = getattr(module, 'takes_call', None)
    if says is not None:
        return bool(says)
    kind: Any = type(module)
    return hands_on(kind) and any(getattr(part, 'takes_call', False) for part in module.modules())


@cache
def hands_on(kind: Any) -> bool:
    """Whether `forward` takes any keyword."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kind.forward).parameters.values())


def run_branch(branch: nn.Module, x: Tensor, call: Call, depth: Depth | None, state: Any) -> tuple[Tensor, Any]:
    """Call a branch by what it is, through `__call__` so that hooks see it."""
    if not takes_call(branch):
        return branch(x), None
    if isinstance(state, Lost):
        raise DecodeError(f'{state.name} returned no state in an earlier call, so nothing can go on from it; run the whole sequence')
    out = branch(x, call=call, depth=depth, state=state)
    if isinstance(out, tuple):
        return out
    return out, Lost(type(branch).__name__) if call.keep_state else None  # a forward that a user put in place of ours


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
        return takes_call(self.fn)

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        expect_numbers('x', x)
        return scaled(self.fn(x, **kwargs), self.value)
