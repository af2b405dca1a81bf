"""What the machine can do at most: how fast it multiplies matrices, and how fast it reads memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def matmul(size: dict[str, Any]) -> Callable[[], Any]:
    """2 n^3 operations, in the precision that training has."""
    cuda = size.get('device') == 'cuda'
    a = torch.randn(size['n'], size['n'], device=size.get('device', 'cpu'), dtype=torch.bfloat16 if cuda else torch.float32)
    return lambda: a @ a


def read(size: dict[str, Any]) -> Callable[[], Any]:
    """4 n^2 bytes, as a matrix that is multiplied with a vector, which is what decoding does."""
    a = torch.randn(size['n'], size['n'], device=size.get('device', 'cpu'))
    v = a[0].clone()
    return lambda: a @ v


KINDS = {'matmul': matmul, 'read': read}
