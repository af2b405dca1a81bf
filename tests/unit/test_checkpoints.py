"""State dicts of releases after 2.0.1 give the outputs that their formulas gave there, or are refused by the name of the flag."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers import Attention, AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.errors import CheckpointError
from x_transformers.interop.checkpoints import from_later

X = torch.randn(2, 7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(0, 9, (2, 7), generator=torch.Generator().manual_seed(1))


def alive(module: Any) -> Any:
    """In float64, with every parameter a random number."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().eval().parameters():
            parameter.normal_()
    return module


def without(module: nn.Module, *ends: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(ends)}


def loaded(module: Any, state: dict[str, Tensor], version: str = '2.31.10') -> Any:
    before = {name: tensor.clone() for name, tensor in state.items()}
    module.double().eval().load_state_dict(from_later(state, module, version))
    assert state.keys() == before.keys() and all(torch.equal(state[name], tensor) for name, tensor in before.items())
    return module


def test_a_state_dict_without_news_is_as_it_is() -> None:
    model = alive(Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True))
    assert torch.equal(loaded(Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True), model.state_dict())(X), model(X))


def test_gates_without_a_bias_start_at_half() -> None:
    flags = {'dim': 16, 'heads': 2, 'dim_head': 8}
    gated, plain = alive(Attention(**flags, gate_values=True)), Attention(**flags, on_attn=False).double()
    gated = loaded(Attention(**flags, gate_values=True), without(gated, 'to_v_gate.bias'))
    plain.load_state_dict({name: tensor for name, tensor in gated.state_dict().items() if 'gate' not in name})
    plain.to_out, last = nn.Identity(), plain.to_out
    formula = last(plain(X) * torch.sigmoid(X @ gated.to_v_gate.weight.T))
    assert (gated(X) - formula).abs().max() < 1e-12


def test_scales_of_queries_and_keys_change_their_meaning() -> None:
    flags = {'dim': 16, 'heads': 2, 'dim_head': 8, 'qk_norm': True, 'qk_norm_dim_scale': True, 'num_mem_kv': 2}
    there = alive(Attention(**flags, qk_norm_scale=8**-0.5))  # the scale of scores that later releases have
    for scale in (10, 3.0):
        assert (loaded(Attention(**flags, qk_norm_scale=scale), there.state_dict())(X) - there(X)).abs().max() < 1e-12
    same = loaded(Attention(**flags, qk_norm_scale=8**-0.5), there.state_dict(), '2.25.4')
    assert torch.equal(same(X), there(X))


def test_one_head_without_a_projection_gets_one_that_changes_nothing() -> None:
    there = alive(Attention(dim=16, heads=1, dim_head=16))
    here = loaded(Attention(dim=16, heads=1, dim_head=16), without(there, 'to_out.weight'))
    q, k, v = (X @ there.state_dict()[f'to_{name}.weight'].T for name in 'qkv')
    assert (here(X) - F.scaled_dot_product_attention(q, k, v)).abs().max() < 1e-12


@pytest.mark.parametrize('version, scale', [('2.31.10', 16**-0.5), ('2.20', 1.0)])
def test_tied_logits_become_a_head_of_their_own(version: str, scale: float) -> None:
    made = lambda **flags: TransformerWrapper(num_tokens=9, max_seq_len=8, attn_layers=Decoder(dim=16, depth=1, heads=2), **flags)
    there = alive(made(tie_embedding=True))
    here = loaded(AutoregressiveWrapper(made()), {f'net.{name}': tensor for name, tensor in there.state_dict().items()}, version)
    formula = there(IDS, return_embeddings=True) @ there.token_emb.emb.weight.T * scale
    assert (here.net(IDS) - formula).abs().max() < 1e-11


def test_a_mix_that_nothing_uses_may_be_missing() -> None:
    flags = {'dim': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8, 'attn_hybrid_module': nn.GRU(16, 16, batch_first=True)}
    there = alive(Decoder(**flags))
    assert torch.equal(loaded(Decoder(**flags), without(there, 'hybrid_mix.weight'))(X), there(X))


@pytest.mark.parametrize('flags, change, version, words', [
    ({'num_residual_streams': 2}, {}, '2.31.10', 'num_residual_streams=2'),
    ({'attn_qk_norm': True, 'attn_qk_norm_groups': 2, 'attn_num_mem_kv': 1}, {}, '2.31.10', 'qk_norm_groups=2 with num_mem_kv=1'),
    ({}, {'drop': 'final_norm.gamma'}, '2.31.10', 'pre_norm_has_final_norm=False'),
    ({}, {'add': 'layers.0.1.attend.head_attn_sink'}, '2.31.10', 'attn_head_learned_sink'),
    ({}, {'add': 'layers.0.1.to_v_gate.down.weight'}, '2.31.10', 'attn_gate_values_rank'),
    ({}, {'add': 'stranger'}, '2.31.10', 'stranger'),
    ({}, {'drop': 'layers.0.1.to_q.weight'}, '2.31.10', 'layers.0.1.to_q.weight'),
    ({}, {}, 'newest', 'is no release'), ({}, {}, '1.0', 'expected 2.0.1 to'),
    ({'attn_hybrid_module': nn.GRU(16, 16, batch_first=True)}, {}, '2.31.10', 'attn_hybrid_learned_mix'),
], ids=range(10))  # fmt: skip
def test_what_cannot_be_had_is_refused_by_name(flags: dict[str, Any], change: dict[str, str], version: str, words: str) -> None:
    model = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8, **flags)
    state = without(model, change.get('drop', 'nothing'))
    if 'add' in change:
        state[change['add']] = torch.zeros(1)
    with pytest.raises(CheckpointError) as refused:
        from_later(state, model, version)
    assert words in str(refused.value)


def test_tied_logits_of_later_releases_are_refused_with_the_way_out() -> None:
    model = TransformerWrapper(num_tokens=9, max_seq_len=8, tie_embedding=True, attn_layers=Decoder(dim=16, depth=1))
    with pytest.raises(CheckpointError, match='Build the model with tie_embedding=False'):
        from_later(model.state_dict(), model)
    assert from_later(model.state_dict(), model, '2.26').keys() == model.state_dict().keys()
