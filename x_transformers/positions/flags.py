"""The flags of the relative position schemes, and the modules they make for a layer stack to share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from x_transformers.flags import Config, Rules, at_most_one, demands, excludes, flag, keywords_of, quote
from x_transformers.plan import spread
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.distance import DistanceBias
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.rotary import RotaryEmbedding, RotaryEmbeddings
from x_transformers.positions.scaling import problem_of
from x_transformers.positions.t5 import RelativePositionBias


def keywords_taken(cfg: Any) -> dict[str, Any]:
    """What the bias of these flags takes besides what a layer stack decides."""
    if cfg.rel_pos_bias:
        return {'num_buckets': int, 'max_distance': int}
    if cfg.dynamic_pos_bias:
        return {'depth': int, 'log_distance': bool, 'norm': bool}
    return {'slopes': Sequence | Tensor} if cfg.alibi_pos_bias else {}


def scaled_well(cfg: Any, prefix: str) -> str | None:
    """Whether the numbers of a rotary scaling are there, and make sense."""
    least = min(cfg.rotary_base) if isinstance(cfg.rotary_base, tuple) else cfg.rotary_base
    scalings = cfg.rotary_scaling if isinstance(cfg.rotary_scaling, tuple) else (cfg.rotary_scaling,)
    for each in scalings:
        problem = None if each is None else problem_of(each, turned(cfg) // 2, least)
        if problem is not None:
            return f'{quote(cfg, prefix, "rotary_scaling")} is not possible: {problem}'
    return None


def of_one_sequence(cfg: Any, prefix: str) -> str | None:
    """Cross-attention and xPos are of no layer's own frequencies."""
    other = next((name for name in ('cross_attend', 'rotary_xpos') if getattr(cfg, name)), None)
    name = next((name for name in ('rotary_base', 'rotary_scaling') if isinstance(getattr(cfg, name), tuple)), None)
    if other is None or name is None:
        return None
    return (
        f'{quote(cfg, prefix, name)} cannot be combined with {quote(cfg, prefix, other)}: only self-attentions have frequencies of their '
        'own. Give one for all.'
    )


