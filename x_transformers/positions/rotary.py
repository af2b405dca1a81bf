"""Rotary position embedding (Su et al. 2021, 2104.09864) and its length-extrapolating form xPos (2212.10554).

Positions may be interpolated (2306.15595), the base rescaled (NTK-aware), or frequencies scaled (scaling.py). A
`Rotation` holds the sines and cosines of one call: they are computed once and used by all layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.call import Span
from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.inputs import expect_numbers, expect_place, expect_settings, expect_sizes, whole, within
from x_transformers.positions.scaling import Scaling, attention_factor, growth, problem_of, scaled_frequencies
from x_transformers.precision import Exact

XPOS_GAMMA = 0.4  # the paper's smoothing of the per-feature decay


class RotaryEmbedding(Exact):
    """Angles of rotary position embedding for the first `dim` features of a head.

    `forward(t (n,) or (b, n))` returns `(freqs, scale)`: angles (1|b, n, dim), one for each feature, and the
    xPos scale of the same shape, or 1. `rotation(queries, keys, device)` is what layer stacks use.
    Pairs are neighbours; with `half_split`, feature k and feature k + dim / 2 are one.

    >>> freqs, scale = RotaryEmbedding(8).forward_from_seq_len(5)
    >>> freqs.shape
    torch.Size([1, 5, 8])
    """

    inv_freq: Tensor
    scale: Tensor | None

    def __init__(
        self,
        dim: int,
        use_xpos: bool = False,
        scale_base: float = 512,
        interpolation_factor: float = 1.0,
        base: float = 10000,
        base_rescale_factor: float = 1.0,
        half_split: bool = False,
        scaling: Scaling | None = None,
    ):
        super().__init__()
        expect_sizes(dim=dim)
        expect_settings(scale_base=scale_base, switches={'use_xpos': use_xpos, 'half_split': half_split})
        for name, number in (('base', base), ('base_rescale_factor', base_rescale_factor)):
            if not within(number, 1e-18, 1e18):
                raise FlagError(f'{name}={quoted(number)} is not possible: expected a number above 0')
        if not within(interpolation_factor, 1):
            raise FlagError(
                f'rotary_interpolation_factor={quoted(interpolation_factor)} is too small: expected at least 1 (it divides positions)'
            )
        if base_rescale_factor != 1.0:
            base = base * base_rescale_factor ** (dim / max(dim - 2, 1))
        self.interpolation_factor = interpolation_factor
        self.scale_base = scale_base
        self.half_split = half_split
        inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2).float() / dim))
        if scaling is not None:
            problem = problem_of(scaling, len(inv_freq), base) if isinstance(scaling, Mapping) else 'expected a dict.'
            if problem is not None:
                raise FlagError(f'scaling={quoted(scaling)} is not possible: {problem}')
            inv_freq = scaled_frequencies(inv_freq, base, scaling)
        self.scaling, self.size = scaling, attention_factor(scaling)
        self.register_buffer('inv_freq', inv_freq)
        decay = (torch.arange(0, dim, 2).float() + XPOS_GAMMA * dim) / ((1 + XPOS_GAMMA) * dim)
        self.register_buffer('scale', decay if use_xpos else None)

    def forward_from_seq_len(self, seq_len: int) -> tuple[Tensor, Tensor | float]:
        if whole(seq_len) is None or seq_len < 0:
            raise InputError(f'seq_len={quoted(seq_len)} is not possible; expected a number of tokens')
        return self.forward(torch.arange(seq_len, device=self.inv_freq.device))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor | float]:
        if not isinstance(t, Tensor) or t.ndim not in (1, 2) or t.is_complex() or t.dtype == torch.bool or not t.numel():
            raise InputError(f't={quoted(t)} is not possible; expected a tensor of positions (n,) or (b, n)')
        t = t[None] if t.ndim == 1 else t
        freqs = self.by_feature(self.angles(t, self.growth(Span(0, t.shape[1], t), t.device)[1]).to(self.inv_freq.dtype))
        if self.scale is None:
            return freqs, self.size
        return freqs, self.by_feature(self.decay(t - (t.max() + 1) // 2))

    def by_feature(self, t: Tensor) -> Tensor:
        """A number for each pair, (..., dim / 2), to one for each of its features, (..., dim)."""
        return torch.cat((t, t), dim=-1) if self.half_split else t.repeat_interleave(2, dim=-1)

    def angles(self, pos: Tensor, growth: Tensor | None = None) -> Tensor:
        """(b, n) -> (b, n, dim / 2), in double precision where the device has it: exact at any position."""
        wide = double(pos.device)
        inv_freq = self.inv_freq.to(wide)
        freqs = pos.to(wide)[..., None] * (inv_freq if growth is None else inv_freq * growth)
        return freqs if self.interpolation_factor == 1 else freqs / self.interpolation_factor

    @property
    def follows_length(self) -> bool:
        """Whether frequencies depend on how long the sequence is."""
        return self.scaling is not None and self.scaling['kind'] == 'dynamic'

    @property
    def why_not_decode(self) -> str | None:
        """Why a sequence cannot be turned in pieces, or None."""
        if not self.follows_length:
            return None
        return (
            f'rotary_scaling={quoted(self.scaling)} turns every token by frequencies that follow from the length of the sequence, so '
            'outputs change when tokens are added and cannot be made in pieces. Run the whole sequence (cache_kv=False when generating); '
            'for sequences of up to original_length tokens, leave rotary_scaling out.'
        )

    def growth(self, keys: Span, device: torch.device, queries: Span | None = None) -> tuple[Tensor | None, Tensor | None]:
        """What frequencies of queries and of keys are multiplied by where they follow the length: that of each row of keys, or of each
        one's document there, up to its last visible token."""
        if not self.follows_length:
            return None, None
        assert self.scaling is not None
        pos = keys.positions(device).to(double(device))
        pos = pos if keys.visible is None else pos.masked_fill(~keys.visible, 0)
        grown = lambda last: growth(self.scaling, last + 1, len(self.inv_freq))
        if keys.document is None or queries is None or queries.document is None:
            of_all = grown(pos.amax(dim=-1, keepdim=True))
            return of_all, of_all
        slots = queries.length + 1  # documents are named by a query's place; -1, of no query, has the slot behind
        named, shape = keys.document % slots, keys.document.shape
        latest = pos.new_zeros(shape[0], slots).scatter_reduce(1, named, pos.expand(shape), 'amax')
        return grown(latest.gather(1, queries.document)), grown(latest.gather(1, named))

    def decay(self, ahead: Tensor) -> Tensor:
        """xPos's factor for queries so far ahead of the middle, or for keys so far behind it: (b, n) -> (b, n, dim / 2)."""
        assert self.scale is not None
        wide = double(ahead.device)
        return (self.scale.to(wide) ** (ahead.to(wide)[..., None] / self.scale_base)).to(self.scale.dtype)

    def reach(self, dtype: torch.dtype) -> int:
        """How many positions the queries of one call may span, so that what xPos scales stays within `dtype`.

        The product of the first query with the last key, which it does not see, is the largest: a span of decay undone. It may use
        three quarters of the exponents of `dtype`.
        """
        steepest = -math.log(XPOS_GAMMA / (1 + XPOS_GAMMA)) / self.scale_base  # per position, of the first feature
        return int(0.75 * math.log(torch.finfo(dtype).max) / steepest)

    def rotation(self, queries: Span, keys: Span, device: torch.device, new: int | None = None, width: int = 0) -> Rotation:
        """Turns of `queries` and of the latest `new` of `keys` (all, when not given), for heads of `width` features."""
        # of one token, more products of neighbours cost less than cutting and joining; halves are those of the features that turn
        width = width if queries.length == 1 and not self.half_split else 0
        of_queries, of_keys = self.growth(keys, device, queries)
        turn = lambda pos, grown: Turn.of(self.by_feature(self.angles(pos, grown)), self.inv_freq.dtype, self.half_split, self.size, width)
        q_pos = queries.positions(device)
        q = turn(q_pos, of_queries)
        k = q if new == queries.length else turn(keys.last(keys.length if new is None else new).positions(device), of_keys)
        if self.scale is None:
            return Rotation(q, k)
        # any common middle gives the same scores, only differences remain; from that of the queries no factor leaves the range of
        # numbers, however many keys came before: those of old keys go to zero, as what is left of them does
        middle = (q_pos.amin(dim=-1, keepdim=True) + q_pos.amax(dim=-1, keepdim=True)) // 2
        ahead, behind = self.decay(q_pos - middle), self.decay(middle - keys.positions(device))
        return Rotation(q, k, self.by_feature(ahead), self.by_feature(behind))


