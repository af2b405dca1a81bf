"""What needs single precision gets it, whatever a model is cast to or autocast says.

Lengths, forget gates, networks of distances, edited scores and whatever says where tokens stand are computed in no less
than single precision; what comes of them goes on in the precision of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def narrow(dtype: torch.dtype) -> bool:
    """Whether it is a floating-point type of less than single precision."""
    return dtype.is_floating_point and torch.finfo(dtype).bits < 32


def single(t: Tensor) -> Tensor:
    """`t` in no less than single precision."""
    return t.float() if narrow(t.dtype) else t


def no_autocast(t: Tensor) -> AbstractContextManager:
    """A context in which products keep the precision of their factors, on the device of `t`."""
    device = t.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def product_dtype(t: Tensor) -> torch.dtype:
    """The precision that products of `t` have: its own, or that of autocast."""
    device = t.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on else t.dtype


def run_single(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` in no less than single precision, its parameters included."""
    with no_autocast(x):
        if not any(narrow(p.dtype) for p in module.parameters()):
            return module(single(x))
        return functional_call(module, {name: single(p) for name, p in module.named_parameters()}, (single(x),))


def at_length(t: Tensor, length: float = 1.0) -> Tensor:
    """`t` at this length along its last axis. A vector of zeros stays one.

    `F.normalize` divides every number, forth and back; one division per vector costs a quarter less. In half precision, where its
    least length would be rounded to zero, the gradient of zeros is zero: it would leave the range of numbers.
    """
    wide = single(t)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    norm = norm.clamp(min=1e-12) if wide is t else norm.masked_fill(norm == 0, torch.inf)
    return (wide * (length / norm)).to(t.dtype)


def at_square(t: Tensor, eps: float) -> Tensor:
    """`t` over the root of its mean square plus `eps`, along its last axis."""
    return F.rms_norm(single(t), t.shape[-1:], eps=eps).to(t.dtype)


def exact(dtype: torch.dtype) -> torch.dtype:
    """The precision of buffers that are not rounded, in a model of this one."""
    return torch.float32 if narrow(dtype) else dtype


class Exact(nn.Module):
    """A module whose floating-point buffers never get narrower than single precision: `.bfloat16()` rounds parameters, not positions."""

    @staticmethod
    def buffers_of(model: nn.Module) -> set[str]:
        """Names of such buffers anywhere in a model."""
        named = ((name, part) for name, part in model.named_modules() if isinstance(part, Exact))
        return {f'{name}.{buffer}'.lstrip('.') for name, part in named for buffer in part._buffers}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = {name: t for name, t in self._buffers.items() if t is not None and t.is_floating_point()}
        super()._apply(fn, recurse)
        for name, kept in before.items():
            cast = self._buffers[name]
            if cast is not None and narrow(cast.dtype):
                self._buffers[name] = kept.to(cast.device, exact(cast.dtype))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """What a checkpoint holds is taken, unless it is what stands here, rounded to half precision."""
        for name, kept in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if kept is not None and isinstance(saved, Tensor) and narrow(saved.dtype):
                same = not kept.is_meta and saved.shape == kept.shape and torch.equal(saved, kept.to(saved))
                state_dict = {**state_dict, prefix + name: kept if same else single(saved)}
        super()._load_from_state_dict(state_dict, prefix, *args)
