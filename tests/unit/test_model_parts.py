"""The parts of models against their formulas, and what code around models relies on."""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from x_transformers import (
    AutoregressiveWrapper,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    MultiInputTransformerWrapper,
    TransformerWrapper,
    ViTransformerWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)
from x_transformers.models.heads import Named, mix, sigsoftmax
from x_transformers.models.vision import Patches
from x_transformers.toolbox import masked_mean
from x_transformers.training.continuous import GaussianLoss, draw

SMALL = {'dim': 16, 'depth': 1, 'heads': 2}
IDS = torch.randint(0, 9, (2, 6), generator=torch.Generator().manual_seed(0))


def net(**flags: Any) -> Any:
    torch.manual_seed(0)
    return TransformerWrapper(**{'num_tokens': 9, 'max_seq_len': 8, 'attn_layers': Decoder(**SMALL), **flags}).double().eval()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_sigsoftmax_is_exp_times_sigmoid_normalised() -> None:
    logits = random(3, 7)
    weights = logits.exp() * logits.sigmoid()
    torch.testing.assert_close(sigsoftmax(logits).softmax(dim=-1), weights / weights.sum(dim=-1, keepdim=True))


def test_a_mixture_is_the_weighted_sum_of_its_softmaxes() -> None:
    logits, scores = random(2, 3, 7), random(2, 3)
    by_hand = sum(scores.softmax(dim=-1)[:, k, None] * logits[:, k].softmax(dim=-1) for k in range(3))
    torch.testing.assert_close(mix(logits, scores).exp(), by_hand)


def test_the_mean_of_what_is_there() -> None:
    t, mask = random(2, 4, 3), torch.tensor([[True, True, False, False], [False] * 4])
    torch.testing.assert_close(masked_mean(t, mask), torch.stack((t[0, :2].mean(dim=0), torch.zeros(3, dtype=torch.float64))))
    torch.testing.assert_close(masked_mean(t), t.mean(dim=1))


def test_modules_may_be_named_like_methods() -> None:
    named = Named({'type': nn.Linear(2, 3), 'keys': nn.Linear(2, 4)})
    assert list(named) == ['type', 'keys'] and len(named) == 2 and named['keys'].out_features == 4
    assert list(named.state_dict()) == ['type.weight', 'type.bias', 'keys.weight', 'keys.bias']


def test_patches_go_row_by_row_and_in_each_channels_run_fastest() -> None:
    image = torch.arange(2 * 4 * 6).view(1, 2, 4, 6)
    patches = Patches((2, 3))(image)
    assert patches.shape == (1, 4, 12)
    assert patches[0, 1, :6].tolist() == [int(image[0, c, 0, 3 + q]) for q in range(3) for c in range(2)]
    assert patches[0, 2, 0] == image[0, 0, 2, 0]


def test_smaller_images_take_the_first_positions_and_registers_are_dropped() -> None:
    model = ViTransformerWrapper(image_size=(8, 12), patch_size=(4, 2), num_register_tokens=3, attn_layers=Encoder(**SMALL)).double()
    assert model.pos_embedding.shape == (1, 12, 16)
    assert model(random(2, 3, 4, 6), return_embeddings=True).shape == (2, 3, 16)
    assert model(random(2, 3, 4, 6)).shape == (2, 16)


def test_a_number_scales_the_embedding_of_its_token_alone() -> None:
    model = XValTransformerWrapper(num_tokens=9, numerical_token_id=2, max_seq_len=8, attn_layers=Decoder(**SMALL)).double()
    ids, numbers = torch.tensor([[1, 2, 3]]), torch.tensor([[torch.nan, -3.0, torch.nan]], dtype=torch.float64)
    table = model.token_emb.emb.weight
    torch.testing.assert_close(model.embed_inputs((ids, numbers), None)[0], torch.stack((table[1], -3 * table[2], table[3])))  # type: ignore[arg-type]


