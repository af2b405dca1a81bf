"""What the README of 2.0.1 shows its readers to do works here: the same names, keywords and shapes.

Models have the sizes of that page. Where no shape is promised, sequences are short, so that a CPU is quick enough.
"""
import pytest
import torch

from x_transformers import (
    AutoregressiveWrapper,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    CrossAttender,
    Decoder,
    Encoder,
    TransformerWrapper,
    ViTransformerWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)

FLAGS = {  # what the page switches on: kind of stack, keywords of the stack, keywords of the model
    'dropouts': (Decoder, {'layer_dropout': 0.1, 'attn_dropout': 0.1, 'ff_dropout': 0.1}, {'emb_dropout': 0.1}),
    'flash': (Decoder, {'attn_flash': True}, {}),
    'memory keys': (Encoder, {'attn_num_mem_kv': 16}, {}),
    'memory tokens': (Encoder, {}, {'num_memory_tokens': 20}),
    'scale norm': (Decoder, {'use_scalenorm': True}, {}),
    'normed embeddings': (Decoder, {}, {'l2norm_embed': True}),
    'a norm behind embeddings': (Decoder, {}, {'post_emb_norm': True}),
    'RMS norm': (Decoder, {'use_rmsnorm': True}, {}),
    'simple RMS norm': (Decoder, {'use_simple_rmsnorm': True}, {}),
    'gated feed-forward': (Decoder, {'ff_glu': True}, {}),
    'SwiGLU': (Decoder, {'ff_swish': True, 'ff_glu': True}, {}),
    'no bias': (Decoder, {'ff_no_bias': True}, {}),
    'squared ReLU': (Decoder, {'ff_relu_squared': True}, {}),
    'top eight': (Decoder, {'attn_sparse_topk': 8, 'attn_sparse_topk_straight_through': True}, {}),
    'hard': (Decoder, {'attn_hard': True}, {}),
    'talking heads': (Decoder, {'attn_pre_talking_heads': True, 'attn_post_talking_heads': True}, {}),
    'one key head': (Decoder, {'attn_one_kv_head': True}, {}),
    'two key heads': (Decoder, {'attn_kv_heads': 2}, {}),
    'attention on attention': (Encoder, {'attn_on_attn': True}, {}),
    'gated values': (Encoder, {'attn_gate_values': True}, {}),
    'sandwich layout': (Encoder, {'sandwich_coef': 6}, {}),
    'tied layers': (Encoder, {'depth': 12, 'weight_tie_layers': True}, {}),
    'repeated layers': (
        Decoder,
        {'depth': None, 'custom_layers': ('a', 'f') * 3, 'layers_execute_order': ((0, 1) * 4 + (2, 3) * 4 + (4, 5) * 4)},
        {},
    ),
    'macaron': (Encoder, {'macaron': True}, {}),
    'T5 bias': (Decoder, {'rel_pos_bias': True}, {}),
    'residual attention': (Encoder, {'pre_norm': False, 'residual_attn': True}, {}),
    'gated residual': (Decoder, {'heads': 16, 'gate_residual': True}, {'max_mem_len': 2048}),
    'rotary': (Decoder, {'rotary_pos_emb': True}, {}),
    'xPos': (Decoder, {'rotary_xpos': True}, {}),
    'dynamic bias': (Decoder, {'dynamic_pos_bias': True, 'dynamic_pos_bias_log_distance': False}, {}),
    'ALiBi': (Decoder, {'alibi_pos_bias': True, 'alibi_num_heads': 4}, {}),
    'shifted tokens': (Decoder, {'shift_tokens': 1}, {}),
    'shifts by layer': (Decoder, {'shift_tokens': (1,) * 6 + (0,) * 6}, {}),
    'sandwich norm': (Decoder, {'sandwich_norm': True}, {}),
    'ResiDual': (Decoder, {'resi_dual': True, 'resi_dual_scale': 0.1}, {}),
    'head scale': (Decoder, {'attn_head_scale': True}, {}),
    'a norm behind the activation': (Decoder, {'ff_post_act_ln': True}, {}),
    'scaled residual': (Decoder, {'scale_residual': True}, {}),
    'grouped cosines': (Decoder, {'attn_qk_norm': True, 'attn_qk_norm_groups': 8}, {}),
    'cosines': (Decoder, {'attn_qk_norm': True, 'attn_qk_norm_scale': 10}, {}),
    'scaled cosines': (Decoder, {'depth': 12, 'attn_qk_norm': True, 'attn_qk_norm_dim_scale': True}, {}),
    'no positions': (Decoder, {}, {'use_abs_pos_emb': False}),
}


def language_model(kind, stack=None, **model):
    sizes = {'dim': 512, 'depth': 6, 'heads': 8, **(stack or {})}
    return TransformerWrapper(**{'num_tokens': 20000, 'max_seq_len': 1024, **model, 'attn_layers': kind(**sizes)})


def ids(*shape, below=20000):
    return torch.randint(0, below, shape)


@pytest.mark.parametrize('name', FLAGS)
def test_a_flag_is_switched_on_as_the_page_says(name):
    kind, stack, model = FLAGS[name]
    assert language_model(kind, stack, **model)(ids(1, 32)).shape == (1, 32, 20000)


