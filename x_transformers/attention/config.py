"""The flags of attention, joined from the files that implement them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from x_transformers.attention.backends import BackendFlags
from x_transformers.attention.hybrid import HybridFlags
from x_transformers.attention.keys import KeyFlags
from x_transformers.attention.masks import MaskFlags
from x_transformers.attention.normalise import NormaliserFlags
from x_transformers.attention.outputs import OutputFlags
from x_transformers.attention.project import ProjectFlags
from x_transformers.attention.scores import ScoreFlags
from x_transformers.flags import Rules, excludes, flag
from x_transformers.positions.cope import CopeFlags
from x_transformers.positions.forgetting import ForgettingFlags


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(
    BackendFlags, HybridFlags, OutputFlags, NormaliserFlags, ScoreFlags, CopeFlags, ForgettingFlags, KeyFlags, MaskFlags, ProjectFlags
):
    """Every flag of attention."""

    dim: int = flag(doc='Width of the tokens.', at_least=1)
    heads: int = flag(8, 'Query heads.', paper='1706.03762', at_least=1)
    prefix: str = ''  # of its public names in a layer stack
    cross: bool = False  # decided by the place in a layer stack: keys come from a context
    carries_scores: bool = False  # decided by the layer stack: residual attention hands scores to the next layer
    rotary: int | None = None  # decided by the layer stack: which of several rotary embeddings turns it
    shares_values: bool = False  # decided by the layer stack: the first layer hands its values to the later ones

    positional = (
        'dim', 'dim_head', 'dim_context', 'heads', 'causal', 'flash', 'pre_talking_heads', 'post_talking_heads',
        'pre_scale_post_talking_heads', 'head_scale', 'sparse_topk', 'sparse_topk_straight_through', 'num_mem_kv', 'dropout',
        'on_attn', 'gate_value_heads', 'swiglu_values', 'gate_values', 'zero_init_output', 'hard', 'max_attend_past',
        'qk_norm', 'qk_norm_groups', 'qk_norm_scale', 'qk_norm_dim_scale', 'l2_distance', 'sigmoid', 'selective', 'custom_attn_fn',
        'hybrid_module', 'hybrid_mask_kwarg', 'hybrid_fold_axial_dim', 'one_kv_head', 'kv_heads', 'value_dim_head', 'dim_out',
        'add_zero_kv', 'rotate_num_heads', 'data_dependent_alibi', 'data_dependent_alibi_per_row',
        'data_dependent_alibi_per_row_dim_head', 'data_dependent_alibi_kwargs', 'use_cope', 'cope_max_pos', 'cope_soft_onehot_pos',
        'cope_talking_heads', 'softclamp_logits', 'logit_softclamp_value', 'learned_value_residual_mix', 'laser',
        'laser_softclamp_value', 'qkv_receive_diff_residuals', 'use_latent_q', 'dim_latent_q', 'use_latent_kv', 'dim_latent_kv',
        'latent_rope_subheads', 'onnxable', 'attend_sdp_kwargs',
    )  # fmt: skip

    rules: ClassVar[Rules] = (
        excludes('scale', 'qk_norm', 'the scale of a cosine similarity is {prefix}qk_norm_scale. Leave {prefix}scale out.'),
        *(
            excludes('laser', mixing, 'mixed weights can be negative, and what they weigh then has no logarithm. Leave one out.')
            for mixing in ('post_talking_heads', 'pre_scale_post_talking_heads')
        ),
    )

    @property
    def absorbs_keys(self) -> bool:
        """Whether scores can be taken with the latents of keys: nothing else may happen to keys and values."""
        normed = self.qk_norm or self.qk_rmsnorm
        changed = self.qkv_bias or normed or self.l2_distance or self.num_mem_kv or self.use_cope or self.laser
        return self.use_latent_kv and not changed and not self.shares_values
