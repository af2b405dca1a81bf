"""Qwen 2 (2407.10671), with biases of queries, keys and values, and Qwen 3 (2505.09388), with their norms; windows in some layers."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import always, following
from x_transformers.interop.huggingface.rope import head_width, rotary, windows
from x_transformers.interop.huggingface.tensors import row

WINDOWS = windows('max_window_layers', switch='use_sliding_window')
SHARED = (*llama.SIZES, llama.PLAIN_GAINS, *llama.GATED, llama.NO_FF_BIAS, rotary(), WINDOWS, llama.ATTENTION_DROPOUT, llama.TIED)

QWEN2 = Family(
    name='qwen2',
    config='Qwen2Config',
    shape=DECODER,
    heads={'Qwen2ForCausalLM': LOGITS, 'Qwen2Model': NO_HEAD},
    body='model.',
    fields=(
        *SHARED,
        *llama.RMS,
        always(attn_qkv_bias=True),
        following(attn_dim_head=head_width),
    ),
    rows=(*llama.EMBEDDINGS, *llama.ATTENTION, *llama.FEED_FORWARD),
)

QWEN3 = Family(
    name='qwen3',
    config='Qwen3Config',
    shape=DECODER,
    heads={'Qwen3ForCausalLM': LOGITS, 'Qwen3Model': NO_HEAD},
    body='model.',
    fields=(
        *SHARED,
        llama.HEAD_WIDTH,
        *llama.RMS,
        *llama.QK_NORM,
        llama.ATTENTION_BIAS,
    ),
    rows=(
        *llama.EMBEDDINGS,
        *llama.ATTENTION,
        row('model.layers.{l}.self_attn.q_norm.weight', 'attn_layers.layers.{2l}.1.q_rmsnorm.g'),
        row('model.layers.{l}.self_attn.k_norm.weight', 'attn_layers.layers.{2l}.1.k_rmsnorm.g'),
        *llama.FEED_FORWARD,
    ),
)
