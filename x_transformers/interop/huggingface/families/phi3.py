"""Phi-3 (2404.14219): Llama with queries, keys and values in one tensor, and gate and value in another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import DECODER, LOGITS, NO_HEAD, Family
from x_transformers.interop.huggingface.fields import Field, Flags, following, same, training_only
from x_transformers.interop.huggingface.rope import head_width, rotary, window
from x_transformers.interop.huggingface.tensors import cut, grouped_columns, grouped_rows, halves, joined, reversed_order, rms_norm, row


def original_length(flags: Mapping[str, Any]) -> Flags:
    """What the scaling of positions says again."""
    scaling = flags['rotary_scaling']
    return {
        'original_max_position_embeddings': scaling['original_length'] if 'original_length' in (scaling or ()) else flags['max_seq_len']
    }


PHI3 = Family(
    name='phi3',
    config='Phi3Config',
    shape=DECODER,
    heads={'Phi3ForCausalLM': LOGITS, 'Phi3Model': NO_HEAD},
    body='model.',
    fields=(
        *llama.SIZES,
        following(attn_dim_head=head_width),
        *llama.RMS,
        llama.PLAIN_GAINS,
        *llama.GATED,
        llama.NO_FF_BIAS,
        rotary(partial=True),
        Field(('original_max_position_embeddings',), lambda given: {}, original_length),
        window(),
        llama.ATTENTION_DROPOUT,
        same('embd_pdrop', 'emb_dropout'),
        training_only('resid_pdrop'),
        llama.TIED,
    ),
    rows=(
        *llama.EMBEDDINGS,
        *rms_norm('model.layers.{l}.input_layernorm', 'attn_layers.layers.{2l}.0.0'),
        row(
            'model.layers.{l}.self_attn.qkv_proj.weight',
            tuple(f'attn_layers.layers.{{2l}}.1.{name}.weight' for name in ('to_q', 'to_k', 'to_v')),
            cut('hd', 'gd', 'gd'),
            grouped_rows,
        ),
        row('model.layers.{l}.self_attn.o_proj.weight', 'attn_layers.layers.{2l}.1.to_out.weight', grouped_columns),
        *rms_norm('model.layers.{l}.post_attention_layernorm', 'attn_layers.layers.{2l+1}.0.0'),
        row(
            'model.layers.{l}.mlp.gate_up_proj.weight',
            'attn_layers.layers.{2l+1}.1.ff.0.proj.weight',
            halves,
            reversed_order,
            joined,
        ),
        row('model.layers.{l}.mlp.down_proj.weight', 'attn_layers.layers.{2l+1}.1.ff.2.weight'),
    ),
)
