"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import (
    ACTIVATIONS,
    always,
    following,
    nothing,
    one_of,
    only,
    same,
    training_only,
    width,
)
from x_transformers.interop.huggingface.tensors import cut, layer_norm, row, times, transposed

QKV = tuple('attn_layers.layers.{2l}.1.' + name for name in ('to_q', 'to_k', 'to_v'))
SIZES = (
    same('vocab_size', 'num_tokens'),
    same('n_positions', 'max_seq_len'),
    same('n_embd', 'dim'),
    same('n_layer', 'depth'),
    same('n_head', 'heads'),
    width('n_inner'),
    following(attn_dim_head=lambda given: given['n_embd'] // given['n_head']),
)

GPT2 = Family(
    name='gpt2',
    config='GPT2Config',
    shape=DECODER,
    heads={'GPT2LMHeadModel': LOGITS, 'GPT2Model': NO_HEAD},
    body='transformer.',
    fields=(
        *SIZES,
        always(norm_bias=True, norm_add_unit_offset=False, attn_qkv_bias=True, attn_out_bias=True),
        same('layer_norm_epsilon', 'norm_eps'),
        one_of('activation_function', ACTIVATIONS),
        one_of('scale_attn_weights', {True: {}, False: {'attn_scale': 1.0}}),
        only('scale_attn_by_inverse_layer_idx', False),
        only('add_cross_attention', False),
        one_of('tie_word_embeddings', {True: {'tie_embedding': True}, False: {}}),
        same('embd_pdrop', 'emb_dropout'),
        same('attn_pdrop', 'attn_dropout'),
        training_only('resid_pdrop'),
        nothing('reorder_and_upcast_attn', 'n_ctx'),
        nothing('summary_type', 'summary_use_proj', 'summary_activation', 'summary_proj_to_labels', 'summary_first_dropout'),
    ),
    rows=(
        row('transformer.wte.weight', 'token_emb.emb.weight'),
        row('transformer.wpe.weight', 'pos_emb.emb.weight', times(lambda sizes: sizes['e'] ** 0.5)),  # ours are scaled by its inverse
        *layer_norm('transformer.h.{l}.ln_1', 'attn_layers.layers.{2l}.0.0'),
        row('transformer.h.{l}.attn.c_attn.weight', tuple(f'{name}.weight' for name in QKV), transposed, cut('hd', 'hd', 'hd')),
        row('transformer.h.{l}.attn.c_attn.bias', tuple(f'{name}.bias' for name in QKV), cut('hd', 'hd', 'hd')),
        row('transformer.h.{l}.attn.c_proj.weight', 'attn_layers.layers.{2l}.1.to_out.weight', transposed),
        row('transformer.h.{l}.attn.c_proj.bias', 'attn_layers.layers.{2l}.1.to_out.bias'),
        *layer_norm('transformer.h.{l}.ln_2', 'attn_layers.layers.{2l+1}.0.0'),
        row('transformer.h.{l}.mlp.c_fc.weight', 'attn_layers.layers.{2l+1}.1.ff.0.0.weight', transposed),
        row('transformer.h.{l}.mlp.c_fc.bias', 'attn_layers.layers.{2l+1}.1.ff.0.0.bias'),
        row('transformer.h.{l}.mlp.c_proj.weight', 'attn_layers.layers.{2l+1}.1.ff.2.weight', transposed),
        row('transformer.h.{l}.mlp.c_proj.bias', 'attn_layers.layers.{2l+1}.1.ff.2.bias'),
        *layer_norm('transformer.ln_f', 'attn_layers.final_norm'),
        row('lm_head.weight', 'to_logits.weight'),
    ),
)