def test_a_decoder_and_an_encoder():
    x = ids(1, 1024, below=256)
    with torch.no_grad():
        assert language_model(Decoder, {'depth': 12})(x).shape == (1, 1024, 20000)
        assert language_model(Encoder, {'depth': 12})(x, mask=torch.ones_like(x).bool()).shape == (1, 1024, 20000)


def test_a_model_of_175_billion_parameters():
    with torch.device('meta'):
        model = language_model(
            Decoder, {'dim': 12288, 'depth': 96, 'heads': 96, 'attn_dim_head': 128}, num_tokens=50000, max_seq_len=2048
        )
        assert model(torch.zeros(1, 8, dtype=torch.long)).shape == (1, 8, 50000)
    assert 174e9 < sum(p.numel() for p in model.parameters()) < 176e9


def encoder_decoder(**flags):
    sizes = {'num_tokens': 256, 'depth': 6, 'heads': 8, 'max_seq_len': 1024}
    sides = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in sizes.items()}
    return XTransformer(dim=512, **sides, **flags)


def test_an_encoder_with_a_decoder():
    src, tgt = ids(1, 1024, below=256), ids(1, 1024, below=256)
    loss = encoder_decoder(tie_token_emb=True)(src, tgt, mask=torch.ones_like(src).bool())
    assert loss.shape == ()
    loss.backward()


def test_the_cross_attention_of_a_decoder_can_be_residual():
    encoder_decoder(dec_cross_residual_attn=True)(ids(1, 16, below=256), ids(1, 16, below=256)).backward()


def vision(**more):
    return ViTransformerWrapper(image_size=256, patch_size=32, attn_layers=Encoder(dim=512, depth=6, heads=8), **more)


def test_an_image_classifier():
    assert vision(num_classes=1000)(torch.randn(1, 3, 256, 256)).shape == (1, 1000)


def test_an_image_captioner():
    encoded = vision()(torch.randn(1, 3, 256, 256), return_embeddings=True)
    decoder = language_model(Decoder, {'cross_attend': True})
    with torch.no_grad():
        assert decoder(ids(1, 1024), context=encoded).shape == (1, 1024, 20000)


def test_images_ahead_of_a_prompt():
    prompt, answer = ids(1, 64, below=256), ids(1, 64, below=256)
    images = vision()(torch.randn(1, 3, 256, 256), return_embeddings=True)
    encoder_decoder()(prompt, answer, mask=torch.ones(1, 64).bool(), src_prepend_embeds=images).backward()


def test_memories_flow_from_segment_to_segment():
    for flags, more in (({'rel_pos_bias': True}, {}), ({'rotary_pos_emb': True}, {'shift_mem_down': 1})):
        model = language_model(Decoder, flags, max_seq_len=512, max_mem_len=2048, **more)
        mems = None
        with torch.no_grad():
            for segment in ids(3, 1, 512):
                logits, mems = model(segment, mems=mems, return_mems=True)
        assert logits.shape == (1, 512, 20000) and mems[0].shape == (1, 3 * 512, 512)


def test_a_sequence_is_cut_in_segments_and_written_on():
    model = XLAutoregressiveWrapper(language_model(Decoder, {'depth': 2, 'rel_pos_bias': True}, max_seq_len=32, max_mem_len=128))
    x = ids(1, 256)
    model(x).backward()
    assert model.generate(x[:, :64], 48).shape == (1, 48)


def test_a_language_model_is_trained_with_forgetful_masks():
    AutoregressiveWrapper(language_model(Decoder, {'depth': 12}), mask_prob=0.15)(ids(1, 64)).backward()


def test_nodes_look_at_their_neighbours():
    nodes, neighbours = torch.randn(1, 1, 512), torch.randn(1, 5, 512)
    masks = torch.ones(1, 1).bool(), torch.ones(1, 5).bool()
    encoded = Encoder(dim=512, depth=6)(neighbours, mask=masks[1])
    assert CrossAttender(dim=512, depth=6)(nodes, context=encoded, mask=masks[0], context_mask=masks[1]).shape == (1, 1, 512)


def continuous(dim_in, dim_out):
    return ContinuousTransformerWrapper(
        dim_in=dim_in, dim_out=dim_out, max_seq_len=1024, attn_layers=Decoder(dim=512, depth=12, heads=8)
    )


def test_vectors_instead_of_tokens():
    with torch.no_grad():
        assert continuous(32, 100)(torch.randn(1, 1024, 32), mask=torch.ones(1, 1024).bool()).shape == (1, 1024, 100)


def test_vectors_are_trained_and_written_on():
    model, x = ContinuousAutoregressiveWrapper(continuous(777, 777)), torch.randn(1, 64, 777)
    model(x, mask=torch.ones(1, 64).bool()).backward()
    assert model.generate(torch.randn(1, 777), 17).shape == (17, 777)


def test_numbers_beside_tokens():
    net = XValTransformerWrapper(num_tokens=4, numerical_token_id=3, max_seq_len=1024, attn_layers=Decoder(dim=512, depth=12, heads=8))
    model = XValAutoregressiveWrapper(net)
    model(ids(1, 777, below=4), torch.randn(1, 777)).backward()
    made = model.generate(ids(1, 1, below=4), torch.randn(1, 1), 17)
    assert [t.shape for t in made] == [(1, 17)] * 3