def test_what_stands_beside_tokens_that_are_no_numbers_is_never_looked_at() -> None:
    model = XValAutoregressiveWrapper(
        XValTransformerWrapper(num_tokens=9, numerical_token_id=2, max_seq_len=8, attn_layers=Decoder(**SMALL))
    ).double()
    numbers = random(2, 6)
    loss, parts = model(IDS, numbers, return_loss_breakdown=True)
    again = model(IDS, numbers.masked_fill(IDS != 2, torch.nan))
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close((parts.cross_entropy_loss + parts.numerical_mse_loss).mean(), loss)
    assert parts.numerical_mse_loss[IDS[:, 1:] != 2].abs().sum() == 0
    again.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_mask_of_all_numbers_and_one_of_their_inputs() -> None:
    model = XValAutoregressiveWrapper(
        XValTransformerWrapper(num_tokens=9, numerical_token_id=2, max_seq_len=8, attn_layers=Decoder(**SMALL))
    ).double()
    numbers, mask = random(2, 6), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    _, parts = model(IDS, numbers, mask=mask, return_loss_breakdown=True)
    counted = (parts.cross_entropy_loss + parts.numerical_mse_loss)[mask[:, 1:]].mean()
    torch.testing.assert_close(model(IDS, numbers, mask=mask), counted)
    _, parts = model(IDS, numbers, mask=mask[:, :5], return_loss_breakdown=True)
    torch.testing.assert_close(
        model(IDS, numbers, mask=mask[:, :5]), (parts.cross_entropy_loss + parts.numerical_mse_loss)[mask[:, :5]].mean()
    )


def test_the_gaussian_loss_is_that_of_torch() -> None:
    mean, variance, target = random(2, 4, 3), random(2, 4, 3).exp(), random(2, 4, 3) * 2
    torch.testing.assert_close(
        GaussianLoss()(torch.stack((mean, variance)), target), F.gaussian_nll_loss(mean, target, variance, reduction='none')
    )


def test_draws_have_the_mean_and_the_deviation_that_are_asked_for() -> None:
    mean, variance = torch.full((20000,), 2.0), torch.full((20000,), 9.0)
    drawn = draw(mean, variance, 0.5, torch.Generator().manual_seed(0))
    assert abs(drawn.mean() - 2.0) < 0.05 and abs(drawn.std() - 1.5) < 0.05
    assert torch.equal(draw(mean, variance, 0.0, None), mean)


@pytest.mark.parametrize('equal', [False, True])
def test_a_masked_loss_of_vectors_counts_what_is_there(equal: bool) -> None:
    wrapped = ContinuousTransformerWrapper(dim_in=3, dim_out=3, max_seq_len=8, attn_layers=Decoder(**SMALL))
    model = ContinuousAutoregressiveWrapper(wrapped, equal_loss_weight_batch=equal).double()
    x, mask = random(2, 6, 3), torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    error = (wrapped(x[:, :-1], mask=mask[:, :-1]) - x[:, 1:]).square()
    rows = [error[0].sum() / 5, error[1, :2].sum() / 2]
    torch.testing.assert_close(model(x, mask=mask), sum(rows) / 2 if equal else torch.cat((error[0], error[1, :2])).mean())


def test_the_z_loss_has_the_weight_of_the_model_or_of_the_call() -> None:
    model, heavy = net(), net(attn_z_loss_weight=2e-4)
    loss = model(IDS, return_attn_z_loss=True)[1].attn_z_loss
    torch.testing.assert_close(heavy(IDS, return_attn_z_loss=True)[1].attn_z_loss, 2 * loss)
    torch.testing.assert_close(heavy(IDS, return_attn_z_loss=True, attn_z_loss_weight=1e-4)[1].attn_z_loss, loss)


def test_recycling_adds_what_the_stack_made_to_its_input() -> None:
    model = net(recycling=True, use_abs_pos_emb=False, return_only_embed=True)
    z = model.token_emb(IDS)
    once = model.attn_layers(z)
    torch.testing.assert_close(model(IDS, recycle_steps=1), once)
    torch.testing.assert_close(model(IDS, recycle_steps=2), model.attn_layers(z + model.recycled_proj(once)))


