"""The flags of layer stacks, joined from the files that implement them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from x_transformers.attention.attention import RESIDUAL_ATTENTION
from x_transformers.attention.config import AttentionConfig
from x_transformers.attention.keys import SharedValueFlags
from x_transformers.context import ContextFlags
from x_transformers.feedforward import FeedForwardConfig
from x_transformers.flags import Rules, demands, excludes, flag, group, quote
from x_transformers.layerscale import LayerScaleFlags
from x_transformers.norms import NormFlags
from x_transformers.plan import PlanFlags
from x_transformers.positions.flags import PositionFlags
from x_transformers.residuals import ResidualFlags
from x_transformers.running import RunFlags
from x_transformers.shift import ShiftFlags
from x_transformers.skips import SkipFlags


def windows_agree(cfg: Any, prefix: str) -> str | None:
    """Scores that are handed on are of the keys that the layer before remembers."""
    own = (name for name in ('max_attend_past', 'window') if isinstance(getattr(cfg.attn, name), tuple))
    name = next((name for name in own if len(set(getattr(cfg.attn, name))) > 1), None)
    if name is None or not cfg.residual_attn:
        return None
    return (
        f'{quote(cfg, prefix, "residual_attn", f"attn_{name}")} cannot be combined: scores are handed on of all keys, and layers '
        'with different windows remember different ones. Give all one window, or leave one out.'
    )


@dataclass(frozen=True, kw_only=True)
class LayersConfig(
    RunFlags, SharedValueFlags, PositionFlags, ContextFlags, SkipFlags, ShiftFlags, LayerScaleFlags, ResidualFlags, NormFlags, PlanFlags
):
    """Every flag of a layer stack; those of its parts by the prefixes `attn_`, `cross_attn_` and `ff_`."""

    dim: int = flag(doc='Width of the tokens.', at_least=1)
    heads: int = flag(8, 'Attention heads.', paper='1706.03762', example={'heads': 2}, at_least=1)
    causal: bool = flag(False, 'Tokens see only themselves and what came before.')
    residual_attn: bool = flag(False, 'Add the scores of the self-attention before.', paper='2012.11747', unfusable=RESIDUAL_ATTENTION)
    cross_residual_attn: bool = flag(
        False,
        'Add the scores of the cross-attention before.',
        paper='2012.11747',
        example={'cross_attend': True, 'cross_residual_attn': True},
        inputs=('context',),
        unfusable=RESIDUAL_ATTENTION,
    )
    zero_init_branch_output: bool = flag(False, 'Start every branch at zero.')

    attn: AttentionConfig = group(
        AttentionConfig,
        'attn_',
        shares=('dim', 'heads', 'causal', 'rotary_half_split'),
        fixes={'learned_value_residual_mix': False, 'qkv_receive_diff_residuals': False},
    )
    cross_attn: AttentionConfig = group(
        AttentionConfig,
        'cross_attn_',
        inherits='attn',
        shares=('dim', 'heads', 'rotary_half_split'),
        fixes={'causal': False},
        reasons={
            'learned_value_residual_mix': 'the share is decided by the tokens that look, and values are of the context. Leave it out.'
        },
    )
    ff: FeedForwardConfig = group(FeedForwardConfig, 'ff_', shares=('dim',))

    rules: ClassVar[Rules] = (
        windows_agree,
        demands('ff_dim_out', lambda c: c.ff.dim_out == c.dim, 'in a layer stack every branch is as wide as the stream. Leave it out.'),
        demands('attn_dim_out', lambda c: c.attn.dim_out == c.dim, 'in a layer stack every branch is as wide as the stream. Leave it out.'),
        *(
            excludes('rotary_xpos', f'{kind}_{name}', f'{because} Use {{prefix}}rotary_pos_emb=True.')
            for kind in ('attn', 'cross_attn')
            for name, because in (
                ('l2_distance', 'its factors cancel in products only, not in distances.'),
                ('num_mem_kv', 'learned keys have no position for its decay to cancel at.'),
            )
        ),
        excludes(
            'rotary_xpos', 'attn_use_cope', 'its factors cancel in products of queries with keys only. Use {prefix}rotary_pos_emb=True.'
        ),
        excludes('attn_use_latent_kv', 'qkv_receive_diff_residuals', 'keys and values share one latent. Keep one.'),
        *(
            excludes(bias, 'attn_data_dependent_alibi', 'the forget gates take the place of any other bias. Keep one.')
            for bias in ('alibi_pos_bias', 'rel_pos_bias', 'dynamic_pos_bias')
        ),
        *(
            excludes('parallel_block', other, because)
            for other, because in (
                ('pre_norm', 'the stream is normed behind each branch, before the next reads it. Leave {prefix}pre_norm out.'),
                ('resi_dual', 'the stream is normed behind each branch, before the next reads it. Keep one.'),
                ('num_residual_streams', 'each branch reads a mix of what the one before has written. Keep one.'),
            )
        ),
        demands('dynamic_pos_bias', lambda c: c.dim >= 4, 'its network is dim // 4 wide. Use {prefix}dim of at least 4.'),
    )

    positional: ClassVar[tuple[str, ...]] = (
        'dim', 'depth', 'heads', 'causal', 'cross_attend', 'only_cross', 'use_scalenorm', 'use_rmsnorm', 'use_simple_rmsnorm',
        'use_adaptive_layernorm', 'use_adaptive_rmsnorm', 'use_adaptive_layerscale', 'norm_add_unit_offset', 'dim_condition',
        'adaptive_condition_mlp', 'adaptive_condition_mlp_expansion', 'alibi_pos_bias', 'alibi_num_heads', 'rel_pos_bias',
        'rel_pos_num_buckets', 'rel_pos_max_distance', 'dynamic_pos_bias', 'dynamic_pos_bias_log_distance',
        'dynamic_pos_bias_mlp_depth', 'dynamic_pos_bias_norm', 'rotary_pos_emb', 'rotary_emb_dim', 'rotary_xpos',
        'rotary_interpolation_factor', 'rotary_xpos_scale_base', 'rotary_base_rescale_factor', 'weight_tie_layers', 'custom_layers',
        'layers_execute_order', 'sandwich_coef', 'par_ratio', 'residual_attn', 'cross_residual_attn', 'macaron', 'pre_norm',
        'pre_norm_has_final_norm', 'gate_residual', 'scale_residual', 'scale_residual_constant', 'shift_tokens', 'sandwich_norm',
        'softclamp_output', 'softclamp_output_value', 'zero_init_branch_output', 'layer_dropout', 'cross_attn_tokens_dropout',
        'disable_abs_pos_emb', 'use_layerscale', 'layerscale_init_value', 'unet_skips', 'num_residual_streams',
        'qkv_receive_diff_residuals', 'reinject_input', 'learned_reinject_input_gate', 'add_value_residual',
        'learned_value_residual_mix', 'rel_pos_kwargs', 'residual_fn_kwargs',
    )  # fmt: skip

    @property
    def need_condition(self) -> bool:
        """Whether norms or scales follow a condition."""
        return self.adaptive_norms or self.use_adaptive_layerscale


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(LayersConfig):
    fixed = ('causal',)
    positional = ()


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(LayersConfig):
    causal: bool = flag(True, 'Tokens see only themselves and what came before.')
    fixed = ('causal',)
    positional = ()


@dataclass(frozen=True, kw_only=True)
class PrefixDecoderConfig(LayersConfig):
    fixed = ('causal',)
    positional = ()


@dataclass(frozen=True, kw_only=True)
class CrossAttenderConfig(LayersConfig):
    cross_attend: bool = flag(True, 'Cross-attention to a context in each block.', inputs=('context',))
    only_cross: bool = flag(True, 'No self-attention.')
    fixed = ('cross_attend', 'only_cross')
    positional = ()
