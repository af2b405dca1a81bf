"""From scores to weights: softmax, or what a flag puts in its place, and edits of the weights.

Sigmoid (2409.04431), hard (2410.01104) and top-k attention (1912.11637); talking heads after it (2003.02436).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.attention.scores import MATRIX
from x_transformers.flags import Config, Rules, at_most_one, flag

SOFTMAX = 'fused kernels know only softmax'


@dataclass(frozen=True, kw_only=True)
class NormaliserFlags(Config):
    """How scores become weights."""

    sparse_topk: int | None = flag(
        None, 'Keep only the largest k scores of a query.', paper='1912.11637', example={'sparse_topk': 2}, unfusable=SOFTMAX, at_least=1
    )
    sparse_topk_straight_through: bool = flag(
        False,
        'Gradients as if all scores had been kept.',
        paper='1912.11637',
        example={'sparse_topk': 2, 'sparse_topk_straight_through': True},
    )
    hard: bool = flag(False, 'All weight on the largest score, with the gradient of softmax.', paper='2410.01104', unfusable=SOFTMAX)
    sigmoid: bool = flag(False, 'Sigmoid instead of softmax.', paper='2409.04431', unfusable=SOFTMAX)
    custom_attn_fn: Callable | None = flag(
        None, 'A function of the masked scores in place of softmax.', example={'custom_attn_fn': torch.sigmoid}, unfusable=SOFTMAX
    )
    dropout: float = flag(0.0, 'Dropout of attention weights.', paper='1706.03762', example={'dropout': 0.5}, at_least=0, at_most=1)
    post_talking_heads: bool = flag(False, 'Mix weights across heads.', paper='2003.02436', unfusable=MATRIX)
    pre_scale_post_talking_heads: bool = flag(False, 'Scale weights by scores mixed across heads.', paper='2003.02436', unfusable=MATRIX)

    rules: ClassVar[Rules] = (at_most_one('sigmoid', 'hard', 'l2_distance', 'sparse_topk'),)


Normaliser = Callable[[Tensor], Tensor]


def one_hot_straight_through(scores: Tensor, normalise: Normaliser = partial(F.softmax, dim=-1)) -> Tensor:
    """All weight on the largest score; the gradient is that of `normalise`."""
    soft = normalise(scores)
    hard = torch.zeros_like(soft).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


def sparse_topk_attn(scores: Tensor, sparse_topk: int, normalise: Normaliser, straight_through: bool = False) -> Tensor:
    """`normalise` over the largest `sparse_topk` scores of each query (ties all stay), zero elsewhere."""
    lowest = -torch.finfo(scores.dtype).max
    threshold = scores.topk(min(sparse_topk, scores.shape[-1]), dim=-1).values[..., -1:]
    kept = normalise(scores.masked_fill(~((scores >= threshold) & (scores > lowest)), lowest))
    if not straight_through:
        return kept
    soft = normalise(scores)
    return kept.detach() + soft - soft.detach()


def make_normaliser(cfg: Any) -> Normaliser:
    """The function from masked scores to weights that the flags choose."""
    if cfg.custom_attn_fn is not None:
        return cfg.custom_attn_fn
    exact = None if cfg.qk_norm else torch.float32  # cosine similarities are bounded: native precision is enough
    normalise = partial(softmax_at_least, least=exact)
    if cfg.sigmoid:
        return torch.sigmoid
    if cfg.hard:
        return partial(one_hot_straight_through, normalise=normalise)
    if cfg.sparse_topk is not None:
        through = cfg.sparse_topk_straight_through
        return partial(sparse_topk_attn, sparse_topk=cfg.sparse_topk, normalise=normalise, straight_through=through)
    return normalise


def softmax_at_least(scores: Tensor, least: torch.dtype | None) -> Tensor:
    """Softmax in no less than the precision `least`."""
    lower = least is not None and torch.finfo(scores.dtype).bits < torch.finfo(least).bits
    return scores.softmax(dim=-1, dtype=least if lower else None)