def test_half_precision_mixtures_are_mixed_in_single_and_come_back_as_they_were() -> None:
    logits, shares = torch.randn(2, 3, 4, 9).bfloat16(), torch.randn(2, 3, 4).bfloat16()
    assert mix(logits, shares).dtype == torch.float32
    assert net(mixture_of_softmax=True).bfloat16()(IDS).dtype == torch.bfloat16


def test_init_can_be_overridden() -> None:
    class Own(TransformerWrapper):
        def init_(self) -> None:
            nn.init.constant_(self.token_emb.emb.weight, 0.5)

    assert (Own(num_tokens=9, max_seq_len=8, attn_layers=Decoder(**SMALL)).token_emb.emb.weight == 0.5).all()


def test_a_model_can_be_built_without_its_constructor() -> None:
    class Own(TransformerWrapper):
        def __init__(self) -> None:
            super(TransformerWrapper, self).__init__()
            self.table = nn.Embedding(9, 16)

    assert list(Own().state_dict()) == ['table.weight']


def test_tied_logits_follow_a_table_that_is_replaced() -> None:
    model = net(tie_embedding=True)
    other = copy.deepcopy(model.token_emb)
    nn.init.zeros_(other.emb.weight)
    model.token_emb = other
    assert not model.to_logits(random(16)).any()


def test_both_sides_share_one_table() -> None:
    sides = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in dict(num_tokens=9, max_seq_len=8, depth=1).items()}
    model = XTransformer(dim=16, tie_token_emb=True, dec_tie_embedding=True, **sides)
    assert model.decoder.net.token_emb is model.encoder.token_emb
    assert {'encoder.token_emb.emb.weight', 'decoder.net.token_emb.emb.weight'} <= set(model.state_dict())


def test_inputs_by_position_have_the_order_of_2_0_1() -> None:
    order = lambda kind: [p.name for p in inspect.signature(kind.forward).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD][1:]
    assert order(TransformerWrapper) == [
        'x', 'return_embeddings', 'return_logits_and_embeddings', 'return_intermediates', 'return_logit_entropies', 'mask', 'return_mems',
        'return_attn', 'mems', 'mem_masks', 'recycle_steps', 'pos', 'prepend_embeds', 'prepend_mask', 'embed_ids', 'sum_embeds',
        'return_attn_z_loss', 'attn_z_loss_weight', 'seq_start_pos', 'cache', 'token_emb_kwargs', 'to_logits_kwargs',
    ]  # fmt: skip
    assert order(ContinuousTransformerWrapper)[:4] == ['x', 'return_embeddings', 'return_intermediates', 'return_mems']
    assert order(XValTransformerWrapper)[:3] == ['x', 'x_num', 'return_embeddings']
    assert order(MultiInputTransformerWrapper)[-1] == 'cache'
    assert torch.equal(net()(IDS, True), net()(IDS, return_embeddings=True))
    assert torch.equal(net()(x=IDS), net()(IDS))


def test_parameters_are_drawn_in_the_order_of_2_0_1() -> None:
    """The same seed gives the same model: tables, projection, the table anew, recycling, CLS, mixture, head, memory tokens."""
    stack = Encoder(**SMALL)
    torch.manual_seed(3)
    made = TransformerWrapper(
        num_tokens=9, max_seq_len=8, emb_dim=12, embed_num_tokens={'type': 4}, recycling=True, use_cls_token=True, mixture_of_softmax=True,
        num_memory_tokens=2, attn_layers=stack,
    )  # fmt: skip
    torch.manual_seed(3)
    table, positions, kind, project = nn.Embedding(9, 12), nn.Embedding(8, 12), nn.Embedding(4, 12), nn.Linear(12, 16)
    nn.init.kaiming_normal_(table.weight)
    recycled, cls = nn.Linear(16, 16, bias=False), 0.02 * torch.randn(1, 16)
    mixture, combine, head = nn.Linear(16, 64, bias=False), nn.Linear(16, 4, bias=False), nn.Linear(16, 9, bias=False)
    memory = torch.randn(2, 16)
    expected = {
        'cls_token': cls, 'memory_tokens': memory, 'token_emb.emb.weight': table.weight, 'pos_emb.emb.weight': positions.weight,
        'embeds.type_embed.weight': kind.weight, 'project_emb.weight': project.weight, 'project_emb.bias': project.bias,
        'recycled_proj.weight': recycled.weight, 'to_mixture.0.weight': mixture.weight, 'combine_mixture.weight': combine.weight,
        'to_logits.weight': head.weight,
    }  # fmt: skip
    own = {name: p for name, p in made.named_parameters() if not name.startswith('attn_layers')}
    assert list(own) == list(expected)
    assert all(torch.equal(own[name], value) for name, value in expected.items())


