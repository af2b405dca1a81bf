"""ModernBERT (2412.13663): an encoder with rotary positions, gates, and windows in most layers.

Its first attention has no norm of its own: it reads the embeddings as they were normed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import FIRST_NORMLESS_ENCODER, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import (
    ACTIVATION_MODULES,
    ACTIVATIONS,
    Field,
    Flags,
    Given,
    activation_module,
    always,
    following,
    nothing,
    one_of,
    same,
    width,
)
from x_transformers.interop.huggingface.rope import head_width, layered_rotary, windows
from x_transformers.interop.huggingface.tensors import cut, halves, joined, layer_norm, reversed_order, row

WINDOW = 'attn_window'  # to either side


def masked_tokens(given: Given) -> Flags:
    """The head of the masked language model."""
    dim = given['hidden_size']
    parts = (
        nn.Linear(dim, dim, bias=given['classifier_bias']),
        activation_module(given, 'classifier_activation'),
        nn.LayerNorm(dim, eps=given['norm_eps'], bias=given['norm_bias']),
        nn.Linear(dim, given['vocab_size'], bias=given['decoder_bias']),
    )
    return {'to_logits': nn.Sequential(*parts)}


def fields_of_head(flags: Mapping[str, Any]) -> Flags:
    """What the parts of that head say."""
    head = flags['to_logits']
    if not isinstance(head, nn.Sequential) or len(head) != 4:
        return {}
    activation = next((name for name, make in ACTIVATION_MODULES.items() if repr(make()) == repr(head[1])), None)
    said = {name: getattr(part, 'bias', None) is not None for name, part in (('classifier_bias', head[0]), ('decoder_bias', head[3]))}
    return {**said, **({} if activation is None else {'classifier_activation': activation})}


MODERNBERT = Family(
    name='modernbert',
    config='ModernBertConfig',
    shape=FIRST_NORMLESS_ENCODER,
    heads={'ModernBertForMaskedLM': masked_tokens, 'ModernBertModel': NO_HEAD},
    body='model.',
    fields=(
        same('vocab_size', 'num_tokens'),
        same('max_position_embeddings', 'max_seq_len'),
        same('hidden_size', 'dim'),
        same('num_hidden_layers', 'depth'),
        same('num_attention_heads', 'heads'),
        following(attn_dim_head=head_width),
        width('intermediate_size'),
        one_of('hidden_activation', ACTIVATIONS),
        one_of('mlp_bias', {False: {'ff_no_bias': True, 'ff_glu_no_bias': True}, True: {}}),
        always(ff_glu=True, post_emb_norm=True, norm_add_unit_offset=False),
        same('norm_bias', 'norm_bias'),
        same('norm_eps', 'norm_eps'),
        layered_rotary(WINDOW),
        windows(field='local_attention', flag=WINDOW, to=lambda width: width // 2, back=lambda reach: 2 * reach),
        llama.ATTENTION_BIAS,
        llama.ATTENTION_DROPOUT,
        same('embedding_dropout', 'emb_dropout'),
        same('mlp_dropout', 'ff_dropout'),
        Field(('decoder_bias', 'classifier_bias', 'classifier_activation'), lambda given: {}, fields_of_head),
        nothing('tie_word_embeddings'),  # told by the tensors
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
        row('head.dense.{p}', 'to_logits.0.{p}'),
        row('head.norm.{p}', 'to_logits.2.{p}'),
        row('decoder.{p}', 'to_logits.3.{p}'),
    ),
    tie=('to_logits.3.weight', 'token_emb.emb.weight'),
)
