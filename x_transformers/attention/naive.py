"""Attention written to be read: the twin that the backends are tested against. Slow, and nothing else uses it."""

from __future__ import annotations

import torch
from torch import Tensor


def naive_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor, scale: float) -> Tensor:
    """q (b, h, i, d), k and v (b, g, j, d), allowed and bias (b, h, i, j) -> (b, h, i, d).

    Query head r shares key head r mod g (2305.13245). Every query must be allowed at least one key.
    """
    import einx  # costs a second: only this form needs it

    q = einx.id('b (r g) i d -> b r g i d', q, g=k.shape[1])
    sim = einx.dot('b r g i d, b g j d -> b (r g) i j', q, k) * scale + bias
    attn = einx.softmax('b h i [j]', torch.where(allowed, sim, -torch.inf))
    attn = einx.id('b (r g) i j -> b r g i j', attn, g=k.shape[1])
    return einx.dot('b r g i j, b g j d -> b (r g) i d', attn, v)