OLD_PATHS = {
    'continuous': 'ContinuousTransformerWrapper ContinuousAutoregressiveWrapper masked_mean exists default AttentionLayers LayerNorm '
    'ScaledSinusoidalEmbedding AbsolutePositionalEmbedding always pad_at_dim',
    'xval': 'XValTransformerWrapper XValAutoregressiveWrapper LossBreakdown GenerateReturn exists default TokenEmbedding top_k top_p '
    'always AttentionLayers ScaledSinusoidalEmbedding AbsolutePositionalEmbedding',
    'multi_input': 'MultiInputTransformerWrapper exists default LayerIntermediates LayerNorm AttentionLayers AbsolutePositionalEmbedding '
    'ScaledSinusoidalEmbedding always pad_at_dim is_empty',
    'x_transformers': 'TransformerWrapper ViTransformerWrapper XTransformer TokenEmbedding dropout_seq masked_mean',
}


@pytest.mark.parametrize('path', OLD_PATHS)
def test_names_are_found_where_2_0_1_had_them(path: str) -> None:
    module = importlib.import_module(f'x_transformers.{path}')
    assert set(OLD_PATHS[path].split()) <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize('flags', [{'tie_embedding': True}, {'mixture_of_softmax': True}, {'num_memory_tokens': 2}])
def test_a_model_exports_with_any_batch_and_length(flags: dict[str, Any]) -> None:
    model = net(**flags)
    sizes = {0: Dim('batch', min=2), 1: Dim('length', min=2, max=8)}
    program = torch.export.export(model, (IDS,), dynamic_shapes=({**sizes},)).module()
    other = IDS[:, :4].repeat(2, 1)
    torch.testing.assert_close(program(other), model(other))


MODELS = {
    'tokens': (TransformerWrapper, {'num_tokens': 9}, (IDS,)),
    'numbers': (XValTransformerWrapper, {'num_tokens': 9, 'numerical_token_id': 2}, (IDS, random(2, 6))),
    'vectors': (ContinuousTransformerWrapper, {'dim_in': 3, 'dim_out': 3}, (random(2, 6, 3),)),
    'several': (MultiInputTransformerWrapper, {'num_tokens': {'a': 9, 'b': 9}}, ({'a': IDS, 'b': IDS},)),
}
NO_POSITIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'rotary': ({'rotary_pos_emb': True}, {}),
    'T5': ({'rel_pos_bias': True}, {}),
    'no length': ({}, {'max_seq_len': 0}),
    'switched off': ({}, {'use_abs_pos_emb': False}),
}


@pytest.mark.parametrize('how', NO_POSITIONS)
@pytest.mark.parametrize('name', MODELS)
def test_a_model_without_absolute_positions_adds_zero(name: str, how: str) -> None:
    (kind, flags, _), (stack, model_flags) = MODELS[name], NO_POSITIONS[how]
    model = kind(**{'max_seq_len': 8, 'attn_layers': Decoder(**SMALL, **stack), **flags, **model_flags})
    assert model.pos_emb.val == 0 and model.pos_emb(IDS, pos=IDS) == 0
    assert not any('pos_emb.' in key for key in model.state_dict() if not key.startswith('attn_layers'))
    assert model.can_cache_kv_outside_max_seq_len and copy.deepcopy(model).pos_emb(IDS) == 0


