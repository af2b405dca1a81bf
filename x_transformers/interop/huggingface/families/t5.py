"""T5 (1910.10683) and its version 1.1: an encoder and a decoder with biases by distance, and scores that are not scaled."""

from __future__ import annotations

from x_transformers.interop.huggingface.family import ENCODER_DECODER, LOGITS, Family
from x_transformers.interop.huggingface.fields import Field, Flags, Given, always, nothing, one_of, same, training_only, width
from x_transformers.interop.huggingface.tensors import Row, joined, rms_norm, row, times


def both(**flags: object) -> Flags:
    """The same flags for the encoder and the decoder."""
    return {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in flags.items()}


def side(theirs: str, ours: str) -> tuple[Field, ...]:
    """A field that is one flag of both sides, which must agree."""
    return (same(theirs, f'enc_{ours}'), same(theirs, f'dec_{ours}'))


def attention(theirs: str, ours: str) -> tuple[Row, ...]:
    names = (('q', 'to_q'), ('k', 'to_k'), ('v', 'to_v'), ('o', 'to_out'))
    return tuple(row(f'{theirs}.{there}.weight', f'{ours}.1.{here}.weight') for there, here in names)


def feed_forward(theirs: str, ours: str) -> tuple[Row, ...]:
    return (
        row(f'{theirs}.DenseReluDense.wi.weight', f'{ours}.1.ff.0.0.weight'),
        row((f'{theirs}.DenseReluDense.wi_1.weight', f'{theirs}.DenseReluDense.wi_0.weight'), f'{ours}.1.ff.0.proj.weight', joined),
        row(f'{theirs}.DenseReluDense.wo.weight', f'{ours}.1.ff.2.weight'),
        *rms_norm(f'{theirs}.layer_norm', f'{ours}.0.0'),
    )


def bias(theirs: str, ours: str) -> Row:
    """Ours is scaled by the root of a head's width."""
    name = 'relative_attention_bias.weight'
    return row(f'{theirs}.block.0.layer.0.SelfAttention.{name}', f'{ours}.rel_pos.{name}', times(lambda sizes: sizes['d'] ** -0.5))


def as_projected(given: Given) -> Flags:
    """Their class derives these two of `feed_forward_proj`, and its layers ask nothing else."""
    gate, _, act = given['feed_forward_proj'].rpartition('-')
    derived = {'dense_act_fn': 'gelu_new' if gate and act == 'gelu' else act, 'is_gated_act': bool(gate)}
    for name, value in derived.items():
        if given.get(name, value) != value:
            raise given.refuse(name, given[name], f'{value!r}, as feed_forward_proj={given["feed_forward_proj"]!r} has it')
    return {}


GATED = {'ff_glu': True, 'ff_glu_no_bias': True}
ENC, DEC = 'encoder.attn_layers', 'decoder.net.attn_layers'

T5 = Family(
    name='t5',
    config='T5Config',
    shape=ENCODER_DECODER,
    heads={'T5ForConditionalGeneration': LOGITS},
    body='',
    fields=(
        *side('vocab_size', 'num_tokens'),
        same('d_model', 'dim'),
        same('num_layers', 'enc_depth'),
        same('num_decoder_layers', 'dec_depth'),
        *side('num_heads', 'heads'),
        *side('d_kv', 'attn_dim_head'),
        width('d_ff', 'enc_'),
        width('d_ff', 'dec_'),
        one_of(
            'feed_forward_proj',
            {
                'relu': both(ff_relu=True),
                'gelu': both(),
                'gated-gelu': both(**GATED, ff_gelu_tanh=True),
                'gated-silu': both(**GATED, ff_swish=True),
                'gated-relu': both(**GATED, ff_relu=True),
            },
        ),
        Field(('dense_act_fn', 'is_gated_act'), as_projected, lambda flags: {}),
        always(**both(max_seq_len=0, use_rmsnorm=True, norm_add_unit_offset=False, ff_no_bias=True)),
        always(**both(attn_scale=1.0, rel_pos_bias=True), tie_token_emb=True),
        *side('layer_norm_epsilon', 'norm_eps'),
        *side('relative_attention_num_buckets', 'rel_pos_num_buckets'),
        *side('relative_attention_max_distance', 'rel_pos_max_distance'),
        one_of('tie_word_embeddings', {True: {'dec_tie_embedding': True}, False: {}}),
        training_only('dropout_rate'),
        nothing('scale_decoder_outputs', 'classifier_dropout', 'is_decoder', 'n_positions', 'output_past'),
    ),
    rows=(
        row('shared.weight', 'encoder.token_emb.emb.weight'),
        row('encoder.embed_tokens.weight', 'encoder.token_emb.emb.weight'),
        row('decoder.embed_tokens.weight', 'decoder.net.token_emb.emb.weight'),
        bias('encoder', ENC),
        *attention('encoder.block.{l}.layer.0.SelfAttention', ENC + '.layers.{2l}'),
        *rms_norm('encoder.block.{l}.layer.0.layer_norm', ENC + '.layers.{2l}.0.0'),
        *feed_forward('encoder.block.{l}.layer.1', ENC + '.layers.{2l+1}'),
        *rms_norm('encoder.final_layer_norm', ENC + '.final_norm'),
        bias('decoder', DEC),
        *attention('decoder.block.{l}.layer.0.SelfAttention', DEC + '.layers.{3l}'),
        *rms_norm('decoder.block.{l}.layer.0.layer_norm', DEC + '.layers.{3l}.0.0'),
        *attention('decoder.block.{l}.layer.1.EncDecAttention', DEC + '.layers.{3l+1}'),
        *rms_norm('decoder.block.{l}.layer.1.layer_norm', DEC + '.layers.{3l+1}.0.0'),
        *feed_forward('decoder.block.{l}.layer.2', DEC + '.layers.{3l+2}'),
        # what their logits are scaled by is part of the last norm here
        row('decoder.final_layer_norm.weight', DEC + '.final_norm.g', times(lambda sizes: sizes['logits'])),
        row('lm_head.weight', 'decoder.net.to_logits.weight'),
    ),
    more_sizes=lambda given: {'logits': given['d_model'] ** -0.5 if given['scale_decoder_outputs'] else 1.0},
)
