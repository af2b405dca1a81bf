"""Contextual position encoding: positions count what matters, not tokens (Golovneva et al. 2024, 2405.18719)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.autograd.forward_ad import unpack_dual

from x_transformers.flags import Config, Rules, demands, flag
from x_transformers.inputs import expect, expect_kind, expect_pairs, expect_place, expect_settings, expect_sizes
from x_transformers.precision import run_single, single
from x_transformers.shortcuts import eager
from x_transformers.toolbox import create_causal_mask

GATES = 'its positions are sums over the score matrix, which fused kernels never form'


@dataclass(frozen=True, kw_only=True)
class CopeFlags(Config):
    """Contextual positions, which self-attention counts for itself."""

    use_cope: bool = flag(False, 'Positions count the keys that a query finds relevant.', paper='2405.18719', unfusable=GATES, scope='self')
    cope_max_pos: int = flag(
        16, 'Positions counted at most.', paper='2405.18719', example={'use_cope': True, 'cope_max_pos': 4}, scope='self', at_least=1
    )
    cope_soft_onehot_pos: bool = flag(
        False,
        'Weigh all positions by their nearness instead of interpolating between two.',
        paper='2405.18719',
        example={'use_cope': True, 'cope_soft_onehot_pos': True},
        scope='self',
    )
    cope_talking_heads: bool = flag(
        False,
        'Mix scores across heads before they are counted.',
        paper='2405.18719',
        example={'use_cope': True, 'cope_talking_heads': True},
        scope='self',
    )

    rules: ClassVar[Rules] = (
        demands(
            'use_cope',
            lambda c: c.causal,
            'it counts the keys between a query and a key before it. Use a Decoder, or causal=True outside of a layer stack.',
        ),
    )


class CoPE(nn.Module):
    """Scores to add for contextual positions.

    `forward(query (b, h, i, d), attn_logits (b, h, i, j) with hidden keys at the lowest number, allowed=None)` returns
    (b, h, i, j). The position of key j for query i is the sum of the gates, sigmoids of scores, from j on. `allowed`,
    broadcastable to the scores, is where keys may be seen; without it queries are the last of the keys.

    >>> q, sim = torch.randn(1, 4, 8, 16), torch.randn(1, 4, 8, 8)
    >>> CoPE(dim=16, heads=4, max_pos=5)(q, sim).shape
    torch.Size([1, 4, 8, 8])
    """

    positions: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        max_pos: int,
        soft_onehot: bool = False,
        talking_heads: bool = False,
        soft_onehot_temp: float = 5e-2,
    ):
        super().__init__()
        expect_sizes(dim=dim, heads=heads, max_pos=max_pos)
        expect_settings(soft_onehot_temp=soft_onehot_temp, switches={'soft_onehot': soft_onehot, 'talking_heads': talking_heads})
        self.max_pos = max_pos
        self.soft_onehot = soft_onehot
        self.soft_onehot_temp = soft_onehot_temp
        self.pos_emb = nn.Parameter(torch.zeros(max_pos, dim))
        self.talking_heads = nn.Conv2d(heads, heads, 1, bias=False) if talking_heads else None
        if soft_onehot:
            self.register_buffer('positions', torch.arange(max_pos))

    def forward(self, query: Tensor, attn_logits: Tensor, allowed: Tensor | None = None) -> Tensor:
        expect('query', query, (None, None, None, self.pos_emb.shape[1]), 'float', 'queries are (b, h, i, d)')
        expect('attn_logits', attn_logits, (*query.shape[:3], None), 'float', 'scores are (b, h, i, j)')
        expect_place({'attn_logits': attn_logits, 'allowed': allowed}, query, 'query')
        if allowed is not None:
            b, h, i, j = attn_logits.shape
            expect_pairs('allowed', allowed, (b, h, i, j), (1, i), (1, j))
            expect_kind('allowed', allowed, 'bool')
        sim = attn_logits
        if self.talking_heads is not None:
            # mixing makes the lowest numbers any numbers: what is hidden is hidden again
            sim = run_single(self.talking_heads, sim).to(sim.dtype)
            hidden = create_causal_mask(sim.shape[-2], sim.shape[-1], sim.device) if allowed is None else ~allowed
            sim = sim.masked_fill(hidden, -torch.finfo(sim.dtype).max)
        scores = query @ self.pos_emb.t().to(query.dtype)  # b h i p
        if not self.soft_onehot and torch.is_grad_enabled() and only_backward(sim, scores):
            return Counted.apply(sim, scores).to(attn_logits.dtype)
        position = contextual_positions(sim).clamp(max=self.max_pos - 1)
        return (self.nearby if self.soft_onehot else interpolated)(scores, position).to(attn_logits.dtype)

    def nearby(self, scores: Tensor, position: Tensor) -> Tensor:
        """Every position's score, weighed by how near it is."""
        distance = (position[..., None] - self.positions).abs()
        return ((-distance / self.soft_onehot_temp).softmax(dim=-1) * scores[..., None, :]).sum(dim=-1)


