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


def test_half_precision_mixtures_are_mixed_in_single() -> None:
    assert net(mixture_of_softmax=True).bfloat16()(IDS).dtype == torch.float32


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
