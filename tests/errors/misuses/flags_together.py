"""What flags cannot be together, and with a fused kernel."""

from __future__ import annotations

import torch
from torch import nn

from misuses.pieces import MODEL, NET, OTHER, decoder, wrapper
from misuses.row import Misuse
from x_transformers import (
    DPO,
    Attention,
    Decoder,
    NeoMLP,
    NonAutoregressiveWrapper,
    XLAutoregressiveWrapper,
)
from x_transformers.errors import BackendError, FlagError
from x_transformers.x_transformers import (
    TokenEmbedding,
)

MISUSES: dict[str, Misuse] = {
    'scale and simple norm': Misuse(FlagError, lambda: decoder(use_scalenorm=True, use_simple_rmsnorm=True),
        'use_scalenorm', 'use_scalenorm=True and use_simple_rmsnorm=True', 'they fill the same place', 'Keep one'),
    'ALiBi and dynamic bias': Misuse(FlagError, lambda: decoder(alibi_pos_bias=True, dynamic_pos_bias=True),
        'alibi_pos_bias', 'alibi_pos_bias=True and dynamic_pos_bias=True', 'they fill the same place', 'Keep one'),
    'T5 and dynamic bias': Misuse(FlagError, lambda: decoder(rel_pos_bias=True, dynamic_pos_bias=True),
        'rel_pos_bias', 'rel_pos_bias=True and dynamic_pos_bias=True', 'they fill the same place', 'Keep one'),
    'sandwich and ResiDual': Misuse(FlagError, lambda: decoder(sandwich_norm=True, resi_dual=True),
        'sandwich_norm', 'sandwich_norm=True cannot be combined with resi_dual=True', 'ResiDual norms the stream after each', 'Keep one'),
    'sigmoid and hard': Misuse(FlagError, lambda: decoder(attn_sigmoid=True, attn_hard=True),
        'attn_sigmoid', 'attn_sigmoid=True and attn_hard=True', 'they fill the same place', 'Keep one'),
    'sigmoid and distance': Misuse(FlagError, lambda: decoder(attn_sigmoid=True, attn_l2_distance=True),
        'attn_sigmoid', 'attn_sigmoid=True and attn_l2_distance=True', 'they fill the same place', 'Keep one'),
    'turned heads and fewer key heads': Misuse(FlagError, lambda: decoder(rotary_pos_emb=True, attn_rotate_num_heads=2, attn_kv_heads=2),
        'attn_rotate_num_heads', 'attn_rotate_num_heads=2', 'turning some heads only needs as many key',
        'Leave out attn_kv_heads and attn_one_kv_head'),
    'custom and tied layers': Misuse(FlagError, lambda: decoder(custom_layers='af', weight_tie_layers=True),
        'custom_layers', "custom_layers='af' and weight_tie_layers=True", 'they fill the same place', 'Keep one'),
    'custom layers and PAR': Misuse(FlagError, lambda: decoder(custom_layers='af', par_ratio=2),
        'custom_layers', "custom_layers='af' and par_ratio=2", 'they fill the same place', 'Keep one'),
    'two adaptive norms': Misuse(FlagError, lambda: decoder(use_adaptive_layernorm=True, use_adaptive_rmsnorm=True),
        'use_adaptive_layernorm', 'use_adaptive_layernorm=True and use_adaptive_rmsnorm=True', 'they fill the same place', 'Keep one'),
    'an adaptive and a simple norm': Misuse(FlagError, lambda: decoder(use_rmsnorm=True, use_adaptive_rmsnorm=True),
        'use_rmsnorm', 'use_rmsnorm=True and', 'they fill the same place', 'Keep one'),
    'two layer scales': Misuse(FlagError, lambda: decoder(use_layerscale=True, use_adaptive_layerscale=True),
        'use_layerscale', 'use_layerscale=True and', 'they fill the same place', 'Keep one'),
    'no stream': Misuse(FlagError, lambda: decoder(num_residual_streams=0), 'num_residual_streams', 'num_residual_streams=0', 'at least 1'),
    'streams and a gated residual': Misuse(FlagError, lambda: decoder(num_residual_streams=2, gate_residual=True),
        'gate_residual', 'gate_residual=True and num_residual_streams=2', 'they fill the same place', 'Keep one'),
    'streams and ResiDual': Misuse(FlagError, lambda: decoder(num_residual_streams=2, resi_dual=True),
        'resi_dual', 'resi_dual=True and num_residual_streams=2', 'they fill the same place', 'Keep one'),
    'different mixes of one stream': Misuse(FlagError, lambda: decoder(qkv_receive_diff_residuals=True),
        'qkv_receive_diff_residuals', 'qkv_receive_diff_residuals=True', 'with num_residual_streams=1 there is', 'Raise it'),
    'an unknown keyword of hyper-connections': Misuse(
        FlagError, lambda: decoder(num_residual_streams=2, residual_fn_kwargs={'tahn': False}),
        'residual_fn_kwargs', "residual_fn_kwargs={'tahn': False}", "keywords are tanh, not 'tahn'"),
    'skips over one block': Misuse(FlagError, lambda: decoder(unet_skips=True),
        'unet_skips', 'unet_skips=True pairs the blocks of two', 'there is only one', 'raise depth'),
    'skips over shared layers': Misuse(FlagError, lambda: decoder(unet_skips=True, weight_tie_layers=True, depth=2),
        'weight_tie_layers', 'weight_tie_layers=True cannot be combined with unet_skips=True', 'both halves are the same layers, and',
        'Keep one'),
    'skips and an order that is too early': Misuse(
        FlagError, lambda: Decoder(dim=16, custom_layers='ffff', unet_skips=True, layers_execute_order=(2, 3)),
        'layers_execute_order', 'layers_execute_order=(2, 3) runs layer 2 as', 'unet_skips=True joins the stream of step 1',
        'run it later, or leave out unet_skips'),
    'a share of the context above one': Misuse(FlagError, lambda: decoder(cross_attend=True, cross_attn_tokens_dropout=1.5),
        'cross_attn_tokens_dropout', 'cross_attn_tokens_dropout=1.5', 'at most 1'),
    'positions for the keywords of a decoder': Misuse(FlagError, lambda: Decoder(16, 2),
        'at', 'most 0 positional arguments ()', '2', 'use keywords'),
    'segments without a length': Misuse(FlagError, lambda: XLAutoregressiveWrapper(wrapper(max_seq_len=0)),
        'net', 'has max_seq_len=0, which gives segments no', 'give it one'),
    'segments of a model that keeps none': Misuse(FlagError, lambda: XLAutoregressiveWrapper(nn.Linear(1, 1)),
        'net', 'net=Linear has no max_seq_len', 'a model over tokens, such as'),
    'a mask that is no token': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=11),
        'mask_id', 'mask_id=11 is no token of the vocabulary', '0 to 10 (num_tokens)'),
    'masks in no vocabulary': Misuse(
        FlagError, lambda: NonAutoregressiveWrapper(wrapper(num_tokens=None, logits_dim=4, token_emb=TokenEmbedding(16, 4)), mask_id=1),
        'net', 'has num_tokens=None, so there is no vocabulary', 'build it with the number of tokens'),
    'a negative mask': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=-1), 'mask_id', 'mask_id=-1', 'at least 0'),
    'no mask': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET), "'mask_id'", 'is required', 'Token that stands for a masked one'),
    'masked sequences without a length': Misuse(FlagError, lambda: NonAutoregressiveWrapper(wrapper(max_seq_len=0), mask_id=1),
        'net', 'has max_seq_len=0, which gives sequences no length', 'give it one'),
    'a schedule of another name': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=1, schedule='cos'),
        'schedule', "schedule='cos'", "one of ['cosine', 'linear'], or a function"),
    'a schedule that rises': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=1, schedule=lambda t: t),
        'schedule', 'is a function that does not fall from at', 'one such as lambda t'),
    'a schedule that leaves masks': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=1, schedule=lambda t: 1 - t / 2),
        'schedule', 'is a function that does not fall from at most 1 (all masked) at time 0 to 0 at time 1', 'one such as lambda t'),
    'no steps': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=1, steps=0), 'steps', 'steps=0', 'at least 1'),
    'two critics': Misuse(FlagError, lambda: NonAutoregressiveWrapper(NET, mask_id=1, token_critic=OTHER, self_token_critic=True),
        'self_token_critic', 'self_token_critic=True', 'a token_critic was given too', 'Keep one'),
    'conditions of another width': Misuse(FlagError, lambda: NonAutoregressiveWrapper(wrapper(emb_dim=8), mask_id=1, self_cond=True),
        'self_cond', 'self_cond=True adds what the model made, dim=16 wide, to emb_dim=8', 'leave one out'),
    'preferences of no strength': Misuse(FlagError, lambda: DPO(NET, beta=0),
        'beta', 'beta=0', 'it weighs preferences', 'Use a number above 0'),
    'preferences of a wrapper': Misuse(FlagError, lambda: DPO(MODEL),
        'model', 'model=AutoregressiveWrapper returns a loss', 'give the model inside it, its `net`'),
    'an unknown flag of the encoder of neurons': Misuse(
        FlagError, lambda: NeoMLP(dim_in=1, dim_hidden=1, dim_out=1, dim_model=16, depth=1, encoder_kwargs={'hedas': 2}),
        "'hedas'", 'unknown flag', "did you mean 'heads'?"),
    'no neuron': Misuse(FlagError, lambda: NeoMLP(dim_in=0, dim_hidden=1, dim_out=1, dim_model=16, depth=1),
        'dim_in', 'dim_in=0', 'at least 1'),
    'no kernel left': Misuse(
        FlagError, lambda: decoder(attn_flash=True, attn_attend_sdp_kwargs= dict.fromkeys(('enable_flash', 'enable_mem_efficient',
            'enable_math'), False)),
        'attn_attend_sdp_kwargs', "attn_attend_sdp_kwargs={'enable_flash'", ('it leaves no kernel to use', 'enable one')),
    'a fused kernel for a function of your own': Misuse(BackendError, lambda: decoder(attn_flash=True, attn_custom_attn_fn=torch.sigmoid),
        'attn_flash', 'attn_flash=True cannot be combined with attn_custom_attn_fn=', 'fused kernels know only softmax',
        'Leave out attn_flash, or use'),
    'a fused kernel for residual cross-attention': Misuse(
        BackendError, lambda: decoder(cross_attend=True, attn_flash=True, cross_residual_attn=True),
        'cross_attn_flash', 'cross_attn_flash=True cannot be combined with cross_residual_attn=True',
        'residual attention hands the score matrix', 'Leave out cross_attn_flash, or use'),
    'a fused kernel for cross-attention alone': Misuse(
        BackendError, lambda: decoder(cross_attend=True, cross_attn_flash=True, cross_attn_hard=True),
        'cross_attn_flash', 'cross_attn_flash=True cannot be combined with cross_attn_hard=True', 'fused kernels know only softmax',
        'Leave out cross_attn_flash, or use'),
    'a fused kernel for attention outside of a stack': Misuse(BackendError, lambda: Attention(16, flash=True, hard=True),
        'flash', 'flash=True cannot be combined with hard=True', 'fused kernels know only softmax', 'Leave out flash, or use flash=False'),
    'a context that no layer looks at': Misuse(FlagError, lambda: decoder(cross_attend=True, depth=None, custom_layers=('a', 'f')),
        'custom_layers', "custom_layers=('a', 'f')", 'cross_attend=True'),
    'a logarithm of mixed weights': Misuse(FlagError, lambda: decoder(attn_laser=True, attn_post_talking_heads=True),
        'attn_laser', 'attn_laser=True', 'attn_post_talking_heads=True', 'logarithm'),
    'a decay that learned keys do not have': Misuse(
        FlagError, lambda: decoder(cross_attend=True, rotary_xpos=True, cross_attn_num_mem_kv=2),
        'rotary_xpos', 'rotary_xpos=True', 'cross_attn_num_mem_kv=2', 'rotary_pos_emb=True'),
}  # fmt: skip
