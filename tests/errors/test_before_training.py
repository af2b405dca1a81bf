"""Models that make nothing to score or to sample, and what cannot be asked of a loss or a generation: one sentence for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_before_compute import nothing_computed
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
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)
from x_transformers.errors import FlagError, InputError

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


AR, XL, VAL = AutoregressiveWrapper(tokens()), XLAutoregressiveWrapper(tokens()), XValAutoregressiveWrapper(numbers())
VECTORS, FILL = ContinuousAutoregressiveWrapper(vectors()), NonAutoregressiveWrapper(tokens(causal=False), mask_id=0)
START = torch.tensor([0, 1])
ROWS: dict[str, tuple[type[Exception], Callable[[], Any], tuple[str, ...]]] = {
    'a pooled model of vectors': (
        InputError, lambda: ContinuousAutoregressiveWrapper(vectors(**POOLED))(X), ('the loss', 'average_pool_embed=True')),
    'a pooled model of vectors that generates': (
        InputError, lambda: ContinuousAutoregressiveWrapper(vectors(**POOLED)).generate(X, 1), ('generation', 'average_pool_embed=True')),
    'a pooled model of numbers': (
        InputError, lambda: XValAutoregressiveWrapper(numbers(**POOLED))(IDS, NUM), ('the loss', 'average_pool_embed=True')),
    'a pooled model of numbers that generates': (
        InputError, lambda: XValAutoregressiveWrapper(numbers(**POOLED)).generate(IDS, NUM, 1), ('generation', 'average_pool_embed=True')),
    'a squared error of means and variances': (
        FlagError, lambda: ContinuousAutoregressiveWrapper(vectors(probabilistic=True), loss_fn=nn.MSELoss(reduction='none')),
        ('MSELoss', 'probabilistic=True', 'leave loss_fn out')),
    'an error of other vectors': (
        FlagError, lambda: ContinuousAutoregressiveWrapper(vectors(dim_in=1), loss_fn=nn.L1Loss()), ('dim_in=1', 'dim_out=3')),
    'logits of tokens that cannot be read': (
        InputError, lambda: AutoregressiveWrapper(tokens(logits_dim=12)).generate(IDS, 1), ('12', 'num_tokens', 'cannot generate')),
    'a critic of two minds': (InputError, lambda: critical(tokens(causal=False, logits_dim=2))(IDS), ('token_critic', '2 logits')),
    'a critic without an axis': (
        InputError, lambda: critical(tokens(causal=False, logits_dim=1, squeeze_out_last_dim=True)).generate(),
        ('token_critic', 'squeeze_out_last_dim=True')),
    'a misspelt wish of a loss': (InputError, lambda: AR(IDS, retrun_outputs=True), ("'retrun_outputs'", "did you mean 'return_outputs'?")),
    'a misspelt option of generation': (InputError, lambda: AR.generate(IDS, 1, temprature=0.5), ("did you mean 'temperature'?",)),
    'a misspelt option of a search': (InputError, lambda: AR.beam_search(IDS, 1, num_beam=2), ("did you mean 'num_beams'?",)),
    'a misspelt option of segments': (InputError, lambda: XL.generate(IDS, 1, filter_kwarg={}), ("did you mean 'filter_kwargs'?",)),
    'a misspelt option of vectors': (InputError, lambda: VECTORS.generate(X, 1, cache_vk=False), ("did you mean 'cache_kv'?",)),
    'a misspelt wish of numbers': (
        InputError, lambda: VAL(IDS, NUM, return_loss_brakedown=True), ("did you mean 'return_loss_breakdown'?",)),
    'a misspelt turn': (InputError, lambda: FILL(IDS, only_train_gen=True), ("did you mean 'only_train_generator'?",)),
    'memories of a generation': (InputError, lambda: AR.generate(IDS, 1, return_mems=True), ('return_mems=True', 'call the model')),
    'maps of a search': (InputError, lambda: AR.beam_search(IDS, 1, return_attn=True), ('return_attn=True', 'beam_search')),
    'embeddings of a generation': (InputError, lambda: XL.generate(IDS, 1, return_embeddings=True), ('return_embeddings=True',)),
    'intermediates of numbers': (InputError, lambda: VAL.generate(IDS, NUM, 1, return_intermediates=True), ('return_intermediates=True',)),
    'intermediates of a loss': (InputError, lambda: AR(IDS, return_intermediates=True), ('return_intermediates=True', 'the loss')),
    'a cache of a generation': (InputError, lambda: AR.generate(IDS, 1, cache=object()), ('cache', 'whole sequences')),
    'a list for a mask of prompts': (InputError, lambda: AR.generate(IDS, 1, mask=[True]), ('mask must be a tensor, got list',)),
    'a list for a mask of vectors': (InputError, lambda: VECTORS(X, mask=[[True] * 4] * 2), ('mask must be a tensor, got list',)),
    'a list for a mask of numbers': (InputError, lambda: VAL(IDS, NUM, mask=[[True] * 4] * 2), ('mask must be a tensor, got list',)),
    'a list for a mask of vectors ahead': (InputError, lambda: VECTORS.generate(X, 1, mask=[True]), ('mask must be a tensor, got list',)),
    'a mask and padding of numbers': (
        InputError, lambda: VAL.generate(IDS, NUM, 1, mask=BOOL, seq_start_pos=START), ('mask and seq_start_pos', 'Keep one')),
    'padding that is all of a row of vectors': (
        InputError, lambda: VECTORS.generate(X, 1, seq_start_pos=START * 4), ('seq_start_pos=[0, 4]', '0 to 3')),
    'a list for padding': (InputError, lambda: AR.generate(IDS, 1, seq_start_pos=[0, 1]), ('seq_start_pos must be a tensor, got list',)),
}  # fmt: skip


@pytest.mark.parametrize('name', ROWS)
def test_a_misuse_of_a_wrapper_is_answered_by_one_sentence_before_anything_is_computed(name: str) -> None:
    kind, run, words = ROWS[name]
    with nothing_computed(), pytest.raises(kind) as caught:
        run()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert '\n' not in message and len(message) < 400, message


def test_a_loss_that_broadcasts_and_a_critic_that_says_two_things_are_seen_by_their_shape() -> None:
    spread = ContinuousAutoregressiveWrapper(vectors(probabilistic=True), loss_fn=lambda made, wanted: (made - wanted).square())
    with pytest.raises(InputError, match=r'loss_fn returned shape \(2, 2, 3, 3\)'):
        spread(X)
    with pytest.raises(InputError, match=r'outputs of token_critic has shape \(2, 4, 9\), expected \(2, 4, 1\)'):
        critical(tokens(causal=False, to_logits=nn.Sequential(nn.Linear(16, 9))))(IDS)