class RotaryEmbeddings(nn.ModuleList):
    """Those of a stack whose layers have frequencies of their own; each attention knows its number."""

    scale = None  # no xPos

    @property
    def why_not_decode(self) -> str | None:
        parts: Any = self
        return next((why for each in parts if (why := each.why_not_decode)), None)

    def rotation(self, *spans: Any) -> tuple[Rotation, ...]:
        parts: Any = self
        return tuple(each.rotation(*spans) for each in parts)


def double(device: torch.device) -> torch.dtype:
    """Double precision, where the device has it."""
    return torch.float32 if device.type == 'mps' else torch.float64


@dataclass(frozen=True)
class Turn:
    """Sines and cosines for a run of tokens, by feature: (b, 1, n, size); the sines of first features are negative."""

    cos: Tensor
    sin: Tensor
    half_split: bool = False  # whether pairs are halves apart

    @staticmethod
    def of(freqs: Tensor, dtype: torch.dtype, half_split: bool = False, size: float = 1.0, width: int = 0) -> Turn:
        """From angles (b, n, r), in float64 where they are large; turned features grow by `size`, the others up to `width` pass."""
        cos, sin = freqs.cos(), freqs.sin()
        cos, sin = (t.to(dtype) if size == 1 else (t * size).to(dtype) for t in (cos, sin))
        if half_split:
            first, second = sin.chunk(2, dim=-1)
            sin = torch.cat((-first, second), dim=-1)
        else:
            sin = torch.stack((-sin[..., ::2], sin[..., 1::2]), dim=-1).flatten(-2)
        if width > freqs.shape[-1]:
            cos, sin = F.pad(cos, (0, width - cos.shape[-1]), value=1.0), F.pad(sin, (0, width - sin.shape[-1]))
        return Turn(cos[:, None], sin[:, None], half_split)

    def __call__(self, t: Tensor) -> Tensor:
        """Turn the leading features of `t` (b, h, n, d) in their pairs; the others pass."""
        size = self.cos.shape[-1]
        head = t if size == t.shape[-1] else t[..., :size]
        partners = swap_halves(head) if self.half_split else swap_pairs(head)
        turned = (head * self.cos + partners * self.sin).to(t.dtype)
        return turned if head is t else torch.cat((turned, t[..., size:]), dim=-1)

    def last(self, count: int) -> Turn:
        return self if count == self.cos.shape[-2] else Turn(self.cos[..., -count:, :], self.sin[..., -count:, :], self.half_split)


