"""The core of attention, from queries, keys and values to weighed values, and what can be seen of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.attention.backends import KERNELS, BackendFlags, Recipe, Reference, Scored, choose, kernel_choice
from x_transformers.attention.checks import check_attend
from x_transformers.attention.keys import lead_records
from x_transformers.attention.masks import KeyRule, ahead, visible
from x_transformers.attention.normalise import NormaliserFlags, make_normaliser
from x_transformers.attention.scores import HeadMix, ScoreFlags, selection_of
from x_transformers.attention.windowed import InBlocks
from x_transformers.call import Span
from x_transformers.errors import BackendError
from x_transformers.flags import Rules, configured, demands, flag
from x_transformers.norms import Unchanged
from x_transformers.positions.cope import GATES


@dataclass
class Intermediates:
    """What one attention call shows. Maps are (b, heads, queries, keys); keys that belong to no token come first."""

    qk_similarities: Tensor | None = None  # scaled scores, before any edit
    pre_softmax_attn: Tensor | None = None  # edited, biased and masked scores
    post_softmax_attn: Tensor | None = None  # weights, before dropout
    values: Tensor | None = None  # this call's own values (b, kv heads, tokens, width)
    cached_kv: tuple[Tensor, Tensor] | None = None  # keys, not rotated, and values of all tokens so far
    layer_type: str | None = None  # 'a' self-attention, 'c' cross-attention
    given: Any = field(default=None, repr=False, compare=False)  # `cached_kv` as it was given out; the caller may replace it

    def to_tuple(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return self.qk_similarities, self.pre_softmax_attn, self.post_softmax_attn


@dataclass(frozen=True, kw_only=True)
class AttendConfig(ScoreFlags, NormaliserFlags, BackendFlags):
    """The flags of `Attend` alone."""

    heads: int | None = flag(None, 'Number of query heads; only talking heads need it.', at_least=1)
    causal: bool = flag(False, 'Queries are the last of the keys and see no further.')
    qk_norm: bool = flag(False, 'Queries and keys have unit length, so softmax may stay in native precision.')
    add_zero_kv: bool = flag(False, 'A zero key and value in front.')
    cope: nn.Module | None = flag(None, 'Contextual positions, a `CoPE`.', paper='2405.18719', unfusable=GATES)
    sdp_kwargs: dict = flag({}, 'As attend_sdp_kwargs.')

    rules: ClassVar[Rules] = (
        *(
            demands(name, lambda c: c.heads is not None, 'mixing heads needs their number. Give heads=.')
            for name in ('pre_talking_heads', 'post_talking_heads', 'pre_scale_post_talking_heads')
        ),
        demands('sdp_kwargs', lambda c: set(c.sdp_kwargs) <= set(KERNELS), f'expected keys are {", ".join(KERNELS)}.'),
    )


NO_CHOICE = nullcontext()


class Nothing(nn.Module):
    """The absent factor."""

    def forward(self, x: Tensor) -> None:
        return None


@configured(AttendConfig)
class Attend(nn.Module):
    """Scores, normalised to weights, weigh the values.

    `forward(q (b, h, i, d), k (b, g, j, d), v (b, g, j, e), mask=None, attn_bias=None, prev_attn=None)` returns
    `(out (b, h, i, e), Intermediates)`. `mask` (b, j) or (b|1, h|1, i|1, j) is True where a key may be seen.

    >>> q = k = v = torch.randn(1, 4, 8, 16)
    >>> out, seen = Attend(causal=True)(q, k, v)
    >>> out.shape
    torch.Size([1, 4, 8, 16])
    """

    def __init__(self, config: Any = None, /, *, recipe: Recipe | None = None, **keywords: Any):
        super().__init__()
        cfg = self.config = AttendConfig.of(config, (), keywords)
        self.causal = cfg.causal
        self.scale = cfg.scale
        self.flash = cfg.flash
        self.l2_distance = cfg.l2_distance
        self.add_zero_kv = cfg.add_zero_kv
        self.softclamp_logits = cfg.softclamp_logits
        self.logit_softclamp_value = cfg.logit_softclamp_value
        self.sdp_kwargs = {**cfg.attend_sdp_kwargs, **cfg.sdp_kwargs}
        recipe = recipe or Recipe.of(cfg, '')
        self.prefix = recipe.prefix
        self.backend = choose(recipe, False if cfg.onnxable and cfg.flash is None else cfg.flash)
        self.kernels()  # an error where none is left
        self.normalise = make_normaliser(cfg)
        self.attn_dropout = nn.Dropout(cfg.dropout)
        talking = lambda wanted, absent: HeadMix(cfg.heads or 1) if wanted else absent
        self.pre_softmax_talking_heads = talking(cfg.pre_talking_heads, Nothing())
        self.post_softmax_talking_heads = talking(cfg.post_talking_heads, Unchanged())
        self.pre_scale_post_talking_heads = talking(cfg.pre_scale_post_talking_heads, Nothing())
        self.cope = cfg.cope

    def extra_repr(self) -> str:
        return f'backend={self.backend.name}'

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, attn_bias: Tensor | None = None, prev_attn: Tensor | None = None
    ) -> tuple[Tensor, Intermediates]:
        check_attend(self, q, k, v, mask, attn_bias, prev_attn)
        i, j, lead = q.shape[-2], k.shape[-2], int(self.add_zero_kv)
        if lead:
            keys, values = lead_records(None, True, k, v)
            k, v = torch.cat((*keys, k), dim=-2), torch.cat((*values, v), dim=-2)
        if mask is not None and mask.ndim == 2:
            mask = mask[:, None, None, :]
        rule = KeyRule(self.causal and i > 1, None)
        queries, span = Span(0, i), Span(i - j, j)
        seen = Intermediates()
        scored = Scored(
            visible(rule, queries, span, mask, lead, q.device),
            ahead(attn_bias, lead, 0.0),
            prev_attn,
            None if self.flash else seen,
            selection_of(queries, span, None, lead, q.device) if self.config.selective else None,
        )
        return self.run(q, k, v, scored), seen

    def run(self, q: Tensor, k: Tensor, v: Tensor, scored: Scored | InBlocks) -> Tensor:
        """Weighed values (b, h, i, e). What is asked to be seen, or handed on, only the reference forms."""
        if isinstance(scored, InBlocks):
            return scored.run(self, q, k, v)
        if self.flash and scored.previous is not None:
            raise BackendError(
                f'{self.prefix}flash=True cannot take prev_attn, the scores of another layer: fused kernels never form the matrix that '
                'they are added to. Leave one out.'
            )
        backend = self.backend if scored.seen is None and scored.previous is None else Reference()
        out = backend(self, q, k, v, scored)
        idle = scored.visible.idle()
        return out if idle is None else out.masked_fill(idle, 0.0)

    # ------------------------------------------------------------------ what backends ask for

    def scale_for(self, q: Tensor) -> float:
        return q.shape[-1] ** -0.5 if self.scale is None else self.scale

    def mix_scores(self, sim: Tensor) -> Tensor:
        mixed = self.pre_softmax_talking_heads(sim)
        return sim if mixed is None else sim + mixed

    def additive_mask(self, q: Tensor, scored: Scored) -> Tensor | None:
        """Masks and bias as one float mask; finite, so that a query that sees nothing stays finite."""
        return scored.visible.additive(scored.bias, q.dtype)

    def kernels(self) -> AbstractContextManager:
        if not self.sdp_kwargs:
            return NO_CHOICE
        limited = any(not on for on in self.sdp_kwargs.values()) or 'enable_cudnn' in self.sdp_kwargs
        return kernel_choice(self.sdp_kwargs) if limited else NO_CHOICE
