"""What a user can get wrong: the class of the error, and the words that must stand in its one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from x_transformers import Attention, AutoregressiveWrapper, Decoder, Encoder, FeedForward, TransformerWrapper
from x_transformers.errors import BackendError, DecodeError, FlagError, InputError
from x_transformers.layers import AttentionLayers, LayerIntermediates

IDS = torch.arange(16).view(2, 8)
X = torch.zeros(2, 8, 16)


def stack(**flags: Any) -> Decoder:
    return Decoder(**{'dim': 16, 'depth': 1, 'heads': 2, **flags})


def net(**flags: Any) -> TransformerWrapper:
    return TransformerWrapper(**{'num_tokens': 32, 'max_seq_len': 16, 'attn_layers': stack(), **flags})


def model(**flags: Any) -> AutoregressiveWrapper:
    return AutoregressiveWrapper(net(), **flags)


def state_of(layers: int = 1) -> Any:
    return stack(depth=layers)(X, return_state=True)[1]


FLAGS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    'a misspelt flag': (lambda: stack(attn_flsh=True), ("'attn_flsh'", "did you mean 'attn_flash'?")),
    'a misspelt flag of the stack': (lambda: stack(rotary_pos_embd=True), ("'rotary_pos_embd'", "'rotary_pos_emb'")),
    'a misspelt flag of feed-forward': (lambda: stack(ff_glue=True), ("'ff_glue'", "'ff_glu'")),
    'a flag of another library': (lambda: stack(flash_attn=True), ("'flash_attn'", 'catalogue')),
    'a misspelt flag of the model': (lambda: net(num_tokns=3), ("'num_tokns'", "'num_tokens'")),
    'a misspelt flag of training': (lambda: model(mask_probs=0.1), ("'mask_probs'", "'mask_prob'")),
    'a misspelt flag of attention alone': (lambda: Attention(16, hedas=3), ("'hedas'", "'heads'")),
    'a misspelt flag of feed-forward alone': (lambda: FeedForward(16, muld=2), ("'muld'", "'mult'")),
    'xPos and learned keys': (lambda: stack(rotary_xpos=True, attn_num_mem_kv=2), ('rotary_xpos=True', 'attn_num_mem_kv=2')),
    'xPos on distances': (lambda: stack(rotary_xpos=True, attn_l2_distance=True), ('rotary_xpos=True', 'attn_l2_distance=True')),
    'a bias without self-attention': (
        lambda: stack(cross_attend=True, only_cross=True, rel_pos_bias=True), ('rel_pos_bias=True', 'cf', 'self-attention')),
    'two norms': (lambda: stack(use_rmsnorm=True, use_scalenorm=True), ('use_rmsnorm=True', 'use_scalenorm=True', 'Keep one')),
    'two biases': (lambda: stack(alibi_pos_bias=True, rel_pos_bias=True), ('alibi_pos_bias=True', 'rel_pos_bias=True')),
    'two normalisers': (lambda: stack(attn_hard=True, attn_sparse_topk=2), ('attn_hard=True', 'attn_sparse_topk=2')),
    'two key/value counts': (lambda: stack(attn_one_kv_head=True, attn_kv_heads=2), ('attn_one_kv_head=True', 'attn_kv_heads=2')),
    'two residuals': (lambda: stack(gate_residual=True, resi_dual=True), ('gate_residual=True', 'resi_dual=True')),
    'two layouts': (lambda: stack(depth=3, sandwich_coef=1, par_ratio=2), ('par_ratio=2', 'sandwich_coef=1')),
    'sandwich norm in a post-norm stack': (lambda: stack(sandwich_norm=True, pre_norm=False), ('sandwich_norm=True', 'pre_norm')),
    'ResiDual and post-norm': (lambda: stack(resi_dual=True, pre_norm=False), ('pre_norm=False', 'resi_dual=True')),
    'tied layers in an order': (
        lambda: stack(weight_tie_layers=True, layers_execute_order=(0, 1)), ('weight_tie_layers=True', 'layers_execute_order=(0, 1)')),
    'a string for a number': (lambda: stack(depth='six'), ("depth='six'", 'a whole number')),
    'a negative depth': (lambda: stack(depth=-1), ('depth=-1', 'at least 1')),
    'half a head': (lambda: stack(heads=2.5), ('heads=2.5', 'a whole number')),
    'no width': (lambda: Decoder(depth=1), ("'dim' is required",)),
    'a width of nothing': (lambda: stack(dim=None), ('dim=None', 'a whole number')),
    'no depth': (lambda: Decoder(dim=8), ("'depth' is required", 'custom_layers')),
    'a causal of your own': (lambda: stack(causal=True), ("'causal' cannot be set", 'Decoder')),
    'heads by prefix': (lambda: stack(attn_heads=2), ("'attn_heads' cannot be set", 'Leave it out')),
    'causal cross-attention': (lambda: stack(cross_attn_causal=True), ("'cross_attn_causal' cannot be set",)),
    'a context width for self-attention': (lambda: stack(attn_dim_context=4), ("'attn_dim_context'", 'cross-attention only')),
    'a window in cross-attention': (lambda: stack(cross_attn_max_attend_past=2), ("'cross_attn_max_attend_past'", 'self-attention only')),
    'key heads that do not divide': (lambda: stack(attn_kv_heads=3), ('attn_kv_heads=3', 'divide')),
    'norm groups that do not divide': (lambda: stack(attn_qk_norm=True, attn_qk_norm_groups=5), ('attn_qk_norm_groups=5', 'divide')),
    'more ALiBi heads than heads': (lambda: stack(alibi_pos_bias=True, alibi_num_heads=9), ('alibi_num_heads=9', 'fewer heads')),
    'more turned features than a head has': (lambda: stack(rotary_pos_emb=True, rotary_emb_dim=99), ('rotary_emb_dim=99', 'attn_dim_head')),
    'buckets beyond the distance': (
        lambda: stack(rel_pos_bias=True, rel_pos_num_buckets=200), ('rel_pos_num_buckets=200', 'rel_pos_max_distance')),
    'xPos looking ahead': (lambda: Encoder(dim=16, depth=1, rotary_xpos=True), ('rotary_xpos=True', 'Decoder')),
    'stretching by less than one': (lambda: stack(rotary_interpolation_factor=0.5), ('rotary_interpolation_factor=0.5', 'at least 1')),
    'an unknown layer': (lambda: Decoder(dim=16, custom_layers=('a', 'x')), ("'x'", 'self-attention')),
    'cross-attention without a context': (lambda: Decoder(dim=16, custom_layers='acf'), ("custom_layers='acf'", 'cross_attend=True')),
    'only cross-attention of none': (lambda: stack(only_cross=True), ('only_cross=True', 'cross_attend=True')),
    'an order beyond the layers': (lambda: stack(layers_execute_order=(0, 5)), ('layer 5', '2 layers')),
    'a shift for too few layers': (lambda: stack(shift_tokens=(1,)), ('shift_tokens=(1,)', '2 layers')),
    'a chance above one': (lambda: stack(layer_dropout=1.5), ('layer_dropout=1.5', 'at most 1')),
    'a branch of another width': (lambda: stack(ff_dim_out=4), ('ff_dim_out=4', 'Leave it out')),
    'an unknown kernel': (lambda: stack(attn_attend_sdp_kwargs={'foo': True}), ("{'foo': True}", 'enable_flash')),
    'slopes for other heads': (lambda: stack(alibi_pos_bias=True, rel_pos_kwargs={'slopes': [1.0]}), ('slopes=[1.0]', '2 heads')),
    'a context that no layer looks at': (
        lambda: stack(cross_attend=True, depth=None, custom_layers=('a', 'f')), ("custom_layers=('a', 'f')", 'cross_attend=True'),
    ),
    'a logarithm of mixed weights': (
        lambda: stack(attn_laser=True, attn_post_talking_heads=True), ('attn_laser=True', 'attn_post_talking_heads=True', 'logarithm'),
    ),
    'a decay that learned keys do not have': (
        lambda: stack(cross_attend=True, rotary_xpos=True, cross_attn_num_mem_kv=2),
        ('rotary_xpos=True', 'cross_attn_num_mem_kv=2', 'rotary_pos_emb=True'),
    ),
    'a loss without logits': (
        lambda: AutoregressiveWrapper(net(return_only_embed=True), mask_prob=0.5), ('mask_prob=0.5', 'return_only_embed=True'),
    ),
    'an argument given twice': (lambda: AttentionLayers(16, 1, 2, depth=2), ("'depth'", 'by position and by keyword')),
    'a model without layers': (lambda: TransformerWrapper(num_tokens=3, max_seq_len=4), ("'attn_layers' is required",)),
    'layers that are none': (lambda: net(attn_layers=torch.nn.Identity()), ('attn_layers=Identity()', 'AttentionLayers')),
    'a tied table of another width': (lambda: net(tie_embedding=True, emb_dim=8), ('tie_embedding=True', 'width')),
    'sinusoids of odd width': (lambda: net(scaled_sinu_pos_emb=True, emb_dim=9), ('even', '9')),
    'hiding everything': (lambda: model(mask_prob=1.0), ('mask_prob=1.0', 'less than 1')),
    'training no model': (lambda: AutoregressiveWrapper(stack()), ('net=Decoder', 'TransformerWrapper')),
}  # fmt: skip

UNFUSABLE = {
    'attn_pre_talking_heads': True, 'attn_post_talking_heads': True, 'attn_pre_scale_post_talking_heads': True,
    'attn_softclamp_logits': True,
    'attn_sparse_topk': 2, 'attn_hard': True, 'attn_sigmoid': True, 'residual_attn': True,
}  # fmt: skip

INPUTS: dict[str, tuple[type[Exception], Callable[[], Any], tuple[str, ...]]] = {
    'a sequence that is too long': (
        InputError, lambda: net()(torch.zeros(1, 17).long()), ('17 tokens', 'max_seq_len=16', 'rotary_pos_emb')),
    'a token beyond the vocabulary': (InputError, lambda: net()(IDS + 30), ('token id 45', 'num_tokens=32', '0 to 31')),
    'a negative token': (InputError, lambda: net()(IDS - 5), ('token id -5', 'num_tokens=32')),
    'floats where ids belong': (InputError, lambda: net()(IDS.float()), ('torch.float32', 'token ids')),
    'one sequence without a batch': (InputError, lambda: net()(IDS[0]), ('(8,)', 'token ids (batch, length)')),
    'a list': (InputError, lambda: net()([1, 2]), ('list', 'tensor')),
    'no sequence': (InputError, lambda: net()(IDS[:0]), ('(0, 8)', 'at least one sequence')),
    'no token': (InputError, lambda: net()(IDS[:, :0]), ('(2, 0)', 'at least one token')),
    'a mask of another length': (InputError, lambda: net()(IDS, mask=torch.ones(2, 7).bool()), ('mask', '(2, 7)', '(2, 8)')),
    'a mask of floats': (InputError, lambda: net()(IDS, mask=torch.ones(2, 8)), ('mask', 'torch.float32', 'torch.bool')),
    'an attention mask of another size': (InputError, lambda: net()(IDS, attn_mask=torch.ones(3, 3).bool()), ('attn_mask', '(3, 3)', '8')),
    'padding for other rows': (InputError, lambda: net()(IDS, seq_start_pos=torch.zeros(3).long()), ('seq_start_pos', '(3,)')),
    'positions of another type': (InputError, lambda: net()(IDS, pos=torch.ones(8).bool()), ('pos', 'torch.bool', 'numbers')),
    'positions beyond the table': (InputError, lambda: net()(IDS, pos=torch.arange(8) + 100), ('100 to 107', 'max_seq_len=16')),
    'a temperature beyond all': (InputError, lambda: model().generate(IDS, 2, temperature=float('nan')), ('temperature=nan',)),
    'a context nobody reads': (InputError, lambda: net()(IDS, context=X), ('context', 'cross_attend=True')),
    'no context': (InputError, lambda: stack(cross_attend=True)(X), ('context is missing', 'cross_attend=True')),
    'a context of another width': (InputError, lambda: stack(cross_attend=True)(X, context=torch.zeros(2, 3, 9)), ('(2, 3, 9)', '16')),
    'embeddings of another width': (InputError, lambda: stack()(torch.zeros(2, 8, 9)), ('(2, 8, 9)', 'dim=16')),
    'memories in one tensor': (InputError, lambda: net()(IDS, mems=torch.zeros(1)), ('mems', 'list')),
    'memories of another width': (InputError, lambda: stack()(X, mems=[torch.zeros(2, 3, 9)]), ('mems', '(2, 3, 9)')),
    'embeddings ahead of another width': (InputError, lambda: net()(IDS, prepend_embeds=torch.zeros(2, 3, 9)), ('prepend_embeds', '16')),
    'logits of a headless model': (
        InputError, lambda: net(return_only_embed=True)(IDS, return_logits_and_embeddings=True), ('no head', 'return_only_embed')),
    'learning from one token': (InputError, lambda: model()(IDS[:, :1]), ('(2, 1)', 'at least two tokens')),
    'learning from floats': (InputError, lambda: model()(IDS.float()), ('torch.float32', 'token ids')),
    'a prompt that is too long': (
        DecodeError, lambda: model().generate(torch.zeros(1, 20).long(), 4), ('20 tokens', 'max_seq_len=16', 'cache_kv=False')),
    'more than fits': (DecodeError, lambda: model().generate(IDS, 20), ('8 tokens', 'seq_len=20', 'max_seq_len=16')),
    'an empty prompt': (InputError, lambda: model().generate(IDS[:, :0], 2), ('(2, 0)', 'at least one token')),
    'a prompt of floats': (InputError, lambda: model().generate(IDS.float(), 2), ('token ids', 'torch.float32')),
    'an unknown filter': (InputError, lambda: model().generate(IDS, 2, filter_logits_fn='foo'), ("'foo'", 'top_k')),
    'a filter that keeps nothing': (InputError, lambda: model().generate(IDS, 2, filter_kwargs={'k': 0}), ('k=0', 'at least one')),
    'a negative temperature': (InputError, lambda: model().generate(IDS, 2, temperature=-1.0), ('temperature=-1.0', '0')),
    'a temperature in words': (InputError, lambda: model().generate(IDS, 2, temperature='hot'), ("temperature='hot'", 'a number')),
    'a negative length': (InputError, lambda: model().generate(IDS, -2), ('seq_len=-2', 'number of tokens')),
    'prompts longer than they are': (
        InputError, lambda: model().generate(IDS, 2, prompt_lens=torch.tensor([9, 2])), ('prompt_lens=[9, 2]', '1 to 8')),
    'lengths of other prompts': (
        InputError, lambda: model().generate(IDS, 2, prompt_lens=torch.tensor([2])), ('prompt_lens', '(1,)', '(2)')),
    'contrasts without amateurs': (
        InputError, lambda: model().generate(IDS, 2, contrastive_decode_kwargs=({}, {})), ('contrastive_decode_kwargs', '0 amateur')),
    'too little room': (
        DecodeError, lambda: net()(IDS, state=net().empty_state(capacity=3), return_state=True), ('capacity=3', '8 tokens')),
    'a state of other layers': (DecodeError, lambda: stack()(X, state=state_of(2)), ('4 executed layers', 'runs 2')),
    'a state of another batch': (DecodeError, lambda: stack()(X[:1], state=state_of()), ('batch of 2', '1 rows', 'reorder')),
    'an attention mask for what is past': (
        DecodeError, lambda: stack()(X, state=state_of(), attn_mask=torch.ones(8, 8).bool()), ('attn_mask', 'whole sequence')),
    'an encoder in pieces': (
        DecodeError, lambda: Encoder(dim=16, depth=1)(X, return_state=True), ('Encoder looks at later tokens', 'Decoder')),
    'a cache of nothing': (DecodeError, lambda: stack()(X, cache=LayerIntermediates()), ('cache holds no state',)),
    'rewinding too far': (DecodeError, lambda: state_of().rewind(40), ('rewind(40)', '8 tokens')),
    'angles for half of attention': (
        InputError, lambda: Attention(dim=16)(X, context=X, rotary_pos_emb=(torch.zeros(1, 8, 4), 1.0)), ('context_rotary_pos_emb',)),
    'an order that is none, at call time': (FlagError, lambda: stack()(X, layers_execute_order=(7,)), ('layer 7', '2 layers')),
}  # fmt: skip


def says(error: Exception, words: tuple[str, ...]) -> None:
    text = str(error)
    assert [word for word in words if word not in text] == [], text
    assert '\n' not in text


@pytest.mark.parametrize('case', FLAGS)
def test_a_wrong_flag_is_quoted_with_the_way_out(case: str) -> None:
    build, words = FLAGS[case]
    with pytest.raises(FlagError) as caught:
        build()
    says(caught.value, words)


@pytest.mark.parametrize('name', UNFUSABLE)
def test_a_fused_kernel_that_cannot_names_the_flag(name: str) -> None:
    with pytest.raises(BackendError) as caught:
        stack(**{name: UNFUSABLE[name], 'attn_flash': True})
    says(caught.value, ('attn_flash=True', f'{name}={UNFUSABLE[name]!r}', 'attn_flash=False'))


@pytest.mark.parametrize('case', INPUTS)
def test_a_wrong_input_is_quoted_with_the_way_out(case: str) -> None:
    kind, run, words = INPUTS[case]
    with pytest.raises(kind) as caught:
        run()
    says(caught.value, words)