@dataclass(frozen=True)
class Rotation:
    """What one call needs to place queries and keys."""

    queries: Turn
    keys: Turn  # of the keys that are new in this call
    query_scale: Tensor | None = None  # xPos: (b, n, dim)
    key_scale: Tensor | None = None  # of all keys, which are stored unscaled

    @staticmethod
    def given(freqs: Tensor, scale: Tensor | float, count: int, half_split: bool) -> Rotation:
        """From a pair that `RotaryEmbedding.forward` returned; the queries are the last `count`. A number scales both sides."""
        size = 1.0 if isinstance(scale, Tensor) else scale
        keys = Turn.of(freqs if freqs.ndim == 3 else freqs[None], freqs.dtype, half_split, size)
        if not isinstance(scale, Tensor):
            return Rotation(keys.last(count), keys)
        scale = scale if scale.ndim == 3 else scale[None]
        return Rotation(keys.last(count), keys, scale[:, -count:], 1 / scale)


def stretch(t: Tensor, factor: Tensor | None) -> Tensor:
    """Multiply leading features of `t` (b, h, n, d) by `factor` (b, n, size)."""
    if factor is None:
        return t
    size = factor.shape[-1]
    scaled = (t[..., :size] * factor[:, None]).to(t.dtype)
    return scaled if size == t.shape[-1] else torch.cat((scaled, t[..., size:]), dim=-1)


