"""What cannot be asked of a loss or a generation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from misuses.row import Misuse
from x_transformers import (
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


def critical(critic: Any) -> NonAutoregressiveWrapper:
    return NonAutoregressiveWrapper(tokens(causal=False), mask_id=0, token_critic=critic)


AR, XL, VAL = AutoregressiveWrapper(tokens()), XLAutoregressiveWrapper(tokens()), XValAutoregressiveWrapper(numbers())
VECTORS, FILL = ContinuousAutoregressiveWrapper(vectors()), NonAutoregressiveWrapper(tokens(causal=False), mask_id=0)
START = torch.tensor([0, 1])

MISUSES: dict[str, Misuse] = {
    'a pooled model of vectors': Misuse(InputError, lambda: ContinuousAutoregressiveWrapper(vectors(**POOLED))(X),
        'loss', 'needs one output for every token', 'average_pool_embed=True makes one output of', 'build the model without that flag'),
    'a pooled model of vectors that generates': Misuse(
        InputError, lambda: ContinuousAutoregressiveWrapper(vectors(**POOLED)).generate(X, 1),
        'generation', 'needs one output for every token', 'average_pool_embed=True makes one output of',
        'build the model without that flag'),
    'a pooled model of numbers': Misuse(InputError, lambda: XValAutoregressiveWrapper(numbers(**POOLED))(IDS, NUM),
        'loss', 'needs one output for every token', 'average_pool_embed=True makes one output of', 'build the model without that flag'),
    'a pooled model of numbers that generates': Misuse(
        InputError, lambda: XValAutoregressiveWrapper(numbers(**POOLED)).generate(IDS, NUM, 1),
        'generation', 'needs one output for every token', 'average_pool_embed=True makes one output of',
        'build the model without that flag'),
    'a squared error of means and variances': Misuse(
        FlagError, lambda: ContinuousAutoregressiveWrapper(vectors(probabilistic=True), loss_fn=nn.MSELoss(reduction='none')),
        'loss_fn', 'loss_fn=MSELoss compares vectors', 'a net with probabilistic=True makes means',
        'leave loss_fn out for their likelihood, or'),
    'an error of other vectors': Misuse(FlagError, lambda: ContinuousAutoregressiveWrapper(vectors(dim_in=1), loss_fn=nn.L1Loss()),
        'net', 'has dim_in=1 and dim_out=3, so outputs are', 'make them equal, or give a loss_fn that'),
    'logits of tokens that cannot be read': Misuse(InputError, lambda: AutoregressiveWrapper(tokens(logits_dim=12)).generate(IDS, 1),
        'makes', 'logits of 12 tokens (logits_dim) and can read 9 (num_tokens), so it cannot generate', 'it cannot generate'),
    'a critic of two minds': Misuse(InputError, lambda: critical(tokens(causal=False, logits_dim=2))(IDS),
        'token_critic', 'makes 2 logits for every token', 'a critic makes one for every token, as a'),
    'a critic without an axis': Misuse(
        InputError, lambda: critical(tokens(causal=False, logits_dim=1, squeeze_out_last_dim=True)).generate(),
        'token_critic', 'needs one output for every token', 'squeeze_out_last_dim=True takes the axis of',
        'build the model without that flag'),
    'a misspelt wish of a loss': Misuse(InputError, lambda: AR(IDS, retrun_outputs=True),
        "'retrun_outputs'", 'unknown input', "did you mean 'return_outputs'?"),
    'a misspelt option of generation': Misuse(InputError, lambda: AR.generate(IDS, 1, temprature=0.5),
        "'temprature'", 'unknown input', "did you mean 'temperature'?"),
    'a misspelt option of a search': Misuse(InputError, lambda: AR.beam_search(IDS, 1, num_beam=2),
        "'num_beam'", 'unknown input', "did you mean 'num_beams'?"),
    'a misspelt option of segments': Misuse(InputError, lambda: XL.generate(IDS, 1, filter_kwarg={}),
        "'filter_kwarg'", 'unknown input', "did you mean 'filter_kwargs'?"),
    'a misspelt option of vectors': Misuse(InputError, lambda: VECTORS.generate(X, 1, cache_vk=False),
        "'cache_vk'", 'unknown input', "did you mean 'cache_kv'?"),
    'a misspelt wish of numbers': Misuse(InputError, lambda: VAL(IDS, NUM, return_loss_brakedown=True),
        "'return_loss_brakedown'", 'unknown input', "did you mean 'return_loss_breakdown'?"),
    'a misspelt turn': Misuse(InputError, lambda: FILL(IDS, only_train_gen=True),
        "'only_train_gen'", 'unknown input', "did you mean 'only_train_generator'?"),
    'memories of a generation': Misuse(InputError, lambda: AR.generate(IDS, 1, return_mems=True),
        'return_mems', 'return_mems=True changes what the model', 'leave it out and call the model for that'),
    'maps of a search': Misuse(InputError, lambda: AR.beam_search(IDS, 1, return_attn=True),
        'return_attn', 'return_attn=True changes what the model returns, which beam_search', 'leave it out and call the model for that'),
    'embeddings of a generation': Misuse(InputError, lambda: XL.generate(IDS, 1, return_embeddings=True),
        'return_embeddings', 'return_embeddings=True changes what the', 'leave it out and call the model for that'),
    'intermediates of numbers': Misuse(InputError, lambda: VAL.generate(IDS, NUM, 1, return_intermediates=True),
        'return_intermediates', 'return_intermediates=True changes what the', 'leave it out and call the model for that'),
    'intermediates of a loss': Misuse(InputError, lambda: AR(IDS, return_intermediates=True),
        'return_intermediates', 'return_intermediates=True changes what the model returns, which the loss',
        'leave it out and call the model for that'),
    'a cache of a generation': Misuse(InputError, lambda: AR.generate(IDS, 1, cache=object()),
        'cache', 'cannot be given to generate, which runs the model on whole sequences', 'call the model for that'),
    'a list for a mask of prompts': Misuse(InputError, lambda: AR.generate(IDS, 1, mask=[True]),
        'mask', 'got list', 'mask must be a tensor, got list'),
    'a list for a mask of vectors': Misuse(InputError, lambda: VECTORS(X, mask=[[True] * 4] * 2),
        'mask', 'got list', 'mask must be a tensor, got list'),
    'a list for a mask of numbers': Misuse(InputError, lambda: VAL(IDS, NUM, mask=[[True] * 4] * 2),
        'mask', 'got list', 'mask must be a tensor, got list'),
    'a list for a mask of vectors ahead': Misuse(InputError, lambda: VECTORS.generate(X, 1, mask=[True]),
        'mask', 'got list', 'mask must be a tensor, got list'),
    'a mask and padding of numbers': Misuse(InputError, lambda: VAL.generate(IDS, NUM, 1, mask=BOOL, seq_start_pos=START),
        'mask', 'and seq_start_pos were both given, and', 'both say which entries of the prompts are', 'Keep one'),
    'padding that is all of a row of vectors': Misuse(InputError, lambda: VECTORS.generate(X, 1, seq_start_pos=START * 4),
        'seq_start_pos', 'seq_start_pos=[0, 4]', '0 to 3, so that something is left of'),
    'a list for padding': Misuse(InputError, lambda: AR.generate(IDS, 1, seq_start_pos=[0, 1]),
        'seq_start_pos', 'got list', 'seq_start_pos must be a tensor, got list', 'it is the number of padding tokens in front'),
}  # fmt: skip
