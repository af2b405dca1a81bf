"""What joins the keys besides tokens: learned memory (1907.01470) and a zero slot to attend to nothing.

They are simply the first keys that a layer ever sees, visible to every query.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from x_transformers.flags import Config, flag


@dataclass(frozen=True, kw_only=True)
class KeyFlags(Config):
    """Keys that belong to no token."""

    num_mem_kv: int = flag(
        0, 'Learned keys and values that every query can attend to.', paper='1907.01470', example={'num_mem_kv': 2}, at_least=0
    )
    add_zero_kv: bool = flag(
        False,
        'A zero key and value, so that a head can attend to nothing.',
        paper='https://www.evanmiller.org/attention-is-off-by-one.html',
    )

    @property
    def lead(self) -> int:
        """Keys ahead of the first token."""
        return self.num_mem_kv + self.add_zero_kv


def lead_records(memory: tuple[Tensor, Tensor] | None, zero: bool, k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values that go ahead of `k` (b, g, n, d) and `v`: the zero slot, then the learned memory (g, m, d)."""
    keys, values = [], []
    if zero:
        keys.append(k.new_zeros((*k.shape[:2], 1, k.shape[-1])))
        values.append(v.new_zeros((*v.shape[:2], 1, v.shape[-1])))
    if memory is not None:
        mem_k, mem_v = memory
        keys.append(mem_k.expand(k.shape[0], -1, -1, -1).to(k.dtype))
        values.append(mem_v.expand(v.shape[0], -1, -1, -1).to(v.dtype))
    return keys, values
