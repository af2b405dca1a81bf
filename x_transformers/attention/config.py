"""The flags of attention, joined from the files that implement them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from x_transformers.attention.backends import BackendFlags
from x_transformers.attention.keys import KeyFlags
from x_transformers.attention.masks import MaskFlags
from x_transformers.attention.normalise import NormaliserFlags
from x_transformers.attention.outputs import OutputFlags
from x_transformers.attention.project import ProjectFlags
from x_transformers.attention.scores import ScoreFlags
from x_transformers.flags import Rules, excludes, flag


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(BackendFlags, OutputFlags, NormaliserFlags, ScoreFlags, KeyFlags, MaskFlags, ProjectFlags):
    """Every flag of attention."""

    dim: int = flag(doc='Width of the tokens.', at_least=1)
    heads: int = flag(8, 'Query heads.', paper='1706.03762', at_least=1)
    cross: bool = False  # decided by the place in a layer stack: keys come from a context
    carries_scores: bool = False  # decided by the layer stack: residual attention hands scores to the next layer

    rules: ClassVar[Rules] = (excludes('on_attn', 'zero_init_output', 'a gate that starts at zero lets no gradient through. Keep one.'),)

    positional = (
        'dim', 'dim_head', 'dim_context', 'heads', 'causal', 'flash', 'pre_talking_heads', 'post_talking_heads',
        'pre_scale_post_talking_heads', 'head_scale', 'sparse_topk', 'sparse_topk_straight_through', 'num_mem_kv', 'dropout',
        'on_attn', 'gate_value_heads', 'swiglu_values', 'gate_values', 'zero_init_output', 'hard', 'max_attend_past',
        'qk_norm', 'qk_norm_groups', 'qk_norm_scale', 'qk_norm_dim_scale', 'l2_distance', 'sigmoid',
    )  # fmt: skip
