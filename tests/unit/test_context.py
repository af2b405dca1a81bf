"""Which tokens of a context training drops, and that what belongs to them goes with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from x_transformers import Decoder
from x_transformers.context import dropout_seq, take_tokens
from x_transformers.errors import DecodeError


@pytest.mark.parametrize('share, kept', [(0.5, 4), (0.3, 5), (0.99, 1), (1.0, 1)])
def test_so_many_tokens_stay_and_each_is_one_of_them(share: float, kept: int) -> None:
    seq = torch.arange(2 * 8.0).view(2, 8, 1)
    out, mask = dropout_seq(seq, None, share)
    assert out.shape == (2, kept, 1) and mask is None
    for before, after in zip(seq.flatten(1).tolist(), out.flatten(1).tolist(), strict=True):
        assert len(set(after)) == kept and set(after) <= set(before)


def test_masked_tokens_go_first_and_as_large_a_share_of_the_others() -> None:
    mask = torch.tensor([[True] * 8, [True] * 3 + [False] * 5])
    seq = torch.arange(2 * 8.0).view(2, 8, 1)
    for _ in range(20):
        out, left = dropout_seq(seq, mask, 0.5)
        assert left.sum(dim=-1).tolist() == [4, 2]
        assert set(out[1][left[1]].flatten().tolist()) <= {8.0, 9.0, 10.0}


def crossing(**flags: Any) -> Decoder:
    torch.manual_seed(0)
    return Decoder(dim=16, depth=3, heads=2, cross_attend=True, cross_attn_tokens_dropout=0.5, **flags).train()


def test_each_cross_attention_drops_from_what_the_one_before_left() -> None:
    stack, context = crossing(), torch.randn(2, 8, 16)
    _, seen = stack(torch.randn(2, 5, 16), context=context, return_hiddens=True)
    assert [t.values.shape[-2] for t in seen.attn_intermediates if t.layer_type == 'c'] == [4, 2, 1]
    assert seen.state is None
    _, whole = stack.eval()(torch.randn(2, 5, 16), context=context, return_hiddens=True)
    assert [t.values.shape[-2] for t in whole.attn_intermediates if t.layer_type == 'c'] == [8, 8, 8]


@pytest.mark.parametrize('flags', [{'rotary_pos_emb': True}, {'rotary_xpos': True}], ids=str)
def test_positions_and_masks_follow_their_tokens(flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that drops tokens gives what evaluation gives on a context without them."""
    stack, x, context = crossing(**flags).double(), torch.randn(2, 5, 16).double(), torch.randn(2, 8, 16).double()
    pos, mask = torch.arange(8).mul(3).expand(2, -1), torch.tensor([[True] * 8, [True] * 6 + [False] * 2])
    chosen = torch.tensor([[5, 0, 3, 6], [4, 1, 7, 2]])
    steps = iter([chosen, torch.tensor([[0, 1, 2, 3]] * 2), torch.tensor([[0, 1, 2, 3]] * 2)])

    def choose(seq: Any, mask: Any, dropout: float) -> Any:
        index = next(steps)
        return index, mask.gather(1, index)

    monkeypatch.setattr('x_transformers.context.chosen_tokens', choose)
    dropped = stack(x, context=context, context_mask=mask, context_pos=pos)
    kept = {'context': take_tokens(context, chosen), 'context_mask': mask.gather(1, chosen), 'context_pos': pos.gather(1, chosen)}
    torch.testing.assert_close(dropped, stack.eval()(x, **kept))


def test_training_that_drops_context_cannot_be_gone_on_from() -> None:
    stack, x, context = crossing(), torch.randn(2, 5, 16), torch.randn(2, 8, 16)
    with pytest.raises(DecodeError, match=r'cross_attn_tokens_dropout.*eval'):
        stack(x, context=context, return_state=True)
    _, state = stack.eval()(x, context=context, return_state=True)
    with pytest.raises(DecodeError, match=r'cross_attn_tokens_dropout.*eval'):
        stack.train()(x, context=context, state=state)


def test_layers_that_training_skips_keep_their_memory_to_themselves() -> None:
    stack = Decoder(dim=16, depth=2, heads=2, layer_dropout=(1.0, 0.0, 0.0, 0.0)).train()
    x, mems = torch.randn(2, 5, 16), [torch.randn(2, 3, 16) for _ in range(2)]
    out, seen = stack(x, mems=mems, return_hiddens=True)
    torch.testing.assert_close(out, stack.eval()(x, mems=mems[1:], layers_execute_order=(1, 2, 3)))
    assert len(seen.hiddens) == 1 and len(seen.memories) == 2  # each self-attention's, for the next segment
    assert torch.equal(seen.memories[0], x) and torch.equal(seen.memories[1], seen.hiddens[0])


def test_what_earlier_cross_attentions_hand_down_follows_the_tokens_that_stay() -> None:
    """Values and scores of the first one are mixed with those of the same tokens, so that layers alike give the same of both."""
    torch.manual_seed(0)
    flags = {'cross_attend': True, 'only_cross': True, 'add_value_residual': True, 'cross_residual_attn': True, 'cross_attn_num_mem_kv': 1}
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, cross_attn_tokens_dropout=0.5, **flags).train()
    first, second = (stack.layers[i][1] for i in (0, 2))
    second.load_state_dict(first.state_dict())
    seen: dict[str, torch.Tensor] = {}
    mixed = second.with_first_values

    def look(own: torch.Tensor, *args: object) -> torch.Tensor:
        seen['own'], seen['mixed'] = own, mixed(own, *args)
        return seen['mixed']

    second.with_first_values = look
    stack(torch.randn(2, 6, 16), context=torch.randn(2, 8, 16)).sum().backward()
    torch.testing.assert_close(seen['mixed'], seen['own'])
