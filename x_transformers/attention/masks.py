"""Which keys a query may see. Rules are functions of the order of tokens, never of the shape of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.call import Span, known
from x_transformers.flags import Config, Rules, excludes, flag


@dataclass(frozen=True, kw_only=True)
class MaskFlags(Config):
    """What attention may look at."""

    causal: bool = flag(False, 'Tokens see only themselves and what came before.', example={'causal': True})
    max_attend_past: int | tuple[int | None, ...] | None = flag(
        None,
        'Tokens see no further back than this, at linear cost if causal; a tuple gives each self-attention its own.',
        paper='2004.05150',
        scope='self',
        example={'max_attend_past': 3},
        per_layer=True,
        at_least=0,
    )

    window: int | tuple[int | None, ...] | None = flag(
        None,
        'Tokens see no further than this on either side, at linear cost; a tuple gives each self-attention its own.',
        paper='2004.05150',
        scope='self',
        example={'window': 3},
        per_layer=True,
        at_least=0,
    )

    rules: ClassVar[Rules] = (excludes('window', 'max_attend_past', 'both say how far back tokens see. Keep one.'),)


@dataclass(frozen=True)
class KeyRule:
    """Visibility by order and document alone: equal rules share their masks."""

    causal: bool
    window: int | None  # how many tokens before its own a query sees
    ahead: int | None = None  # and how many that come later, in a window that is not causal

    @staticmethod
    def of(cfg: Any) -> KeyRule:
        """The rule of an attention."""
        past = cfg.max_attend_past if cfg.window is None else cfg.window
        return KeyRule(cfg.causal, past, None if cfg.causal else cfg.window)

    def past(self, queries: Span, keys: Span, lead: int, device: torch.device) -> Callable[[], Tensor] | None:
        """What makes the (i, lead + j) bool of the causal rule; None where it hides nothing."""
        if not self.causal or keys.start + keys.length - 1 <= queries.start:
            return None
        return lambda: F.pad(keys.order(device) <= queries.order(device)[:, None], (lead, 0), value=True)

    def near(self, queries: Span, keys: Span, begins: Tensor | None, device: torch.device) -> Tensor | None:
        """(b|1, 1, i, j) bool of the window; None where it hides nothing. Padding between memory and a row's tokens is no distance."""
        if self.window is None:
            return None
        sees_past = known(queries.start + queries.length - 1 - keys.start <= self.window)
        if sees_past and (self.ahead is None or known(keys.start + keys.length - 1 - queries.start <= self.ahead)):
            return None
        k = keys.order(device)
        distance = (queries.order(device)[:, None] - k)[None, None]
        if begins is not None and keys.start < 0:
            distance = distance - torch.where(k < 0, begins[:, None, None, None], 0)
        near = distance <= self.window
        return near if self.ahead is None else near & (distance >= -self.ahead)

    @staticmethod
    def together(queries: Span, keys: Span) -> Tensor | None:
        """(b, 1, i, j) bool: keys of the document of each query; None where all are of one."""
        if queries.document is None or keys.document is None:
            return None
        return queries.document[:, None, :, None] == keys.document[:, None, None, :]


