"""ALiBi: attention loses a head's slope per token of distance (Press et al. 2021, 2108.12409)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from torch import Tensor

from x_transformers.errors import FlagError, quoted
from x_transformers.inputs import expect_sizes
from x_transformers.positions.derived import Derived
from x_transformers.positions.distance import DistanceBias


def alibi_slopes(heads: int) -> list[float]:
    """The paper's slopes: a geometric series; between powers of two, every other one of the next series joins."""
    power = 2 ** math.floor(math.log2(heads))
    series = lambda count: [2.0 ** (-8.0 * (k + 1) / count) for k in range(count)]
    return series(heads) if power == heads else series(power) + series(2 * power)[::2][: heads - power]


class AlibiPositionalBias(Derived, DistanceBias):
    """-slope times distance for the first `heads` heads, zero for the others up to `total_heads`.

    >>> AlibiPositionalBias(heads=4, total_heads=8)(3, 5).shape
    torch.Size([8, 3, 5])
    """

    slopes: Tensor

    def __init__(self, heads: int, total_heads: int | None = None, slopes: Sequence[float] | Tensor | None = None, **_ignored: object):
        super().__init__()
        expect_sizes(heads=heads, total_heads=heads if total_heads is None else total_heads)
        self.heads = heads
        self.total_heads = heads if total_heads is None else total_heads
        if not (slopes is None or isinstance(slopes, Sequence) or isinstance(slopes, Tensor) and slopes.ndim == 1):
            raise FlagError(f'slopes={quoted(slopes)} are not possible: expected a number for each of {heads} heads')
        if self.total_heads < heads:
            raise FlagError(f'total_heads={total_heads} is not possible: expected at least heads={heads}')
        chosen = alibi_slopes(heads) if slopes is None else slopes.tolist() if isinstance(slopes, Tensor) else list(slopes)
        if not all(isinstance(slope, Real) for slope in chosen):
            raise FlagError(f'slopes={slopes!r} are not possible: expected a number for each of {heads} heads')
        if len(chosen) != heads:
            raise FlagError(
                f'slopes={chosen!r} has {len(chosen)} entries; expected one for each of {heads} heads (in a layer stack, slopes are given '
                'in rel_pos_kwargs, for alibi_num_heads or heads)'
            )
        padded = chosen + [0.0] * (self.total_heads - heads)
        self.derive('slopes', padded)

    def at(self, distance: Tensor) -> Tensor:
        return -distance.abs()[..., None] * self.slopes
