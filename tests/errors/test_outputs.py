"""Models that make nothing to score or to sample, whatever they are used for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_misuses import nothing_computed
from torch import Tensor, nn

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
    XValTransformerWrapper,
)
from x_transformers.errors import InputError

SMALL = {'dim': 16, 'depth': 1, 'heads': 2}
IDS, X, NUM, BOOL = torch.arange(8).view(2, 4), torch.zeros(2, 4, 3), torch.zeros(2, 4), torch.ones(2, 4).bool()


def tokens(causal: bool = True, **flags: Any) -> TransformerWrapper:
    stack = (Decoder if causal else Encoder)(**SMALL)
    return TransformerWrapper(**{'num_tokens': 9, 'max_seq_len': 4, 'attn_layers': stack, **flags})


def vectors(**flags: Any) -> ContinuousTransformerWrapper:
    return ContinuousTransformerWrapper(**{'dim_in': 3, 'dim_out': 3, 'max_seq_len': 4, 'attn_layers': Decoder(**SMALL), **flags})


def numbers(**flags: Any) -> XValTransformerWrapper:
    return XValTransformerWrapper(num_tokens=9, numerical_token_id=2, max_seq_len=4, attn_layers=Decoder(**SMALL), **flags)


POOLED: dict[str, Any] = {'average_pool_embed': True}
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    'without a head': ({'return_only_embed': True}, 'return_only_embed=True'),
    'with two heads': ({'num_output_heads': 2}, 'num_output_heads'),
    'that is pooled': (POOLED, 'average_pool_embed=True'),
    'of CLS tokens': ({'use_cls_token': True, 'causal': False}, 'use_cls_token=True'),
    'that is squeezed': ({'logits_dim': 1, 'squeeze_out_last_dim': True}, 'squeeze_out_last_dim=True'),
}
USES: dict[str, Callable[..., Any]] = {
    'trained': lambda net: AutoregressiveWrapper(net)(IDS),
    'generating': lambda net: AutoregressiveWrapper(net).generate(IDS, 2),
    'searching': lambda net: AutoregressiveWrapper(net).beam_search(IDS, 2, num_beams=1),
    'trained by segments': lambda net: XLAutoregressiveWrapper(net)(IDS),
    'generating segments': lambda net: XLAutoregressiveWrapper(net).generate(IDS, 2),
    'that fills in': lambda net: NonAutoregressiveWrapper(net, mask_id=0)(IDS),
    'that fills in all': lambda net: NonAutoregressiveWrapper(net, mask_id=0).generate(),
    'that prefers': lambda net: DPO(net)(IDS, IDS, prompt_mask=BOOL),
}


@pytest.mark.parametrize('use', USES)
@pytest.mark.parametrize('kind', KINDS)
def test_a_model_must_make_logits_for_every_token(kind: str, use: str) -> None:
    flags, named = KINDS[kind]
    net = tokens(**flags)
    with nothing_computed(), pytest.raises(InputError) as caught:
        USES[use](net)
    assert named in str(caught.value) or 'num_tokens=1' in str(caught.value), str(caught.value)


class Last(nn.Module):
    """A model of someone's own that makes too little."""

    max_seq_len, max_mem_len = 4, 0

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.weight = shape, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        logits = self.weight + torch.zeros(self.shape)
        return (logits, None) if 'return_mems' in kwargs else logits


@pytest.mark.parametrize('use', ['trained', 'trained by segments', 'that prefers'])
@pytest.mark.parametrize('shape', [(2, 9), (2, 1, 9), (2, 3, 9, 1), (2, 3, 5)])
def test_a_model_of_ones_own_shows_it_by_its_outputs(shape: tuple[int, ...], use: str) -> None:
    wanted = 'token id' if shape == (2, 3, 5) else r'expected logits \(2, 3, num_tokens\)'
    with pytest.raises(InputError, match=wanted):
        USES[use](Last(shape))
    with pytest.raises(InputError, match='expected logits'):
        AutoregressiveWrapper(Last((2, 9))).generate(IDS, 1)


def critical(critic: Any) -> NonAutoregressiveWrapper:
    return NonAutoregressiveWrapper(tokens(causal=False), mask_id=0, token_critic=critic)




def test_a_loss_that_broadcasts_and_a_critic_that_says_two_things_are_seen_by_their_shape() -> None:
    spread = ContinuousAutoregressiveWrapper(vectors(probabilistic=True), loss_fn=lambda made, wanted: (made - wanted).square())
    with pytest.raises(InputError, match=r'loss_fn returned shape \(2, 2, 3, 3\)'):
        spread(X)
    with pytest.raises(InputError, match=r'outputs of token_critic has shape \(2, 4, 9\), expected \(2, 4, 1\)'):
        critical(tokens(causal=False, to_logits=nn.Sequential(nn.Linear(16, 9))))(IDS)
