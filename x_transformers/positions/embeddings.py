"""Embeddings: of tokens, of absolute positions, and scaled sinusoids (1706.03762, 2202.10447)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.inputs import expect_places, expect_settings, expect_sizes, within
from x_transformers.positions.derived import Derived
from x_transformers.positions.rotary import double
from x_transformers.precision import at_length


class TokenEmbedding(nn.Module):
    """A learned vector per token; `l2norm_embed` gives it unit length (fixnorm, 1910.05895).

    >>> TokenEmbedding(32, 256)(torch.randint(0, 256, (2, 8))).shape
    torch.Size([2, 8, 32])
    """

    def __init__(self, dim: int, num_tokens: int, l2norm_embed: bool = False):
        super().__init__()
        expect_sizes(dim=dim, num_tokens=num_tokens)
        expect_settings(switches={'l2norm_embed': l2norm_embed})
        self.l2norm_embed = l2norm_embed
        self.emb = nn.Embedding(num_tokens, dim)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise InputError(f'x is a {type(x).__name__}, expected a tensor of token ids')
        vectors = looked_up(self.emb, 'x', x.long())
        return at_length(vectors) if self.l2norm_embed else vectors

    def init_(self) -> None:
        """Kaiming-normal vectors; nearly zero ones where their length is normed away."""
        if self.l2norm_embed:
            nn.init.normal_(self.emb.weight, std=1e-5)
        else:
            nn.init.kaiming_normal_(self.emb.weight)


def looked_up(table: nn.Embedding, name: str, ids: Tensor) -> Tensor:
    """The vectors of ids. Whether there are such is not asked before: models did, and elsewhere than on the CPU it would cost."""
    try:
        return table(ids)
    except IndexError as error:
        raise InputError(
            f'{name} runs from {int(ids.min())} to {int(ids.max())}, expected 0 to {table.num_embeddings - 1}; mend them or build a larger '
            'table'
        ) from error


def absolute_positions(n: int, pos: Tensor | None, seq_start_pos: Tensor | None, device: torch.device) -> Tensor:
    """(n,) or (b, n): the given positions, or 0..n-1, counted from each row's first real token."""
    pos = torch.arange(n, device=device) if pos is None else pos
    return pos if seq_start_pos is None else (pos - seq_start_pos[:, None]).clamp(min=0)


class AbsolutePositionalEmbedding(nn.Module):
    """A learned vector per position, scaled by dim^-1/2, or of unit length with `l2norm_embed`.

    `forward(x (b, n, ...), pos=None, seq_start_pos=None)` returns (n, dim), or (b, n, dim) for positions by row.
    """

    def __init__(self, dim: int, max_seq_len: int, l2norm_embed: bool = False):
        super().__init__()
        expect_sizes(dim=dim, max_seq_len=max_seq_len)
        expect_settings(switches={'l2norm_embed': l2norm_embed})
        self.scale = 1.0 if l2norm_embed else dim**-0.5
        self.max_seq_len = max_seq_len
        self.l2norm_embed = l2norm_embed
        self.emb = nn.Embedding(max_seq_len, dim)

    def forward(self, x: Tensor, pos: Tensor | None = None, seq_start_pos: Tensor | None = None) -> Tensor:
        expect_places(x, pos, seq_start_pos)
        n = x.shape[1]
        if pos is None and n > self.max_seq_len:
            raise InputError(
                f'a sequence of {n} tokens is longer than max_seq_len={self.max_seq_len}, for which absolute position embeddings '
                'were made; shorten it, raise max_seq_len, or use relative positions (rotary_pos_emb=True)'
            )
        vectors = looked_up(self.emb, 'pos', absolute_positions(n, pos, seq_start_pos, x.device)) * self.scale
        return at_length(vectors) if self.l2norm_embed else vectors


class ScaledSinusoidalEmbedding(Derived):
    """All sines, then all cosines, of the position at geometric frequencies, times one learned scale (2202.10447)."""

    inv_freq: Tensor

    def __init__(self, dim: int, theta: int = 10000):
        super().__init__()
        expect_sizes(dim=dim)
        if not within(theta, 1):
            raise FlagError(f'theta={quoted(theta)} is not possible: expected a number of at least 1')
        if dim % 2:
            raise FlagError(f'scaled_sinu_pos_emb needs an even width, got dim={dim}')
        self.scale = nn.Parameter(torch.full((1,), dim**-0.5))
        half = dim // 2
        self.derive('inv_freq', [theta ** -(k / half) for k in range(half)])

    def forward(self, x: Tensor, pos: Tensor | None = None, seq_start_pos: Tensor | None = None) -> Tensor:
        expect_places(x, pos, seq_start_pos)
        pos = absolute_positions(x.shape[1], pos, seq_start_pos, x.device)
        wide = double(pos.device)
        angles = pos.to(wide)[..., None] * self.inv_freq.to(wide)  # exact at any position
        return (torch.cat((angles.sin(), angles.cos()), dim=-1).to(self.inv_freq.dtype) * self.scale).to(self.scale.dtype)