def contextual_positions(sim: Tensor) -> Tensor:
    """(b, h, i, j): for each key the sum of gates from it on, in no less than single precision."""
    gates = single(sim).sigmoid()
    return gates.flip(-1).cumsum(dim=-1).flip(-1)


def interpolated(scores: Tensor, position: Tensor) -> Tensor:
    """`scores` (..., p) of whole positions, read linearly at fractional ones (..., j)."""
    below = position.floor()
    share = position - below
    at = lambda where: scores.gather(-1, where.long())
    return share * at(position.ceil()) + (1 - share) * at(below)


def only_backward(*tensors: Tensor) -> bool:
    """Whether a backward pass is all that is wanted of what is made of these: graphs, torch.func and forward mode want more.

    And on a CPU, where running sums never fall: a device that adds in another order may let a position rise by a rounding.
    """
    if not eager() or peek_interpreter_stack() is not None:
        return False
    return all(t.is_cpu and unpack_dual(t).tangent is None for t in tensors)


class Counted(torch.autograd.Function):
    """`interpolated(scores, position)` at the contextual positions of `sim`, with a backward pass of few steps: all pairs take each.

    Positions fall from key to key, so the keys at one whole position stand together, and sums over them are differences of running sums.
    """

    @staticmethod
    def forward(ctx: Any, sim: Tensor, scores: Tensor) -> Tensor:
        position = contextual_positions(sim).clamp_(max=scores.shape[-1] - 1)
        exact, whole = scores.to(position.dtype), position.long()
        slope = F.pad(exact.diff(dim=-1), (0, 1)).gather(-1, whole)  # to the score of the next whole position; none follows the last
        ctx.save_for_backward(sim, scores, position, slope)
        return torch.addcmul(exact.gather(-1, whole), position.frac(), slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        sim, scores, position, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # of this backward pass too
            again = interpolated(scores, contextual_positions(sim).clamp(max=scores.shape[-1] - 1))
            learning = [t for t in (sim, scores) if t.requires_grad]
            found = iter(torch.autograd.grad(again, learning, grad, create_graph=True))
            return (next(found) if sim.requires_grad else None), (next(found) if scores.requires_grad else None)
        of_gates = (slope * grad).cumsum(dim=-1)  # each gate counts in the positions of all keys up to its own
        marks = torch.arange(scores.shape[-1], dtype=position.dtype, device=position.device)
        counts = torch.searchsorted(position.neg(), -marks.expand_as(scores), right=True)  # keys at each whole position or beyond
        at_level, of_slope = (between(t.cumsum(dim=-1), counts) for t in (grad, grad * position.frac()))
        at_level[..., 1:] += of_slope[..., :-1]
        at_level[..., :-1] -= of_slope[..., :-1]
        return torch.ops.aten.sigmoid_backward(of_gates, single(sim).sigmoid()).to(sim.dtype), at_level


def between(running: Tensor, counts: Tensor) -> Tensor:
    """Of running sums (..., j), what lies between one count (..., p) and the next."""
    until = running.gather(-1, (counts - 1).clamp(min=0)).masked_fill(counts == 0, 0.0)
    return until - F.pad(until[..., 1:], (0, 1))


def naive_cope(query: Tensor, sim: Tensor, pos_emb: Tensor, temperature: float | None = None) -> Tensor:
    """The paper's equations 3 to 6, pair by pair: the twin written to be read. Shapes as in `CoPE`.

    With a `temperature`, all positions count by their nearness, as with `soft_onehot`.
    """
    out = torch.zeros_like(sim)
    for b, h, i, j in torch.cartesian_prod(*(torch.arange(size) for size in sim.shape)).tolist():
        position = sim[b, h, i, j:].sigmoid().sum().clamp(max=len(pos_emb) - 1)
        if temperature is None:
            low, high = int(position.floor()), int(position.ceil())
            embedding = (position - low) * pos_emb[high] + (1 - (position - low)) * pos_emb[low]
        else:
            nearness = torch.stack([-(position - whole).abs() / temperature for whole in range(len(pos_emb))])
            embedding = nearness.softmax(dim=0) @ pos_emb
        out[b, h, i, j] = query[b, h, i] @ embedding
    return out