@pytest.mark.parametrize('stack', [{}, {'rotary_pos_emb': True}])
def test_a_forward_can_be_done_anew_from_its_parts(stack: dict[str, Any]) -> None:
    model = net(attn_layers=Decoder(**SMALL, **stack))
    z = model.post_emb_norm(model.token_emb(IDS) + model.pos_emb(IDS))
    torch.testing.assert_close(model.to_logits(model.attn_layers(model.project_emb(model.emb_dropout(z)))), model(IDS))


@pytest.mark.parametrize('name', MODELS)
def test_a_subclass_may_name_its_attributes_as_it_likes(name: str) -> None:
    kind, flags, inputs = MODELS[name]
    names = ['config', 'embed', 'steps', 'frame', 'run', 'pool', 'positions', 'answer', 'through', 'resume', 'shifted', 'finished']
    names += ['entropies', 'foreign', 'has_head', 'with_learned', 'without_memory', 'new_mems', 'keep_settings', 'add_trunk', 'num_logits']

    class Own(kind):  # type: ignore[valid-type, misc]
        def __init__(self, **keywords: Any):
            super().__init__(**keywords)
            self.probe = nn.Linear(16, 2)
            for each in names:
                setattr(self, each, {'mine': 0})

    flags = {'max_seq_len': 8, **flags}
    model = Own(attn_layers=Decoder(**SMALL), **flags).double()
    plain = kind(attn_layers=Decoder(**SMALL), **flags).double()
    plain.load_state_dict(model.state_dict(), strict=False)
    for watched in ({}, {'return_intermediates': True}, {'return_mems': True}, {'return_state': True}):
        ours, theirs = model(*inputs, **watched), plain(*inputs, **watched)
        ours, theirs = (ours[0], theirs[0]) if watched else (ours, theirs)
        torch.testing.assert_close(ours, theirs)


def test_what_generation_asks_a_model_may_be_assigned() -> None:
    model = net()
    assert model.can_cache_kv and model.num_logits == 9 and not model.can_cache_kv_outside_max_seq_len
    model.can_cache_kv, model.num_logits, model.can_cache_kv_outside_max_seq_len = False, 7, True
    assert (model.can_cache_kv, model.num_logits, model.can_cache_kv_outside_max_seq_len) == (False, 7, True)
    assert AutoregressiveWrapper(model).generate(IDS[:, :2], 3).shape == (2, 3)


