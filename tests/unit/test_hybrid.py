"""A module beside attention: folding, copies, padding, and what it remembers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Attention, Decoder, Encoder
from x_transformers.errors import DecodeError, FlagError, InputError
from x_transformers.x_transformers import FoldAxially, MultiheadRMSNorm

F64 = {'dtype': torch.float64}
SMALL: dict[str, Any] = {'dim': 8, 'depth': 2, 'heads': 2, 'attn_dim_head': 4}


def gru() -> nn.GRU:
    return nn.GRU(8, 8, batch_first=True)


@pytest.mark.parametrize('folds', [1, 2, 3, 5])
def test_folding_runs_every_so_manieth_token_as_a_sequence_of_its_own(folds: int) -> None:
    module, x = gru().double(), torch.randn(2, 7, 8, **F64)
    out = FoldAxially(folds, module)(x)
    out = out[0] if folds == 1 else out
    for first in range(folds):
        torch.testing.assert_close(out[:, first::folds], module(x[:, first::folds])[0])


def test_the_mean_of_both_normed_outputs_goes_on() -> None:
    torch.manual_seed(0)
    attention = Attention(dim=8, heads=2, dim_head=4, causal=True, hybrid_module=gru()).double()
    plain = Attention(dim=8, heads=2, dim_head=4, causal=True).double()
    plain.load_state_dict({name: t for name, t in attention.state_dict().items() if 'hybrid' not in name})
    attention.to_out, plain.to_out = nn.Identity(), nn.Identity()
    x, norm = torch.randn(1, 5, 8, **F64), MultiheadRMSNorm(4, 2).double()
    heads = lambda t: t.view(1, 5, 2, 4).transpose(1, 2)
    want = (norm(heads(plain(x))) + norm(heads(attention.hybrid_module.fn(x)[0]))) / 2
    torch.testing.assert_close(heads(attention(x)), want)


def test_every_layer_has_a_copy_of_its_own() -> None:
    given = gru()
    stack = Decoder(**SMALL, attn_hybrid_module=given)
    weights = [given.weight_ih_l0, *(stack.layers[i][1].hybrid_module.fn.weight_ih_l0 for i in (0, 2))]
    assert len({weight.data_ptr() for weight in weights}) == 3
    assert all(torch.equal(weight, weights[0]) for weight in weights)


def test_a_tensor_that_only_checkpoints_need_does_not_train() -> None:
    stack = Decoder(**SMALL, attn_hybrid_module=gru())
    assert [name for name, p in stack.named_parameters() if not p.requires_grad] == [f'layers.{i}.1.hybrid_mix.weight' for i in (0, 2)]


class Mixer(nn.Module):
    """A module that says nothing of what it remembers."""

    def forward(self, x: Tensor, key_padding: Tensor | None = None) -> dict[str, Tensor]:
        kept = x if key_padding is None else x * key_padding[..., None]
        return {'out': kept.cumsum(dim=1)}


def test_a_module_that_does_not_say_what_it_remembers_is_not_decoded() -> None:
    stack, x = Decoder(**SMALL, attn_hybrid_module=Mixer()), torch.randn(1, 5, 8)
    assert stack(x).shape == x.shape and not stack.can_cache_kv
    with pytest.raises(DecodeError, match=r'attn_hybrid_module=Mixer does not say what it remembers.*carries_state'):
        stack(x, return_state=True)


def test_it_never_sees_left_padding() -> None:
    stack, x = Decoder(**SMALL, attn_hybrid_module=Mixer(), attn_hybrid_fold_axial_dim=2).double(), torch.randn(3, 7, 8, **F64)
    padded = stack(x, seq_start_pos=torch.tensor([0, 3, 1]))
    torch.testing.assert_close(padded[1, 3:], stack(x[1:2, 3:])[0])
    torch.testing.assert_close(padded[2, 1:], stack(x[2:, 1:])[0])


def test_it_takes_the_mask_under_its_own_name_where_attention_looks_both_ways() -> None:
    mask = torch.tensor([[True] * 4 + [False] * 3])
    x = torch.randn(1, 7, 8, **F64)
    told = Encoder(**SMALL, attn_hybrid_module=Mixer(), attn_hybrid_mask_kwarg='key_padding').double()
    first = told.layers[0][1]
    given: list[Any] = []
    first.hybrid_module.register_forward_pre_hook(lambda _, args, kwargs: given.append(kwargs), with_kwargs=True)
    told(x, mask=mask)
    assert torch.equal(given[0]['key_padding'], mask)


@pytest.mark.parametrize('kind', [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize('folds', [1, 3])
def test_recurrent_layers_go_on_exactly(kind: Any, folds: int) -> None:
    module = kind(8, 8, num_layers=2, batch_first=True)
    stack = Decoder(**SMALL, attn_hybrid_module=module, attn_hybrid_fold_axial_dim=folds).double().eval()
    x, start, state, outs = torch.randn(2, 11, 8, **F64), torch.tensor([0, 4]), None, []
    with torch.no_grad():
        whole = stack(x, seq_start_pos=start)
        for part in x.split([2, 3, 1, 5], dim=1):
            out, state = stack(part, state=state, return_state=True, seq_start_pos=start)
            outs.append(out)
    out = torch.cat(outs, dim=1)
    torch.testing.assert_close(out[0], whole[0])
    torch.testing.assert_close(out[1, 4:], whole[1, 4:])
    torch.testing.assert_close(whole[1, 4:], stack(x[1:, 4:])[0])


@pytest.mark.parametrize('module, words', [
    (nn.GRU(8, 8), 'batch_first=True'), (nn.GRU(8, 4, batch_first=True, bidirectional=True), 'looks at later tokens'),
])  # fmt: skip
def test_recurrent_layers_that_mix_rows_or_look_ahead_are_refused(module: nn.Module, words: str) -> None:
    with pytest.raises(FlagError, match=words):
        Decoder(**SMALL, attn_hybrid_module=module)


def test_looking_both_ways_is_fine_where_attention_does() -> None:
    stack = Encoder(**SMALL, attn_hybrid_module=nn.GRU(8, 4, batch_first=True, bidirectional=True))
    assert stack(torch.randn(1, 5, 8)).shape == (1, 5, 8)


def test_an_output_of_another_width_is_named() -> None:
    stack = Decoder(**SMALL, attn_hybrid_module=nn.Linear(8, 5))
    with pytest.raises(InputError, match=r'attn_hybrid_module gave \(1, 4, 5\), expected \(1, 4, 8\)'):
        stack(torch.randn(1, 4, 8))
