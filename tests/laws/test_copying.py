"""A stack survives being copied, pickled, moved, and built on the meta device."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from law_cases import DECODERS, ENCODERS, Case, build_model, build_stack, context_of, embeddings, in_pieces, tokens, wrapper_cases

from x_transformers import Decoder, Encoder, TransformerWrapper

STACKS = [(Decoder, case) for case in DECODERS] + [(Encoder, case) for case in ENCODERS]
NAMES = [f'{kind.__name__} {case}' for kind, case in STACKS]


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_copies_give_the_same_and_stand_alone(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    want = stack(x, **inputs)
    for twin in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        assert torch.equal(twin(x, **inputs), want)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert torch.equal(stack(x, **inputs), want)


@pytest.mark.parametrize('case', wrapper_cases(), ids=str)
def test_a_copied_model_follows_its_own_weights(case: Case) -> None:
    net, x = build_model(case).net, tokens()
    twin = copy.deepcopy(net)
    want = net(x)
    assert torch.equal(twin(x), want)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    assert torch.equal(twin(x), want)


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_stack_is_built_on_the_meta_device_and_filled_later(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch.device('meta'):
        twin = Decoder(**case.keywords)
    assert all(t.is_meta for t in twin.parameters())
    twin = twin.double().to_empty(device='cpu').eval()
    twin.load_state_dict(stack.state_dict(), strict=True)
    assert torch.equal(twin(x, **inputs), stack(x, **inputs))


@pytest.mark.parametrize('case', wrapper_cases(), ids=str)
def test_a_model_is_built_on_the_meta_device_and_filled_later(case: Case) -> None:
    net, x = build_model(case).net, tokens()
    with torch.device('meta'):
        twin = TransformerWrapper(num_tokens=32, max_seq_len=24, attn_layers=Decoder(**case.keywords), **case.model)
    twin = twin.double().to_empty(device='cpu').eval()
    twin.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(twin(x), net(x))


@pytest.mark.parametrize('kind, case', STACKS, ids=NAMES)
def test_precision_can_be_changed_after_building(kind: type, case: Case) -> None:
    stack, x, inputs = build_stack(kind, case), embeddings(), context_of(case)
    want = stack(x, **inputs)
    single = copy.deepcopy(stack).float()
    out = single(x.float(), **{name: t.float() if t.is_floating_point() else t for name, t in inputs.items()})
    assert out.dtype == torch.float32
    if 'hard' not in case.name:  # a choice may fall otherwise
        assert (out - want).abs().max() < 1e-4
    again = single.double()
    again.load_state_dict(stack.state_dict())
    assert torch.allclose(again(x, **inputs), want, atol=1e-12)


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_saved_state_dict_loads_without_unpickling_code(case: Case) -> None:
    stack, file = build_stack(Decoder, case), io.BytesIO()
    torch.save(stack.state_dict(), file)
    file.seek(0)
    twin = Decoder(**case.keywords).double()
    twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(twin.state_dict().values(), stack.state_dict().values(), strict=True))


@pytest.mark.parametrize('flags', [
    {'attn_data_dependent_alibi': True, 'attn_post_talking_heads': True},
    {'attn_data_dependent_alibi': True, 'attn_data_dependent_alibi_per_row': True, 'attn_use_cope': True, 'attn_cope_talking_heads': True},
    {'attn_data_dependent_alibi': True, 'residual_attn': True, 'attn_pre_talking_heads': True, 'attn_selective': True},
    {'dynamic_pos_bias': True, 'residual_attn': True, 'attn_pre_scale_post_talking_heads': True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_biases_in_single_precision_meet_scores_in_half(flags: dict[str, object], dtype: torch.dtype) -> None:
    stack, x = build_stack(Decoder, Case('', flags)).to(dtype), embeddings().to(dtype)
    out, _ = in_pieces(stack, x, (5, 1, 6))
    assert out.dtype == dtype and out.isfinite().all()
    if 'attn_data_dependent_alibi' not in str(flags):
        assert stack(x, attn_bias=torch.randn(4, 12, 12)).dtype == dtype


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_half_precision_stays_finite_and_near(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    want = stack(x, **inputs)
    low = stack.to(torch.bfloat16)
    out = low(x.bfloat16(), **{name: t.bfloat16() if t.is_floating_point() else t for name, t in inputs.items()})
    assert out.dtype == torch.bfloat16 and out.isfinite().all()
    if not any(word in case.name for word in ('hard', 'sparse_topk')):  # a choice may fall otherwise
        assert (out.double() - want).abs().mean() < 0.1 * want.abs().mean()
