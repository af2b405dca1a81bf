"""Tiny models of `transformers`, one case for each thing that a family can say: a new family is tested by standing here.

What each kind of model is given, whole and with padding, stands below, for theirs and for ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

TOKENS, LENGTH, NEW = 48, 12, 10

Outputs = dict[str, Tensor]  # what was given: outputs


@dataclass(frozen=True)
class Kind:
    """What models of one kind are given, and the tokens they write."""

    theirs: Callable[[Any], Outputs]
    ours: Callable[[Any], Outputs]
    theirs_write: Callable[[Any, bool], Tensor] | None = None
    ours_write: Callable[[Any, bool], Tensor] | None = None


@dataclass(frozen=True)
class Case:
    """A class of models, and the config of a tiny one."""

    kind: Kind
    model: str
    fields: dict[str, Any]

    def made(self) -> Any:
        """Every parameter a random number of some size, of few bits: gains that are offsets from one come back as they were."""
        torch.manual_seed(0)
        cls = getattr(transformers, self.model)
        model = cls(cls.config_class(**self.fields))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3).mul_(1024).round_().div_(1024)
        if self.fields.get('tie_word_embeddings') is False and self.kind is PAIR:  # as checkpoints of T5 1.1 make it, and no config
            model.lm_head.weight = nn.Parameter(model.lm_head.weight.flip(0))
        return model.eval()


# ------------------------------------------------------------------------------------------------ what they are given


def ids(seed: int = 1, length: int = LENGTH) -> Tensor:
    return torch.randint(0, TOKENS, (2, length), generator=torch.Generator().manual_seed(seed))


LEFT = torch.tensor([0, 5])  # tokens of padding in front of each row
SEEN_LEFT, SEEN_RIGHT = torch.arange(LENGTH) >= LEFT[:, None], torch.arange(LENGTH) < LENGTH - LEFT[:, None]
TYPES = (torch.arange(LENGTH) > 6).long().expand(2, -1)


def image(channels: int) -> Tensor:
    return torch.randn(2, channels, 8, 12, generator=torch.Generator().manual_seed(2))


def first(out: Any) -> Tensor:
    return out.logits if 'logits' in out else out.last_hidden_state


def their_decoder(model: Any) -> Outputs:
    mask = SEEN_LEFT
    padded = model(ids(), attention_mask=mask.long(), position_ids=(mask.cumsum(-1) - 1).clamp(min=0))
    return {'whole': first(model(ids())), 'padded': first(padded)[mask]}


def our_decoder(model: Any) -> Outputs:
    return {'whole': model(ids()), 'padded': model(ids(), seq_start_pos=LEFT)[SEEN_LEFT]}


def they_write(model: Any, ragged: bool) -> Tensor:
    mask = SEEN_LEFT if ragged else torch.ones_like(SEEN_LEFT)
    return model.generate(ids(), attention_mask=mask.long(), max_new_tokens=NEW, do_sample=False, pad_token_id=0)[:, LENGTH:]


def we_write(model: Any, ragged: bool) -> Tensor:
    from x_transformers import AutoregressiveWrapper

    return AutoregressiveWrapper(model).generate(ids(), NEW, temperature=0.0, **({'seq_start_pos': LEFT} if ragged else {}))


def their_encoder(model: Any) -> Outputs:
    types = {'token_type_ids': TYPES} if hasattr(model.config, 'type_vocab_size') else {}
    padded = model(ids(), attention_mask=SEEN_RIGHT.long(), **types)
    return {'whole': first(model(ids(), **types)), 'padded': first(padded)[SEEN_RIGHT]}


def our_encoder(model: Any) -> Outputs:
    types = {'embed_ids': {'type': TYPES}} if model.embeds else {}
    return {'whole': model(ids(), **types), 'padded': model(ids(), mask=SEEN_RIGHT, **types)[SEEN_RIGHT]}


def their_pair(model: Any) -> Outputs:
    padded = model(ids(), attention_mask=SEEN_RIGHT.long(), decoder_input_ids=ids(3, 7))
    return {'whole': model(ids(), decoder_input_ids=ids(3, 7)).logits, 'padded': padded.logits}


def our_pair(model: Any) -> Outputs:
    read = {'whole': model.encode(ids(), None, None, None), 'padded': model.encode(ids(), SEEN_RIGHT, None, None)}
    return {name: model.decoder.net(ids(3, 7), context=context, context_mask=mask) for name, (context, mask) in read.items()}


def their_pair_writes(model: Any, ragged: bool) -> Tensor:
    mask = SEEN_RIGHT if ragged else torch.ones_like(SEEN_RIGHT)
    settings = {'do_sample': False, 'decoder_start_token_id': 0, 'pad_token_id': 0, 'max_new_tokens': NEW}
    return model.generate(ids(), attention_mask=mask.long(), **settings)[:, 1:]


def our_pair_writes(model: Any, ragged: bool) -> Tensor:
    return model.generate(ids(), torch.zeros(2, 1).long(), NEW, mask=SEEN_RIGHT if ragged else None, temperature=0.0)


DECODER = Kind(their_decoder, our_decoder, they_write, we_write)
BODY = Kind(their_decoder, our_decoder)
UNPADDED = Kind(lambda model: {'whole': first(model(ids()))}, lambda model: {'whole': model(ids())})
ENCODER = Kind(their_encoder, our_encoder)
PAIR = Kind(their_pair, our_pair, their_pair_writes, our_pair_writes)
VISION = Kind(
    lambda model: {'whole': first(model(image(model.config.num_channels)))}, lambda model: {'whole': model(image(model.channels))}
)


# ------------------------------------------------------------------------------------------------ the table
# Where numbers are scaled on the way (positions, biases of T5), widths are powers of four, so that no bit is lost on the way back.

NO_IDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
SHAPE = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
SIZES = SHAPE | NO_IDS | dict(vocab_size=TOKENS, max_position_embeddings=64)
GROUPED = SIZES | dict(num_key_value_heads=2, rms_norm_eps=0.01, attention_dropout=0.1)
WIDE = GROUPED | dict(head_dim=6)
GPT2 = NO_IDS | dict(vocab_size=TOKENS, n_embd=16, n_layer=2, n_head=4, n_positions=64)
T5 = dict(vocab_size=TOKENS, d_model=16, d_kv=4, d_ff=24, num_layers=3, num_decoder_layers=2, num_heads=4, eos_token_id=None)
TIED, UNTIED, BIASED = dict(tie_word_embeddings=True), dict(tie_word_embeddings=False), dict(attention_bias=True)


def rope(kind: str = 'default', **more: Any) -> dict[str, Any]:
    return {'rope_parameters': {'rope_type': kind, 'rope_theta': 100.0, **more}}


def llama(fields: dict[str, Any]) -> Case:
    return Case(DECODER, 'LlamaForCausalLM', GROUPED | fields)


ORIGINAL = {'original_max_position_embeddings': 16}
FACTORS = ORIGINAL | dict(short_factor=[1.0, 1.5], long_factor=[1.0, 1.5])
HALF, WHOLE = rope(partial_rotary_factor=0.5), rope(partial_rotary_factor=1.0)
LOCAL, GLOBAL = 'sliding_attention', 'full_attention'
TWO_WAYS = {
    'rope_parameters': {
        LOCAL: {'rope_type': 'default', 'rope_theta': 10.0},
        GLOBAL: {'rope_type': 'linear', 'rope_theta': 100.0, 'factor': 3.0},
    }
}
WINDOW = dict(sliding_window=4)
CAPPED = WINDOW | dict(query_pre_attn_scalar=5, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)
UNCAPPED = dict(attn_logit_softcapping=None, final_logit_softcapping=None)

CASES: dict[str, Case] = {
    'gpt2': Case(DECODER, 'GPT2LMHeadModel', GPT2),
    'gpt2, otherwise': Case(
        DECODER,
        'GPT2LMHeadModel',
        GPT2 | UNTIED | dict(n_inner=40, activation_function='relu', layer_norm_epsilon=0.1, scale_attn_weights=False, attn_pdrop=0.3),
    ),
    'gpt2, body': Case(BODY, 'GPT2Model', GPT2 | dict(embd_pdrop=0.2)),
    'llama': llama(dict(num_key_value_heads=4)),
    'llama, otherwise': llama(TIED | BIASED | rope() | dict(head_dim=6, mlp_bias=True, hidden_act='gelu')),
    'llama, linear': llama(rope('linear', factor=3.0)),
    # their cache keeps keys that were turned before the sequence outgrew its length, and a padded row is as long as the longest
    'llama, dynamic': Case(UNPADDED, 'LlamaForCausalLM', GROUPED | rope('dynamic', factor=3.0) | dict(max_position_embeddings=8)),
    'llama, yarn': llama(rope('yarn', factor=4.0, **ORIGINAL)),
    'llama, yarn, otherwise': llama(
        rope('yarn', factor=4.0, mscale=0.8, mscale_all_dim=0.6, beta_fast=8.0, truncate=False, **ORIGINAL),
    ),
    'llama 3': llama(rope('llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **ORIGINAL)),
    'llama, body': Case(BODY, 'LlamaModel', GROUPED),
    'mistral': Case(DECODER, 'MistralForCausalLM', GROUPED | WINDOW),
    'mistral, no window': Case(DECODER, 'MistralForCausalLM', GROUPED | TIED | dict(sliding_window=None)),
    'qwen2': Case(DECODER, 'Qwen2ForCausalLM', GROUPED),
    'qwen2, windows': Case(DECODER, 'Qwen2ForCausalLM', GROUPED | TIED | WINDOW | dict(use_sliding_window=True, max_window_layers=1)),
    'qwen3': Case(DECODER, 'Qwen3ForCausalLM', WIDE),
    'qwen3, otherwise': Case(DECODER, 'Qwen3ForCausalLM', WIDE | TIED | BIASED),
    'gemma': Case(DECODER, 'GemmaForCausalLM', WIDE),
    'gemma, otherwise': Case(DECODER, 'GemmaForCausalLM', WIDE | UNTIED | BIASED | dict(num_key_value_heads=1)),
    'gemma2': Case(DECODER, 'Gemma2ForCausalLM', WIDE | CAPPED),
    'gemma2, otherwise': Case(DECODER, 'Gemma2ForCausalLM', WIDE | CAPPED | UNCAPPED | UNTIED | BIASED),
    'gemma2, body': Case(BODY, 'Gemma2Model', WIDE | CAPPED),
    'gemma3': Case(DECODER, 'Gemma3ForCausalLM', WIDE | CAPPED | UNCAPPED | dict(num_hidden_layers=6)),
    'gemma3, otherwise': Case(
        DECODER,
        'Gemma3ForCausalLM',
        WIDE | CAPPED | UNTIED | BIASED | TWO_WAYS | dict(layer_types=[GLOBAL, LOCAL], attn_logit_softcapping=None),
    ),
    'phi': Case(DECODER, 'PhiForCausalLM', SIZES | HALF),
    'phi, otherwise': Case(
        DECODER,
        'PhiForCausalLM',
        SIZES | WHOLE | TIED | dict(num_key_value_heads=2, layer_norm_eps=0.1, attention_dropout=0.1, embd_pdrop=0.2),
    ),
    'phi3': Case(DECODER, 'Phi3ForCausalLM', GROUPED | WINDOW | HALF | dict(embd_pdrop=0.2)),
    'phi3, longrope': Case(DECODER, 'Phi3ForCausalLM', GROUPED | TIED | ORIGINAL | rope('longrope', **FACTORS)),
    'gpt_neox': Case(DECODER, 'GPTNeoXForCausalLM', SIZES | HALF),
    'gpt_neox, otherwise': Case(
        DECODER,
        'GPTNeoXForCausalLM',
        SIZES
        | WHOLE
        | TIED
        | dict(use_parallel_residual=False, attention_bias=False, layer_norm_eps=0.1, hidden_act='relu', attention_dropout=0.1),
    ),
    'gptj': Case(DECODER, 'GPTJForCausalLM', GPT2 | dict(rotary_dim=2)),
    'gptj, otherwise': Case(
        DECODER, 'GPTJForCausalLM', GPT2 | TIED | dict(rotary_dim=4, n_inner=40, layer_norm_epsilon=0.1, embd_pdrop=0.2, attn_pdrop=0.3)
    ),
    'bert': Case(ENCODER, 'BertForMaskedLM', SIZES),
    'bert, otherwise': Case(
        ENCODER, 'BertForMaskedLM', SIZES | UNTIED | dict(hidden_act='relu', layer_norm_eps=0.1, attention_probs_dropout_prob=0.3)
    ),
    'bert, body': Case(ENCODER, 'BertModel', SIZES | dict(hidden_act='gelu_new')),
    'modernbert': Case(ENCODER, 'ModernBertForMaskedLM', SIZES | dict(num_hidden_layers=3, local_attention=4)),
    'modernbert, otherwise': Case(
        ENCODER,
        'ModernBertForMaskedLM',
        SIZES
        | TWO_WAYS
        | UNTIED
        | BIASED
        | dict(local_attention=4, norm_bias=True, norm_eps=0.1, mlp_bias=True, classifier_bias=True, hidden_activation='relu')
        | dict(attention_dropout=0.1, embedding_dropout=0.2, mlp_dropout=0.3, decoder_bias=False, classifier_activation='relu'),
    ),
    't5': Case(PAIR, 'T5ForConditionalGeneration', T5),
    't5, otherwise': Case(
        PAIR,
        'T5ForConditionalGeneration',
        T5
        | UNTIED
        | dict(feed_forward_proj='gated-gelu', layer_norm_epsilon=0.1)
        | dict(relative_attention_num_buckets=8, relative_attention_max_distance=8),
    ),
    'vit': Case(VISION, 'ViTForImageClassification', SHAPE | dict(image_size=(8, 12), patch_size=(2, 4), num_labels=5)),
    'vit, otherwise': Case(
        VISION,
        'ViTForImageClassification',
        SHAPE
        | dict(image_size=(8, 12), patch_size=(2, 4), num_channels=1, qkv_bias=False, hidden_act='relu', layer_norm_eps=0.1)
        | dict(attention_probs_dropout_prob=0.3),
    ),
}
