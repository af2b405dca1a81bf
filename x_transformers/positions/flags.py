"""The flags of the relative position schemes, and the modules they make for a layer stack to share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from x_transformers.flags import Config, Rules, at_most_one, demands, excludes, flag, keywords_of, quote
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.distance import DistanceBias
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.rotary import RotaryEmbedding
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
    problem = None if cfg.rotary_scaling is None else problem_of(cfg.rotary_scaling, turned(cfg) // 2, cfg.rotary_base)
    return None if problem is None else f'{quote(cfg, prefix, "rotary_scaling")} is not possible: {problem}'


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
    rotary_base: float = flag(
        10000.0,
        'Wavelengths of the pairs run from 2 pi to 2 pi times this.',
        paper='2104.09864',
        example={'rotary_pos_emb': True, 'rotary_base': 100.0},
        at_least=1,
        at_most=1e18,
    )
    rotary_half_split: bool = flag(
        False,
        'Feature k and k + half of the turned ones are a pair, as in most other libraries; otherwise neighbours.',
        paper='2204.06745',
        example={'rotary_pos_emb': True, 'rotary_half_split': True},
    )
    rotary_scaling: dict | None = flag(
        None,
        'Scale frequencies for longer sequences: `kind` (linear, dynamic, yarn, llama3, longrope) and its numbers.',
        paper='2309.00071',
        example={'rotary_pos_emb': True, 'rotary_scaling': {'kind': 'yarn', 'factor': 4.0, 'original_length': 16}},
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


def make_rotary(cfg: Any) -> RotaryEmbedding | None:
    """The rotary embedding that all layers share."""
    if not cfg.uses_rotary:
        return None
    dim = cfg.rotary_emb_dim or max(cfg.attn.dim_head // 2, 2)
    return RotaryEmbedding(
        dim,
        use_xpos=cfg.rotary_xpos,
        scale_base=cfg.rotary_xpos_scale_base,
        interpolation_factor=cfg.rotary_interpolation_factor,
        base=cfg.rotary_base,
        base_rescale_factor=cfg.rotary_base_rescale_factor,
        half_split=cfg.rotary_half_split,
        scaling=cfg.rotary_scaling,
    )


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
