"""Who computes attention. The reference forms the score matrix and is the definition of correct; fused kernels must
equal it. A backend is chosen when attention is built, from what the flags need, and shown in `repr`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from loguru import logger
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from x_transformers.attention import strips
from x_transformers.attention.masks import Visible
from x_transformers.attention.scores import (
    Selection,
    negative_squared_distances,
    products,
    select,
    softclamp,
    weigh,
    with_distance_features,
)
from x_transformers.errors import BackendError, FlagError
from x_transformers.flags import Config, Rules, catalogue, demands, flag, is_on, quote
from x_transformers.precision import single
from x_transformers.shortcuts import all_watched, eager, watched

if TYPE_CHECKING:
    from x_transformers.attention.attend import Attend, Intermediates

KERNELS = {
    'enable_flash': SDPBackend.FLASH_ATTENTION,
    'enable_mem_efficient': SDPBackend.EFFICIENT_ATTENTION,
    'enable_math': SDPBackend.MATH,
    'enable_cudnn': SDPBackend.CUDNN_ATTENTION,
}


@dataclass(frozen=True, kw_only=True)
class BackendFlags(Config):
    """Which implementation computes attention; the numbers are the same."""

    flash: bool | None = flag(
        None,
        'True: a fused kernel or an error; False: the reference; None: fused where the flags allow.',
        paper='2205.14135',
        example={'flash': True},
    )
    attend_sdp_kwargs: dict = flag(
        {}, f'Fused kernels that may be used: {", ".join(KERNELS)}.', example={'flash': True, 'attend_sdp_kwargs': {'enable_math': True}}
    )
    onnxable: bool = flag(False, 'Where `flash` leaves the choice, the reference: ONNX can express all that it does.')

    rules: ClassVar[Rules] = (
        demands('attend_sdp_kwargs', lambda c: set(c.attend_sdp_kwargs) <= set(KERNELS), f'expected keys are {", ".join(KERNELS)}.'),
        demands('attend_sdp_kwargs', lambda c: bool(kernels_on(c.attend_sdp_kwargs)), 'it leaves no kernel to use; enable one.'),
    )


@dataclass(frozen=True)
class Scored:
    """What a backend gets besides queries, keys and values."""

    visible: Visible
    bias: Tensor | None = None  # broadcastable to (b, h, i, j)
    previous: Tensor | None = None  # scores of the layer before (residual attention)
    seen: Intermediates | None = None  # to be filled with the attention maps
    selection: Selection | None = None  # selective attention
    row: Tensor | None = None  # (h, 2 n - 1) the bias of every distance, in place of `bias` (strips.py)
    factors: tuple[Tensor, Tensor] | None = None  # (b, h, i, f), (b, h, j, f), whose products stand in place of `bias`


class Backend(Protocol):
    name: str

    def refuses(self, recipe: Recipe) -> str | None:
        """Why the recipe cannot be run, naming the flag, or None."""
        ...

    def __call__(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, scored: Scored) -> Tensor: ...


@dataclass(frozen=True)
class Recipe:
    """What the flags ask of a backend: (public flag, why no fused kernel can do it) of those that need the matrix."""

    obstacles: tuple[tuple[str, str], ...]
    prefix: str = ''

    @staticmethod
    def of(config: Config, prefix: str, *more: tuple[str, str]) -> Recipe:
        needing = [e for e in catalogue(type(config)) if e.flag.unfusable and is_on(config, e.name)]
        found = [(quote(config, prefix, e.name), e.flag.unfusable or '') for e in needing]
        return Recipe((*found, *more), prefix)


class Reference:
    """Forms the matrix, or what of it can be seen, a few queries at a time; runs everything."""

    name = 'reference'

    def refuses(self, recipe: Recipe) -> str | None:
        return None

    def __call__(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, scored: Scored) -> Tensor:
        if not by_queries(attend, q, k, scored):
            return self.at_once(attend, q, k, v, scored)
        outs = [self.at_once(attend, *part) for part in queries_in_turn(q, k, v, scored)]
        return torch.cat(outs, dim=2)

    def at_once(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, scored: Scored) -> Tensor:
        scale = attend.scale_for(q)
        sim = negative_squared_distances(q, k) * scale if attend.l2_distance else products(q * scale, k)
        sim = single(sim)  # edits sum over keys and queries, and hidden keys get numbers that half precision does not have
        lowest = -torch.finfo(sim.dtype).max
        if scored.previous is not None:
            sim = sim + scored.previous.to(sim.dtype)
        if scored.seen is not None:
            scored.seen.qk_similarities = sim
        factor = attend.pre_scale_post_talking_heads(sim)
        sim = attend.mix_scores(sim)
        if scored.bias is not None:
            sim = sim + scored.bias.to(sim.dtype)  # what mixes heads behind it has the precision of the scores
        if attend.softclamp_logits:
            sim = softclamp(sim, attend.logit_softclamp_value)
        allowed = scored.visible.mask()
        if allowed is not None:
            sim = sim.masked_fill(~allowed, lowest)
        if attend.cope is not None:
            sim = sim + attend.cope(q, sim, allowed)
        if scored.selection is not None:
            sim = select(sim, scored.selection)
        if scored.seen is not None:
            scored.seen.pre_softmax_attn = sim
        attn = attend.normalise(sim).to(sim.dtype)
        if scored.seen is not None:
            scored.seen.post_softmax_attn = attn
        attn = attend.post_softmax_talking_heads(attend.attn_dropout(attn))
        if factor is not None:
            attn = attn * (factor if allowed is None else factor.masked_fill(~allowed, 0.0))
        return weigh(attn.to(v.dtype), v)


def by_queries(attend: Attend, q: Tensor, k: Tensor, scored: Scored) -> bool:
    """Whether the matrix may be formed a few queries at a time, and the half that lies ahead of them not at all.

    That is where nothing but the causal rule hides keys and every query sees one, nobody looks on, nothing that a user gave sees a
    whole row, and no dropout would draw other numbers; on CPUs, which gain as well from scores that stay in their caches.
    """
    if not eager():  # before a length is asked for, which a graph would then be bound to
        return False
    whole = scored.seen is not None or scored.previous is not None or scored.selection is not None
    plain = scored.visible.explicit is None and scored.visible.causal is not None and not whole
    if not plain or not strips.LEAST <= q.shape[2] <= k.shape[2] or q.device.type != 'cpu' or attend.config.custom_attn_fn is not None:
        return False
    if attend.training and attend.attn_dropout.p > 0:
        return False
    return not all_watched() and not any(watched(part) for part in attend.modules())


def queries_in_turn(q: Tensor, k: Tensor, v: Tensor, scored: Scored) -> Iterator[tuple[Tensor, Tensor, Tensor, Scored]]:
    """The queries in strips, each with the keys up to its last one, and with what its scores are subject to."""
    n, bias = q.shape[2], scored.bias
    earlier, cuts = k.shape[2] - n, list(strips.strips(n, strips.ROWS, causal=True))
    sizes = [end - begin for begin, end, _ in cuts]
    sizes[0] += earlier
    of_k, of_v = (t.split(sizes, dim=2) for t in (k, v))
    for number, (begin, end, _) in enumerate(cuts, 1):
        keys = earlier + end
        sees = torch.ones(end - begin, keys, dtype=torch.bool, device=q.device).tril(keys - (end - begin))
        own = None if bias is None else bias[..., begin:end, :keys] if bias.shape[-2] > 1 else bias[..., :keys]
        seen = [torch.cat(parts[:number], dim=2) for parts in (of_k, of_v)]  # the gradient of a slice would be as long as the whole
        yield q[:, :, begin:end], seen[0], seen[1], Scored(Visible(sees), own)


class SDPA:
    """PyTorch's fused scaled dot product attention (2205.14135); rules and biases become its mask."""

    name = 'sdpa'

    def refuses(self, recipe: Recipe) -> str | None:
        if not recipe.obstacles:
            return None
        flag_name, because = recipe.obstacles[0]
        return f'{flag_name}: {because}'

    def __call__(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, scored: Scored) -> Tensor:
        scale = attend.scale_for(q)
        if attend.l2_distance:
            q, k = with_distance_features(q, k)
            scale = 2 * scale
        if scored.row is not None or scored.factors is not None:  # by query head
            k, v = (tiled(t, q.shape[1]) for t in (k, v))
        if scored.factors is not None:
            of_queries, of_keys = scored.factors
            q = torch.cat((q, of_queries.to(q.dtype) / scale), dim=-1)
            k = torch.cat((k, of_keys.to(k.dtype)), dim=-1)
        if scored.row is not None:
            with attend.kernels():
                return strips.strip_attention(q, k, v, scored.row, scored.visible.aligned, scale)
        dropout = attend.attn_dropout.p if attend.training else 0.0
        visible = scored.visible
        hides = not visible.aligned and (visible.explicit is not None or visible.causal is not None)
        mask = attend.additive_mask(q, scored) if hides or scored.bias is not None else None
        causal = mask is None and visible.aligned
        with attend.kernels():
            out = grouped_sdpa(q, k, v, mask, causal, scale, dropout)
        blind = visible.blind()
        if blind is None:
            return out
        mean = v.mean(dim=-2, keepdim=True).repeat(1, q.shape[1] // v.shape[1], 1, 1)
        return torch.where(blind, mean, out)  # as the reference, whose scores are then all the same number


def grouped_sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, dropout: float) -> Tensor:
    """Fused attention of q (b, h, i, d) on k, v (b, g, j, d), where query head r uses key head r mod g."""
    heads, groups = q.shape[1], k.shape[1]
    run = of_one_width if q.shape[2] > 1 else F.scaled_dot_product_attention
    if heads == groups:
        return run(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale)
    if q.shape[2] == 1 and not causal and (mask is None or mask.shape[1] == 1):
        rows = q.unflatten(1, (-1, groups)).transpose(1, 2).squeeze(3)  # b g (h/g) d: a group's heads are queries of one key head
        out = run(rows, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
        return out.transpose(1, 2).flatten(1, 2)[:, :, None]
    return run(q, tiled(k, heads), tiled(v, heads), attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale)


def of_one_width(q: Tensor, k: Tensor, v: Tensor, **more: Any) -> Tensor:
    """SDPA, whose fused kernels want queries, keys and values of one width, a multiple of 8: zeros make up for it."""
    if q.shape[-1] == v.shape[-1]:
        return F.scaled_dot_product_attention(q, k, v, **more)
    width = -8 * (-max(q.shape[-1], v.shape[-1]) // 8)
    wide = lambda t: F.pad(t, (0, width - t.shape[-1]))
    return F.scaled_dot_product_attention(wide(q), wide(k), wide(v), **more)[..., : v.shape[-1]]


def tiled(t: Tensor, heads: int) -> Tensor:
    """(b, g, j, d) -> (b, heads, j, d), the group over and over."""
    return t if t.shape[1] == heads else t[:, None].expand(-1, heads // t.shape[1], -1, -1, -1).flatten(1, 2)


BACKENDS: tuple[Any, ...] = (SDPA(), Reference())  # in order of preference


def choose(recipe: Recipe, flash: bool | None) -> Backend:
    """The backend for a recipe; BackendError when a fused one was asked for and none can."""
    if flash is False:
        return Reference()
    for backend in BACKENDS:
        problem = backend.refuses(recipe)
        if problem is None:
            return backend
        if flash:
            asked = f'{recipe.prefix}flash'
            raise BackendError(f'{asked}=True cannot be combined with {problem}. Leave out {asked}, or use {asked}=False.')
        logger.debug('attention runs on a slower backend than {}, because of {}', backend.name, problem)
    raise AssertionError('the reference refuses nothing')


def kernels_on(options: dict[str, bool]) -> list[SDPBackend]:
    """The kernels that SDPA may use: all but cuDNN's, where nothing is said of them."""
    return [kernel for name, kernel in KERNELS.items() if options.get(name, name != 'enable_cudnn')]


def kernel_choice(options: dict[str, bool]) -> Any:
    """A context that lets SDPA use only the chosen kernels."""
    on = kernels_on(options)
    if not on:
        raise FlagError(f'attend_sdp_kwargs={options!r} leaves no kernel to use; enable one')
    return sdpa_kernel(on)
