"""Phi 1 to 2 (2306.11644, 2309.05463): attention and feed-forward side by side behind one norm, a head with a bias."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import BIASED_LOGITS, DECODER, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import ACTIVATIONS, always, following, one_of, only, same, training_only
from x_transformers.interop.huggingface.rope import head_width, rotary
from x_transformers.interop.huggingface.tensors import grouped_columns, grouped_rows, layer_norm, row

PHI = Family(
    name='phi',
    config='PhiConfig',
    shape=DECODER,
    heads={'PhiForCausalLM': BIASED_LOGITS, 'PhiModel': NO_HEAD},
    body='model.',
    fields=(
        *llama.SIZES,
        following(attn_dim_head=head_width),
        one_of('hidden_act', ACTIVATIONS),
        always(norm_bias=True, norm_add_unit_offset=False, attn_qkv_bias=True, attn_out_bias=True),
        same('layer_norm_eps', 'norm_eps'),
        always(parallel_block=True, parallel_block_one_norm=True),
        rotary(partial=True),
        only('qk_layernorm', False),
        llama.ATTENTION_DROPOUT,
        same('embd_pdrop', 'emb_dropout'),
        training_only('resid_pdrop'),
        llama.TIED,
    ),
    rows=(
        row('model.embed_tokens.weight', 'token_emb.emb.weight'),
        *layer_norm('model.layers.{l}.input_layernorm', 'attn_layers.layers.{2l}.0.0'),
        row('model.layers.{l}.self_attn.q_proj.{p}', 'attn_layers.layers.{2l}.1.to_q.{p}', grouped_rows),
        row('model.layers.{l}.self_attn.k_proj.{p}', 'attn_layers.layers.{2l}.1.to_k.{p}'),
        row('model.layers.{l}.self_attn.v_proj.{p}', 'attn_layers.layers.{2l}.1.to_v.{p}'),
        row('model.layers.{l}.self_attn.dense.weight', 'attn_layers.layers.{2l}.1.to_out.weight', grouped_columns),
        row('model.layers.{l}.self_attn.dense.bias', 'attn_layers.layers.{2l}.1.to_out.bias'),
        row('model.layers.{l}.mlp.fc1.{p}', 'attn_layers.layers.{2l+1}.1.ff.0.0.{p}'),
        row('model.layers.{l}.mlp.fc2.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
        *layer_norm('model.final_layernorm', 'attn_layers.final_norm'),
        row('lm_head.{p}', 'to_logits.{p}'),
    ),
)