@dataclass(frozen=True, kw_only=True)
class PositionFlags(Config):
    """How attention knows where tokens stand."""

    rotary_pos_emb: bool = flag(False, 'Turn queries and keys by their position.', paper='2104.09864')
    rotary_emb_dim: int | None = flag(
        None,
        'Features of a head that are turned; half of them by default.',
        example={'rotary_pos_emb': True, 'rotary_emb_dim': 4},
        at_least=2,
    )
    rotary_xpos: bool = flag(False, 'Rotary with a decay that extrapolates to longer sequences (causal stacks only).', paper='2212.10554')
    rotary_xpos_scale_base: float = flag(
        512, 'Distance over which xPos decays.', paper='2212.10554', example={'rotary_xpos': True, 'rotary_xpos_scale_base': 16}, at_least=1
    )
    rotary_interpolation_factor: float = flag(
        1.0,
        'Divide positions, to stretch a trained model to longer sequences.',
        paper='2306.15595',
        example={'rotary_pos_emb': True, 'rotary_interpolation_factor': 2.0},
        at_least=1,
    )
    rotary_base_rescale_factor: float = flag(
        1.0,
        'Raise the base of the rotary frequencies (NTK-aware scaling).',
        paper='2309.00071',
        example={'rotary_pos_emb': True, 'rotary_base_rescale_factor': 4.0},
        at_least=1e-9,
    )
    rotary_base: float | tuple[float, ...] = flag(
        10000.0,
        'Wavelengths of the pairs run from 2 pi to 2 pi times this; a tuple gives each self-attention its own.',
        paper='2104.09864',
        example={'rotary_pos_emb': True, 'rotary_base': 100.0},
        per_layer=True,
        at_least=1,
        at_most=1e18,
    )
    rotary_half_split: bool = flag(
        False,
        'Feature k and k + half of the turned ones are a pair, as in most other libraries; otherwise neighbours.',
        paper='2204.06745',
        example={'rotary_pos_emb': True, 'rotary_half_split': True},
    )
    rotary_scaling: dict | tuple[dict | None, ...] | None = flag(
        None,
        'Frequencies of longer sequences: `kind` (linear, dynamic, yarn, llama3, longrope), its numbers; or by layer.',
        paper='2309.00071',
        example={'rotary_pos_emb': True, 'rotary_scaling': {'kind': 'yarn', 'factor': 4.0, 'original_length': 16}},
        per_layer=True,
    )
    alibi_pos_bias: bool = flag(False, 'Attention falls linearly with distance.', paper='2108.12409')
    alibi_num_heads: int | None = flag(
        None,
        'Heads that feel ALiBi; all by default.',
        paper='2108.12409',
        example={'alibi_pos_bias': True, 'alibi_num_heads': 2},
        at_least=1,
    )
    rel_pos_bias: bool = flag(False, 'A learned bias per head and distance bucket (T5).', paper='1910.10683')
    rel_pos_num_buckets: int = flag(
        32, 'Number of distance buckets.', paper='1910.10683', example={'rel_pos_bias': True, 'rel_pos_num_buckets': 8}, at_least=4
    )
    rel_pos_max_distance: int = flag(
        128,
        'Distance at which the last bucket starts.',
        paper='1910.10683',
        example={'rel_pos_bias': True, 'rel_pos_max_distance': 32, 'rel_pos_num_buckets': 8},
        at_least=1,
    )
    dynamic_pos_bias: bool = flag(False, 'A small network maps distance to bias.', paper='2108.00154')
    dynamic_pos_bias_log_distance: bool = flag(
        False,
        'It sees the signed logarithm of the distance.',
        paper='2111.09883',
        example={'dynamic_pos_bias': True, 'dynamic_pos_bias_log_distance': True},
    )
    dynamic_pos_bias_mlp_depth: int = flag(
        2, 'Its hidden layers.', paper='2108.00154', example={'dynamic_pos_bias': True, 'dynamic_pos_bias_mlp_depth': 3}, at_least=1
    )
    dynamic_pos_bias_norm: bool = flag(
        False, 'Norms between its layers.', paper='2108.00154', example={'dynamic_pos_bias': True, 'dynamic_pos_bias_norm': True}
    )
    rel_pos_kwargs: dict = flag(
        {},
        'Further keywords for the bias module, such as ALiBi `slopes`.',
        example={'alibi_pos_bias': True, 'rel_pos_kwargs': {'slopes': [0.5, 0.25, 0.125, 0.0625]}},
    )
    disable_abs_pos_emb: bool | None = flag(
        None, 'Whether model wrappers leave out absolute positions; by default with rotary or T5 positions.'
    )

    rules: ClassVar[Rules] = (
        at_most_one('alibi_pos_bias', 'rel_pos_bias', 'dynamic_pos_bias'),
        keywords_of('rel_pos_kwargs', keywords_taken, 'alibi_pos_bias', 'rel_pos_bias', 'dynamic_pos_bias'),
        *(
            demands(name, lambda c: c.uses_rotary, 'it is about rotary positions. Set {prefix}rotary_pos_emb=True.')
            for name in ('rotary_base', 'rotary_half_split', 'rotary_scaling')
        ),
        excludes('rotary_scaling', 'rotary_xpos', 'both are ways to longer sequences, and xPos has one decay for all. Keep one.'),
        scaled_well,
        of_one_sequence,
        demands(
            'rotary_xpos', lambda c: c.causal, 'its decay is meaningful looking back only. Use a Decoder, or {prefix}rotary_pos_emb=True.'
        ),
        demands('alibi_num_heads', lambda c: c.alibi_num_heads <= c.heads, 'there are fewer heads than that. Lower it, or leave it out.'),
        demands(
            'rel_pos_num_buckets',
            lambda c: c.rel_pos_num_buckets <= c.rel_pos_max_distance,
            'it must not exceed {prefix}rel_pos_max_distance. Lower it.',
        ),
        demands(
            'rel_pos_max_distance',
            lambda c: c.rel_pos_num_buckets <= c.rel_pos_max_distance,
            'it must not be below {prefix}rel_pos_num_buckets. Raise it.',
        ),
        demands(
            'rotary_emb_dim',
            lambda c: turned(c) <= c.attn.dim_head,
            'pairs are turned, so an even number up to {prefix}attn_dim_head. Lower it.',
        ),
        demands(
            'rotary_pos_emb',
            lambda c: turned(c) <= c.attn.dim_head,
            'it turns pairs of features, and a head has one. Raise {prefix}attn_dim_head.',
        ),
    )

    @property
    def uses_rotary(self) -> bool:
        return self.rotary_pos_emb or self.rotary_xpos

    @property
    def leaves_out_abs_pos(self) -> bool:
        return (self.rel_pos_bias or self.uses_rotary) if self.disable_abs_pos_emb is None else self.disable_abs_pos_emb


