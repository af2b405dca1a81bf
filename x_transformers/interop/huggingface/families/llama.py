"""Llama 1 to 3 (2302.13971, 2307.09288, 2407.21783), and the tables that its many descendants share."""

from __future__ import annotations

from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import ACTIVATIONS, Field, always, following, key_heads, one_of, only, same, width
from x_transformers.interop.huggingface.rope import head_width, rotary
from x_transformers.interop.huggingface.tensors import grouped_columns, grouped_rows, joined, rms_norm, row

STACK_SIZES = (
    same('hidden_size', 'dim'),
    same('num_hidden_layers', 'depth'),
    same('num_attention_heads', 'heads'),
)
SIZES = (
    same('vocab_size', 'num_tokens'),
    same('max_position_embeddings', 'max_seq_len'),
    *STACK_SIZES,
    Field(
        ('num_key_value_heads',),
        lambda given: {'attn_kv_heads': given['num_key_value_heads']},
        lambda flags: {'num_key_value_heads': key_heads(flags)},
    ),
    width('intermediate_size'),
)
EVEN_HEADS = (*STACK_SIZES, following(attn_dim_head=head_width))  # where no field says how wide they are
HEAD_WIDTH = Field(('head_dim',), lambda given: {'attn_dim_head': head_width(given)}, lambda flags: {'head_dim': flags['attn_dim_head']})
RMS = (always(use_rmsnorm=True), same('rms_norm_eps', 'norm_eps'))
QK_NORM = (always(attn_qk_rmsnorm=True), following(attn_qk_rmsnorm_eps=lambda given: given['rms_norm_eps']))
PLAIN_GAINS = always(norm_add_unit_offset=False)
GATED = (always(ff_glu=True), one_of('hidden_act', ACTIVATIONS))
NO_FF_BIAS = always(ff_no_bias=True, ff_glu_no_bias=True)
ATTENTION_BIAS = one_of('attention_bias', {False: {}, True: {'attn_qkv_bias': True, 'attn_out_bias': True}})
ATTENTION_DROPOUT = same('attention_dropout', 'attn_dropout')
TIED = one_of('tie_word_embeddings', {False: {}, True: {'tie_embedding': True}})

EMBEDDINGS = (
    row('model.embed_tokens.weight', 'token_emb.emb.weight'),
    row('lm_head.weight', 'to_logits.weight'),
    *rms_norm('model.norm', 'attn_layers.final_norm'),
)
ATTENTION = (
    *rms_norm('model.layers.{l}.input_layernorm', 'attn_layers.layers.{2l}.0.0'),
    row('model.layers.{l}.self_attn.q_proj.{p}', 'attn_layers.layers.{2l}.1.to_q.{p}', grouped_rows),
    row('model.layers.{l}.self_attn.k_proj.{p}', 'attn_layers.layers.{2l}.1.to_k.{p}'),
    row('model.layers.{l}.self_attn.v_proj.{p}', 'attn_layers.layers.{2l}.1.to_v.{p}'),
    row('model.layers.{l}.self_attn.o_proj.weight', 'attn_layers.layers.{2l}.1.to_out.weight', grouped_columns),
    row('model.layers.{l}.self_attn.o_proj.bias', 'attn_layers.layers.{2l}.1.to_out.bias'),
)
GATES = (
    row(
        ('model.layers.{l}.mlp.up_proj.{p}', 'model.layers.{l}.mlp.gate_proj.{p}'),
        'attn_layers.layers.{2l+1}.1.ff.0.proj.{p}',
        joined,
    ),
    row('model.layers.{l}.mlp.down_proj.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
)
FEED_FORWARD = (*rms_norm('model.layers.{l}.post_attention_layernorm', 'attn_layers.layers.{2l+1}.0.0'), *GATES)

LLAMA = Family(
    name='llama',
    config='LlamaConfig',
    shape=DECODER,
    heads={'LlamaForCausalLM': LOGITS, 'LlamaModel': NO_HEAD},
    body='model.',
    fields=(
        *SIZES,
        HEAD_WIDTH,
        *RMS,
        PLAIN_GAINS,
        *GATED,
        one_of('mlp_bias', {False: {'ff_no_bias': True, 'ff_glu_no_bias': True}, True: {}}),
        rotary(),
        ATTENTION_BIAS,
        ATTENTION_DROPOUT,
        TIED,
        only('pretraining_tp', 1),
    ),
    rows=(*EMBEDDINGS, *ATTENTION, *FEED_FORWARD),
)
