"""From tokens to queries, keys and values: how many heads, how wide, and how normed.

Multi-head (1706.03762), grouped (2305.13245) and multi-query (1911.02150) attention; query/key norm (2010.04245)
in groups, with learned scales (2302.05442), or by RMSNorm; multi-head latent attention (2405.04434).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor

from x_transformers.errors import InputError, quoted
from x_transformers.flags import Config, Rules, demands, excludes, flag
from x_transformers.inputs import expect_numbers
from x_transformers.norms import LEAST_EPS
from x_transformers.precision import at_length


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
    qkv_bias: bool = flag(
        False,
        'Biases of the projections to queries, keys and values (of keys felt only where positions act on them).',
        paper='2309.16609',
        example={'qkv_bias': True, '^rotary_pos_emb': True},
    )
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
    qk_rmsnorm: bool = flag(
        False, 'RMSNorm of the features of each query and key head, with a learned gain that heads share.', paper='2302.05442'
    )
    qk_rmsnorm_eps: float = flag(
        1e-6,
        'What it adds to the mean of squares.',
        paper='1910.07467',
        example={'qk_rmsnorm': True, 'qk_rmsnorm_eps': 0.1},
        at_least=LEAST_EPS,
        at_most=1e6,
    )
    rotate_num_heads: int | None = flag(
        None,
        'Only the last so many heads are turned by rotary positions.',
        paper='2405.04434',
        example={'rotate_num_heads': 2, '^rotary_pos_emb': True},
        at_least=1,
    )
    rotary_half_split: bool = flag(
        False,
        'The angles of rotary positions are of features half of the turned ones apart, not of neighbours.',
        paper='2204.06745',
        example={'rotary_half_split': True},
    )
    use_latent_q: bool = flag(
        False, 'Queries are made of a narrow latent.', paper='2405.04434', example={'use_latent_q': True, 'dim_latent_q': 8}
    )
    dim_latent_q: int | None = flag(
        None, 'Width of that latent.', paper='2405.04434', example={'use_latent_q': True, 'dim_latent_q': 8}, at_least=1
    )
    use_latent_kv: bool = flag(
        False,
        'Keys and values are made of one narrow latent: all that decoding remembers, unless keys are turned or edited after it.',
        paper='2405.04434',
        example={'use_latent_kv': True, 'dim_latent_kv': 8},
    )
    dim_latent_kv: int | None = flag(
        None, 'Width of that latent.', paper='2405.04434', example={'use_latent_kv': True, 'dim_latent_kv': 8}, at_least=1
    )
    latent_rope_subheads: int | None = flag(
        None,
        'So many key heads skip the latent; only they are turned by rotary positions.',
        paper='2405.04434',
        example={'use_latent_kv': True, 'dim_latent_kv': 8, 'latent_rope_subheads': 1, '^rotary_pos_emb': True},
        at_least=1,
    )
    qkv_receive_diff_residuals: bool = flag(
        False,
        'Queries, keys and values are made of inputs of their own, (3, b, n, dim).',
        paper='2409.19606',
        scope='self',
        example={'^num_residual_streams': 2, '^qkv_receive_diff_residuals': True},
    )

    rules: ClassVar[Rules] = (
        demands('use_latent_q', lambda c: c.dim_latent_q is not None, 'the width of the latent is missing. Give {prefix}dim_latent_q.'),
        demands('use_latent_kv', lambda c: c.dim_latent_kv is not None, 'the width of the latent is missing. Give {prefix}dim_latent_kv.'),
        excludes('use_latent_kv', 'qkv_receive_diff_residuals', 'keys and values share one latent. Keep one.'),
        demands('latent_rope_subheads', lambda c: c.use_latent_kv, 'they stand beside a latent. Set {prefix}use_latent_kv=True.'),
        excludes('latent_rope_subheads', 'rotate_num_heads', 'it says which heads are turned. Leave {prefix}rotate_num_heads out.'),
        demands(
            'latent_rope_subheads',
            lambda c: c.latent_rope_subheads < c.key_heads == c.heads,
            'it must be below the number of heads, with as many key heads as query heads. Lower it, or leave out '
            '{prefix}kv_heads and {prefix}one_kv_head.',
        ),
        excludes('one_kv_head', 'kv_heads', 'it is {prefix}kv_heads=1. Keep one.'),
        demands('kv_heads', lambda c: c.heads % c.kv_heads == 0, 'it must divide the number of heads.'),
        demands(
            'qk_norm_groups',
            lambda c: c.dim_head % c.qk_norm_groups == 0 and c.dim_head // c.qk_norm_groups > 2,
            'it must divide {prefix}dim_head and leave more than two features to a group.',
        ),
        excludes('qk_norm', 'qk_rmsnorm', 'both norm queries and keys. Keep one.'),
        demands('qk_rmsnorm_eps', lambda c: c.qk_rmsnorm, 'it is of a norm that is off. Set {prefix}qk_rmsnorm=True.'),
        demands('rotate_num_heads', lambda c: c.rotate_num_heads <= c.heads, 'there are fewer heads.'),
        demands(
            'rotate_num_heads',
            lambda c: c.rotate_num_heads == c.heads or c.key_heads == c.heads,
            'turning some heads only needs as many key heads as query heads. Leave out {prefix}kv_heads and {prefix}one_kv_head.',
        ),
    )

    @property
    def key_heads(self) -> int:
        """Key/value heads."""
        return 1 if self.one_kv_head else self.kv_heads or self.heads  # type: ignore[attr-defined]

    @property
    def turned_heads(self) -> int | None:
        """How many of the last heads are turned by rotary positions; None: all."""
        return self.latent_rope_subheads or self.rotate_num_heads

    @property
    def value_width(self) -> int:
        """Features of a value head."""
        return self.value_dim_head or self.dim_head


def split_heads(t: Tensor, heads: int) -> Tensor:
    """(b, n, h d) -> (b, h, n, d), heads slowest in the features."""
    b, n, width = t.shape
    return t.view(b, n, heads, width // heads).transpose(1, 2)  # plain views: this runs for every token, head and layer


def merge_heads(t: Tensor) -> Tensor:
    """(b, h, n, d) -> (b, n, h d)."""
    return t.transpose(1, 2).flatten(2)


def l2norm(t: Tensor, groups: int = 1) -> Tensor:
    """Unit length of each of `groups` equal parts of the last axis."""
    expect_numbers('t', t)
    if not isinstance(groups, int) or groups < 1 or not t.ndim or t.shape[-1] % groups:
        raise InputError(f'groups={quoted(groups)} is not possible for t of shape {tuple(t.shape)}; expected a divisor of its width')
    if groups == 1:
        return at_length(t)
    return at_length(t.unflatten(-1, (groups, -1))).flatten(-2)


def absorb_queries(q: Tensor, to_k: Tensor, width: int, subheads: int) -> Tensor:
    """Queries for latent keys: (b, h, i, d) -> (b, h, i, width + subheads d).

    A product with the key `to_k` latent is one of `to_k`^T q with the latent itself (2405.04434, §2.1.2), so all heads
    share one key: the latent (`width` features), then the key sub-heads, of which each of the last heads meets its own.
    """
    d = q.shape[-1]
    plain, turned = q[:, : q.shape[1] - subheads], q[:, q.shape[1] - subheads :]
    plain = einsum(group_queries(plain, to_k.shape[0] // d), to_k.unflatten(0, (-1, d)), 'b r g i d, g d l -> b r g i l').flatten(1, 2)
    if not subheads:
        return plain
    own = torch.eye(subheads, dtype=q.dtype, device=q.device)
    turned = einsum(turned, own, 'b s i d, s t -> b s i t d').flatten(-2)
    return torch.cat((F.pad(plain, (0, subheads * d)), F.pad(turned, (width, 0))), dim=1)


def expand_values(out: Tensor, to_v: Tensor, groups: int) -> Tensor:
    """Weighed latents (b, h, i, l) -> weighed values (b, h, i, e)."""
    return einsum(group_queries(out, groups), to_v.unflatten(0, (groups, -1)), 'b r g i l, g e l -> b r g i e').flatten(1, 2)


def group_queries(q: Tensor, groups: int) -> Tensor:
    """(b, h, i, d) -> (b, h / g, g, i, d). Query head r shares key head r mod g: 2.0.1 checkpoints depend on it."""
    return rearrange(q, 'b (r g) i d -> b r g i d', g=groups)
