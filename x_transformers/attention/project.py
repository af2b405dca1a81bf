"""From tokens to queries, keys and values: how many heads, how wide, and how normed.

Multi-head (1706.03762), grouped (2305.13245) and multi-query (1911.02150) attention; query/key norm (2010.04245)
in groups, with learned scales (2302.05442).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from x_transformers.flags import Config, Rules, demands, excludes, flag


@dataclass(frozen=True, kw_only=True)
class ProjectFlags(Config):
    """Heads, widths and norms of queries, keys and values."""

    dim_head: int = flag(64, 'Features of a head.', paper='2002.07028', example={'dim_head': 4}, at_least=1)
    dim_context: int | None = flag(
        None,
        'Width of the context that cross-attention looks at; `dim` by default.',
        scope='cross',
        example={'dim_context': 24, '^cross_attend': True},
        inputs=('context',),
        at_least=1,
    )
    kv_heads: int | None = flag(
        None, 'Key/value heads, shared by groups of query heads.', paper='2305.13245', example={'kv_heads': 2}, at_least=1
    )
    one_kv_head: bool = flag(False, 'All query heads share one key/value head.', paper='1911.02150')
    value_dim_head: int | None = flag(None, 'Features of a value head; `dim_head` by default.', example={'value_dim_head': 6}, at_least=1)
    dim_out: int | None = flag(None, 'Width of the output; `dim` by default. Other widths only outside of a layer stack.', at_least=1)
    qk_norm: bool = flag(False, 'Give queries and keys unit length: cosine similarity.', paper='2010.04245')
    qk_norm_groups: int = flag(
        1,
        'Norm groups of features on their own; bounds the similarity by their number.',
        paper='2010.04245',
        example={'qk_norm': True, 'qk_norm_groups': 2},
        at_least=1,
    )
    qk_norm_scale: float = flag(10, 'Scale of the cosine similarity.', paper='2010.04245', example={'qk_norm': True, 'qk_norm_scale': 4})
    qk_norm_dim_scale: bool = flag(
        False,
        'Learned scale per head and feature after the norm.',
        paper='2302.05442',
        example={'qk_norm': True, 'qk_norm_dim_scale': True},
    )
    rotate_num_heads: int | None = flag(
        None,
        'Only the last so many heads are turned by rotary positions.',
        paper='2405.04434',
        example={'rotate_num_heads': 2, '^rotary_pos_emb': True},
        at_least=1,
    )

    rules: ClassVar[Rules] = (
        excludes('one_kv_head', 'kv_heads', 'it is kv_heads=1. Keep one.'),
        demands('kv_heads', lambda c: c.heads % c.kv_heads == 0, 'it must divide the number of heads.'),
        demands(
            'qk_norm_groups',
            lambda c: c.dim_head % c.qk_norm_groups == 0 and c.dim_head // c.qk_norm_groups > 2,
            'it must divide dim_head and leave more than two features to a group.',
        ),
        demands('rotate_num_heads', lambda c: c.rotate_num_heads <= c.heads, 'there are fewer heads.'),
        demands(
            'rotate_num_heads',
            lambda c: c.rotate_num_heads == c.heads or c.key_heads == c.heads,
            'turning some heads only needs as many key heads as query heads. Leave out kv_heads and one_kv_head.',
        ),
    )

    @property
    def key_heads(self) -> int:
        """Key/value heads."""
        return 1 if self.one_kv_head else self.kv_heads or self.heads  # type: ignore[attr-defined]

    @property
    def value_width(self) -> int:
        """Features of a value head."""
        return self.value_dim_head or self.dim_head


def split_heads(t: Tensor, heads: int) -> Tensor:
    """(b, n, h d) -> (b, h, n, d), heads slowest in the features."""
    return rearrange(t, 'b n (h d) -> b h n d', h=heads)


def merge_heads(t: Tensor) -> Tensor:
    """(b, h, n, d) -> (b, n, h d)."""
    return rearrange(t, 'b h n d -> b n (h d)')


def l2norm(t: Tensor, groups: int = 1) -> Tensor:
    """Unit length of each of `groups` equal parts of the last axis."""
    if groups == 1:
        return F.normalize(t, dim=-1)
    return F.normalize(t.unflatten(-1, (groups, -1)), dim=-1).flatten(-2)
