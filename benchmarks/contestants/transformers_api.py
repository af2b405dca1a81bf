"""The transformers package by its public interface, with the configs that come closest to ours; never its pretrained weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from contestants.common import ids, noise, prepared, step

Work = Callable[[], Any]
LLAMA = {'rotary_pos_emb', 'use_rmsnorm', 'ff_glu', 'ff_swish', 'ff_no_bias', 'attn_kv_heads'}
QUIET = {'bos_token_id': None, 'eos_token_id': None, 'pad_token_id': None}


def language(size: dict[str, Any]) -> Any:
    flags, heads = size.get('flags', {}), size['dim'] // 64
    if not flags:
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=size['vocabulary'], n_positions=size['length'] + size.get('new', 0), n_embd=size['dim'], n_layer=size['depth'],
                n_head=heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False, **QUIET,
            )
        )  # fmt: skip
    if flags.keys() - LLAMA:
        raise NotImplementedError(f'transformers has no {sorted(flags.keys() - LLAMA)}')
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size['vocabulary'], hidden_size=size['dim'], intermediate_size=4 * size['dim'], num_hidden_layers=size['depth'],
            num_attention_heads=heads, num_key_value_heads=flags.get('attn_kv_heads', heads), max_position_embeddings=size['length'],
            tie_word_embeddings=False, **QUIET,
        )
    )  # fmt: skip


def train(size: dict[str, Any]) -> Work:
    model, tokens = prepared(language(size), size), ids(size, size['length'] + 1)
    logits = lambda: model(tokens[:, :-1], use_cache=False).logits
    logits = torch.compile(logits) if size.get('compile') else logits
    return step(model, lambda: F.cross_entropy(logits().flatten(0, 1), tokens[:, 1:].flatten()), size)


def generate(size: dict[str, Any]) -> Work:
    model, prompt = prepared(language(size), size).eval(), ids(size, size['prompt'])
    greedy = {'max_new_tokens': size['new'], 'min_new_tokens': size['new'], 'do_sample': False, 'pad_token_id': 0}
    return lambda: model.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy)


def vision(size: dict[str, Any]) -> Work:
    config = ViTConfig(
        image_size=size['image'], patch_size=size['patch'], hidden_size=size['dim'], num_hidden_layers=size['depth'],
        num_attention_heads=size['dim'] // 64, intermediate_size=4 * size['dim'], num_labels=1000,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model, images = prepared(ViTForImageClassification(config), size), noise(size, size['batch'], 3, size['image'], size['image'])
    return step(model, lambda: F.cross_entropy(model(images).logits, torch.arange(size['batch'], device=images.device)), size)


def translate(size: dict[str, Any]) -> Work:
    config = T5Config(
        vocab_size=size['vocabulary'], d_model=size['dim'], d_kv=64, d_ff=4 * size['dim'], num_layers=size['depth'],
        num_heads=size['dim'] // 64, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    model, source = prepared(T5ForConditionalGeneration(config), size).eval(), ids(size, size['length'])
    return lambda: model.generate(source, max_new_tokens=size['new'], min_new_tokens=size['new'], do_sample=False)


KINDS = {'train': train, 'generate': generate, 'vision': vision, 'translate': translate}
