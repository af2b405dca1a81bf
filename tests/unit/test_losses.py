"""Losses of ids of every width, of nothing, and with embeddings ahead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import (
    DPO,
    AutoregressiveWrapper,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    NonAutoregressiveWrapper,
    TransformerWrapper,
    XLAutoregressiveWrapper,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)

SMALL = {'dim': 16, 'depth': 1, 'heads': 2}
IDS, NUM = torch.randint(0, 9, (2, 6), generator=torch.Generator().manual_seed(1)), torch.linspace(-1, 1, 12).view(2, 6)


def tokens(kind: Any = Decoder) -> TransformerWrapper:
    torch.manual_seed(0)
    return TransformerWrapper(num_tokens=9, max_seq_len=6, attn_layers=kind(**SMALL))


def numeric(**flags: Any) -> XValAutoregressiveWrapper:
    torch.manual_seed(0)
    net = XValTransformerWrapper(num_tokens=9, numerical_token_id=2, max_seq_len=6, attn_layers=Decoder(**SMALL))
    return XValAutoregressiveWrapper(net, **flags)


LOSSES: dict[str, Any] = {
    'next tokens': lambda x: AutoregressiveWrapper(tokens())(x),
    'segments': lambda x: XLAutoregressiveWrapper(tokens())(x),
    'filling in': lambda x: NonAutoregressiveWrapper(tokens(Encoder), mask_id=8, self_token_critic=True)(x).loss,
    'preferences': lambda x: DPO(tokens())(x, x.flip(1), prompt_mask=torch.arange(6).expand(2, -1) < 2),
    'numbers': lambda x: numeric()(x, NUM),
}


@pytest.mark.parametrize('dtype', [torch.int32, torch.int16, torch.uint8])
@pytest.mark.parametrize('name', LOSSES)
def test_ids_may_be_of_any_width(name: str, dtype: torch.dtype) -> None:
    def loss(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return LOSSES[name](x)

    assert torch.equal(loss(IDS.to(dtype)), loss(IDS))


def test_nothing_to_predict_costs_nothing() -> None:
    none = torch.zeros(2, 6, dtype=torch.bool)
    x = torch.cat((IDS[:, :1], torch.full((2, 5), -100)), dim=1)
    net = ContinuousTransformerWrapper(dim_in=3, dim_out=3, max_seq_len=6, attn_layers=Decoder(**SMALL))
    vectors = torch.randn(2, 6, 3)
    made = [numeric()(x, NUM), numeric()(IDS, NUM, mask=none)]
    made += [ContinuousAutoregressiveWrapper(net, equal_loss_weight_batch=equal)(vectors, mask=none) for equal in (False, True)]
    for loss in made:
        loss.backward()
        assert loss == 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_embeddings_ahead_of_numbers_are_not_scored() -> None:
    made, ahead = numeric(), torch.randn(2, 3, 16)
    loss, (entropy, error) = made(IDS, NUM, prepend_embeds=ahead, return_loss_breakdown=True)
    logits, predicted = (t[:, 3:] for t in made.net(IDS[:, :-1], NUM[:, :-1], prepend_embeds=ahead))
    surprise = -logits.log_softmax(-1).gather(-1, IDS[:, 1:, None])[..., 0]
    squares = torch.where(IDS[:, 1:] == 2, (predicted - NUM[:, 1:]).square(), 0.0)
    assert torch.allclose(entropy, surprise) and torch.allclose(error, squares) and bool((squares > 0).any())
    assert torch.allclose(loss, (surprise + squares).mean())