def turned(cfg: Any) -> int:
    """Features of a head that are turned: whole pairs."""
    dim = cfg.rotary_emb_dim or max(cfg.attn.dim_head // 2, 2)
    return dim + dim % 2


def frequencies_by_layer(cfg: Any, count: int) -> list[tuple[float, Any]]:
    """(base, scaling) of each of `count` self-attentions, where layers have frequencies of their own; otherwise nothing."""
    if not any(isinstance(value, tuple) for value in (cfg.rotary_base, cfg.rotary_scaling)):
        return []
    per_layer = lambda name: spread(name, getattr(cfg, name), count, 'self-attentions')
    return list(zip(per_layer('rotary_base'), per_layer('rotary_scaling'), strict=True))


def distinct(frequencies: list[Any]) -> list[Any]:
    """Each once, in order; dicts are no keys."""
    return [each for at, each in enumerate(frequencies) if each not in frequencies[:at]]


def rotary_of(cfg: Any, number: int, count: int) -> int | None:
    """Which of several rotary embeddings is that of self-attention number `number` of `count`; None where all share one."""
    frequencies = frequencies_by_layer(cfg, count)
    return distinct(frequencies).index(frequencies[number]) if frequencies else None


def make_rotary(cfg: Any, count: int) -> RotaryEmbedding | RotaryEmbeddings | None:
    """The rotary embedding that all layers share, or those of `count` self-attentions."""
    if not cfg.uses_rotary:
        return None
    made = lambda base, scaling: RotaryEmbedding(
        cfg.rotary_emb_dim or max(cfg.attn.dim_head // 2, 2),
        use_xpos=cfg.rotary_xpos,
        scale_base=cfg.rotary_xpos_scale_base,
        interpolation_factor=cfg.rotary_interpolation_factor,
        base=base,
        base_rescale_factor=cfg.rotary_base_rescale_factor,
        half_split=cfg.rotary_half_split,
        scaling=scaling,
    )
    frequencies = distinct(frequencies_by_layer(cfg, count))
    return RotaryEmbeddings(made(*each) for each in frequencies) if frequencies else made(cfg.rotary_base, cfg.rotary_scaling)


def make_bias(cfg: Any) -> DistanceBias | None:
    """The bias by distance that all layers share."""
    if cfg.rel_pos_bias:
        sizes = {'num_buckets': cfg.rel_pos_num_buckets, 'max_distance': cfg.rel_pos_max_distance, 'heads': cfg.heads}
        return RelativePositionBias(cfg.attn.dim_head**0.5, causal=cfg.causal, **{**sizes, **cfg.rel_pos_kwargs})
    if cfg.dynamic_pos_bias:
        shape = {'heads': cfg.heads, 'depth': cfg.dynamic_pos_bias_mlp_depth}
        kind = {'log_distance': cfg.dynamic_pos_bias_log_distance, 'norm': cfg.dynamic_pos_bias_norm}
        return DynamicPositionBias(cfg.dim // 4, **{**shape, **kind, **cfg.rel_pos_kwargs})
    if cfg.alibi_pos_bias:
        return AlibiPositionalBias(cfg.alibi_num_heads or cfg.heads, total_heads=cfg.heads, **cfg.rel_pos_kwargs)
    return None
