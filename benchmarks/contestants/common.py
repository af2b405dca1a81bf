"""What all contestants share, so that they are given the same: inputs, precision, and what a training step is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ENDS = ('to_logits', 'final_norm', 'lm_head', 'ln_f', 'head.', 'stack.norm')


def ids(size: dict[str, Any], length: int, seed: int = 0) -> Tensor:
    made = torch.randint(0, size['vocabulary'], (size['batch'], length), generator=torch.Generator().manual_seed(seed))
    return made.to(size.get('device', 'cpu'))


def noise(size: dict[str, Any], *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(size.get('device', 'cpu'))


def prepared(model: nn.Module, size: dict[str, Any]) -> Any:
    """On the device; with `only_head`, nothing learns but the head and the norm before it, whatever they are called."""
    if size.get('only_head'):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(part in name for part in ENDS))
    return model.to(size.get('device', 'cpu'))


def step(model: nn.Module, loss: Callable[[], Tensor], size: dict[str, Any]) -> Callable[[], None]:
    """A training step without its optimiser, which is the same for everybody: loss and gradients, from none."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast('cuda', torch.bfloat16, enabled=size.get('device') == 'cuda'):
            value = loss()
        value.backward()

    return run


def flags_of(size: dict[str, Any]) -> dict[str, Any]:
    """The flags of a size; what JSON made a list was a tuple."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in size.get('flags', {}).items()}
