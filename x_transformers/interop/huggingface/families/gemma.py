"""Gemma (2403.08295): gains as offsets from one, scaled embeddings. Gemma 2 (2408.00118): norms on both sides, soft caps, windows."""

from __future__ import annotations

from x_transformers.interop.huggingface.families.llama import (
    ATTENTION,
    ATTENTION_BIAS,
    ATTENTION_DROPOUT,
    EMBEDDINGS,
    FEED_FORWARD,
    GATED,
    HEAD_WIDTH,
    NO_FF_BIAS,
    RMS,
    SIZES,
    TIED,
)
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import ACTIVATIONS, Field, always, one_of, only, same
from x_transformers.interop.huggingface.rope import rotary, windows
from x_transformers.interop.huggingface.tensors import norms

SCALED = Field((), lambda given: {'emb_scale': given['hidden_size'] ** 0.5}, lambda flags: {})
SHARED = (*SIZES, HEAD_WIDTH, *RMS, NO_FF_BIAS, ATTENTION_BIAS, ATTENTION_DROPOUT, TIED, SCALED, only('use_bidirectional_attention', None, False))

GEMMA = Family(
    name='gemma',
    config='GemmaConfig',
    shape=DECODER,
    heads={'GemmaForCausalLM': LOGITS, 'GemmaModel': NO_HEAD},
    body='model.',
    fields=(*SHARED, *GATED, rotary()),
    rows=(*EMBEDDINGS, *ATTENTION, *FEED_FORWARD),
)

GEMMA2 = Family(
    name='gemma2',
    config='Gemma2Config',
    shape=DECODER,
    heads={'Gemma2ForCausalLM': LOGITS, 'Gemma2Model': NO_HEAD},
    body='model.',
    fields=(
        *SHARED,
        always(ff_glu=True, sandwich_norm=True),
        one_of('hidden_activation', ACTIVATIONS),
        rotary(),
        windows(),
        same('query_pre_attn_scalar', 'attn_scale', to=lambda width: width**-0.5, back=lambda scale: scale**-2),
        same('final_logit_softcapping', 'logits_softclamp_value'),
        Field(
            ('attn_logit_softcapping',),
            lambda given: {'attn_softclamp_logits': True, 'attn_logit_softclamp_value': given['attn_logit_softcapping']}
            if given.get('attn_logit_softcapping')
            else {},
            lambda flags: {'attn_logit_softcapping': flags['attn_logit_softclamp_value'] if flags['attn_softclamp_logits'] else None},
        ),
    ),
    rows=(
        *EMBEDDINGS,
        *ATTENTION,
        *norms('model.layers.{l}.post_attention_layernorm', 'attn_layers.layers.{2l}.0.1', gain='g'),
        *norms('model.layers.{l}.pre_feedforward_layernorm', 'attn_layers.layers.{2l+1}.0.0', gain='g'),
        *FEED_FORWARD[2:],
        *norms('model.layers.{l}.post_feedforward_layernorm', 'attn_layers.layers.{2l+1}.0.1', gain='g'),
    ),
)
