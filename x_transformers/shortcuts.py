"""The shortest way to what linear maps give, where nobody looks on: a generation goes it for every token, map and layer.

For a few rows a BLAS library rearranges the weight before it multiplies, which costs more than the product. Products with blocks of
outputs are too small for that: the weight is read once, as it lies. On one core and for 8 rows, a weight of 2048 x 512 is read at
17 instead of 9 GB/s.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks

BLOCK = 64  # outputs
FEWEST, MOST = 4, 15  # rows: fewer are multiplied as they lie anyway, more are worth rearranging
LEAST = 2**19  # weights: fewer stay in the cache while they are rearranged
FORWARDS: dict[type, Any] = {kind: kind.forward for kind in (nn.Linear, nn.Sequential, nn.Dropout)}  # patched ones are called


def eager() -> bool:
    """Whether what runs is only run: nothing compiles, exports or traces it for other lengths."""
    return not (torch.compiler.is_compiling() or torch._C._is_tracing())


def watched(module: nn.Module) -> bool:
    """Whether calling a module is more than its forward: a hook looks on, or something stands in place of its forward or its call."""
    own = module.__dict__
    hooked = own['_forward_hooks'] or own['_forward_pre_hooks'] or own['_backward_hooks'] or own['_backward_pre_hooks']
    return bool(hooked) or 'forward' in own or '_compiled_call_impl' in own


def all_watched() -> bool:
    """Whether hooks look on at every module."""
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


def run(module: nn.Module, x: Tensor, **given: Any) -> Any:
    """`module(x, **given)`; without gradients, linear maps by the shortest way, alone or in a sequence."""
    if given or torch.is_grad_enabled() or all_watched() or not eager():
        return module(x, **given)
    return shortened(module, x)


def shortened(module: nn.Module, x: Tensor) -> Any:
    """`module(x)`, shortened where calling it is nothing but the forward that torch gave its kind."""
    kind = type(module)
    if kind not in FORWARDS or FORWARDS[kind] is not kind.forward or watched(module):
        return module(x)
    own: Any = module._parameters  # every look-up of a module costs a call
    if kind is nn.Sequential:
        parts: Any = module._modules
        for part in parts.values():
            x = shortened(part, x)
        return x
    if kind is nn.Linear:
        return linear(x, own['weight'], own['bias']) if 'weight' in own and 'bias' in own else module(x)
    return module(x) if module.training else x


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., i), weight (o, i), bias (o,) -> (..., o), as `F.linear` has it; for code that needs no gradient and is not compiled."""
    out, width = weight.shape
    if not FEWEST * width <= x.numel() <= MOST * width or out % BLOCK or not pays(x, weight):
        return F.linear(x, weight, bias)
    blocks = weight.view(-1, BLOCK, width).transpose(1, 2)
    made = torch.bmm(x.reshape(1, -1, width).expand(len(blocks), -1, -1), blocks)  # blocks, rows, BLOCK
    made = made.transpose(0, 1).reshape(*x.shape[:-1], out)
    return made if bias is None else made + bias


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether these are plain numbers in single or double precision, on a CPU, and the weight is worth the trouble."""
    plain = x.is_cpu and type(weight) is nn.Parameter and weight.layout is torch.strided
    exact = x.dtype is weight.dtype and x.dtype in (torch.float32, torch.float64)
    return plain and exact and weight.numel() >= LEAST and weight.is_contiguous() and not torch.is_autocast_enabled('cpu')
