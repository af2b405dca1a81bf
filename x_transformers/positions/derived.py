"""Buffers that follow from constructor arguments and are not saved: they survive the meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from x_transformers.precision import Exact


class Derived(Exact):
    """A module with one such buffer, made again whenever its tensors are moved or emptied."""

    def derive(self, name: str, values: list[float]) -> None:
        """Register the buffer `name` with these values."""
        self._derived = (name, values)
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        old = getattr(self, self._derived[0])
        self.make_again(old.device, old.dtype)
        return self

    def make_again(self, device: torch.device, dtype: torch.dtype) -> None:
        """Compute the buffer anew."""
        name, values = self._derived
        setattr(self, name, torch.tensor(values, device=device, dtype=dtype))
