"""Qwen 2 (2407.10671), with biases of queries, keys and values, and Qwen 3 (2505.09388), with their norms; windows in some layers."""

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
    PLAIN_GAINS,
    QK_NORM,
    RMS,
    SIZES,
    TIED,
)
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import always, following
from x_transformers.interop.huggingface.rope import head_width, rotary, windows
from x_transformers.interop.huggingface.tensors import row

WINDOWS = windows('max_window_layers', switch='use_sliding_window')
SHARED = (*SIZES, PLAIN_GAINS, *GATED, NO_FF_BIAS, rotary(), WINDOWS, ATTENTION_DROPOUT, TIED)

QWEN2 = Family(
    name='qwen2',
    config='Qwen2Config',
    shape=DECODER,
    heads={'Qwen2ForCausalLM': LOGITS, 'Qwen2Model': NO_HEAD},
    body='model.',
    fields=(
        *SHARED,
        *RMS,
        always(attn_qkv_bias=True),
        following(attn_dim_head=head_width),
    ),
    rows=(*EMBEDDINGS, *ATTENTION, *FEED_FORWARD),
)

QWEN3 = Family(
    name='qwen3',
    config='Qwen3Config',
    shape=DECODER,
    heads={'Qwen3ForCausalLM': LOGITS, 'Qwen3Model': NO_HEAD},
    body='model.',
    fields=(
        *SHARED,
        HEAD_WIDTH,
        *RMS,
        *QK_NORM,
        ATTENTION_BIAS,
    ),
    rows=(
        *EMBEDDINGS,
        *ATTENTION,
        row('model.layers.{l}.self_attn.q_norm.weight', 'attn_layers.layers.{2l}.1.q_rmsnorm.g'),
        row('model.layers.{l}.self_attn.k_norm.weight', 'attn_layers.layers.{2l}.1.k_rmsnorm.g'),
        *FEED_FORWARD,
    ),
)
