"""GPT-NeoX (2204.06745) and Pythia (2304.01373): attention and feed-forward side by side, a share of the features turned."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import ACTIVATIONS, always, nothing, one_of, same, training_only, width
from x_transformers.interop.huggingface.rope import rotary
from x_transformers.interop.huggingface.tensors import cut, layer_norm, row, shaped

GPT_NEOX = Family(
    name='gpt_neox',
    config='GPTNeoXConfig',
    shape=DECODER,
    heads={'GPTNeoXForCausalLM': LOGITS, 'GPTNeoXModel': NO_HEAD},
    body='gpt_neox.',
    fields=(
        same('vocab_size', 'num_tokens'),
        same('max_position_embeddings', 'max_seq_len'),
        *llama.EVEN_HEADS,
        width('intermediate_size'),
        one_of('hidden_act', ACTIVATIONS),
        always(norm_bias=True, norm_add_unit_offset=False),
        same('layer_norm_eps', 'norm_eps'),
        one_of('use_parallel_residual', {True: {'parallel_block': True}, False: {}}),
        rotary(partial=True),
        llama.ATTENTION_BIAS,
        llama.ATTENTION_DROPOUT,
        training_only('hidden_dropout'),
        llama.TIED,
        nothing('classifier_dropout', 'is_decoder'),
    ),
    rows=(
        row('gpt_neox.embed_in.weight', 'token_emb.emb.weight'),
        *layer_norm('gpt_neox.layers.{l}.input_layernorm', 'attn_layers.layers.{2l}.0.0'),
        row(
            'gpt_neox.layers.{l}.attention.query_key_value.{p}',
            tuple(f'attn_layers.layers.{{2l}}.1.{name}.{{p}}' for name in ('to_q', 'to_k', 'to_v')),
            shaped('(h t d) ...', '(t h d) ...'),
            cut('hd', 'hd', 'hd'),
        ),
        row('gpt_neox.layers.{l}.attention.dense.{p}', 'attn_layers.layers.{2l}.1.to_out.{p}'),
        *layer_norm('gpt_neox.layers.{l}.post_attention_layernorm', 'attn_layers.layers.{2l+1}.0.0'),
        row('gpt_neox.layers.{l}.mlp.dense_h_to_4h.{p}', 'attn_layers.layers.{2l+1}.1.ff.0.0.{p}'),
        row('gpt_neox.layers.{l}.mlp.dense_4h_to_h.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
        *layer_norm('gpt_neox.final_layer_norm', 'attn_layers.final_norm'),
        row('lm_head.weight', 'to_logits.weight'),
    ),
)
