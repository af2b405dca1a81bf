"""The index of flags of 2.0.1: each is in the catalogue, with the default and the papers that are written here."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import pytest

from x_transformers import Attention, FeedForward, PrefixDecoder
from x_transformers.flags import Entry, catalogue
from x_transformers.flags.accepting import in_code
from x_transformers.layers import AttentionLayers

REQUIRED = 'required'
RUBIN = 'https://medium.com/@ohadrubin/exploring-weight-decay-in-layer-normalization-challenges-and-a-reparameterization-solution-ad4d12c24950'
OFF_BY_ONE = 'https://www.evanmiller.org/attention-is-off-by-one.html'
ALPHAFOLD2 = 'https://doi.org/10.1038/s41586-021-03819-2'


class Row(NamedTuple):
    """A keyword; where: L layer stack, A attention (`attn_` in a stack), F feed-forward (`ff_`)."""

    name: str
    where: str
    default: object
    papers: tuple[str, ...] = ()  # any of these

    def __str__(self) -> str:
        return f'{self.where} {self.name}'


def rows(where: str, default: object, *named: str, papers: str = '') -> list[Row]:
    return [Row(name, place, default, tuple(papers.split())) for name in named for place in where]


INDEX = [
    *rows('LAF', REQUIRED, 'dim'),
    *rows('L', None, 'depth'),
    *rows('LA', 8, 'heads', papers='1706.03762'),
    *rows('LA', False, 'causal'),
    *rows('L', False, 'cross_attend', 'only_cross'),
    # norms and conditions
    *rows('L', False, 'use_scalenorm', papers='1910.05895'),
    *rows('L', False, 'use_rmsnorm', papers='1910.07467'),
    *rows('L', False, 'use_simple_rmsnorm', papers='2307.14995'),
    *rows('L', False, 'use_adaptive_layernorm', 'use_adaptive_rmsnorm', 'use_adaptive_layerscale', papers='2212.09748'),
    *rows('L', True, 'norm_add_unit_offset', papers=RUBIN),
    *rows('L', None, 'dim_condition'),
    *rows('L', False, 'adaptive_condition_mlp'),
    *rows('L', 4, 'adaptive_condition_mlp_expansion'),
    *rows('L', True, 'pre_norm', 'pre_norm_has_final_norm'),
    *rows('L', False, 'sandwich_norm', papers='2105.13290'),
    # positions
    *rows('L', False, 'alibi_pos_bias', papers='2108.12409'),
    *rows('L', None, 'alibi_num_heads'),
    *rows('L', False, 'rel_pos_bias', papers='1910.10683'),
    *rows('L', 32, 'rel_pos_num_buckets', papers='1910.10683'),
    *rows('L', 128, 'rel_pos_max_distance', papers='1910.10683'),
    *rows('L', False, 'dynamic_pos_bias', papers='2108.00154 2111.09883'),
    *rows('L', False, 'dynamic_pos_bias_log_distance', papers='2111.09883'),
    *rows('L', 2, 'dynamic_pos_bias_mlp_depth'),
    *rows('L', False, 'dynamic_pos_bias_norm'),
    *rows('L', False, 'rotary_pos_emb', papers='2104.09864'),
    *rows('L', None, 'rotary_emb_dim'),
    *rows('L', False, 'rotary_xpos', papers='2212.10554'),
    *rows('L', 512, 'rotary_xpos_scale_base', papers='2212.10554'),
    *rows('L', 1.0, 'rotary_interpolation_factor', papers='2306.15595'),
    *rows('L', 1.0, 'rotary_base_rescale_factor', papers='2309.00071'),  # where the NTK-aware note is written up
    *rows('L', {}, 'rel_pos_kwargs'),
    *rows('L', None, 'disable_abs_pos_emb'),
    # the plan
    *rows('L', False, 'weight_tie_layers', papers='1909.11942'),
    *rows('L', None, 'custom_layers'),
    *rows('L', None, 'layers_execute_order', papers='2405.15071'),
    *rows('L', None, 'sandwich_coef', papers='1911.03864'),
    *rows('L', None, 'par_ratio', papers='2009.04534'),
    *rows('L', False, 'macaron', papers='1906.02762'),
    *rows('L', 0.0, 'layer_dropout', papers='1603.09382'),
    # residuals and streams
    *rows('L', False, 'residual_attn', 'cross_residual_attn', papers='2012.11747'),
    *rows('L', False, 'gate_residual', papers='1910.06764'),
    *rows('L', False, 'scale_residual', papers='2110.09456'),
    *rows('L', 1.0, 'scale_residual_constant', papers='2203.00555'),
    *rows('L', {}, 'residual_fn_kwargs'),
    *rows('L', 0, 'shift_tokens', papers='2305.13048'),
    *rows('L', False, 'softclamp_output', papers='2408.00118'),
    *rows('L', 30.0, 'softclamp_output_value', papers='2408.00118'),
    *rows('L', False, 'zero_init_branch_output'),
    *rows('L', 0.0, 'cross_attn_tokens_dropout', papers='2202.07765'),
    *rows('L', False, 'use_layerscale', papers='2103.17239'),
    *rows('L', 0.0, 'layerscale_init_value', papers='2103.17239'),
    *rows('L', False, 'unet_skips', papers='2209.12152'),
    *rows('L', 1, 'num_residual_streams', papers='2409.19606'),
    *rows('LA', False, 'qkv_receive_diff_residuals', papers='2409.19606'),
    *rows('L', False, 'reinject_input', papers='1909.01377 2410.03020'),
    *rows('L', False, 'learned_reinject_input_gate'),
    *rows('L', False, 'add_value_residual', papers='2410.17897'),
    *rows('L', True, 'learned_value_residual_mix', papers='2412.15113'),
    *rows('A', False, 'learned_value_residual_mix', papers='2412.15113'),
    # attention
    *rows('A', 64, 'dim_head', papers='2002.07028'),
    *rows('A', None, 'dim_context', 'value_dim_head', 'dim_out'),
    *rows('A', None, 'flash', papers='2205.14135'),  # False in 2.0.1; None takes the fastest that gives the same numbers
    *rows('A', {}, 'attend_sdp_kwargs'),  # those of 2.0.1 are written out there; here they are what is not said otherwise
    *rows('A', False, 'pre_talking_heads', 'post_talking_heads', 'pre_scale_post_talking_heads', papers='2003.02436'),
    *rows('A', False, 'head_scale', papers='2110.09456'),
    *rows('A', None, 'sparse_topk', papers='1912.11637'),
    *rows('A', False, 'sparse_topk_straight_through', papers='1912.11637'),
    *rows('A', False, 'hard', papers='2410.01104'),
    *rows('A', False, 'sigmoid', papers='2409.04431'),
    *rows('A', False, 'l2_distance', papers='2006.04710'),
    *rows('A', False, 'selective', papers='2410.02703'),
    *rows('A', None, 'custom_attn_fn'),
    *rows('A', 0, 'num_mem_kv', papers='1907.01470'),
    *rows('A', False, 'add_zero_kv', papers=OFF_BY_ONE),
    *rows('AF', 0.0, 'dropout'),
    *rows('A', False, 'on_attn', papers='1908.06954'),
    *rows('A', False, 'gate_values', papers=ALPHAFOLD2),
    *rows('A', False, 'swiglu_values', papers=f'{ALPHAFOLD2} 2002.05202'),
    *rows('A', False, 'gate_value_heads', papers='2306.12929'),
    *rows('AF', False, 'zero_init_output'),
    *rows('A', None, 'max_attend_past'),
    *rows('A', False, 'qk_norm', papers='2010.04245'),
    *rows('A', 1, 'qk_norm_groups', papers='2010.04245'),
    *rows('A', 10, 'qk_norm_scale', papers='2010.04245'),
    *rows('A', False, 'qk_norm_dim_scale', papers='2302.05442'),
    *rows('A', False, 'one_kv_head', papers='1911.02150'),
    *rows('A', None, 'kv_heads', papers='2305.13245'),
    *rows('A', None, 'rotate_num_heads', papers='2405.04434'),
    *rows('A', False, 'data_dependent_alibi', 'data_dependent_alibi_per_row', papers='2503.02130'),
    *rows('A', 8, 'data_dependent_alibi_per_row_dim_head', papers='2503.02130'),
    *rows('A', {}, 'data_dependent_alibi_kwargs', papers='2503.02130'),
    *rows('A', False, 'use_cope', 'cope_soft_onehot_pos', 'cope_talking_heads', papers='2405.18719'),
    *rows('A', 16, 'cope_max_pos', papers='2405.18719'),
    *rows('A', False, 'softclamp_logits', papers='2408.00118'),
    *rows('A', 50.0, 'logit_softclamp_value', papers='2408.00118'),
    *rows('A', False, 'laser', papers='2411.03493'),
    *rows('A', 15.0, 'laser_softclamp_value', papers='2411.03493'),
    *rows('A', False, 'use_latent_q', 'use_latent_kv', papers='2405.04434'),
    *rows('A', None, 'dim_latent_q', 'dim_latent_kv', 'latent_rope_subheads', papers='2405.04434'),
    *rows('A', None, 'hybrid_module', 'hybrid_mask_kwarg', 'hybrid_fold_axial_dim', papers='2411.13676'),
    *rows('A', False, 'onnxable'),
    # feed-forward
    *rows('F', None, 'dim_out'),
    *rows('F', 4, 'mult'),
    *rows('F', False, 'glu', 'glu_mult_bias', papers='2002.05202'),
    *rows('F', False, 'swish', papers='1710.05941 2002.05202'),
    *rows('F', False, 'relu_squared', papers='2109.08668'),
    *rows('F', False, 'post_act_ln', papers='2110.09456'),
    *rows('F', False, 'no_bias', papers='2204.02311'),
]
NOTHING_TO_SWITCH = {  # no example: sizes that must be given, and what is only accepted or only for use outside of a stack
    'L dim', 'L depth', 'A dim', 'A heads', 'F dim', 'A dim_out', 'F dim_out', 'L pre_norm_has_final_norm', 'L disable_abs_pos_emb',
    'A onnxable', 'A qkv_receive_diff_residuals', 'A hybrid_mask_kwarg',
}  # fmt: skip
FORWARD = (  # inputs of a layer stack
    'context', 'context_mask', 'context_pos', 'mask', 'attn_mask', 'self_attn_kv_mask', 'seq_start_pos', 'mems', 'mem_masks', 'cache',
    'cache_age', 'pos', 'rotary_pos_emb', 'attn_bias', 'condition', 'in_attn_cond', 'return_hiddens', 'layers_execute_order',
)  # fmt: skip
CLASSES = {'L': AttentionLayers, 'A': Attention, 'F': FeedForward}
PREFIXES = {'L': ('',), 'A': ('attn_', 'cross_attn_'), 'F': ('ff_',)}
TAKEN = {where: {entry.name: entry for entry in catalogue(cls.config_class)} for where, cls in CLASSES.items()}


def entry_of(row: Row) -> Entry | None:
    """The flag as a layer stack names it; where the stack decides it, as the part itself does."""
    in_stack = (TAKEN['L'].get(prefix + row.name) for prefix in PREFIXES[row.where])
    return next(filter(None, in_stack), TAKEN[row.where].get(row.name))


PRESENT = [row for row in INDEX if row.name in TAKEN[row.where]]


def test_the_index_names_no_flag_twice() -> None:
    assert len({str(row) for row in INDEX}) == len(INDEX)
    assert {str(row) for row in INDEX} >= NOTHING_TO_SWITCH


@pytest.mark.parametrize('row', PRESENT, ids=str)
def test_a_flag_has_type_default_sentence_paper_and_example(row: Row) -> None:
    entry = entry_of(row)
    assert entry is not None
    assert in_code(entry.type) and entry.doc.endswith('.')
    assert row.default == (REQUIRED if entry.required else entry.default)
    assert not row.papers or entry.paper in row.papers
    assert entry.example or str(row) in NOTHING_TO_SWITCH


def test_no_flag_of_the_index_is_absent() -> None:
    assert [str(row) for row in INDEX if row not in PRESENT] == []


def test_no_input_of_the_index_is_absent() -> None:
    taken = inspect.signature(AttentionLayers.forward).parameters
    assert [name for name in FORWARD if name not in taken] == []
    assert 'prefix_attn_len' in inspect.signature(PrefixDecoder.forward).parameters
