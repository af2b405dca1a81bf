"""Small functions, each against what its name says, and every name that code around 2.0.1 imports."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from x_transformers.attend import create_causal_mask, qk_l2_dist_squared, selective_attn
from x_transformers.attention.scores import naive_select
from x_transformers.toolbox import eval_decorator, evaluating, once
from x_transformers.x_transformers import (
    LinearNoBias,
    Sequential,
    always,
    cast_tuple,
    default,
    equals,
    group_by_key_prefix,
    init_zero_,
    log,
    masked_mean,
    max_neg_value,
    maybe,
    not_equals,
    or_reduce,
    pad_at_dim,
    pick_and_pop,
    shift,
)


def names(text: str) -> list[str]:
    return text.split()


OLD_PATHS = {
    'x_transformers': names("""
        AutoregressiveWrapper DEFAULT_DIM_HEAD LinearNoBias Sequential always at_most_one_of calc_entropy calc_z_loss cast_tuple default
        divisible_by dropout_seq equals exists first group_by_key_prefix group_dict_by_key groupby_prefix_and_trim init_zero_ is_empty
        l2norm log masked_mean max_neg_value maybe not_equals or_reduce pad_at_dim pick_and_pop shift string_begins_with einsum nn pack
        rearrange reduce repeat unpack
        TransformerWrapper ViTransformerWrapper XTransformer TokenEmbedding AbsolutePositionalEmbedding ScaledSinusoidalEmbedding
        AttentionLayers Encoder Decoder PrefixDecoder CrossAttender Attention FeedForward GLU ReluSquared RelativePositionBias CoPE
        DynamicPositionBias AlibiPositionalBias DataDependentAlibi PerRowDataDependentAlibi RotaryEmbedding rotate_half
        apply_rotary_pos_emb LayerNorm AdaptiveLayerNorm ScaleNorm RMSNorm AdaptiveRMSNorm SimpleRMSNorm MultiheadRMSNorm Scale
        Residual GRUGating HyperConnection ShiftTokens FoldAxially LayerScale AdaptiveLayerScale ConcatCombine LayerIntermediates
        Attend Intermediates softclamp
    """),
    'attend': names("""
        Attend Intermediates at_most_one_of compact create_causal_mask default exists onnx_create_causal_mask once one_hot_straight_through
        pack_one print_once qk_l2_dist_squared selective_attn softclamp sparse_topk_attn unpack_one
    """),
    'continuous': names("""
        AbsolutePositionalEmbedding AttentionLayers ContinuousAutoregressiveWrapper ContinuousTransformerWrapper LayerNorm
        ScaledSinusoidalEmbedding always default exists masked_mean pad_at_dim
    """),
    'xval': names("""
        AbsolutePositionalEmbedding AttentionLayers GenerateReturn LossBreakdown ScaledSinusoidalEmbedding TokenEmbedding
        XValAutoregressiveWrapper XValTransformerWrapper always default exists top_k top_p
    """),
    'multi_input': names("""
        AbsolutePositionalEmbedding AttentionLayers LayerIntermediates LayerNorm MultiInputTransformerWrapper ScaledSinusoidalEmbedding
        always default exists is_empty pad_at_dim
    """),
    'autoregressive_wrapper': names("""
        AutoregressiveWrapper FILTER_LOGITS_FN align_right cast_tuple contrastive_decode_fn default eval_decorator exists identity join
        min_p pack top_a top_k top_p unpack
    """),
    'xl_autoregressive_wrapper': names('XLAutoregressiveWrapper divisible_by eval_decorator exists top_k top_p'),
    'nonautoregressive_wrapper': names("""
        Losses NonAutoregressiveWrapper SelfCritic TransformerWrapper coin_flip cosine_schedule default exists get_mask_subset_prob
        gumbel_noise gumbel_sample linear_schedule log sample_prob top_k
    """),
    'dpo': names('DPO TransformerWrapper exists freeze_all_layers_ log_prob_from_model_and_seq masked_mean maybe_and_mask'),
    'neo_mlp': names('Encoder NeoMLP RandomFourierEmbed default exists'),
}


@pytest.mark.parametrize('module', OLD_PATHS)
def test_names_are_where_code_around_2_0_1_imports_them_from(module: str) -> None:
    there = importlib.import_module(f'x_transformers.{module}')
    assert [name for name in OLD_PATHS[module] if not hasattr(there, name) or name not in there.__all__] == []


def test_a_star_import_brings_them_too() -> None:
    brought: dict[str, Any] = {}
    exec('from x_transformers.autoregressive_wrapper import *', brought)
    assert {'AutoregressiveWrapper', 'top_k', 'top_p', 'eval_decorator', 'exists', 'torch', 'nn', 'F'} <= set(brought)


def test_values() -> None:
    assert default(None, 3) == 3 and default(0, 3) == 0
    assert cast_tuple(1, 2) == (1, 1) and cast_tuple((1,), 2) == (1,)
    assert maybe(abs)(None) is None and maybe(abs)(-2) == 2
    assert always(4)(1, key=2) == 4 == always(4).val
    assert equals(1)(1) and not_equals(1)(2) and not not_equals(1)(1)
    calls: list[int] = []
    note = once(calls.append)
    note(1)
    note(2)
    assert calls == [1]


def test_dictionaries() -> None:
    d = {'enc_a': 1, 'dec_b': 2, 'c': 3}
    assert group_by_key_prefix('enc_', d) == ({'enc_a': 1}, {'dec_b': 2, 'c': 3})
    assert pick_and_pop(['c'], d) == {'c': 3} and d == {'enc_a': 1, 'dec_b': 2}
    with pytest.raises(KeyError):
        pick_and_pop(['c'], d)


def test_means_of_what_a_mask_keeps() -> None:
    t, mask = torch.randn(2, 4, 3), torch.tensor([[True, True, False, True], [False] * 4])
    assert torch.allclose(masked_mean(t), t.mean(dim=1))
    assert torch.allclose(masked_mean(t, mask)[0], t[0, [0, 1, 3]].mean(dim=0)) and not masked_mean(t, mask)[1].any()


@pytest.mark.parametrize('dim', [0, 1, -1, -2])
def test_padding_of_one_axis(dim: int) -> None:
    t = torch.randn(2, 3, 4)
    padded = pad_at_dim(t, (1, 2), dim=dim, value=7.0)
    assert padded.shape[dim] == t.shape[dim] + 3
    assert torch.equal(padded.narrow(dim, 1, t.shape[dim]), t) and bool((padded.narrow(dim, 0, 1) == 7).all())


def test_tensors() -> None:
    assert log(torch.zeros(1)).isfinite().all() and max_neg_value(torch.zeros(1, dtype=torch.float64)) == torch.finfo(torch.float64).min
    masks = [torch.tensor([True, False, False]), torch.tensor([False, True, False])]
    assert or_reduce(masks).tolist() == [True, True, False]
    layer = LinearNoBias(2, 3)
    assert layer.bias is None
    init_zero_(layer)
    assert not layer.weight.any() and len(Sequential(layer, None)) == 1


def test_tokens_move_and_zeros_take_their_place() -> None:
    t = torch.arange(1.0, 4.0).view(1, 3, 1)
    moved = lambda *how: shift(t, *how).flatten().tolist()
    assert moved(1) == [0, 1, 2] and moved(-1) == [2, 3, 0] and moved(9) == [0, 0, 0] and moved(0) == [1, 2, 3]
    assert moved(1, torch.tensor([[True, False, True]])) == [0, 1, 0]


def test_the_functions_of_attention_alone() -> None:
    assert create_causal_mask(2, 3, torch.device('cpu')).tolist() == [[False, False, True], [False, False, False]]
    q, k = torch.randn(1, 2, 3, 4, dtype=torch.float64), torch.randn(1, 2, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(qk_l2_dist_squared(q, k), torch.cdist(q, k).square())
    sim = torch.randn(1, 2, 5, 5, dtype=torch.float64).masked_fill(create_causal_mask(5, 5, torch.device('cpu')), -1e300)
    torch.testing.assert_close(selective_attn(sim), naive_select(sim))


def test_every_module_gets_its_mode_back_also_after_an_error() -> None:
    class Model(nn.Sequential):
        @eval_decorator
        def run(self, fails: bool) -> list[bool]:
            if fails:
                raise RuntimeError
            return [part.training for part in self.modules()]

    model = Model(nn.Linear(1, 1), nn.Sequential(nn.Dropout())).train()
    model[0].eval()
    modes = [part.training for part in model.modules()]
    assert model.run(fails=False) == [False] * 4 and Model.run.__name__ == 'run'
    with pytest.raises(RuntimeError):
        model.run(fails=True)
    assert [part.training for part in model.modules()] == modes
    with evaluating(model):
        model[1].train()  # what is switched inside is the caller's business only while it lasts
    assert [part.training for part in model.modules()] == modes
