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


def run(module: nn.Module, x: Tensor, **given: Any) -> Any:
    """`module(x, **given)`; without gradients, linear maps by the shortest way, alone or in a sequence."""
    if given or torch.is_grad_enabled() or hooks._global_forward_hooks or hooks._global_forward_pre_hooks or torch.compiler.is_compiling():
        return module(x, **given)
    return shortened(module, x)


def shortened(module: nn.Module, x: Tensor) -> Any:
    """`module(x)`, where calling it is nothing but its forward: no hook looks on, and no forward was put in its place."""
    own = module.__dict__
    if own['_forward_hooks'] or own['_forward_pre_hooks'] or 'forward' in own:
        return module(x)
    kind = type(module)
    if kind is nn.Linear and 'weight' in own['_parameters']:
        return linear(x, own['_parameters']['weight'], own['_parameters']['bias'])  # every look-up of a module costs a call
    if kind is nn.Sequential:
        for part in own['_modules'].values():
            x = shortened(part, x)
        return x
    return x if kind is nn.Dropout and not module.training else module(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., i), weight (o, i), bias (o,) -> (..., o), as `F.linear` has it; for code that needs no gradient and is not compiled."""
    out, width = weight.shape
    if not FEWEST <= x.numel() // width <= MOST or out % BLOCK or not pays(x, weight):
        return F.linear(x, weight, bias)
    blocks = weight.view(-1, BLOCK, width).transpose(1, 2)
    made = torch.bmm(x.reshape(1, -1, width).expand(len(blocks), -1, -1), blocks)  # blocks, rows, BLOCK
    made = made.transpose(0, 1).reshape(*x.shape[:-1], out)
    return made if bias is None else made + bias


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether these are plain numbers in single or double precision, on a CPU, and the weight is worth the trouble."""
    plain = x.is_cpu and type(weight) is nn.Parameter and x.dtype is weight.dtype and x.dtype in (torch.float32, torch.float64)
    return plain and weight.numel() >= LEAST and weight.is_contiguous() and not torch.is_autocast_enabled('cpu')
