"""What joins the keys and values besides those of a layer's tokens: learned memory (1907.01470), a zero slot to attend
to nothing, and the values of the first layer (2410.17897, 2412.15113).

Memory and zero slot are simply the first keys that a layer ever sees, visible to every query.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from x_transformers.flags import Config, flag


@dataclass(frozen=True, kw_only=True)
class KeyFlags(Config):
    """Keys that belong to no token, and values that come from elsewhere."""

    num_mem_kv: int = flag(
        0, 'Learned keys and values that every query can attend to.', paper='1907.01470', example={'num_mem_kv': 2}, at_least=0
    )
    add_zero_kv: bool = flag(
        False,
        'A zero key and value, so that a head can attend to nothing.',
        paper='https://www.evanmiller.org/attention-is-off-by-one.html',
    )

    learned_value_residual_mix: bool = flag(
        False,
        'Values given as value_residual join by a share that tokens decide for each head; otherwise half and half.',
        paper='2412.15113',
        scope='self',
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


@dataclass(frozen=True, kw_only=True)
class SharedValueFlags(Config):
    """What a layer stack hands from its first attention to the later ones."""

    add_value_residual: bool = flag(False, 'Later attentions mix in the values of the first.', paper='2410.17897')
    learned_value_residual_mix: bool = flag(
        True,
        'Tokens decide their share, for each head; False: half and half.',
        paper='2412.15113',
        example={'add_value_residual': True, 'learned_value_residual_mix': False},
    )


class ValueMix(nn.Sequential):
    """How much of its own value each token keeps, per head: (b, n, dim) -> (b, g, n, 1)."""

    def __init__(self, dim: int, heads: int, key_heads: int):
        super().__init__(nn.Linear(dim, heads), nn.Sigmoid())
        self.key_heads = key_heads

    def forward(self, x: Tensor) -> Tensor:
        share = super().forward(x).unflatten(-1, (-1, self.key_heads))  # query head r shares key head r mod g: their mean
        return share.mean(dim=-2).transpose(1, 2)[..., None]


def mix_values(v: Tensor, first: Tensor, share: Tensor | float) -> Tensor:
    """`share` of the own values (b, g, j, d), the rest of the first layer's, whose latest rows are of the same tokens."""
    missing = v.shape[-2] - first.shape[-2]  # memories may be of other lengths: what the first layer has not stays as it is
    first = first[..., -v.shape[-2] :, :] if missing <= 0 else torch.cat((v[..., :missing, :], first), dim=-2)
    return first + (v - first) * share
