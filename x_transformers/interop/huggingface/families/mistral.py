"""Mistral (2310.06825): Llama with a window."""

from __future__ import annotations

from x_transformers.interop.huggingface.families.llama import (
    ATTENTION,
    ATTENTION_DROPOUT,
    EMBEDDINGS,
    FEED_FORWARD,
    GATED,
    HEAD_WIDTH,
    NO_FF_BIAS,
    PLAIN_GAINS,
    RMS,
    SIZES,
    TIED,
)
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.rope import rotary, window

MISTRAL = Family(
    name='mistral',
    config='MistralConfig',
    shape=DECODER,
    heads={'MistralForCausalLM': LOGITS, 'MistralModel': NO_HEAD},
    body='model.',
    fields=(*SIZES, HEAD_WIDTH, *RMS, PLAIN_GAINS, *GATED, NO_FF_BIAS, rotary(), window(), ATTENTION_DROPOUT, TIED),
    rows=(*EMBEDDINGS, *ATTENTION, *FEED_FORWARD),
)
