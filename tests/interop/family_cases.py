"""Tiny models of `transformers`, one case for each thing that a family can say: a new family is tested by standing here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

TOKENS, LENGTH = 48, 12

SIZES = {
    'vocab_size': TOKENS,
    'hidden_size': 16,
    'intermediate_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'max_position_embeddings': 64,
}
IDS = {'bos_token_id': None, 'eos_token_id': None, 'pad_token_id': None}
GROUPED = {**SIZES, **IDS, 'num_key_value_heads': 2}
LOCAL, GLOBAL = 'sliding_attention', 'full_attention'


@dataclass(frozen=True)
class Case:
    """A class of models, and the config of a tiny one."""

    model: str
    config: str
    fields: dict[str, Any] = field(default_factory=dict)

    def made(self) -> Any:
        """Every parameter a random number of some size."""
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.fields)
        model = getattr(transformers, self.model)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        return model.eval()


def scaled(kind: str, **more: Any) -> dict[str, Any]:
    return {**GROUPED, 'rope_parameters': {'rope_type': kind, 'rope_theta': 100.0, **more}}


DECODERS: dict[str, Case] = {
    'gpt2': Case('GPT2LMHeadModel', 'GPT2Config', {**IDS, 'vocab_size': TOKENS, 'n_embd': 16, 'n_layer': 2, 'n_head': 4, 'n_positions': 64}),
    'gpt2 of other parts': Case(
        'GPT2LMHeadModel',
        'GPT2Config',
        {
            **IDS, 'vocab_size': TOKENS, 'n_embd': 16, 'n_layer': 2, 'n_head': 4, 'n_positions': 64, 'n_inner': 40, 'activation_function': 'relu',
            'layer_norm_epsilon': 0.1, 'scale_attn_weights': False, 'tie_word_embeddings': False,
        },  # fmt: skip
    ),
    'llama': Case('LlamaForCausalLM', 'LlamaConfig', {**SIZES, **IDS}),
    'llama with groups, biases and wide heads': Case(
        'LlamaForCausalLM',
        'LlamaConfig',
        {**GROUPED, 'head_dim': 6, 'attention_bias': True, 'mlp_bias': True, 'tie_word_embeddings': True, 'rms_norm_eps': 0.1, 'hidden_act': 'gelu'},
    ),
    'llama, linear': Case('LlamaForCausalLM', 'LlamaConfig', scaled('linear', factor=3.0)),
    'llama, dynamic': Case('LlamaForCausalLM', 'LlamaConfig', scaled('dynamic', factor=3.0)),
    'llama, yarn': Case('LlamaForCausalLM', 'LlamaConfig', scaled('yarn', factor=4.0, original_max_position_embeddings=16)),
    'llama 3': Case(
        'LlamaForCausalLM',
        'LlamaConfig',
        scaled('llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16),
    ),
    'mistral': Case('MistralForCausalLM', 'MistralConfig', {**GROUPED, 'sliding_window': 4}),
    'mistral without a window': Case('MistralForCausalLM', 'MistralConfig', {**GROUPED, 'sliding_window': None}),
    'qwen2': Case('Qwen2ForCausalLM', 'Qwen2Config', GROUPED),
    'qwen2 with windows': Case(
        'Qwen2ForCausalLM',
        'Qwen2Config',
        {**GROUPED, 'use_sliding_window': True, 'sliding_window': 4, 'max_window_layers': 1},
    ),
    'qwen3': Case('Qwen3ForCausalLM', 'Qwen3Config', {**GROUPED, 'head_dim': 6, 'rms_norm_eps': 0.01}),
    'gemma': Case('GemmaForCausalLM', 'GemmaConfig', {**GROUPED, 'head_dim': 6}),
    'gemma2': Case(
        'Gemma2ForCausalLM', 'Gemma2Config', {**GROUPED, 'head_dim': 6, 'sliding_window': 4, 'query_pre_attn_scalar': 5, 'attn_logit_softcapping': 2.0}
    ),
    'phi3': Case('Phi3ForCausalLM', 'Phi3Config', {**GROUPED, 'sliding_window': 4}),
    'phi3, some features turned': Case(
        'Phi3ForCausalLM', 'Phi3Config', {**GROUPED, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 100.0, 'partial_rotary_factor': 0.5}}
    ),
    'gpt_neox': Case('GPTNeoXForCausalLM', 'GPTNeoXConfig', {**SIZES, **IDS, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 100.0, 'partial_rotary_factor': 0.5}}),
    'gpt_neox, one after the other': Case('GPTNeoXForCausalLM', 'GPTNeoXConfig', {**SIZES, **IDS, 'use_parallel_residual': False, 'attention_bias': False}),
}
