"""What users put around, or in place of, our layers: it is told what ours are told, or it is refused where that matters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Attention, AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.errors import DecodeError

F64 = {'dtype': torch.float64}


class Around(nn.Module):
    """A module around another, as checkpointing, probes and adapters are written."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.inner(x, *args, **kwargs)


def wrapped(stack: Any) -> Any:
    """Every layer a plain list, every branch inside another module."""
    for at, (norms, branch, residual) in enumerate(stack.layers):
        stack.layers[at] = nn.ModuleList([norms, Around(branch), residual])
    return stack


FLAGS: dict[str, dict[str, Any]] = {
    'rotary': {'rotary_pos_emb': True},
    'ALiBi, shifted': {'alibi_pos_bias': True, 'shift_tokens': 1},
    'residual attention, shared values': {'residual_attn': True, 'add_value_residual': True},
    'cross-attention, layer scale': {'cross_attend': True, 'use_layerscale': True, 'layerscale_init_value': 0.5},
    'macaron, adaptive norm': {'macaron': True, 'use_adaptive_rmsnorm': True, 'use_adaptive_layerscale': True},
    'streams': {'num_residual_streams': 2, 'qkv_receive_diff_residuals': True},
}


@pytest.mark.parametrize('flags', FLAGS.values(), ids=FLAGS)
def test_a_module_around_a_branch_changes_nothing(flags: dict[str, Any]) -> None:
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, **flags).double().eval()
    x, inputs = torch.randn(2, 9, 16, **F64), {}
    if 'cross_attend' in flags:
        inputs['context'] = torch.randn(2, 5, 16, **F64)
    if 'use_adaptive_rmsnorm' in flags:
        inputs['condition'] = torch.randn(2, 16, **F64)
    with torch.no_grad():
        want = stack(x, **inputs)
        around = wrapped(stack)
        torch.testing.assert_close(around(x, **inputs), want)
        first, state = around(x[:, :5], return_state=True, **inputs)
        rest, _ = around(x[:, 5:], state=state, return_state=True, **inputs)
        torch.testing.assert_close(torch.cat((first, rest), dim=1), want)


def test_a_mask_reaches_attention_through_a_module_around_it() -> None:
    stack, x = Encoder(dim=16, depth=2, heads=2, attn_dim_head=8).double().eval(), torch.randn(2, 6, 16, **F64)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    want = stack(x, mask=mask)
    torch.testing.assert_close(wrapped(stack)(x, mask=mask), want)


def model() -> AutoregressiveWrapper:
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, rotary_pos_emb=True)
    return AutoregressiveWrapper(TransformerWrapper(num_tokens=11, max_seq_len=24, attn_layers=stack)).eval()


def test_a_module_in_place_of_attention_is_not_decoded_by_state() -> None:
    made, prompt = model(), torch.randint(0, 11, (2, 4))
    made.net.attn_layers.layers[0][1] = nn.Linear(16, 16)
    assert not made.net.can_cache_kv
    with pytest.raises(DecodeError, match=r'layers\[0\] has a Linear in place of attention'):
        made.net(prompt, return_state=True)
    made.generate(prompt, 4, temperature=0.0)  # runs the whole window for every token


@pytest.mark.parametrize('batch', [1, 2, 3])
def test_a_forward_that_returns_a_tensor_alone_is_taken_for_the_output(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, x = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8).eval(), torch.randn(batch, 5, 16)
    want, ours = stack(x), Attention.forward
    monkeypatch.setattr(Attention, 'forward', lambda self, *args, **kwargs: ours(self, *args, **kwargs)[0])
    torch.testing.assert_close(stack(x), want)
    _, state = stack(x, return_state=True)
    with pytest.raises(DecodeError, match='Attention returned no state in an earlier call'):
        stack(x[:, -1:], state=state, return_state=True)


def test_a_hook_sees_every_branch_and_may_change_it() -> None:
    stack, x, seen = Decoder(dim=16, depth=1, heads=2, attn_dim_head=8).eval(), torch.randn(1, 4, 16), []
    stack.layers[0][1].register_forward_hook(lambda module, args, out: seen.append(out[0].shape))
    stack.layers[1][1].register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    stack.layers[0].register_forward_hook(lambda module, args, out: seen.append(out[0].shape))
    stack(x)
    assert seen == [x.shape, x.shape]
