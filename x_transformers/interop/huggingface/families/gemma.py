"""Gemma (2403.08295): gains as offsets from one, scaled embeddings. Gemma 2 (2408.00118): norms on both sides, soft caps,
windows. Gemma 3 (2503.19786): norms of queries and keys, two bases of rotary positions.
"""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import ACTIVATIONS, Field, Flags, always, following, nothing, one_of, only, same
from x_transformers.interop.huggingface.rope import layered_rotary, rotary, windows
from x_transformers.interop.huggingface.tensors import plus, rms_norm, row

TANH = {'gelu_pytorch_tanh': ACTIVATIONS['gelu_pytorch_tanh'], **ACTIVATIONS}  # of several names of a function, theirs first
SCALED = following(emb_scale=lambda given: given['hidden_size'] ** 0.5)
SHARED = (
    *llama.SIZES,
    llama.HEAD_WIDTH,
    *llama.RMS,
    llama.NO_FF_BIAS,
    always(ff_glu=True),
    llama.ATTENTION_BIAS,
    llama.ATTENTION_DROPOUT,
    llama.TIED,
    SCALED,
    only('use_bidirectional_attention', None, False),
)

GEMMA = Family(
    name='gemma',
    config='GemmaConfig',
    shape=DECODER,
    heads={'GemmaForCausalLM': LOGITS, 'GemmaModel': NO_HEAD},
    body='model.',
    fields=(*SHARED, one_of('hidden_act', TANH), rotary()),
    rows=(*llama.EMBEDDINGS, *llama.ATTENTION, *llama.FEED_FORWARD),
)

SANDWICHED = (
    *SHARED,
    always(sandwich_norm=True),
    one_of('hidden_activation', TANH),
    nothing('hidden_act'),  # its older name, which nobody reads
    windows(),
    same('query_pre_attn_scalar', 'attn_scale', to=lambda width: width**-0.5, back=lambda scale: round(scale**-2)),
    same('final_logit_softcapping', 'logits_softclamp_value', optional=True),
)
SANDWICHED_ROWS = (
    *llama.EMBEDDINGS,
    *llama.ATTENTION,
    *rms_norm('model.layers.{l}.post_attention_layernorm', 'attn_layers.layers.{2l}.0.1'),
    *rms_norm('model.layers.{l}.pre_feedforward_layernorm', 'attn_layers.layers.{2l+1}.0.0'),
    *llama.GATES,
    *rms_norm('model.layers.{l}.post_feedforward_layernorm', 'attn_layers.layers.{2l+1}.0.1'),
)


def soft_cap(value: float | None) -> Flags:
    return {} if value is None else {'attn_softclamp_logits': True, 'attn_logit_softclamp_value': value}


SOFT_CAP = Field(
    ('attn_logit_softcapping',),
    lambda given: soft_cap(given.get('attn_logit_softcapping')),
    lambda flags: {'attn_logit_softcapping': flags['attn_logit_softclamp_value'] if flags['attn_softclamp_logits'] else None},
)

GEMMA2 = Family(
    name='gemma2',
    config='Gemma2Config',
    shape=DECODER,
    heads={'Gemma2ForCausalLM': LOGITS, 'Gemma2Model': NO_HEAD},
    body='model.',
    fields=(*SANDWICHED, SOFT_CAP, rotary()),
    rows=SANDWICHED_ROWS,
)

GEMMA3 = Family(
    name='gemma3_text',
    config='Gemma3TextConfig',
    shape=DECODER,
    heads={'Gemma3ForCausalLM': LOGITS, 'Gemma3TextModel': NO_HEAD},
    body='model.',
    fields=(
        *SANDWICHED,
        layered_rotary(),
        *llama.QK_NORM,
        only('attn_logit_softcapping', None),  # their code does not apply it
        nothing('_sliding_window_pattern', 'sliding_window_pattern'),  # layer_types says it
    ),
    rows=(
        *SANDWICHED_ROWS,
        row('model.layers.{l}.self_attn.q_norm.weight', 'attn_layers.layers.{2l}.1.q_rmsnorm.g', plus(1.0)),
        row('model.layers.{l}.self_attn.k_norm.weight', 'attn_layers.layers.{2l}.1.k_rmsnorm.g', plus(1.0)),
    ),
)