def test_a_vocabulary_may_be_extended_by_replacing_tables_and_heads() -> None:
    model = TransformerWrapper(num_tokens=9, max_seq_len=8, embed_num_tokens={'type': 2}, attn_layers=Decoder(**SMALL))
    model.token_emb.emb, model.to_logits = nn.Embedding(30, 16), nn.Linear(16, 30, bias=False)
    model.embeds['type_embed'] = nn.Embedding(4, 16)
    late = torch.full((1, 6), 25)
    assert model.num_logits == 30 and model(late, embed_ids={'type': late // 8}).shape == (1, 6, 30)
    assert AutoregressiveWrapper(model)(late, embed_ids={'type': late[:, 1:] // 8}).isfinite()
    tied = TransformerWrapper(num_tokens=9, max_seq_len=8, tie_embedding=True, attn_layers=Decoder(**SMALL))
    tied.token_emb.emb = nn.Embedding(30, 16)
    assert tied.num_logits == 30 and AutoregressiveWrapper(tied)(late).isfinite()
    several = MultiInputTransformerWrapper(num_tokens={'a': 9}, max_seq_len=8, attn_layers=Decoder(**SMALL))
    several.embeds['a_embed'], several.to_logits['a'] = nn.Embedding(30, 16), nn.Linear(16, 30)
    assert several({'a': late})['a'].shape == (1, 6, 30)
    numbers = XValTransformerWrapper(num_tokens=9, numerical_token_id=2, max_seq_len=8, attn_layers=Decoder(**SMALL))
    numbers.token_emb.emb, numbers.to_logits = nn.Embedding(30, 16), nn.Linear(16, 30)
    assert XValAutoregressiveWrapper(numbers)(late, torch.ones(1, 6)).isfinite()


def test_a_head_of_your_own_has_as_many_logits_as_it_likes() -> None:
    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x, (0, 9))

    model = net(to_logits=Head())
    assert model.num_logits is None and AutoregressiveWrapper(model)(IDS).isfinite() and net(num_output_heads=2).num_logits == 9


def test_named_modules_are_a_module_dict() -> None:
    model = MultiInputTransformerWrapper(num_tokens={'a': 9, 'keys': 5}, max_seq_len=8, attn_layers=Decoder(**SMALL))
    assert isinstance(model.embeds, nn.ModuleDict) and isinstance(model.to_logits, nn.ModuleDict)
    assert list(model.embeds.keys()) == ['a_embed', 'keys_embed'] and 'a' in model.to_logits
    assert [head.out_features for head in model.to_logits.values()] == [9, 5]
    assert {name: head.out_features for name, head in model.to_logits.items()} == {'a': 9, 'keys': 5}
    assert [key for key in model.state_dict() if key.startswith(('embeds', 'to_logits'))] == [
        'embeds.a_embed.weight', 'embeds.keys_embed.weight', 'to_logits.a.weight', 'to_logits.keys.weight',
    ]  # fmt: skip


def test_there_is_one_cls_token_by_default_whether_used_or_not() -> None:
    assert net().num_cls_tokens == 1 and net(attn_layers=Encoder(**SMALL), use_cls_token=True, num_cls_tokens=3).num_cls_tokens == 3


@pytest.mark.parametrize('dtype', [torch.int32, torch.int16])
@pytest.mark.parametrize('flags', [{}, {'scaled_sinu_pos_emb': True}])
def test_positions_may_be_short_integers(flags: dict[str, Any], dtype: torch.dtype) -> None:
    model, pos = net(**flags), torch.arange(6).flip(0)
    torch.testing.assert_close(model(IDS, pos=pos.to(dtype)), model(IDS, pos=pos))


@pytest.mark.parametrize('stack', [{}, {'rotary_pos_emb': True}])
def test_a_loss_is_one_graph(stack: dict[str, Any]) -> None:
    torch.compiler.reset()
    model = AutoregressiveWrapper(net(attn_layers=Decoder(**SMALL, **stack), embed_num_tokens={'keys': 9}))
    given = {'embed_ids': {'keys': IDS[:, 1:]}}
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(IDS, **given), model(IDS, **given))


def test_tied_logits_may_have_a_bias_of_their_own() -> None:
    model = net(tie_embedding=True, logits_bias=True, emb_scale=3.0, logits_softclamp_value=2.0)
    assert model.to_logits.bias.shape == (9,) and torch.all(model.to_logits.bias == 0)
    nn.init.normal_(model.to_logits.bias)
    z = 3 * model.token_emb(IDS) + model.pos_emb(IDS)
    x = model(IDS, return_embeddings=True)
    torch.testing.assert_close(x, model.attn_layers(z))
    logits = x @ model.token_emb.emb.weight.t() + model.to_logits.bias
    torch.testing.assert_close(model(IDS), 2 * torch.tanh(logits / 2))


def test_a_class_token_of_images_has_a_position_and_is_what_the_head_reads() -> None:
    stack = Encoder(**SMALL, norm_bias=True, norm_eps=1e-12)
    flags = {'use_cls_token': True, 'patch_norm': False, 'num_register_tokens': 2, 'num_classes': 5}
    model = ViTransformerWrapper(image_size=8, patch_size=4, attn_layers=stack, **flags).double().eval()
    assert model.pos_embedding.shape == (1, 5, 16)
    assert [name for name in model.state_dict() if 'patch' in name] == ['patch_to_embedding.1.weight', 'patch_to_embedding.1.bias']
    image = random(2, 3, 8, 4)  # two of the four patches
    patches = model.patch_to_embedding[1](model.to_patches(image))
    tokens = torch.cat((model.cls_token.expand(2, 1, -1), patches), dim=1) + model.pos_embedding[:, :3]
    out = stack(torch.cat((tokens, model.register_tokens.expand(2, -1, -1)), dim=1))
    logits, embeds = model(image, return_logits_and_embeddings=True)
    torch.testing.assert_close(logits, model.mlp_head(out[:, 0]))
    torch.testing.assert_close(embeds, out[:, 1:3])