@dataclass(frozen=True)
class Visible:
    """Which keys each query of one call sees: two masks, since only the first can switch a query off."""

    explicit: Tensor | None = None  # (b|1, h|1, i|1, j) bool: padding, attention mask, window, documents
    causal: Callable[[], Tensor] | None = None  # makes the causal rule, which kernels that know it by name never ask for
    aligned: bool = False  # nothing but the causal rule, one key per query: kernels know this mask by name
    made: dict[Any, tuple[Tensor | None, Tensor]] = field(default_factory=dict, compare=False)  # once made: masks, by bias and dtype

    @property
    def past(self) -> Tensor | None:
        """(i, j) bool: the causal rule."""
        if self.causal is None:
            return None
        if 'past' not in self.made:
            self.made['past'] = (None, self.causal())
        return self.made['past'][1]

    def mask(self) -> Tensor | None:
        return both(self.explicit, self.past)

    def idle(self) -> Tensor | None:
        """(b|1, h|1, i|1, 1) bool: queries from which padding, mask, window and document hide every key; they attend to nothing."""
        if self.explicit is None:
            return None
        if 'idle' not in self.made:
            self.made['idle'] = (None, ~self.explicit.any(dim=-1, keepdim=True))
        return self.made['idle'][1]

    def blind(self) -> Tensor | None:
        """(b|1, h|1, i, 1) bool: queries from which padding and the causal rule together hide every key."""
        past = None if self.explicit is None else self.past
        if self.explicit is None or past is None:
            return None
        if 'blind' not in self.made:
            self.made['blind'] = (None, ~(self.explicit & past).any(dim=-1, keepdim=True))
        return self.made['blind'][1]

    def additive(self, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Masks and `bias` as one float mask, made once for all layers that share them. Hidden keys get the lowest finite number."""
        allowed = self.mask()
        if allowed is None and bias is None:
            return None
        key = (id(bias), dtype)
        if key not in self.made:
            if bias is None:
                assert allowed is not None
                mask = torch.zeros((), dtype=dtype, device=allowed.device).masked_fill(~allowed, lowest(dtype))
            else:
                mask = clamped(bias, dtype)
                mask = mask if allowed is None else mask.masked_fill(~allowed, lowest(dtype))
            self.made[key] = (bias, mask[(None,) * (4 - mask.ndim)])  # the bias is kept so that its id stays its own
        return self.made[key][1]


def clamped(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """`bias` in another precision; what that does not reach is its last number, so that a row of them stays finite."""
    largest = torch.finfo(dtype).max
    wider = bias.is_floating_point() and largest < torch.finfo(bias.dtype).max
    return bias.clamp(-largest, largest).to(dtype) if wider else bias.to(dtype)


def lowest(dtype: torch.dtype) -> float:
    """What is added to scores of hidden keys: finite, so that a query that sees nothing stays finite."""
    return -torch.finfo(dtype).max


def ahead(t: Tensor | None, count: int, value: bool | float) -> Tensor | None:
    """`t` (..., j) with `count` more columns in front: for keys that belong to no token."""
    return t if t is None or count == 0 else F.pad(t, (count, 0), value=value)


def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Where both masks allow; an absent one allows all."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def four_axes(attn_mask: Tensor) -> Tensor:
    """(i, j) or per head (h, i, j) -> (b, h, i, j) axes."""
    return attn_mask[(None,) * (4 - attn_mask.ndim)]


def visible(
    rule: KeyRule, queries: Span, keys: Span, attn_mask: Tensor | None, lead: int, device: torch.device, begins: Tensor | None = None
) -> Visible:
    """Everything that restricts `queries` on `keys`, with `lead` always visible columns in front."""
    explicit = None if keys.visible is None else keys.visible[:, None, None, :]
    explicit = both(explicit, rule.near(queries, keys, begins, device))
    explicit = both(explicit, None if attn_mask is None else four_axes(attn_mask))
    together = rule.together(queries, keys)
    explicit = ahead(both(explicit, together), lead, True)
    past = rule.past(queries, keys, lead, device)
    aligned = False
    if together is not None and past is not None:  # one mask for all layers; whoever sees nothing gets nothing, not the mean of a row
        explicit, past = both(explicit, past()), None
    if past is not None and explicit is None and lead == 0 and queries.length == keys.length:
        aligned = True  # a plain bool, also where the lengths are symbols of a compiled graph
    return Visible(explicit, past, aligned)


def tokens_of(span: Span, begins: Tensor | None, device: torch.device) -> Tensor | None:
    """(b, j) bool: keys that are tokens or memory; None where all are, or where padding is in front of all of them."""
    if begins is None or span.start >= 0:
        return None
    order = span.order(device)
    return (order < 0) | (order >= begins[:, None])
