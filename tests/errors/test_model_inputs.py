"""What can be given wrongly to each model: one sentence that names it and the way out, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_before_compute import nothing_computed

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
from x_transformers.errors import DecodeError, FlagError, InputError
from x_transformers.layers import LayerIntermediates

SMALL = {'dim': 16, 'depth': 1, 'heads': 2}
IDS, X, NUM = torch.arange(8).view(2, 4), torch.zeros(2, 4, 3), torch.zeros(2, 4)
START = torch.tensor([0, 1])


def stack(**flags: Any) -> Decoder:
    return Decoder(**{**SMALL, **flags})


def tokens(**flags: Any) -> TransformerWrapper:
    return TransformerWrapper(**{'num_tokens': 9, 'max_seq_len': 6, 'attn_layers': stack(), **flags}).eval()


def vectors(**flags: Any) -> ContinuousTransformerWrapper:
    return ContinuousTransformerWrapper(**{'dim_in': 3, 'dim_out': 3, 'max_seq_len': 6, 'attn_layers': stack(), **flags})


def numbers(**flags: Any) -> XValTransformerWrapper:
    return XValTransformerWrapper(**{'num_tokens': 9, 'numerical_token_id': 2, 'max_seq_len': 6, 'attn_layers': stack(), **flags})


def several(**flags: Any) -> MultiInputTransformerWrapper:
    return MultiInputTransformerWrapper(**{'num_tokens': {'a': 9, 'b': 5}, 'max_seq_len': 6, 'attn_layers': stack(), **flags})


def images(**flags: Any) -> ViTransformerWrapper:
    return ViTransformerWrapper(**{'image_size': (8, 12), 'patch_size': 4, 'attn_layers': Encoder(**SMALL), **flags})


def sides(**flags: Any) -> XTransformer:
    each = {'num_tokens': 9, 'max_seq_len': 6, 'depth': 1, 'heads': 2}
    both = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in each.items()}
    return XTransformer(**{'dim': 16, **both, **flags})


CROSS, ADAPTIVE = stack(cross_attend=True), stack(use_adaptive_rmsnorm=True, dim_condition=5)
BOOL = torch.ones(2, 4, dtype=torch.bool)
BOTH = {'a': IDS, 'b': IDS % 5}

FLAGS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    'CLS tokens that see nothing': (lambda: tokens(use_cls_token=True), ('use_cls_token=True', 'Encoder')),
    'mean and CLS tokens': (
        lambda: tokens(attn_layers=Encoder(**SMALL), use_cls_token=True, average_pool_embed=True),
        ('average_pool_embed=True', 'use_cls_token=True')),
    'a count of no CLS tokens': (lambda: tokens(num_cls_tokens=2), ('num_cls_tokens=2', 'use_cls_token=True')),
    'a mixture of several heads': (
        lambda: tokens(mixture_of_softmax=True, num_output_heads=2), ('mixture_of_softmax=True', 'num_output_heads=2')),
    'a count of no mixture': (lambda: tokens(mixture_of_softmax_k=2), ('mixture_of_softmax_k=2', 'mixture_of_softmax=True')),
    'two heads in one place': (lambda: tokens(tie_embedding=True, num_output_heads=2), ('tie_embedding=True', 'num_output_heads=2')),
    'logits of no head': (lambda: tokens(return_only_embed=True, logits_dim=3), ('logits_dim=3', 'return_only_embed=True')),
    'no head at all': (lambda: tokens(num_output_heads=0), ('num_output_heads=0', 'at least 1')),
    'memory among tokens without memory': (
        lambda: tokens(memory_tokens_interspersed_every=2), ('memory_tokens_interspersed_every=2', 'num_memory_tokens')),
    'memory among tokens of an encoder': (
        lambda: tokens(attn_layers=Encoder(**SMALL), num_memory_tokens=1, memory_tokens_interspersed_every=2), ('every=2', 'Decoder')),
    'no gradient': (lambda: tokens(emb_frac_gradient=0.0), ('emb_frac_gradient=0.0', 'more than 0')),
    'passes of no recycling': (lambda: tokens(train_max_recycle_steps=2), ('train_max_recycle_steps=2', 'recycling=True')),
    'variances of no head': (lambda: vectors(dim_out=None, probabilistic=True), ('probabilistic=True', 'dim_out')),
    'a number beyond the vocabulary': (lambda: numbers(numerical_token_id=9), ('numerical_token_id=9', 'num_tokens')),
    'no input': (lambda: several(num_tokens={}), ('num_tokens={}', 'vocabulary')),
    'no input by default': (
        lambda: MultiInputTransformerWrapper(max_seq_len=6, attn_layers=stack()), ('num_tokens={}', 'vocabulary')),
    'a table of no ids': (lambda: tokens(embed_num_tokens={'a': 0}), ("embed_num_tokens={'a': 0}", 'at least one token')),
    'a table of less': (lambda: tokens(embed_num_tokens={'a': -1}), ("embed_num_tokens={'a': -1}", 'at least one token')),
    'a table of halves': (lambda: tokens(embed_num_tokens={'a': 2.5}), ("embed_num_tokens={'a': 2.5}", 'whole number')),
    'a table with a dot': (lambda: tokens(embed_num_tokens={'a.b': 3}), ("embed_num_tokens={'a.b': 3}", 'no dot')),
    'a vocabulary of halves': (lambda: several(num_tokens={'a': 2.5}), ("num_tokens={'a': 2.5}", 'whole number')),
    'a name with a dot': (lambda: several(num_tokens={'a.b': 3}), ('num_tokens', 'dot')),
    'an image that is no multiple': (lambda: images(image_size=10), ('image_size=10', 'patch_size')),
    'an image of three sides': (lambda: images(image_size=(8, 8, 8)), ('image_size=(8, 8, 8)', '(height, width)')),
    'a misspelt side': (lambda: sides(enc_dept=2), ("'enc_dept'", "'enc_depth'")),
    'a flag of no side': (lambda: sides(heads=2), ("unknown flag 'heads'",)),
    'a width of one side': (lambda: sides(enc_dim=8), ("'enc_dim' cannot be set",)),
    'a decoder that looks nowhere': (lambda: sides(dec_cross_attend=False), ("'dec_cross_attend' cannot be set",)),
    'a misspelt flag deep in a side': (lambda: sides(dec_attn_flsh=True), ("'dec_attn_flsh'", "'dec_attn_flash'")),
    'a side without a vocabulary': (lambda: XTransformer(dim=16, enc_max_seq_len=6), ('enc_',)),
    'a prediction that is no input': (
        lambda: ContinuousAutoregressiveWrapper(vectors(dim_out=2)), ('dim_in=3', 'dim_out=2', 'loss_fn')),
}  # fmt: skip

INPUTS: dict[str, tuple[type[Exception], Callable[[], Any], tuple[str, ...]]] = {
    'ids for a name that is none': (InputError, lambda: tokens()(IDS, embed_ids={'c': IDS}), ('embed_ids', "'c'", '[]')),
    'no ids for a name': (InputError, lambda: tokens(embed_num_tokens={'c': 9})(IDS), ('embed_ids', "['c']")),
    'ids beyond a table': (
        InputError, lambda: tokens(embed_num_tokens={'c': 3})(IDS, embed_ids={'c': IDS}), ("embed_ids['c']", '0 to 7', '0 to 2')),
    'a pass too many': (InputError, lambda: tokens()(IDS, recycle_steps=2), ('recycle_steps=2', 'recycling=True')),
    'passes unsaid': (InputError, lambda: tokens(recycling=True)(IDS), ('recycle_steps=None', 'how often')),
    'a mask for nothing ahead': (InputError, lambda: tokens()(IDS, prepend_mask=BOOL), ('prepend_mask', 'prepend_embeds')),
    'keywords for a table': (
        InputError, lambda: tokens(tie_embedding=True)(IDS, to_logits_kwargs={'a': 1}), ('to_logits_kwargs', 'of your own')),
    'keywords for a linear head': (InputError, lambda: tokens()(IDS, to_logits_kwargs={'a': 1}), ('to_logits_kwargs', 'of your own')),
    'keywords for several heads': (
        InputError, lambda: tokens(num_output_heads=2)(IDS, to_logits_kwargs={'a': 1}), ('to_logits_kwargs', 'of your own')),
    'keywords for the usual table': (InputError, lambda: tokens()(IDS, token_emb_kwargs={'a': 1}), ('token_emb_kwargs', 'of your own')),
    'keywords as a list': (InputError, lambda: tokens()(IDS, token_emb_kwargs=['a']), ('token_emb_kwargs', 'mapping', 'list')),
    'further ids as a list': (InputError, lambda: tokens(embed_num_tokens={'c': 9})(IDS, embed_ids=[1]), ('embed_ids', 'mapping', 'list')),
    'further ids as a list of ids': (
        InputError, lambda: tokens(embed_num_tokens={'c': 9})(IDS, embed_ids={'c': [1]}), ("embed_ids['c']", 'tensor', 'list')),
    'a mask as a list': (InputError, lambda: tokens()(IDS, mask=[[True] * 4] * 2), ('mask must be a tensor', 'list')),
    'positions as a list': (InputError, lambda: tokens()(IDS, pos=[0, 1, 2, 3]), ('pos must be a tensor', 'list')),
    'more embeddings as a list': (InputError, lambda: tokens()(IDS, sum_embeds=[0.0]), ('sum_embeds must be a tensor', 'list')),
    'embeddings ahead as a list': (InputError, lambda: tokens()(IDS, prepend_embeds=[0.0]), ('prepend_embeds must be a tensor', 'list')),
    'padding as a list': (InputError, lambda: tokens()(IDS, seq_start_pos=[0, 1]), ('seq_start_pos must be a tensor', 'list')),
    'positions as a list beside a cache': (
        InputError, lambda: tokens()(IDS, pos=[0, 1, 2, 3], cache=LayerIntermediates()), ('pos must be a tensor', 'list')),
    'padding of less than nothing': (InputError, lambda: tokens()(IDS, seq_start_pos=START - 1), ('seq_start_pos=[-1, 0]', 'from 0')),
    'positions of no width': (InputError, lambda: tokens()(IDS, pos=torch.zeros(4)), ('pos', '(4,)', '(4, 16)')),
    'positions of another width': (InputError, lambda: tokens()(IDS, pos=torch.zeros(4, 5)), ('pos', '(4, 5)', '(2, 4, 16)')),
    'positions of other rows': (InputError, lambda: tokens()(IDS, pos=torch.zeros(3, 4, 16)), ('pos', '(3, 4, 16)', '(2, 4, 16)')),
    'indices of other rows': (InputError, lambda: tokens()(IDS, pos=torch.zeros(3, 4).long()), ('pos', '(3, 4)', '(2, 4)')),
    'indices of three axes': (InputError, lambda: tokens()(IDS, pos=torch.zeros(2, 4, 1).long()), ('pos', '(2, 4, 1)', '(2, 4)')),
    'too few indices': (InputError, lambda: tokens()(IDS, pos=torch.arange(3)), ('pos', '(3,)', '4 tokens')),
    'positions as answers': (InputError, lambda: tokens()(IDS, pos=BOOL), ('pos', 'torch.bool')),
    'answers to add': (InputError, lambda: tokens()(IDS, sum_embeds=torch.ones(2, 4, 16).bool()), ('sum_embeds', 'torch.bool', 'floating')),
    'ids to add': (InputError, lambda: tokens()(IDS, sum_embeds=torch.ones(2, 4, 16).long()), ('sum_embeds', 'torch.int64', 'floating')),
    'angles for no rotary': (InputError, lambda: tokens()(IDS, rotary_pos_emb=(X, 1.0)), ('rotary_pos_emb', 'rotary_pos_emb=True')),
    'the age of no cache': (InputError, lambda: tokens()(IDS, cache_age=3), ('cache_age=3', 'without cache')),
    'blocks of a ragged batch': (
        InputError, lambda: tokens(num_memory_tokens=1, memory_tokens_interspersed_every=2)(IDS, seq_start_pos=START),
        ('seq_start_pos', 'memory_tokens_interspersed_every=2')),
    'a misspelt input': (InputError, lambda: tokens()(IDS, retrun_mems=True), ("'retrun_mems'", "'return_mems'")),
    'an input given twice': (InputError, lambda: tokens()(IDS, True, return_embeddings=True), ('return_embeddings', 'once')),
    'nothing': (InputError, lambda: tokens()(), ('x is missing', 'TransformerWrapper')),
    'too much by position': (InputError, lambda: vectors()(X, *range(20)), ('21 inputs', 'use keywords')),
    'going on with recycling': (DecodeError, lambda: tokens(recycling=True)(IDS, recycle_steps=1, return_state=True), ('recycling=True',)),
    'going on with the mean': (DecodeError, lambda: tokens(average_pool_embed=True)(IDS, return_state=True), ('average_pool_embed=True',)),
    'going on among memory': (
        DecodeError, lambda: tokens(num_memory_tokens=1, memory_tokens_interspersed_every=2)(IDS, return_state=True),
        ('memory_tokens_interspersed_every=2',)),
    'a condition by token, and memory': (
        InputError, lambda: tokens(num_memory_tokens=2, attn_layers=ADAPTIVE)(IDS, condition=torch.zeros(2, 4, 5)), ('condition', '2')),
    'vectors of another width': (InputError, lambda: vectors()(torch.zeros(2, 4, 5)), ('(2, 4, 5)', '3')),
    'ids for vectors': (InputError, lambda: vectors()(IDS), ('(2, 4)', 'vectors')),
    'no vector': (InputError, lambda: vectors()(X[:, :0]), ('(2, 0, 3)', 'at least one')),
    'no series': (InputError, lambda: vectors()(X[:0]), ('(0, 4, 3)', 'at least one')),
    'vectors beyond the length': (InputError, lambda: vectors()(torch.zeros(2, 7, 3)), ('7 tokens', 'max_seq_len=6')),
    'vectors without a context': (InputError, lambda: vectors(attn_layers=CROSS)(X), ('context is missing',)),
    'vectors without a condition': (InputError, lambda: vectors(attn_layers=ADAPTIVE)(X), ('condition is missing', '5')),
    'a condition of another width': (
        InputError, lambda: vectors(attn_layers=ADAPTIVE)(X, condition=torch.zeros(2, 4)), ('condition', '(2, 4)', '(2, 5)')),
    'a mask of vectors as numbers': (InputError, lambda: vectors()(X, mask=NUM), ('mask', 'torch.bool')),
    'a mask of vectors of another length': (InputError, lambda: vectors()(X, mask=BOOL[:, :3]), ('mask', '(2, 3)', '(2, 4)')),
    'the entropy of vectors': (InputError, lambda: vectors()(X, return_logit_entropies=True), ('return_logit_entropies', 'vectors')),
    'learning from one vector': (
        InputError, lambda: ContinuousAutoregressiveWrapper(vectors())(X[:, :1]), ('(2, 1, 3)', 'at least two')),
    'learning behind embeddings': (
        InputError, lambda: ContinuousAutoregressiveWrapper(vectors())(X, prepend_embeds=X), ('prepend_embeds', 'targets')),
    'going on from nothing': (
        InputError, lambda: ContinuousAutoregressiveWrapper(vectors()).generate(X[:, :0], 2), ('start_tokens', '(2, 0, 3)')),
    'going on backwards': (InputError, lambda: ContinuousAutoregressiveWrapper(vectors()).generate(X, -1), ('seq_len=-1',)),
    'tokens without numbers': (InputError, lambda: numbers()(IDS), ('x_num is missing', 'XValTransformerWrapper')),
    'numbers of another length': (InputError, lambda: numbers()(IDS, NUM[:, :3]), ('x_num', '(2, 3)', '(2, 4)')),
    'numbers as ids': (InputError, lambda: numbers()(IDS, IDS), ('x_num', 'torch.int64', 'floating')),
    'no number': (InputError, lambda: numbers()(IDS[:, :0], NUM[:, :0]), ('(2, 0)', 'at least one')),
    'tokens beyond the numbers': (InputError, lambda: numbers()(IDS + 5, NUM), ('token id 12', 'num_tokens=9')),
    'learning numbers of another shape': (
        InputError, lambda: XValAutoregressiveWrapper(numbers())(IDS, NUM[:1]), ('x_num', '(1, 4)', '(2, 4)')),
    'going on from other numbers': (
        InputError, lambda: XValAutoregressiveWrapper(numbers()).generate(IDS, NUM[:1], 2), ('start_numbers', '(1, 4)')),
    'one input of two': (InputError, lambda: several()({'a': IDS}), ("['a']", "['a', 'b']")),
    'a tensor for several': (InputError, lambda: several()(IDS), ('Tensor', 'dict')),
    'inputs of two lengths': (InputError, lambda: several()({'a': IDS, 'b': IDS[:, :3] % 5}), ("x['b']", '(2, 3)', '(2, 4)')),
    'a token beyond one of several': (InputError, lambda: several()({'a': IDS, 'b': IDS}), ("x['b']", 'token id 7', "num_tokens['b']=5")),
    'heads that are not there': (
        InputError, lambda: several(return_only_embed=True)(BOTH, return_logits_and_embeddings=True), ('no head',)),
    'an image of other channels': (InputError, lambda: images()(torch.zeros(2, 1, 8, 12)), ('(2, 1, 8, 12)', 'channels=3')),
    'an image without a batch': (InputError, lambda: images()(torch.zeros(3, 8, 12)), ('(3, 8, 12)', 'batch')),
    'no image': (InputError, lambda: images()(torch.zeros(0, 3, 8, 12)), ('(0, 3, 8, 12)', 'at least one')),
    'an image too large': (InputError, lambda: images()(torch.zeros(1, 3, 16, 12)), ('12 patches', 'image_size=(8, 12)', '6')),
    'an image between patches': (InputError, lambda: images()(torch.zeros(1, 3, 9, 12)), ('(1, 3, 9, 12)', 'patch_size=4')),
    'an image of bytes': (InputError, lambda: images()(torch.zeros(1, 3, 8, 12, dtype=torch.uint8)), ('torch.uint8', 'floating')),
    'both and only one': (
        InputError, lambda: images()(torch.zeros(1, 3, 8, 12), True, True), ('return_embeddings', 'return_logits_and_embeddings')),
    'a misspelt input beside an image': (InputError, lambda: images()(torch.zeros(1, 3, 8, 12), contxt=X), ("'contxt'", "'context'")),
    'a mask beside an image': (
        InputError, lambda: images()(torch.zeros(1, 3, 8, 12), mask=BOOL), ("'mask'", 'ViTransformerWrapper', "'attn_mask'")),
    'a source of vectors': (InputError, lambda: sides()(X, IDS), ('src', '(2, 4, 3)', 'token ids')),
    'a target of other rows': (InputError, lambda: sides()(IDS, IDS[:1]), ('tgt', '(1, 4)', '(2, any)')),
    'a source mask as numbers': (InputError, lambda: sides()(IDS, IDS, mask=NUM), ('mask', 'torch.bool')),
    'a source mask of another length': (InputError, lambda: sides()(IDS, IDS, mask=BOOL[:, :3]), ('mask', '(2, 3)', '(2, 4)')),
    'a target of one token': (InputError, lambda: sides()(IDS, IDS[:, :1]), ('tgt', '(2, 1)', 'at least two')),
    'a target beyond the vocabulary': (InputError, lambda: sides()(IDS, IDS + 5), ('tgt', 'token id 10', 'num_tokens=9')),
    'ids where vectors come': (InputError, lambda: vectors()(X, embed_ids={'a': IDS}), ('embed_ids', 'ContinuousTransformerWrapper')),
    'keywords of no table': (InputError, lambda: several()(BOTH, token_emb_kwargs={'a': 1}), ('token_emb_kwargs', 'leave it out')),
    'a state that is none for a model': (InputError, lambda: vectors()(X, state=X), ('state', 'Tensor')),
    'padding alone before CLS tokens': (
        DecodeError, lambda: tokens(attn_layers=Encoder(**SMALL), use_cls_token=True)(IDS, seq_start_pos=torch.tensor([0, 5])),
        ('use_cls_token=True', '4 tokens')),
    'no source': (InputError, lambda: sides()(IDS[:, :0], IDS), ('(2, 0)', 'at least one token')),
}  # fmt: skip

ALL = {**{name: (FlagError, *row) for name, row in FLAGS.items()}, **INPUTS}


@pytest.mark.parametrize('name', ALL)
def test_a_misuse_of_a_model_is_answered_by_one_sentence_before_anything_is_computed(name: str) -> None:
    kind, run, words = ALL[name]
    with nothing_computed(), pytest.raises(kind) as caught:
        run()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert '\n' not in message and len(message) < 400, message
