"""Mistral (2310.06825): Llama with a window."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.rope import rotary, window

MISTRAL = Family(
    name='mistral',
    config='MistralConfig',
    shape=DECODER,
    heads={'MistralForCausalLM': LOGITS, 'MistralModel': NO_HEAD},
    body='model.',
    fields=(
        *llama.SIZES,
        llama.HEAD_WIDTH,
        *llama.RMS,
        llama.PLAIN_GAINS,
        *llama.GATED,
        llama.NO_FF_BIAS,
        rotary(),
        window(),
        llama.ATTENTION_DROPOUT,
        llama.TIED,
    ),
    rows=(*llama.EMBEDDINGS, *llama.ATTENTION, *llama.FEED_FORWARD),
)