def swap_pairs(t: Tensor) -> Tensor:
    """(x0, x1, x2, x3) -> (x1, x0, x3, x2)."""
    return t.reshape(*t.shape[:-1], -1, 2).flip(-1).view(t.shape)


def swap_halves(t: Tensor) -> Tensor:
    """(x0, x1, x2, x3) -> (x2, x3, x0, x1)."""
    first, second = t.chunk(2, dim=-1)
    return torch.cat((second, first), dim=-1)


def rotate_half(x: Tensor) -> Tensor:
    """(x0, x1, x2, x3) -> (-x1, x0, -x3, x2): a quarter turn of adjacent pairs."""
    expect_numbers('x', x)
    if not x.ndim or x.shape[-1] % 2 or not x.shape[-1]:
        raise InputError(f'x has shape {tuple(x.shape)}, expected (..., an even number): features turn in pairs')
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((-b, a), dim=-1).flatten(-2)


def apply_rotary_pos_emb(t: Tensor, freqs: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Rotate the leading features of `t` (..., n, d) by the last n rows of `freqs` ((b,) m, r)."""
    check_turn(t, freqs, scale)
    n, size = t.shape[-2], freqs.shape[-1]
    freqs = freqs[..., -n:, :]
    scale = scale[..., -n:, :] if isinstance(scale, Tensor) and scale.ndim else scale
    if t.ndim == 4 and freqs.ndim == 3:
        freqs = freqs[:, None]
        scale = scale[:, None] if isinstance(scale, Tensor) and scale.ndim == 3 else scale
    head, rest = t[..., :size], t[..., size:]
    turned = (head * freqs.cos() * scale) + (rotate_half(head) * freqs.sin() * scale)
    return torch.cat((turned, rest), dim=-1).to(t.dtype)


def check_turn(t: Any, freqs: Any, scale: Any) -> None:
    """Whether there are angles for the tokens."""
    expect_numbers('t', t, 'it holds queries or keys (..., n, d)')
    expect_numbers('freqs', freqs, 'it holds angles (n, r) or (b, n, r), as RotaryEmbedding returns them')
    expect_place({'freqs': freqs, 'scale': scale}, t, 't')
    rows = freqs.shape[0] if freqs.ndim == 3 else 1
    fits = t.ndim > 1 and freqs.ndim in (2, 3) and t.shape[-2] <= freqs.shape[-2] and 0 < freqs.shape[-1] <= t.shape[-1]
    if not fits or freqs.shape[-1] % 2 or t.ndim > 2 and rows not in (1, t.shape[0]):
        raise InputError(
            f'freqs has shape {tuple(freqs.shape)} and t {tuple(t.shape)}; expected angles (n, r) or (b, n, r) for n or more tokens '
            '(..., n, d), with an even r of at most d'
        )
    number = isinstance(scale, (int, float)) and abs(scale) < 1e18
    if not number and (not isinstance(scale, Tensor) or scale.ndim and scale.shape not in (freqs.shape, freqs.shape[-2:])):
        raise InputError(f'scale={quoted(scale)} is not possible; expected a number, or the xPos scale that came with freqs')
