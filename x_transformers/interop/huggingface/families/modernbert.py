"""ModernBERT (2412.13663): an encoder with rotary positions, gates, and windows in most layers.

Its first attention has no norm of its own: it reads the embeddings as they were normed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import ENCODER, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import (
    ACTIVATIONS,
    Field,
    Flags,
    Given,
    always,
    nothing,
    one_of,
    same,
    width,
)
from x_transformers.interop.huggingface.rope import layered_rotary, windows
from x_transformers.interop.huggingface.tensors import cut, halves, joined, layer_norm, reversed_order, row

WINDOW = 'attn_window'  # to either side
ACTIVATION = one_of('hidden_activation', ACTIVATIONS)


def masked_tokens(given: Given) -> Flags:
    """The head of the masked language model, whose activation is that of the feed-forwards."""
    if given['classifier_activation'] != given['hidden_activation']:
        raise given.refuse('classifier_activation', given['classifier_activation'], f'{given["hidden_activation"]!r}, as in feed-forwards')
    return {'logits_mlp': True, 'logits_mlp_bias': given['classifier_bias'], 'logits_bias': given['decoder_bias']}


def fields_of_head(flags: Mapping[str, Any]) -> Flags:
    """What the flags of that head say."""
    if not flags['logits_mlp']:
        return {}
    activation = {f'classifier_{name.removeprefix("hidden_")}': value for name, value in ACTIVATION.fields(flags).items()}
    return {'classifier_bias': flags['logits_mlp_bias'], 'decoder_bias': flags['logits_bias'], **activation}


MODERNBERT = Family(
    name='modernbert',
    config='ModernBertConfig',
    shape=ENCODER,
    heads={'ModernBertForMaskedLM': masked_tokens, 'ModernBertModel': NO_HEAD},
    body='model.',
    fields=(
        same('vocab_size', 'num_tokens'),
        same('max_position_embeddings', 'max_seq_len'),
        *llama.EVEN_HEADS,
        width('intermediate_size'),
        ACTIVATION,
        one_of('mlp_bias', {False: {'ff_no_bias': True, 'ff_glu_no_bias': True}, True: {}}),
        always(ff_glu=True, post_emb_norm=True, norm_first_layer=False, norm_add_unit_offset=False),
        same('norm_bias', 'norm_bias'),
        same('norm_eps', 'norm_eps'),
        layered_rotary(WINDOW),
        windows(field='local_attention', flag=WINDOW, to=lambda width: width // 2, back=lambda reach: 2 * reach),
        llama.ATTENTION_BIAS,
        llama.ATTENTION_DROPOUT,
        same('embedding_dropout', 'emb_dropout'),
        same('mlp_dropout', 'ff_dropout'),
        Field(('decoder_bias', 'classifier_bias', 'classifier_activation'), lambda given: {}, fields_of_head),
        llama.TIED,
        nothing('classifier_pooling', 'classifier_dropout', 'deterministic_flash_attn', 'initializer_cutoff_factor'),
        # older names of what stands in others, and what is of other encoders
        nothing('global_attn_every_n_layers', 'global_rope_theta', 'local_rope_theta', 'layer_norm_eps', 'position_embedding_type'),
        nothing('sparse_prediction', 'sparse_pred_ignore_index'),  # of the loss
    ),
    rows=(
        row('model.embeddings.tok_embeddings.weight', 'token_emb.emb.weight'),
        *layer_norm('model.embeddings.norm', 'post_emb_norm'),
        *layer_norm('model.layers.{l}.attn_norm', 'attn_layers.layers.{2l}.0.0'),
        row(
            'model.layers.{l}.attn.Wqkv.{p}',
            tuple(f'attn_layers.layers.{{2l}}.1.{name}.{{p}}' for name in ('to_q', 'to_k', 'to_v')),
            cut('hd', 'hd', 'hd'),
        ),
        row('model.layers.{l}.attn.Wo.{p}', 'attn_layers.layers.{2l}.1.to_out.{p}'),
        *layer_norm('model.layers.{l}.mlp_norm', 'attn_layers.layers.{2l+1}.0.0'),
        row('model.layers.{l}.mlp.Wi.{p}', 'attn_layers.layers.{2l+1}.1.ff.0.proj.{p}', halves, reversed_order, joined),
        row('model.layers.{l}.mlp.Wo.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
        *layer_norm('model.final_norm', 'attn_layers.final_norm'),
        row('head.dense.{p}', 'logits_mlp.0.{p}'),
        *layer_norm('head.norm', 'logits_mlp.2'),
        row('decoder.{p}', 'to_logits.{p}'),
    ),
)
