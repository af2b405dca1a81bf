"""ViT (2010.11929), with a class token."""

from __future__ import annotations

from x_transformers.interop.huggingface.families import llama
from x_transformers.interop.huggingface.family import VISION, Family, Head
from x_transformers.interop.huggingface.fields import (
    ACTIVATIONS,
    Field,
    Given,
    always,
    nothing,
    one_of,
    same,
    training_only,
    width,
)
from x_transformers.interop.huggingface.tensors import layer_norm, row, shaped

CLASSES: Head = lambda given: {'num_classes': len(given['id2label'])}

VIT = Family(
    name='vit',
    config='ViTConfig',
    shape=VISION,
    heads={'ViTForImageClassification': CLASSES},
    body='vit.',
    fields=(
        same('image_size', 'image_size'),
        same('patch_size', 'patch_size'),
        same('num_channels', 'channels'),
        Field(('num_labels',), lambda given: {}, lambda flags: {'num_labels': flags['num_classes']}),
        *llama.EVEN_HEADS,
        width('intermediate_size'),
        one_of('hidden_act', ACTIVATIONS),
        always(use_cls_token=True, patch_norm=False, norm_bias=True, norm_add_unit_offset=False, attn_out_bias=True),
        one_of('qkv_bias', {True: {'attn_qkv_bias': True}, False: {}}),
        same('layer_norm_eps', 'norm_eps'),
        same('attention_probs_dropout_prob', 'attn_dropout'),
        training_only('hidden_dropout_prob'),
        nothing('encoder_stride', 'pooler_output_size', 'pooler_act'),
    ),
    rows=(
        row('vit.embeddings.cls_token', 'cls_token', shaped('1 n e', 'n e')),
        row('vit.embeddings.position_embeddings', 'pos_embedding'),
        row('vit.embeddings.patch_embeddings.projection.weight', 'patch_to_embedding.1.weight', shaped('e c p q', 'e (p q c)')),
        row('vit.embeddings.patch_embeddings.projection.bias', 'patch_to_embedding.1.bias'),
        *layer_norm('vit.layers.{l}.layernorm_before', 'attn_layers.layers.{2l}.0.0'),
        row('vit.layers.{l}.attention.q_proj.{p}', 'attn_layers.layers.{2l}.1.to_q.{p}'),
        row('vit.layers.{l}.attention.k_proj.{p}', 'attn_layers.layers.{2l}.1.to_k.{p}'),
        row('vit.layers.{l}.attention.v_proj.{p}', 'attn_layers.layers.{2l}.1.to_v.{p}'),
        row('vit.layers.{l}.attention.o_proj.{p}', 'attn_layers.layers.{2l}.1.to_out.{p}'),
        *layer_norm('vit.layers.{l}.layernorm_after', 'attn_layers.layers.{2l+1}.0.0'),
        row('vit.layers.{l}.mlp.fc1.{p}', 'attn_layers.layers.{2l+1}.1.ff.0.0.{p}'),
        row('vit.layers.{l}.mlp.fc2.{p}', 'attn_layers.layers.{2l+1}.1.ff.2.{p}'),
        *layer_norm('vit.layernorm', 'attn_layers.final_norm'),
        row('classifier.{p}', 'mlp_head.{p}'),
    ),
    more_sizes=lambda given: {'p': patch(given)[0], 'q': patch(given)[1]},
)


def patch(given: Given) -> tuple[int, int]:
    size = given['patch_size']
    return (size, size) if isinstance(size, int) else (size[0], size[1])
