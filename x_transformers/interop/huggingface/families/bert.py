"""BERT (1810.04805), as a body or with the head that fills in masked tokens."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import ENCODER, NO_HEAD, Family, Head
from x_transformers.interop.huggingface.fields import (
    ACTIVATIONS,
    always,
    nothing,
    one_of,
    only,
    same,
    training_only,
    width,
)
from x_transformers.interop.huggingface.tensors import layer_norm, row, times

TYPES = 'type'  # what `embed_ids` calls the ids of token types


MASKED_TOKENS: Head = lambda given: {'logits_mlp': True, 'logits_bias': True}

BERT = Family(
    name='bert',
    config='BertConfig',
    shape=ENCODER,
    heads={'BertForMaskedLM': MASKED_TOKENS, 'BertModel': NO_HEAD},
    body='bert.',
    fields=(
        same('vocab_size', 'num_tokens'),
        same('max_position_embeddings', 'max_seq_len'),
        same('type_vocab_size', 'embed_num_tokens', to=lambda count: {TYPES: count}, back=lambda tables: tables.get(TYPES)),
        *llama.EVEN_HEADS,
        width('intermediate_size'),
        one_of('hidden_act', ACTIVATIONS),
        always(pre_norm=False, post_emb_norm=True, norm_bias=True, norm_add_unit_offset=False, attn_qkv_bias=True, attn_out_bias=True),
        same('layer_norm_eps', 'norm_eps'),
        same('attention_probs_dropout_prob', 'attn_dropout'),
        training_only('hidden_dropout_prob'),
        only('is_decoder', False),
        only('add_cross_attention', False),
        only('position_embedding_type', None, 'absolute'),
        llama.TIED,
        nothing('classifier_dropout'),
        nothing(
            'directionality', *(f'pooler_{name}' for name in ('fc_size', 'num_attention_heads', 'num_fc_layers', 'size_per_head', 'type'))
        ),
    ),
    rows=(
        row('bert.embeddings.word_embeddings.weight', 'token_emb.emb.weight'),
        row('bert.embeddings.position_embeddings.weight', 'pos_emb.emb.weight', times(lambda sizes: sizes['e'] ** 0.5)),
        row('bert.embeddings.token_type_embeddings.weight', f'embeds.{TYPES}_embed.weight'),
        *layer_norm('bert.embeddings.LayerNorm', 'post_emb_norm'),
        row('bert.encoder.layer.{l}.attention.self.query.{p}', 'attn_layers.layers.{2l}.1.to_q.{p}'),
        row('bert.encoder.layer.{l}.attention.self.key.{p}', 'attn_layers.layers.{2l}.1.to_k.{p}'),
        row('bert.encoder.layer.{l}.attention.self.value.{p}', 'attn_layers.layers.{2l}.1.to_v.{p}'),
        row('bert.encoder.layer.{l}.attention.output.dense.{p}', 'attn_layers.layers.{2l}.1.to_out.{p}'),
        *layer_norm('bert.encoder.layer.{l}.attention.output.LayerNorm', 'attn_layers.layers.{2l}.0.2'),
        row('bert.encoder.layer.{l}.intermediate.dense.{p}', 'attn_layers.layers.{2l+1}.1.ff.0.0.{p}'),
        row('bert.encoder.layer.{l}.output.dense.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
        *layer_norm('bert.encoder.layer.{l}.output.LayerNorm', 'attn_layers.layers.{2l+1}.0.2'),
        row('cls.predictions.transform.dense.{p}', 'logits_mlp.0.{p}'),
        *layer_norm('cls.predictions.transform.LayerNorm', 'logits_mlp.2'),
        row('cls.predictions.decoder.{p}', 'to_logits.{p}'),
    ),
    left_out=('bert.pooler.', 'cls.predictions.bias'),
)
