"""Misuses beyond the first table: each is answered by one sentence before any linear layer has run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import (
    DPO,
    Attention,
    AutoregressiveWrapper,
    CrossAttender,
    Decoder,
    Encoder,
    FeedForward,
    NeoMLP,
    NonAutoregressiveWrapper,
    PrefixDecoder,
    TransformerWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
)
from x_transformers.attend import Attend
from x_transformers.errors import BackendError, DecodeError, FlagError, InputError
from x_transformers.layerscale import AdaptiveLayerScale
from x_transformers.norms import AdaptiveRMSNorm
from x_transformers.residuals import ResiDual
from x_transformers.x_transformers import (
    AlibiPositionalBias,
    DynamicPositionBias,
    RelativePositionBias,
    RotaryEmbedding,
    ScaledSinusoidalEmbedding,
    TokenEmbedding,
)

torch.set_num_threads(1)
Row = tuple[type[Exception], Callable[[], Any], tuple[str, ...]]


def decoder(**flags: Any) -> Decoder:
    return Decoder(**{'dim': 16, 'heads': 4, 'attn_dim_head': 8, 'depth': 1, **flags})


def encoder(**flags: Any) -> Encoder:
    return Encoder(dim=16, heads=4, attn_dim_head=8, depth=1, **flags)


def wrapper(**flags: Any) -> TransformerWrapper:
    return TransformerWrapper(**{'num_tokens': 11, 'max_seq_len': 8, 'attn_layers': decoder(), **flags}).eval()


def ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


class Forgetful(nn.Sequential):
    carries_state = True  # and nothing to begin with


# models and states that rows share: the rows themselves compute nothing
STACK, CROSS, SHIFTED, ENCODER = decoder(), decoder(cross_attend=True), decoder(shift_tokens=1), encoder()
ROTARY, DEEP = decoder(rotary_pos_emb=True), decoder(depth=2)
CONDITIONED, REINJECTED = decoder(use_adaptive_rmsnorm=True, dim_condition=6), decoder(reinject_input=True)
BUCKETS = decoder(rel_pos_bias=True)
CROSS_ROTARY, WIDE_HEADS = decoder(cross_attend=True, rotary_pos_emb=True), decoder(heads=2, attn_dim_head=16)
LATENT = decoder(attn_use_latent_kv=True, attn_dim_latent_kv=4)
PREFIX = PrefixDecoder(dim=16, depth=1, heads=4, attn_dim_head=8)
ATTENTION, ATTEND = Attention(16, heads=4, dim_head=8), Attend()
Q = torch.zeros(2, 4, 3, 8)
NET, HEADLESS = wrapper(), wrapper(return_only_embed=True)
MODEL = AutoregressiveWrapper(NET)
ROTARY_MODEL, OTHER = AutoregressiveWrapper(wrapper(attn_layers=ROTARY)), wrapper(num_tokens=7)
CRITIC = {'self_token_critic': True}
MASKED, CRITICAL = (NonAutoregressiveWrapper(wrapper(attn_layers=ENCODER), mask_id=10, **flags) for flags in ({}, CRITIC))
XL, PREFERENCE = XLAutoregressiveWrapper(wrapper(max_mem_len=8)), DPO(wrapper())
NEO = NeoMLP(dim_in=3, dim_hidden=2, dim_out=1, dim_model=16, depth=1)
X, ALLOWED = torch.zeros(2, 4, 16), torch.ones(4, 4, dtype=torch.bool)
with torch.no_grad():
    _, STATE = STACK(X, return_state=True)
    _, SHIFT_STATE = SHIFTED(X, return_state=True)
    _, CONDITIONED_STATE = CONDITIONED(X, condition=torch.zeros(2, 6), return_state=True)
    _, FULL_STATE = NET(ids(2, 8), return_state=True)
    _, WIDE_STATE = WIDE_HEADS(X, return_state=True)
    _, WIDE_CACHE = WIDE_HEADS(X, return_hiddens=True)
    _, CACHE = STACK(X, return_hiddens=True)
    _, ENCODED = ENCODER(X, return_hiddens=True)

ANGLES = ROTARY.rotary_pos_emb.forward_from_seq_len(3)

PLACE = 'fill the same place'
FLAGS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    'a misspelt flag of cross-attention': (lambda: decoder(cross_attn_qk_nrm=True), ("did you mean 'cross_attn_qk_norm'?",)),
    'a prefix alone': (lambda: decoder(attn_=True), ("unknown flag 'attn_'",)),
    'a prefix at attention itself': (lambda: Attention(16, attn_flash=True), ("unknown flag 'attn_flash'; did you mean 'flash'?",)),
    'a flag of attention without its prefix': (
        lambda: decoder(qk_norm=True), ("unknown flag 'qk_norm'; did you mean 'attn_qk_norm' or 'cross_attn_qk_norm'?",)
    ),
    'the width of attention in a stack': (lambda: decoder(attn_dim=2), ("'attn_dim' cannot be set", 'Leave it out')),
    'a cross-attender told not to attend': (lambda: CrossAttender(dim=16, depth=1, cross_attend=False), ("'cross_attend' cannot be set",)),
    'too many values by position': (lambda: FeedForward(*[16] * 12), ('at most 11 positional', 'use keywords')),
    'a ready config and a flag': (lambda: Decoder(STACK.config, depth=2), ('ready DecoderConfig', 'depth')),
    'the config of another class': (lambda: Encoder(STACK.config), ('DecoderConfig', 'EncoderConfig')),
    'no width of attention': (lambda: Attention(heads=4), ("'dim' is required",)),
    'no width of feed-forward': (lambda: FeedForward(), ("'dim' is required",)),
    'no length': (lambda: TransformerWrapper(num_tokens=8, attn_layers=STACK), ("'max_seq_len' is required",)),
    'no model to train': (lambda: AutoregressiveWrapper(), ("'net' is required",)),
    'no vocabulary': (lambda: wrapper(num_tokens=None), ('num_tokens=None', 'token_emb')),
    'no head': (lambda: wrapper(num_tokens=None, token_emb=TokenEmbedding(16, 4)), ('num_tokens=None', 'logits_dim')),
    'a number for a switch': (lambda: decoder(ff_glu=2), ('ff_glu=2', 'expected True or False')),
    'a word for a number': (lambda: decoder(ff_mult='4'), ("ff_mult='4'", 'expected a number')),
    'negative dropout': (lambda: decoder(attn_dropout=-0.1), ('attn_dropout=-0.1', 'at least 0')),
    'dropout that is no number': (lambda: decoder(attn_dropout=float('nan')), ('attn_dropout=nan', 'at least 0')),
    'a negative window': (lambda: decoder(attn_max_attend_past=-1), ('attn_max_attend_past=-1', 'at least 0')),
    'top zero': (lambda: decoder(attn_sparse_topk=0), ('attn_sparse_topk=0', 'at least 1')),
    'no hidden feature': (lambda: decoder(ff_mult=0.01), ('ff_mult=0.01', 'Raise it')),
    'a word for a function': (lambda: decoder(attn_custom_attn_fn='softmax'), ("attn_custom_attn_fn='softmax'", 'a function')),
    'more turned heads than heads': (lambda: decoder(rotary_pos_emb=True, attn_rotate_num_heads=8), ('attn_rotate_num_heads=8', 'fewer')),
    'an unknown keyword of a bias': (lambda: decoder(dynamic_pos_bias=True, rel_pos_kwargs={'layers': 2}), ('rel_pos_kwargs', 'layers')),
    'an unknown keyword of a residual': (lambda: decoder(residual_fn_kwargs={'scaling': 2}), ('residual_fn_kwargs', 'scaling')),
    'an odd width that fills the head': (
        lambda: decoder(attn_dim_head=7, rotary_pos_emb=True, rotary_emb_dim=7), ('rotary_emb_dim=7', 'even')),
    'a negative length': (lambda: wrapper(max_seq_len=-1), ('max_seq_len=-1', 'at least 0')),
    'a negative share of hidden tokens': (lambda: AutoregressiveWrapper(NET, mask_prob=-0.5), ('mask_prob=-0.5', 'at least 0')),
    'sinusoids of odd width': (lambda: ScaledSinusoidalEmbedding(7), ('even width', 'dim=7')),
    'rotary that shrinks positions': (lambda: RotaryEmbedding(8, interpolation_factor=0.5), ('interpolation_factor=0.5', 'at least 1')),
    'a dynamic bias without a layer': (lambda: DynamicPositionBias(8, heads=2, depth=0), ('depth=0', 'at least one')),
    'slopes of another number': (lambda: AlibiPositionalBias(heads=4, slopes=[0.5]), ('slopes=[0.5]', '1 entries')),
    'talking heads of unknown number': (lambda: Attend(pre_talking_heads=True), ('pre_talking_heads=True', 'heads=')),
    'an unknown kernel of a core': (lambda: Attend(sdp_kwargs={'foo': True}), ("sdp_kwargs={'foo': True}", 'enable_flash')),
    'streams of another number': (
        lambda: decoder(num_residual_streams=2, residual_fn_kwargs={'num_residual_streams': 3}),
        ("residual_fn_kwargs={'num_residual_streams': 3}", 'expected keywords are tanh', 'Other flags')),
    'a scale in words': (
        lambda: decoder(residual_fn_kwargs={'scale_residual_constant': 'x'}),
        ('residual_fn_kwargs', 'scale_residual_constant must be a number')),
    'a keyword of a gate that is none': (lambda: decoder(gate_residual=True, residual_fn_kwargs={'gates': 2}), ("not 'gates'",)),
    'no bucket': (lambda: decoder(rel_pos_bias=True, rel_pos_kwargs={'num_buckets': 0}), ('num_buckets=0', 'max_distance=128')),
    'buckets that end where they begin': (lambda: RelativePositionBias(1.0, causal=True, max_distance=16), ('num_buckets=32', '=16')),
    'a bias of other heads': (
        lambda: decoder(rel_pos_bias=True, rel_pos_kwargs={'heads': 2}), ("rel_pos_kwargs={'heads': 2}", "not 'heads'", 'Other flags')),
    'slopes in letters': (lambda: decoder(alibi_pos_bias=True, rel_pos_kwargs={'slopes': 'abcd'}), ("slopes='abcd'", 'a number for each')),
    'an unknown keyword of ALiBi': (lambda: decoder(alibi_pos_bias=True, rel_pos_kwargs={'foo': 1}), ("{'foo': 1}", 'slopes')),
    'gates of other heads': (
        lambda: decoder(attn_data_dependent_alibi=True, attn_data_dependent_alibi_kwargs={'heads': 2}),
        ("attn_data_dependent_alibi_kwargs={'heads': 2}", 'bias_init, post_log_scale')),
    'gates that start at a word': (
        lambda: decoder(attn_data_dependent_alibi=True, attn_data_dependent_alibi_kwargs={'bias_init': 'x'}),
        ('attn_data_dependent_alibi_kwargs', 'bias_init must be a number')),
    'a start for gates that have none': (
        lambda: decoder(attn_data_dependent_alibi_per_row=True, attn_data_dependent_alibi_kwargs={'bias_init': 1.0}),
        ("not 'bias_init'", 'expected keywords are post_log_scale')),
    'a module that reads another width': (
        lambda: decoder(attn_hybrid_module=nn.GRU(9, 32, batch_first=True)), ('attn_hybrid_module=GRU(9, 32', 'input_size=dim')),
    'a module that puts out another width': (
        lambda: decoder(attn_hybrid_module=nn.LSTM(16, 30, batch_first=True)), ('attn_hybrid_module=LSTM(16, 30', 'attn_dim_head')),
    'a module without a first state': (
        lambda: decoder(attn_hybrid_module=Forgetful(nn.Linear(16, 32))), ('attn_hybrid_module=Forgetful', 'empty_state(x)', 'Define it')),
    'latents without a width': (lambda: decoder(attn_use_latent_kv=True), ('Give attn_dim_latent_kv',)),
    'key heads beside no latent': (
        lambda: decoder(cross_attend=True, cross_attn_latent_rope_subheads=1), ('Set cross_attn_use_latent_kv=True',)),
    'turned heads said twice': (
        lambda: decoder(attn_use_latent_kv=True, attn_dim_latent_kv=4, attn_latent_rope_subheads=1, attn_rotate_num_heads=2),
        ('Leave attn_rotate_num_heads out',)),
    'key heads beside fewer': (
        lambda: decoder(attn_use_latent_kv=True, attn_dim_latent_kv=4, attn_latent_rope_subheads=1, attn_kv_heads=2),
        ('leave out attn_kv_heads and attn_one_kv_head',)),
    'latents of attention alone': (lambda: Attention(16, use_latent_kv=True), ('Give dim_latent_kv',)),
    'gates by row that look ahead': (lambda: encoder(attn_data_dependent_alibi_per_row=True), ('or attn_data_dependent_alibi=True',)),
    'selective attention that looks ahead': (lambda: Attention(16, selective=True), ('selective=True', 'Use a Decoder', 'causal=True')),
    'contextual positions that look ahead': (lambda: Attention(16, use_cope=True), ('use_cope=True', 'Use a Decoder', 'causal=True')),
    'shares of what is looked at': (
        lambda: decoder(cross_attend=True, cross_attn_learned_value_residual_mix=True),
        ("'cross_attn_learned_value_residual_mix'", 'tokens that look', 'of the context')),
    'a flag of an encoder in a pair': (
        lambda: XTransformer(dim=16, enc_num_tokens=9, enc_depth=1, enc_max_seq_len=8, dec_num_tokens=9, dec_depth=1, dec_max_seq_len=8,
                             dec_attn_use_latent_q=True), ('dec_attn_use_latent_q=True', 'Give dec_attn_dim_latent_q')),
    'no layer at all': (lambda: Decoder(dim=16, custom_layers=()), ('custom_layers=()', 'no layer')),
    'an order of halves': (lambda: decoder(layers_execute_order=(0, 0.5)), ('layers_execute_order=(0, 0.5)',)),
    'an order of one number': (lambda: decoder(layers_execute_order=1), ('layers_execute_order=1', 'expected tuple')),
    'an order in letters': (lambda: decoder(layers_execute_order='01'), ("layers_execute_order='01'", 'expected tuple')),
    'a prefix decoder told to be causal': (
        lambda: PrefixDecoder(dim=16, depth=1, causal=True), ("'causal' cannot be set", 'PrefixDecoder decides it')),
    'an order of nothing': (lambda: decoder(layers_execute_order=()), ('layers_execute_order=()',)),
    'too few dropouts': (lambda: decoder(layer_dropout=(0.1,)), ('layer_dropout=(0.1,)', '1 entries', '2 layers')),
    'one dropout above one': (lambda: decoder(layer_dropout=(0.1, 1.5)), ('layer_dropout=(0.1, 1.5)', 'at most 1')),
    'a negative shift': (lambda: decoder(shift_tokens=-1), ('shift_tokens=-1', 'at least 0')),
    'more parts than features': (lambda: decoder(shift_tokens=16), ('shift_tokens=16', 'dim')),
    'a sandwich larger than depth': (lambda: decoder(sandwich_coef=2), ('sandwich_coef=2', 'exceed depth')),
    'a PAR ratio of one': (lambda: decoder(par_ratio=1), ('par_ratio=1', 'at least 2')),
    'a PAR ratio beyond the layers': (lambda: decoder(par_ratio=9), ('par_ratio=9', '2 to 2')),
    'depth said twice': (lambda: decoder(custom_layers='af', layers_execute_order=(0, 1)), ('custom_layers', 'leave out depth')),
    'shared weights without depth': (lambda: Decoder(dim=16, weight_tie_layers=True), ("'depth' is required",)),
    'scale and simple norm': (lambda: decoder(use_scalenorm=True, use_simple_rmsnorm=True), ('use_simple_rmsnorm=True', PLACE)),
    'ALiBi and dynamic bias': (lambda: decoder(alibi_pos_bias=True, dynamic_pos_bias=True), ('dynamic_pos_bias=True', PLACE)),
    'T5 and dynamic bias': (lambda: decoder(rel_pos_bias=True, dynamic_pos_bias=True), ('rel_pos_bias=True', PLACE)),
    'sandwich and ResiDual': (lambda: decoder(sandwich_norm=True, resi_dual=True), ('sandwich_norm=True', 'resi_dual=True', 'Keep one')),
    'sigmoid and hard': (lambda: decoder(attn_sigmoid=True, attn_hard=True), ('attn_sigmoid=True', 'attn_hard=True', PLACE)),
    'sigmoid and distance': (lambda: decoder(attn_sigmoid=True, attn_l2_distance=True), ('attn_l2_distance=True', PLACE)),
    'turned heads and fewer key heads': (
        lambda: decoder(rotary_pos_emb=True, attn_rotate_num_heads=2, attn_kv_heads=2),
        ('attn_rotate_num_heads=2', 'kv_heads', 'Leave out')),
    'custom and tied layers': (lambda: decoder(custom_layers='af', weight_tie_layers=True), ('custom_layers', 'weight_tie_layers=True')),
    'custom layers and PAR': (lambda: decoder(custom_layers='af', par_ratio=2), ('custom_layers', 'par_ratio=2', PLACE)),
    'two adaptive norms': (lambda: decoder(use_adaptive_layernorm=True, use_adaptive_rmsnorm=True), ('use_adaptive_rmsnorm=True', PLACE)),
    'an adaptive and a simple norm': (lambda: decoder(use_rmsnorm=True, use_adaptive_rmsnorm=True), ('use_rmsnorm=True', PLACE)),
    'two layer scales': (lambda: decoder(use_layerscale=True, use_adaptive_layerscale=True), ('use_layerscale=True', PLACE)),
    'no stream': (lambda: decoder(num_residual_streams=0), ('num_residual_streams=0', 'at least 1')),
    'streams and a gated residual': (lambda: decoder(num_residual_streams=2, gate_residual=True), ('num_residual_streams=2', PLACE)),
    'streams and ResiDual': (lambda: decoder(num_residual_streams=2, resi_dual=True), ('num_residual_streams=2', PLACE)),
    'different mixes of one stream': (
        lambda: decoder(qkv_receive_diff_residuals=True), ('qkv_receive_diff_residuals=True', 'num_residual_streams=1', 'Raise')),
    'an unknown keyword of hyper-connections': (
        lambda: decoder(num_residual_streams=2, residual_fn_kwargs={'tahn': False}), ('residual_fn_kwargs', 'tahn')),
    'skips over one block': (lambda: decoder(unet_skips=True), ('unet_skips=True', 'only one', 'raise depth')),
    'skips over shared layers': (
        lambda: decoder(unet_skips=True, weight_tie_layers=True, depth=2), ('unet_skips=True', 'weight_tie_layers=True')),
    'skips and an order that is too early': (
        lambda: Decoder(dim=16, custom_layers='ffff', unet_skips=True, layers_execute_order=(2, 3)),
        ('layers_execute_order=(2, 3)', 'unet_skips=True', 'run it later')),
    'a share of the context above one': (
        lambda: decoder(cross_attend=True, cross_attn_tokens_dropout=1.5), ('cross_attn_tokens_dropout=1.5', 'at most 1')),
    'positions for the keywords of a decoder': (lambda: Decoder(16, 2), ('use keywords',)),
    'segments without a length': (lambda: XLAutoregressiveWrapper(wrapper(max_seq_len=0)), ('max_seq_len=0', 'segments')),
    'segments of a model that keeps none': (lambda: XLAutoregressiveWrapper(nn.Linear(1, 1)), ('net=Linear', 'max_seq_len')),
    'a mask that is no token': (lambda: NonAutoregressiveWrapper(NET, mask_id=11), ('mask_id=11', '0 to 10')),
    'masks in no vocabulary': (
        lambda: NonAutoregressiveWrapper(wrapper(num_tokens=None, logits_dim=4, token_emb=TokenEmbedding(16, 4)), mask_id=1),
        ('num_tokens=None', 'vocabulary')),
    'a negative mask': (lambda: NonAutoregressiveWrapper(NET, mask_id=-1), ('mask_id=-1', 'at least 0')),
    'no mask': (lambda: NonAutoregressiveWrapper(NET), ("'mask_id' is required",)),
    'masked sequences without a length': (lambda: NonAutoregressiveWrapper(wrapper(max_seq_len=0), mask_id=1), ('max_seq_len=0', 'length')),
    'a schedule of another name': (lambda: NonAutoregressiveWrapper(NET, mask_id=1, schedule='cos'), ("schedule='cos'", "'cosine'")),
    'a schedule that rises': (lambda: NonAutoregressiveWrapper(NET, mask_id=1, schedule=lambda t: t), ('schedule', 'does not fall')),
    'a schedule that leaves masks': (
        lambda: NonAutoregressiveWrapper(NET, mask_id=1, schedule=lambda t: 1 - t / 2), ('schedule', '0 at time 1')),
    'no steps': (lambda: NonAutoregressiveWrapper(NET, mask_id=1, steps=0), ('steps=0', 'at least 1')),
    'two critics': (
        lambda: NonAutoregressiveWrapper(NET, mask_id=1, token_critic=OTHER, self_token_critic=True),
        ('self_token_critic=True', 'token_critic', 'Keep one')),
    'conditions of another width': (
        lambda: NonAutoregressiveWrapper(wrapper(emb_dim=8), mask_id=1, self_cond=True), ('self_cond=True', 'emb_dim=8')),
    'preferences of no strength': (lambda: DPO(NET, beta=0), ('beta=0', 'above 0')),
    'preferences of a wrapper': (lambda: DPO(MODEL), ('AutoregressiveWrapper', 'its `net`')),
    'an unknown flag of the encoder of neurons': (
        lambda: NeoMLP(dim_in=1, dim_hidden=1, dim_out=1, dim_model=16, depth=1, encoder_kwargs={'hedas': 2}), ("'hedas'", "'heads'")),
    'no neuron': (lambda: NeoMLP(dim_in=0, dim_hidden=1, dim_out=1, dim_model=16, depth=1), ('dim_in=0', 'at least 1')),
    'no kernel left': (
        lambda: decoder(attn_flash=True, attn_attend_sdp_kwargs=
        dict.fromkeys(('enable_flash', 'enable_mem_efficient', 'enable_math'), False)),
        ('attn_attend_sdp_kwargs', 'no kernel', 'enable one')),
}  # fmt: skip

FUSED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    'a function of your own': (lambda: decoder(attn_flash=True, attn_custom_attn_fn=torch.sigmoid),
        ('attn_flash=True', 'attn_custom_attn_fn=')),
    'residual cross-attention': (
        lambda: decoder(cross_attend=True, attn_flash=True, cross_residual_attn=True), ('flash=True', 'cross_residual_attn=True')),
    'cross-attention alone': (
        lambda: decoder(cross_attend=True, cross_attn_flash=True, cross_attn_hard=True), ('cross_attn_flash=True', 'cross_attn_hard=True')),
    'attention outside of a stack': (lambda: Attention(16, flash=True, hard=True), ('flash=True', 'hard=True')),
}  # fmt: skip

INPUTS: dict[str, Row] = {
    'a sequence too long in pieces': (InputError, lambda: NET(ids(2, 1), state=FULL_STATE), ('9 tokens', 'max_seq_len=8')),
    'a position beyond the table': (InputError, lambda: NET(ids(1, 2), pos=torch.tensor([7, 8])), ('pos', '8', 'max_seq_len=8')),
    'a negative position': (InputError, lambda: NET(ids(1, 2), pos=torch.tensor([-1, 0])), ('pos', '-1')),
    'positions of another length': (InputError, lambda: NET(ids(1, 2), pos=torch.arange(3)), ('pos', '(3,)', '2')),
    'truth values for ids': (InputError, lambda: NET(torch.ones(1, 4, dtype=torch.bool)), ('torch.bool', 'token ids')),
    'sums of another shape': (InputError, lambda: NET(ids(1, 2), sum_embeds=torch.zeros(1, 3, 16)), ('sum_embeds', '(1, 3, 16)')),
    'logits without a head': (InputError, lambda: HEADLESS(ids(1, 2), return_logits_and_embeddings=True), ('no head', 'return_only_embed')),
    'an unknown input': (InputError, lambda: NET(ids(1, 2), contxt=X), ("'contxt'", "did you mean 'context'?")),
    'a text too long to learn from': (InputError, lambda: MODEL(ids(1, 10)), ('9 tokens', 'max_seq_len=8')),
    'a strange token to predict': (InputError, lambda: MODEL(torch.tensor([[1, 2, 99]])), ('token id 99', 'num_tokens=11')),
    'ids for embeddings': (InputError, lambda: STACK(ids(1, 4)), ('x has shape (1, 4)', 'dim=16')),
    'whole numbers for embeddings': (InputError, lambda: STACK(ids(1, 4, 16)), ('x has dtype torch.int64', 'floating point')),
    'no embedding': (InputError, lambda: STACK(X[:, :0]), ('(2, 0, 16)', 'at least one token')),
    'a context mask alone': (InputError, lambda: STACK(X, context_mask=ALLOWED[:2]), ('context_mask', 'context')),
    'a context of another batch': (InputError, lambda: CROSS(X, context=X[:1]), ('context has shape (1, 4, 16)', '(2, any')),
    'an empty context': (InputError, lambda: CROSS(X, context=X[:, :0]), ('context has shape (2, 0, 16)', 'at least one')),
    'a context mask of another length': (
        InputError, lambda: CROSS(X, context=X, context_mask=ALLOWED[:2, :3]), ('context_mask has shape (2, 3)', '(2, 4)')),
    'hidden keys as numbers': (InputError, lambda: STACK(X, self_attn_kv_mask=torch.ones(2, 4)), ('self_attn_kv_mask', 'torch.bool')),
    'an attention mask of other heads': (InputError, lambda: STACK(X, attn_mask=ALLOWED.expand(3, 4, 4)), ('attn_mask', '(3, 4, 4)')),
    'an additive attention mask': (InputError, lambda: STACK(X, attn_mask=torch.zeros(4, 4)), ('attn_mask has dtype', 'torch.bool')),
    'no condition': (InputError, lambda: CONDITIONED(X), ('condition is missing', '(b, 6)')),
    'a condition that nothing follows': (InputError, lambda: STACK(X, condition=X), ('condition was given', 'use_adaptive_rmsnorm=True')),
    'a condition of another width': (
        InputError, lambda: CONDITIONED(X, condition=torch.zeros(2, 16)), ('condition has shape (2, 16)', '(2, 6)')),
    'a condition of another batch': (
        InputError, lambda: CONDITIONED(X, condition=torch.zeros(3, 6)), ('condition has shape (3, 6)', '(2, 6)')),
    'conditions of fewer tokens': (
        InputError, lambda: CONDITIONED(X, condition=torch.zeros(2, 3, 6)), ('(2, 3, 6)', '(2, 4, 6)', 'new ones')),
    'conditions of tokens to come': (
        InputError, lambda: CONDITIONED(X[:, :1], condition=torch.zeros(2, 9, 6), state=CONDITIONED_STATE),
        ('(2, 9, 6)', '(2, 1, 6) or (2, 5, 6)', 'so far')),
    'conditions without those of memories': (
        InputError, lambda: CONDITIONED(X, condition=torch.zeros(2, 4, 6), mems=[X[:, :3]]), ('(2, 4, 6)', '(2, 7, 6)', 'memories')),
    'a word for a condition': (InputError, lambda: CONDITIONED(X, condition='warm'), ('condition must be a tensor', 'str')),
    'an injection of another width': (
        InputError, lambda: STACK(X, in_attn_cond=torch.zeros(2, 8)), ('in_attn_cond has shape (2, 8)', '(2, 16)')),
    'an injection and the input again': (InputError, lambda: REINJECTED(X, in_attn_cond=X), ('in_attn_cond', 'reinject_input=True', 'one')),
    'a bias of another shape': (InputError, lambda: STACK(X, attn_bias=torch.zeros(3, 3)), ('attn_bias', '(3, 3)', '4')),
    'positions of another length in a stack': (InputError, lambda: ROTARY(X, pos=torch.arange(3)), ('pos', '(3,)', '4')),
    'memory masks as a tensor': (InputError, lambda: STACK(X, mems=[X], mem_masks=ALLOWED[:2]), ('mem_masks must be a list', 'Tensor')),
    'memories of more layers': (InputError, lambda: STACK(X, mems=[X, X]), ('mems', '1 more')),
    'a memory of another batch': (InputError, lambda: STACK(X, mems=[X[:1]]), ('mems', '(1, 4, 16)')),
    'a memory mask of another length': (InputError, lambda: STACK(X, mems=[X], mem_masks=[ALLOWED[:2, :3]]),
        ('mem_masks', '(2, 3)', '(2, 4)')),
    'padding as fractions': (InputError, lambda: STACK(X, seq_start_pos=torch.zeros(2)), ('seq_start_pos', 'whole numbers')),
    'an attention mask of no axis': (InputError, lambda: STACK(X, attn_mask=torch.tensor(True)), ('attn_mask has shape ()', '(4, 4)')),
    'an attention mask of one axis': (InputError, lambda: STACK(X, attn_mask=ALLOWED[0]), ('attn_mask has shape (4,)', '(2, 4, 4, 4)')),
    'a list for an attention mask': (InputError, lambda: STACK(X, attn_mask=[True]), ('attn_mask must be a tensor', 'list')),
    'an attention mask of fewer keys': (InputError, lambda: STACK(X, attn_mask=ALLOWED[:, :3]), ('attn_mask has shape (4, 3)', '(4, 4)')),
    'a bias of no axis': (InputError, lambda: STACK(X, attn_bias=torch.tensor(1.0)), ('attn_bias has shape ()', '(4, 4)')),
    'a bias of one axis': (InputError, lambda: STACK(X, attn_bias=torch.zeros(4)), ('attn_bias has shape (4,)', '4 keys')),
    'a list for a bias': (InputError, lambda: STACK(X, attn_bias=[1.0]), ('attn_bias must be a tensor', 'list')),
    'a bias of more keys': (InputError, lambda: STACK(X, attn_bias=torch.zeros(4, 9)), ('attn_bias has shape (4, 9)', '4 keys')),
    'a bias of fewer keys than so far': (
        InputError, lambda: STACK(X, attn_bias=torch.zeros(4, 4), state=STATE), ('attn_bias has shape (4, 4)', '8 keys')),
    'a list for positions': (InputError, lambda: ROTARY(X, pos=[0, 1, 2, 3]), ('pos must be a tensor', 'list')),
    'positions of three axes': (InputError, lambda: ROTARY(X, pos=ids(1, 2, 4)), ('pos has shape (1, 2, 4)', '(2, 4)')),
    'positions of another batch': (InputError, lambda: ROTARY(X, pos=ids(3, 4)), ('pos has shape (3, 4)', '(2, 4)')),
    'positions of more tokens': (InputError, lambda: ROTARY(X, pos=torch.arange(9)), ('pos has shape (9,)', '(4,)')),
    'truth values for positions': (InputError, lambda: ROTARY(X, pos=ALLOWED[0]), ('pos has dtype torch.bool', 'numbers')),
    'positions between buckets': (InputError, lambda: BUCKETS(X, pos=torch.zeros(4)), ('pos has dtype torch.float32', 'rel_pos_bias=True')),
    'a list for positions of a context': (
        InputError, lambda: CROSS_ROTARY(X, context=X, context_pos=[0, 1, 2, 3]), ('context_pos must be a tensor', 'list')),
    'positions of another context': (
        InputError, lambda: CROSS_ROTARY(X, context=X, context_pos=torch.arange(3)), ('context_pos has shape (3,)', '(4,)')),
    'positions of a context with three axes': (
        InputError, lambda: CROSS_ROTARY(X, context=X, context_pos=ids(1, 2, 4)), ('context_pos has shape (1, 2, 4)', '(4,)')),
    'positions of a context nobody looks at': (
        InputError, lambda: ROTARY(X, context_pos=torch.arange(4)), ('context_pos was given', 'cross_attend=True')),
    'angles that are no pair': (InputError, lambda: ROTARY(X, rotary_pos_emb=X), ('rotary_pos_emb must be a pair', 'Tensor')),
    'angles for fewer tokens': (InputError, lambda: ROTARY(X, rotary_pos_emb=ANGLES), ('rotary_pos_emb', '(1, 3, 4)', '4 tokens')),
    'angles wider than a head': (
        InputError, lambda: ROTARY(X, rotary_pos_emb=(torch.zeros(4, 12), 1.0)), ('rotary_pos_emb', '(4, 12)', 'at most 8')),
    'angles without those of memories': (
        InputError, lambda: ROTARY(X, mems=[X], rotary_pos_emb=(torch.zeros(4, 4), 1.0)), ('rotary_pos_emb', '(4, 4)', '8 tokens')),
    'an age in words': (InputError, lambda: STACK(X, cache=CACHE, cache_age='old'), ("cache_age='old'", 'how many')),
    'a state of other heads': (DecodeError, lambda: STACK(X, state=WIDE_STATE), ('another model', 'k (2, 16)', 'k (4, 8)')),
    'a cache of other heads': (DecodeError, lambda: STACK(X, cache=WIDE_CACHE), ('another model', 'k (2, 16)', 'k (4, 8)')),
    'keys for latents': (DecodeError, lambda: LATENT(X, state=STATE), ('k (4, 8)', 'latent (1, 4)')),
    'a state of a shift': (DecodeError, lambda: STACK(X, state=SHIFT_STATE), ('another model', 'inputs (1, 16)')),
    'a state of other kinds of layers': (
        DecodeError, lambda: STACK(X, state=STATE, layers_execute_order=(1, 0)), ('(0, 1)', '(1, 0)', 'layers_execute_order')),
    'tokens of another dtype': (InputError, lambda: STACK(X.double()), ('x has dtype torch.float64', 'torch.float32', 'autocast')),
    'a context of another dtype': (
        InputError, lambda: CROSS(X, context=X.double()), ('context has dtype torch.float64', 'torch.float32', 'autocast')),
    'memory masks without memories': (
        InputError, lambda: STACK(X, mem_masks=[ALLOWED[:2]]), ('mem_masks has 1 entries', 'mems has 0')),
    'more memory masks than memories': (
        InputError, lambda: STACK(X, mems=[X], mem_masks=[None, ALLOWED[:2]]), ('mem_masks has 2 entries', 'mems has 1')),
    'padding of less than nothing': (
        InputError, lambda: STACK(X, seq_start_pos=torch.tensor([-1, 0])), ('seq_start_pos=[-1, 0]', '0 or more')),
    'an order in letters, at call time': (
        FlagError, lambda: STACK(X, layers_execute_order='01'), ("layers_execute_order='01'", 'tuple of whole numbers')),
    'an order of one number, at call time': (FlagError, lambda: STACK(X, layers_execute_order=1), ('layers_execute_order=1', 'tuple')),
    'an order of fractions, at call time': (
        FlagError, lambda: STACK(X, layers_execute_order=(0.0, 1.0)), ('layers_execute_order=(0.0, 1.0)', 'whole numbers')),
    'an order in a tensor, at call time': (
        FlagError, lambda: STACK(X, layers_execute_order=torch.arange(2)), ('layers_execute_order=tensor([0, 1])', 'tuple')),
    'an additive attention mask beside a prefix': (
        InputError, lambda: PREFIX(X, attn_mask=torch.zeros(4, 4)), ('attn_mask has dtype', 'torch.bool')),
    'an attention mask of fewer tokens beside a prefix': (
        InputError, lambda: PREFIX(X, attn_mask=ALLOWED[:, :3]), ('attn_mask has shape (4, 3)', '(4, 4)')),
    'a list for tokens with a prefix': (InputError, lambda: PREFIX([1], prefix_attn_len=1), ('x must be a tensor', 'list')),
    'a prefix of less than nothing': (InputError, lambda: PREFIX(X, prefix_attn_len=-1), ('prefix_attn_len=-1', '0 or more')),
    'prefixes of less than nothing': (InputError, lambda: PREFIX(X, prefix_attn_len=ids(2) - 1), ('prefix_attn_len=-1', '0 or more')),
    'half a prefix': (InputError, lambda: PREFIX(X, prefix_attn_len=torch.tensor(1.5)), ('prefix_attn_len', 'whole numbers')),
    'a prefix that is no number': (InputError, lambda: PREFIX(X, prefix_attn_len='two'), ('prefix_attn_len', "'two'")),
    'prefixes of another batch': (InputError, lambda: PREFIX(X, prefix_attn_len=ids(3)), ('prefix_attn_len', '(3,)', '2')),
    'two biases at once': (InputError, lambda: ATTENTION(X, rel_pos=nn.Identity(), attn_bias=X), ('rel_pos and attn_bias',)),
    'attention on another width': (InputError, lambda: ATTENTION(torch.zeros(1, 4, 8)), ('x has shape (1, 4, 8)', 'dim=16')),
    'attention with a mask of numbers': (InputError, lambda: ATTENTION(X, mask=torch.ones(2, 4)), ('mask', 'torch.bool')),
    'attention with a mask of another length': (InputError, lambda: ATTENTION(X, mask=ALLOWED[:2, :3]), ('mask', '(2, 3)', '(2, 4)')),
    'attention with a mask of one axis': (InputError, lambda: ATTENTION(X, attn_mask=ALLOWED[0]), ('attn_mask has shape (4,)', '(4, 4)')),
    'attention with an additive mask': (
        InputError, lambda: ATTENTION(X, attn_mask=torch.zeros(4, 4)), ('attn_mask has dtype', 'torch.bool')),
    'attention with a bias of another shape': (
        InputError, lambda: ATTENTION(X, attn_bias=torch.zeros(3, 4)), ('attn_bias has shape (3, 4)', '(4, 4)')),
    'attention with a list for a bias': (InputError, lambda: ATTENTION(X, attn_bias=[1.0]), ('attn_bias must be a tensor', 'list')),
    'attention with memory of another width': (
        InputError, lambda: ATTENTION(X, mem=torch.zeros(2, 3, 9)), ('mem has shape (2, 3, 9)', '(2, any, 16)')),
    'attention with a mask of another memory': (
        InputError, lambda: ATTENTION(X, mem=X, mem_mask=ALLOWED[:2, :3]), ('mem_mask has shape (2, 3)', '(2, 4)')),
    'attention with a memory mask of numbers': (InputError, lambda: ATTENTION(X, mem=X, mem_mask=ids(2, 4)), ('mem_mask', 'torch.bool')),
    'attention with a mask of no memory': (InputError, lambda: ATTENTION(X, mem_mask=ALLOWED[:2]), ('mem_mask', 'without mem')),
    'attention with scores of other pairs': (
        InputError, lambda: ATTENTION(X, prev_attn=torch.zeros(2, 4, 3, 3)), ('prev_attn has shape (2, 4, 3, 3)', '(2, 4, 4, 4)')),
    'attention with a number for a cache': (InputError, lambda: ATTENTION(X, cache=3), ('cache is a int', 'Intermediates')),
    'attention with angles that are no pair': (InputError, lambda: ATTENTION(X, rotary_pos_emb=X), ('rotary_pos_emb must be a pair',)),
    'attention with angles for fewer tokens': (InputError, lambda: ATTENTION(X, rotary_pos_emb=ANGLES), ('(1, 3, 4)', '4 tokens')),
    'attention with angles without those of memory': (
        InputError, lambda: ATTENTION(X, mem=X, rotary_pos_emb=(torch.zeros(4, 4), 1.0)), ('rotary_pos_emb', '(4, 4)', '8 tokens')),
    'attention with angles for a shorter context': (
        InputError, lambda: ATTENTION(X, X, rotary_pos_emb=(torch.zeros(4, 4), 1.0), context_rotary_pos_emb=ANGLES),
        ('context_rotary_pos_emb', '(1, 3, 4)', '4 tokens')),
    'attention with a number for a bias module': (InputError, lambda: ATTENTION(X, rel_pos=3), ('rel_pos=3', 'AlibiPositionalBias')),
    'attention with positions for a module without': (
        InputError, lambda: ATTENTION(X, rel_pos=nn.Identity(), pos=torch.arange(4)), ('rel_pos=Identity', 'leave pos out')),
    'attention with positions of other tokens': (
        InputError, lambda: ATTENTION(X, rel_pos=AlibiPositionalBias(4), pos=torch.arange(3)), ('pos has shape (3,)', '(4,)')),
    'attention with positions between buckets': (
        InputError, lambda: ATTENTION(X, rel_pos=RelativePositionBias(1.0, heads=4), pos=torch.zeros(4)), ('torch.float32', 'buckets')),
    'attention with positions of no context': (
        InputError, lambda: ATTENTION(X, X[:, :3], rel_pos=AlibiPositionalBias(4), pos=torch.arange(3)), ('4 tokens', '3 of the context')),
    'attention with tokens of another dtype': (InputError, lambda: ATTENTION(X.double()), ('x has dtype torch.float64', 'torch.float32')),
    'attention with an unknown input': (
        InputError, lambda: ATTENTION(X, attn_msk=ALLOWED), ("'attn_msk' of Attention", "did you mean 'attn_mask'?")),
    'queries without heads': (InputError, lambda: ATTEND(X, X, X), ('q has shape (2, 4, 16)', '(b, h, i, d)')),
    'key heads that do not divide query heads': (
        InputError, lambda: ATTEND(Q, Q[:, :3], Q[:, :3]), ('k has shape (2, 3, 3, 8)', '3 key heads', '4 query heads')),
    'keys of another width': (InputError, lambda: ATTEND(Q, Q[..., :7], Q), ('k has shape (2, 4, 3, 7)', '(2, any, any, 8)')),
    'values of other keys': (InputError, lambda: ATTEND(Q, Q, Q[:, :, :2]), ('v has shape (2, 4, 2, 8)', '(2, 4, 3, any)')),
    'a core with a mask of numbers': (InputError, lambda: ATTEND(Q, Q, Q, mask=torch.ones(2, 3)), ('mask has dtype', 'torch.bool')),
    'a core with a mask of other keys': (InputError, lambda: ATTEND(Q, Q, Q, mask=ALLOWED[:2]), ('mask has shape (2, 4)', '(2, 3)')),
    'a core with a mask of other pairs': (
        InputError, lambda: ATTEND(Q, Q, Q, mask=ALLOWED[None, None]), ('mask has shape (1, 1, 4, 4)', '(3, 3)')),
    'a core with a bias of other heads': (InputError, lambda: ATTEND(Q, Q, Q, attn_bias=torch.zeros(2, 3, 3)), ('attn_bias', '(2, 3, 3)')),
    'a core with scores of other pairs': (InputError, lambda: ATTEND(Q, Q, Q, prev_attn=torch.zeros(2, 4, 4, 4)), ('prev_attn', '(3, 3)')),
    'gains without a condition': (InputError, lambda: AdaptiveRMSNorm(16)(X), ('AdaptiveRMSNorm needs a condition', 'dim_condition')),
    'scales without a condition': (
        InputError, lambda: AdaptiveLayerScale(nn.Identity(), 16)(X), ('AdaptiveLayerScale needs a condition', 'dim_condition')),
    'a second stream without a depth': (InputError, lambda: ResiDual(16).prepare(X), ('depth is missing', 'ResiDual')),
    'a state that is none': (InputError, lambda: STACK(X, state=X), ('state', 'Tensor')),
    'a cache that is none': (InputError, lambda: STACK(X, cache=STATE), ('cache', 'StackState', 'LayerIntermediates')),
    'a cache and a state': (InputError, lambda: STACK(X, cache=CACHE, state=STATE), ('cache', 'state', 'one')),
    'a state of another order': (DecodeError, lambda: STACK(X, state=STATE, layers_execute_order=(0, 1, 0, 1)), ('2 executed', 'runs 4')),
    'a state of another depth': (DecodeError, lambda: DEEP(X, state=STATE), ('2 executed layers', '4')),
    'the state of an encoder': (DecodeError, lambda: ENCODER(X, return_state=True), ('Encoder looks at later tokens',)),
    'an encoder that goes on': (DecodeError, lambda: ENCODER(X, state=STATE), ('Encoder looks at later tokens', 'Decoder')),
    'the cache of an encoder': (DecodeError, lambda: ENCODER(X, cache=ENCODED), ('Encoder looks at later tokens',)),
    'taking back a negative number': (DecodeError, lambda: STATE.rewind(-1), ('rewind(-1)', '4 tokens')),
    'taking back what was shifted': (DecodeError, lambda: SHIFT_STATE.rewind(1), ('shift_tokens', 'from before')),
    'too little room': (DecodeError, lambda: NET(ids(2, 4), state=NET.empty_state(capacity=2)), ('capacity=2', '4 tokens', 'larger')),
    'room for less than nothing': (InputError, lambda: NET.empty_state(capacity=-1), ('capacity=-1',)),
    'a list for a prompt': (InputError, lambda: MODEL.generate([1, 2], 2), ('prompts', 'list')),
    'a number for a prompt': (InputError, lambda: MODEL.generate(torch.tensor(3), 2), ('prompts must be token ids',)),
    'a strange token in a prompt': (InputError, lambda: MODEL.generate(torch.tensor([[99]]), 2), ('token id 99', 'num_tokens=11')),
    'a fraction of tokens': (InputError, lambda: MODEL.generate(ids(1, 2), 1.5), ('seq_len=1.5',)),
    'a temperature that is no number': (InputError, lambda: MODEL.generate(ids(1, 2), 1, temperature=float('nan')), ('temperature=nan',)),
    'an unknown keyword of a filter': (InputError, lambda: MODEL.generate(ids(1, 2), 1, filter_kwargs={'kk': 2}), ('filter_kwargs', 'kk')),
    'top zero tokens': (InputError, lambda: MODEL.generate(ids(1, 2), 1, filter_kwargs={'k': 0}), ('k=0', 'at least one')),
    'lengths of zero': (InputError, lambda: MODEL.generate(ids(2, 3), 1, prompt_lens=torch.tensor([3, 0])), ('prompt_lens=[3, 0]',)),
    'lengths as a list': (InputError, lambda: MODEL.generate(ids(2, 3), 1, prompt_lens=[3, 2]), ('prompt_lens', 'list')),
    'lengths as fractions': (
        InputError, lambda: MODEL.generate(ids(2, 3), 1, prompt_lens=torch.tensor([3.0, 2.0])), ('prompt_lens', 'whole numbers')),
    'fewer tokens than none': (InputError, lambda: MODEL.generate(ids(1, 2), -1), ('seq_len=-1',)),
    'a negative temperature': (InputError, lambda: MODEL.generate(ids(1, 2), 1, temperature=-0.5), ('temperature=-0.5',)),
    'no prompt': (InputError, lambda: MODEL.generate(ids(0, 2), 1), ('prompts has shape (0, 2)', 'at least one')),
    'an empty prompt': (InputError, lambda: MODEL.generate(ids(2, 0), 1), ('prompts has shape (2, 0)', 'at least one')),
    'truth values for a prompt': (InputError, lambda: MODEL.generate(ids(1, 2).bool(), 1), ('prompts', 'torch.bool')),
    'a filter of another name': (InputError, lambda: MODEL.generate(ids(1, 2), 1, filter_logits_fn='topk'), ("did you mean 'top_k'?",)),
    'a filter of no name': (InputError, lambda: MODEL.generate(ids(1, 2), 1, filter_logits_fn='nucleus'), ("'nucleus'", 'top_p')),
    'a number for a filter': (InputError, lambda: MODEL.generate(ids(1, 2), 1, filter_logits_fn=3), ('filter_logits_fn=3', 'a function')),
    'lengths beyond the prompts': (
        InputError, lambda: MODEL.generate(ids(2, 3), 1, prompt_lens=torch.tensor([3, 4])), ('prompt_lens=[3, 4]', '1 to 3')),
    'lengths of another batch': (InputError, lambda: MODEL.generate(ids(2, 3), 1, prompt_lens=ids(3)), ('prompt_lens', '(3,)', '(2)')),
    'a mask of another length for prompts': (
        InputError, lambda: MODEL.generate(ids(2, 3), 1, mask=ALLOWED[:2]), ('mask', '(2, 4)', '(2, 3)')),
    'a mask and lengths': (
        InputError, lambda: MODEL.generate(ids(2, 4), 1, mask=ALLOWED[:2], prompt_lens=torch.tensor([4, 3])), ('mask', 'prompt_lens')),
    'a mask of numbers for prompts': (InputError, lambda: MODEL.generate(ids(2, 4), 1, mask=ids(2, 4)), ('mask', 'torch.bool')),
    'more tokens than positions': (DecodeError, lambda: MODEL.generate(ids(1, 4), 6), ('prompt of 4', 'seq_len=6', 'max_seq_len=8')),
    'no window and no positions': (
        DecodeError, lambda: MODEL.generate(ids(1, 4), 6, restrict_to_max_seq_len=False),
        ('restrict_to_max_seq_len=False', 'max_seq_len=8')),
    'an amateur of another vocabulary': (
        InputError, lambda: MODEL.generate(ids(1, 2), 1, amateur_model=OTHER), ('amateur_model', '7', '11')),
    'an amateur that is no model': (InputError, lambda: MODEL.generate(ids(1, 2), 1, amateur_model='gpt'), ('amateur_model', "'gpt'")),
    'a contrast too many': (
        InputError, lambda: MODEL.generate(ids(1, 2), 1, amateur_model=NET, contrastive_decode_kwargs=({}, {})),
        ('2 entries', '1 amateur')),
    'an unknown keyword of a contrast': (
        InputError, lambda: MODEL.generate(ids(1, 2), 1, amateur_model=NET, contrastive_decode_kwargs={'gamma': 1}), ("'gamma'", 'alpha')),
    'a contrast that allows nothing': (
        InputError, lambda: MODEL.generate(ids(1, 2), 1, amateur_model=NET, contrastive_decode_kwargs={'alpha': 0}), ('alpha=0',)),
    'no beam': (InputError, lambda: MODEL.beam_search(ids(1, 2), 1, num_beams=0), ('num_beams=0', 'at least 1')),
    'more sequences than beams': (
        InputError, lambda: MODEL.beam_search(ids(1, 2), 2, num_beams=2, num_return_sequences=3),
        ('num_return_sequences=3', 'num_beams=2')),
    'more sequences than there are': (
        InputError, lambda: MODEL.beam_search(ids(1, 2), 1, num_beams=20, num_return_sequences=12),
        ('num_return_sequences=12', '11 tokens')),
    'a penalty that is no number': (InputError, lambda: MODEL.beam_search(ids(1, 2), 1, length_penalty=None), ('length_penalty=None',)),
    'an end outside of the vocabulary': (InputError, lambda: MODEL.beam_search(ids(1, 2), 1, eos_token=11), ('eos_token=11', '11')),
    'a search with a negative length': (InputError, lambda: MODEL.beam_search(ids(1, 2), -1), ('seq_len=-1',)),
    'no row to learn from': (InputError, lambda: MODEL(ids(0, 4)), ('x has shape (0, 4)',)),
    'segments of embeddings': (InputError, lambda: XL(X), ('x has shape', 'XLAutoregressiveWrapper takes token ids')),
    'segments of one token': (InputError, lambda: XL(ids(1, 1)), ('x has shape (1, 1)', 'two tokens')),
    'a strange token in a segment': (InputError, lambda: XL(torch.tensor([[1, 2, 99]])), ('token id 99', 'num_tokens=11')),
    'memories as a tensor for segments': (InputError, lambda: XL(ids(1, 4), mems=X), ('mems must be a list', 'Tensor')),
    'ragged segments': (InputError, lambda: XL.generate(ids(2, 3), 1, prompt_lens=ids(2)), ('prompt_lens', 'segments')),
    'a negative temperature over segments': (InputError, lambda: XL.generate(ids(1, 2), 1, temperature=-1), ('temperature=-1',)),
    'a filter of another name over segments': (InputError, lambda: XL.generate(ids(1, 2), 1, filter_logits_fn='minp'), ("'min_p'",)),
    'a masked sequence of another length': (InputError, lambda: MASKED(ids(2, 7)), ('(2, 7)', '(any, 8)', 'max_seq_len=8')),
    'no masked sequence': (InputError, lambda: MASKED(ids(0, 8)), ('(0, 8)', 'at least one sequence')),
    'a strange token to fill in': (InputError, lambda: MASKED(ids(1, 8) + 11), ('token id 11', 'num_tokens=11')),
    'a critic that is not there': (
        InputError, lambda: MASKED(ids(1, 8), only_train_critic=True), ('only_train_critic', 'self_token_critic')),
    'both turns at once': (
        InputError, lambda: CRITICAL(ids(1, 8), only_train_critic=True, only_train_generator=True), ('only_train_generator', 'give one')),
    'sequences of no batch': (InputError, lambda: MASKED.generate(batch_size=0), ('batch_size=0',)),
    'a filter of everything': (InputError, lambda: MASKED.generate(filter_thres=1.0), ('filter_thres=1.0', 'below 1')),
    'a negative start': (InputError, lambda: MASKED.generate(start_temperature=-1), ('start_temperature=-1',)),
    'preferences of two lengths': (
        InputError, lambda: PREFERENCE(ids(2, 4), ids(2, 3), prompt_mask=ALLOWED[:2]), ('unpreferred_seq', '(2, 3)', '(2, 4)')),
    'preferences without rows': (InputError, lambda: PREFERENCE(ids(0, 4), ids(0, 4), prompt_mask=ALLOWED[:0]), ('(0, 4)', 'at least one')),
    'preferences of one token': (
        InputError, lambda: PREFERENCE(ids(2, 1), ids(2, 1), prompt_mask=ALLOWED[:2, :1]), ('(2, 1)', 'two tokens')),
    'a prompt of numbers': (InputError, lambda: PREFERENCE(ids(2, 4), ids(2, 4), prompt_mask=ids(2, 4)), ('prompt_mask', 'torch.bool')),
    'a prompt of another length': (
        InputError, lambda: PREFERENCE(ids(2, 4), ids(2, 4), prompt_mask=ALLOWED[:2, :2]), ('prompt_mask', '(2, 2)', '(2, 4)')),
    'no prompt of preferences': (InputError, lambda: PREFERENCE(ids(2, 4), ids(2, 4), prompt_mask=None), ('prompt_mask', 'NoneType')),
    'a mask of a preference of another batch': (
        InputError, lambda: PREFERENCE(ids(2, 4), ids(2, 4), prompt_mask=ALLOWED[:2], preferred_seq_mask=ALLOWED), ('preferred_seq_mask',)),
    'a strange token to prefer': (
        InputError, lambda: PREFERENCE(ids(2, 4) + 11, ids(2, 4), prompt_mask=ALLOWED[:2]), ('preferred_seq', 'token id 11')),
    'more numbers than neurons': (InputError, lambda: NEO(torch.zeros(2, 4)), ('(2, 4)', 'dim_in=3')),
    'whole numbers for neurons': (InputError, lambda: NEO(ids(2, 3)), ('x has dtype', 'floating point')),
    'no numbers for neurons': (InputError, lambda: NEO(torch.zeros(0, 3)), ('(0, 3)', 'dim_in=3')),
    'an end that is no token': (InputError, lambda: MODEL.generate(ids(1, 2), 1, eos_token='.'), ('eos_token', "'.'")),
}  # fmt: skip

ALL: dict[str, Row] = {
    **{name: (FlagError, *row) for name, row in FLAGS.items()},
    **{f'a fused kernel for {name}': (BackendError, *row) for name, row in FUSED.items()},
    **INPUTS,
}


@contextmanager
def nothing_computed() -> Iterator[None]:
    """Any linear layer that runs meanwhile is a fault."""

    def too_late(module: nn.Module, args: Any) -> None:
        assert not isinstance(module, nn.Linear), 'a linear layer ran before the mistake was seen'

    hook = nn.modules.module.register_module_forward_pre_hook(too_late)
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize('name', ALL)
def test_a_misuse_is_answered_by_one_sentence_before_anything_is_computed(name: str) -> None:
    kind, run, words = ALL[name]
    with nothing_computed(), pytest.raises(kind) as caught:
        run()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert '\n' not in message and len(message) < 400, message
