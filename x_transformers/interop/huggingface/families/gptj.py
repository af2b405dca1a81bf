"""GPT-J (Wang & Komatsuzaki 2021): branches side by side behind one norm; neighbouring features are turned, as here by default."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import gpt2, llama
from x_transformers.interop.huggingface.family import BIASED_LOGITS, DECODER, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import ACTIVATIONS, always, one_of, same, training_only
from x_transformers.interop.huggingface.tensors import layer_norm, row

GPTJ = Family(
    name='gptj',
    config='GPTJConfig',
    shape=DECODER,
    heads={'GPTJForCausalLM': BIASED_LOGITS, 'GPTJModel': NO_HEAD},
    body='transformer.',
    fields=(
        *gpt2.SIZES,
        same('layer_norm_epsilon', 'norm_eps'),
        always(norm_bias=True, norm_add_unit_offset=False, parallel_block=True, parallel_block_one_norm=True, rotary_pos_emb=True),
        same('rotary_dim', 'rotary_emb_dim'),
        one_of('activation_function', ACTIVATIONS),
        same('embd_pdrop', 'emb_dropout'),
        same('attn_pdrop', 'attn_dropout'),
        training_only('resid_pdrop'),
        llama.TIED,
    ),
    rows=(
        row('transformer.wte.weight', 'token_emb.emb.weight'),
        *layer_norm('transformer.h.{l}.ln_1', 'attn_layers.layers.{2l}.0.0'),
        row('transformer.h.{l}.attn.q_proj.weight', 'attn_layers.layers.{2l}.1.to_q.weight'),
        row('transformer.h.{l}.attn.k_proj.weight', 'attn_layers.layers.{2l}.1.to_k.weight'),
        row('transformer.h.{l}.attn.v_proj.weight', 'attn_layers.layers.{2l}.1.to_v.weight'),
        row('transformer.h.{l}.attn.out_proj.weight', 'attn_layers.layers.{2l}.1.to_out.weight'),
        row('transformer.h.{l}.mlp.fc_in.{p}', 'attn_layers.layers.{2l+1}.1.ff.0.0.{p}'),
        row('transformer.h.{l}.mlp.fc_out.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
        *layer_norm('transformer.ln_f', 'attn_layers.final_norm'),
        row('lm_head.{p}', 'to_logits.{p}'),
    ),
)
