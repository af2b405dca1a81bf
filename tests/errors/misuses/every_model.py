"""Flags and inputs of the models besides the one over tokens, and what they share with it."""

from __future__ import annotations

from typing import Any

import torch

from misuses.row import Misuse
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


MISUSES: dict[str, Misuse] = {
    'CLS tokens that see nothing': Misuse(FlagError, lambda: tokens(use_cls_token=True),
        'use_cls_token', 'use_cls_token=True', 'ahead of the sequence they would see', 'Use an Encoder'),
    'mean and CLS tokens': Misuse(FlagError, lambda: tokens(attn_layers=Encoder(**SMALL), use_cls_token=True, average_pool_embed=True),
        'average_pool_embed', 'average_pool_embed=True and use_cls_token=True', 'they fill the same place', 'Keep one'),
    'a count of no CLS tokens': Misuse(FlagError, lambda: tokens(num_cls_tokens=2),
        'num_cls_tokens', 'num_cls_tokens=2', 'it counts CLS tokens', 'Set use_cls_token=True'),
    'a mixture of several heads': Misuse(FlagError, lambda: tokens(mixture_of_softmax=True, num_output_heads=2),
        'mixture_of_softmax', 'mixture_of_softmax=True cannot be combined with num_output_heads=2',
        'a mixture is made of the logits of one head', 'Leave one out'),
    'a mixture of one logit': Misuse(FlagError, lambda: tokens(mixture_of_softmax=True, logits_dim=1),
        'mixture_of_softmax', 'mixture_of_softmax=True', 'of a single logit (logits_dim=1) every softmax is 1',
        'Use logits_dim=2 or more, or leave it out'),
    'a count of no mixture': Misuse(FlagError, lambda: tokens(mixture_of_softmax_k=2),
        'mixture_of_softmax_k', 'mixture_of_softmax_k=2', 'it counts mixed softmaxes', 'Set mixture_of_softmax=True'),
    'two heads in one place': Misuse(FlagError, lambda: tokens(tie_embedding=True, num_output_heads=2),
        'tie_embedding', 'tie_embedding=True and num_output_heads=2', 'they fill the same place', 'Keep one'),
    'logits of no head': Misuse(FlagError, lambda: tokens(return_only_embed=True, logits_dim=3),
        'logits_dim', 'logits_dim=3 cannot be combined with return_only_embed=True', 'there is no head that it could change',
        'Leave one out'),
    'no head at all': Misuse(FlagError, lambda: tokens(num_output_heads=0), 'num_output_heads', 'num_output_heads=0', 'at least 1'),
    'memory among tokens without memory': Misuse(FlagError, lambda: tokens(memory_tokens_interspersed_every=2),
        'memory_tokens_interspersed_every', 'memory_tokens_interspersed_every=2', 'there are none to put there', 'Set num_memory_tokens'),
    'memory among tokens of an encoder': Misuse(
        FlagError, lambda: tokens(attn_layers=Encoder(**SMALL), num_memory_tokens=1, memory_tokens_interspersed_every=2),
        'memory_tokens_interspersed_every', 'memory_tokens_interspersed_every=2', 'blocks of tokens with memory between them',
        'Use a Decoder'),
    'no gradient': Misuse(FlagError, lambda: tokens(emb_frac_gradient=0.0),
        'emb_frac_gradient', 'emb_frac_gradient=0.0', 'embeddings would not learn', 'Use more than 0'),
    'passes of no recycling': Misuse(FlagError, lambda: tokens(train_max_recycle_steps=2),
        'train_max_recycle_steps', 'train_max_recycle_steps=2', 'it counts passes of recycling', 'Set recycling=True'),
    'variances of no head': Misuse(FlagError, lambda: vectors(dim_out=None, probabilistic=True),
        'probabilistic', 'probabilistic=True', 'a head must make mean and variance', 'Set dim_out'),
    'a number beyond the vocabulary': Misuse(FlagError, lambda: numbers(numerical_token_id=9),
        'numerical_token_id', 'numerical_token_id=9', 'it must be a token', 'Use less than num_tokens'),
    'no input': Misuse(FlagError, lambda: several(num_tokens={}),
        'num_tokens', 'num_tokens={} leaves no input', 'give a name and a vocabulary, as in'),
    'no input by default': Misuse(FlagError, lambda: MultiInputTransformerWrapper(max_seq_len=6, attn_layers=stack()),
        'num_tokens', 'num_tokens={} leaves no input', 'give a name and a vocabulary, as in'),
    'a table of no ids': Misuse(FlagError, lambda: tokens(embed_num_tokens={'a': 0}),
        'embed_num_tokens', "embed_num_tokens={'a': 0}", 'every vocabulary is a whole number of at least one token'),
    'a table of less': Misuse(FlagError, lambda: tokens(embed_num_tokens={'a': -1}),
        'embed_num_tokens', "embed_num_tokens={'a': -1}", 'every vocabulary is a whole number of at least one token'),
    'a table of halves': Misuse(FlagError, lambda: tokens(embed_num_tokens={'a': 2.5}),
        'embed_num_tokens', "embed_num_tokens={'a': 2.5}", 'every vocabulary is a whole number of at'),
    'a table with a dot': Misuse(FlagError, lambda: tokens(embed_num_tokens={'a.b': 3}),
        'embed_num_tokens', "embed_num_tokens={'a.b': 3}", 'no dot, not empty'),
    'a vocabulary of halves': Misuse(FlagError, lambda: several(num_tokens={'a': 2.5}),
        'num_tokens', "num_tokens={'a': 2.5}", 'every vocabulary is a whole number of at'),
    'a name with a dot': Misuse(FlagError, lambda: several(num_tokens={'a.b': 3}),
        'num_tokens', "num_tokens={'a.b': 3}", 'no dot, not empty'),
    'an image that is no multiple': Misuse(FlagError, lambda: images(image_size=10),
        'image_size', 'image_size=10', 'it must be a multiple of patch_size, in'),
    'an image of three sides': Misuse(FlagError, lambda: images(image_size=(8, 8, 8)),
        'image_size', 'image_size=(8, 8, 8)', 'it is (height, width)'),
    'a misspelt side': Misuse(FlagError, lambda: sides(enc_dept=2), "'enc_dept'", 'unknown flag', "did you mean 'enc_depth'?"),
    'a flag of no side': Misuse(FlagError, lambda: sides(heads=2), "'heads'", 'unknown flag', "did you mean 'enc_heads' or 'dec_heads'?"),
    'a width of one side': Misuse(FlagError, lambda: sides(enc_dim=8),
        "'enc_dim'", 'cannot be set', 'what is around it decides it', 'Leave it out'),
    'a decoder that looks nowhere': Misuse(FlagError, lambda: sides(dec_cross_attend=False),
        "'dec_cross_attend'", 'cannot be set', 'what is around it decides it', 'Leave it out'),
    'a misspelt flag deep in a side': Misuse(FlagError, lambda: sides(dec_attn_flsh=True),
        "'dec_attn_flsh'", 'unknown flag', "did you mean 'dec_attn_flash'?"),
    'a side without a vocabulary': Misuse(FlagError, lambda: XTransformer(dim=16, enc_max_seq_len=6),
        "'enc_num_tokens'", 'is required', 'Size of the vocabulary'),
    'a prediction that is no input': Misuse(FlagError, lambda: ContinuousAutoregressiveWrapper(vectors(dim_out=2)),
        'net', 'has dim_in=3 and dim_out=2, so outputs are', 'make them equal, or give a loss_fn that'),
    'ids for a name that is none': Misuse(InputError, lambda: tokens()(IDS, embed_ids={'c': IDS}), 'embed_ids', "has ids for ['c']", '[]'),
    'no ids for a name': Misuse(InputError, lambda: tokens(embed_num_tokens={'c': 9})(IDS), 'embed_ids', 'has ids for []', "['c']"),
    'ids beyond a table': Misuse(InputError, lambda: tokens(embed_num_tokens={'c': 3})(IDS, embed_ids={'c': IDS}),
        "embed_ids['c']", 'runs from 0 to 7', '0 to 2'),
    'a pass too many': Misuse(InputError, lambda: tokens()(IDS, recycle_steps=2),
        'recycle_steps', 'recycle_steps=2 was given', 'the model was built without recycling=True'),
    'passes unsaid': Misuse(InputError, lambda: tokens(recycling=True)(IDS),
        'recycle_steps', 'recycle_steps=None', 'outside of training, give how often the'),
    'a mask for nothing ahead': Misuse(InputError, lambda: tokens()(IDS, prepend_mask=BOOL),
        'prepend_mask', 'was given without prepend_embeds', 'it says which of them are there'),
    'keywords for a table': Misuse(InputError, lambda: tokens(tie_embedding=True)(IDS, to_logits_kwargs={'a': 1}),
        'to_logits_kwargs', "to_logits_kwargs=['a'] has no use", 'only a to_logits of your own takes keywords'),
    'keywords for a linear head': Misuse(InputError, lambda: tokens()(IDS, to_logits_kwargs={'a': 1}),
        'to_logits_kwargs', "to_logits_kwargs=['a'] has no use", 'only a to_logits of your own takes keywords'),
    'keywords for several heads': Misuse(InputError, lambda: tokens(num_output_heads=2)(IDS, to_logits_kwargs={'a': 1}),
        'to_logits_kwargs', "to_logits_kwargs=['a'] has no use", 'only a to_logits of your own takes keywords'),
    'keywords for the usual table': Misuse(InputError, lambda: tokens()(IDS, token_emb_kwargs={'a': 1}),
        'token_emb_kwargs', "token_emb_kwargs=['a'] has no use", 'only a token_emb of your own takes keywords'),
    'keywords as a list': Misuse(InputError, lambda: tokens()(IDS, token_emb_kwargs=['a']),
        'token_emb_kwargs', 'got list', 'must be a mapping'),
    'further ids as a list': Misuse(InputError, lambda: tokens(embed_num_tokens={'c': 9})(IDS, embed_ids=[1]),
        'embed_ids', 'got list', 'must be a mapping'),
    'further ids as a list of ids': Misuse(InputError, lambda: tokens(embed_num_tokens={'c': 9})(IDS, embed_ids={'c': [1]}),
        "embed_ids['c']", 'got list', 'must be a tensor'),
    'a mask as a list': Misuse(InputError, lambda: tokens()(IDS, mask=[[True] * 4] * 2), 'mask', 'got list', 'must be a tensor'),
    'positions as a list': Misuse(InputError, lambda: tokens()(IDS, pos=[0, 1, 2, 3]), 'pos', 'got list', 'must be a tensor'),
    'more embeddings as a list': Misuse(InputError, lambda: tokens()(IDS, sum_embeds=[0.0]), 'sum_embeds', 'got list', 'must be a tensor'),
    'embeddings ahead as a list': Misuse(InputError, lambda: tokens()(IDS, prepend_embeds=[0.0]),
        'prepend_embeds', 'got list', 'must be a tensor'),
    'padding as a list': Misuse(InputError, lambda: tokens()(IDS, seq_start_pos=[0, 1]), 'seq_start_pos', 'got list', 'must be a tensor'),
    'positions as a list beside a cache': Misuse(InputError, lambda: tokens()(IDS, pos=[0, 1, 2, 3], cache=LayerIntermediates()),
        'pos', 'got list', 'must be a tensor'),
    'padding of less than nothing': Misuse(InputError, lambda: tokens()(IDS, seq_start_pos=START - 1),
        'seq_start_pos', 'seq_start_pos=[-1, 0]', 'the number of padding tokens of each row, from 0'),
    'positions of no width': Misuse(InputError, lambda: tokens()(IDS, pos=torch.zeros(4)),
        'pos', 'has shape (4,)', '(4, 16) or (2, 4, 16)'),
    'positions of another width': Misuse(InputError, lambda: tokens()(IDS, pos=torch.zeros(4, 5)),
        'pos', 'has shape (4, 5), which does not fit (2, 4, 16)', 'the same sizes, or 1 where all are alike'),
    'positions of other rows': Misuse(InputError, lambda: tokens()(IDS, pos=torch.zeros(3, 4, 16)),
        'pos', 'has shape (3, 4, 16), which does not fit (2, 4, 16)', 'the same sizes, or 1 where all are alike'),
    'indices of other rows': Misuse(InputError, lambda: tokens()(IDS, pos=torch.zeros(3, 4).long()),
        'pos', 'has shape (3, 4)', '(4,) or (2, 4) or (1,) or (2, 1)'),
    'indices of three axes': Misuse(InputError, lambda: tokens()(IDS, pos=torch.zeros(2, 4, 1).long()),
        'pos', 'has shape (2, 4, 1)', '(4,) or (2, 4) or (1,) or (2, 1)'),
    'too few indices': Misuse(InputError, lambda: tokens()(IDS, pos=torch.arange(3)),
        'pos', 'has shape (3,)', 'a position for each of 4 tokens'),
    'positions as answers': Misuse(InputError, lambda: tokens()(IDS, pos=BOOL), 'pos', 'has dtype torch.bool', 'a position for each token'),
    'answers to add': Misuse(InputError, lambda: tokens()(IDS, sum_embeds=torch.ones(2, 4, 16).bool()),
        'sum_embeds', 'has dtype torch.bool', 'floating point numbers'),
    'ids to add': Misuse(InputError, lambda: tokens()(IDS, sum_embeds=torch.ones(2, 4, 16).long()),
        'sum_embeds', 'has dtype torch.int64', 'floating point numbers'),
    'angles for no rotary': Misuse(InputError, lambda: tokens()(IDS, rotary_pos_emb=(X, 1.0)),
        'rotary_pos_emb', 'was given', 'the layer stack was built without rotary_pos_emb=True', 'leave it out'),
    'the age of no cache': Misuse(InputError, lambda: tokens()(IDS, cache_age=3),
        'cache_age', 'cache_age=3 was given without cache', 'it is how many of the given tokens are new'),
    'blocks of a ragged batch': Misuse(
        InputError, lambda: tokens(num_memory_tokens=1, memory_tokens_interspersed_every=2)(IDS, seq_start_pos=START),
        'seq_start_pos', '(prompt_lens) cannot be combined with memory_tokens_interspersed_every=2',
        'blocks would begin elsewhere in each row', 'Run rows of one length'),
    'a misspelt input': Misuse(InputError, lambda: tokens()(IDS, retrun_mems=True),
        "'retrun_mems'", 'unknown input', "did you mean 'return_mems'?"),
    'an input given twice': Misuse(InputError, lambda: tokens()(IDS, True, return_embeddings=True),
        'return_embeddings', 'was given both by position and by keyword', 'give it once'),
    'nothing': Misuse(InputError, lambda: tokens()(), 'x', 'is missing', 'TransformerWrapper takes x'),
    'too much by position': Misuse(InputError, lambda: vectors()(X, *range(20)),
        '21', '21 inputs were given by position', 'at most 11', 'use keywords'),
    'going on with recycling': Misuse(DecodeError, lambda: tokens(recycling=True)(IDS, recycle_steps=1, return_state=True),
        'recycling', 'recycling=True runs the stack several times', 'outputs cannot be made in pieces'),
    'going on with the mean': Misuse(DecodeError, lambda: tokens(average_pool_embed=True)(IDS, return_state=True),
        'average_pool_embed', 'average_pool_embed=True makes one output of', 'outputs cannot be made in pieces'),
    'going on among memory': Misuse(
        DecodeError, lambda: tokens(num_memory_tokens=1, memory_tokens_interspersed_every=2)(IDS, return_state=True),
        'memory_tokens_interspersed_every', 'memory_tokens_interspersed_every=2 puts', 'Run the whole sequence'),
    'a condition by token, and memory': Misuse(
        InputError, lambda: tokens(num_memory_tokens=2, attn_layers=ADAPTIVE)(IDS, condition=torch.zeros(2, 4, 5)),
        'condition', 'by token says nothing of the 2 entries', 'give one per row, (b, d)'),
    'vectors of another width': Misuse(InputError, lambda: vectors()(torch.zeros(2, 4, 5)), 'x', 'has shape (2, 4, 5)', '(any, any, 3)'),
    'ids for vectors': Misuse(InputError, lambda: vectors()(IDS), 'x', 'has shape (2, 4)', 'ContinuousTransformerWrapper takes vectors'),
    'no vector': Misuse(InputError, lambda: vectors()(X[:, :0]), 'x', 'has shape (2, 0, 3)', 'there must be at least one sequence of at'),
    'no series': Misuse(InputError, lambda: vectors()(X[:0]), 'x', 'has shape (0, 4, 3)', 'there must be at least one sequence of at'),
    'vectors beyond the length': Misuse(InputError, lambda: vectors()(torch.zeros(2, 7, 3)),
        'sequence', 'of 7 tokens is longer than max_seq_len=6', 'shorten it, raise max_seq_len, or use'),
    'vectors without a context': Misuse(InputError, lambda: vectors(attn_layers=CROSS)(X),
        'context', 'is missing', 'cross_attend=True makes layers look at one', 'give context=(b, c, dim)'),
    'vectors without a condition': Misuse(InputError, lambda: vectors(attn_layers=ADAPTIVE)(X),
        'condition', 'is missing', 'norms or scales of this stack follow one', 'give condition=(b, 5), or one per token'),
    'a condition of another width': Misuse(InputError, lambda: vectors(attn_layers=ADAPTIVE)(X, condition=torch.zeros(2, 4)),
        'condition', 'has shape (2, 4)', '(2, 5), or per token (2, 4, 5)'),
    'a mask of vectors as numbers': Misuse(InputError, lambda: vectors()(X, mask=NUM),
        'mask', 'has dtype torch.float32', 'torch.bool, True where something is'),
    'a mask of vectors of another length': Misuse(InputError, lambda: vectors()(X, mask=BOOL[:, :3]), 'mask', 'has shape (2, 3)', '(2, 4)'),
    'the entropy of vectors': Misuse(InputError, lambda: vectors()(X, return_logit_entropies=True),
        'return_logit_entropies', 'return_logit_entropies=True has no meaning', 'vectors are no logits', 'leave it out'),
    'learning from one vector': Misuse(InputError, lambda: ContinuousAutoregressiveWrapper(vectors())(X[:, :1]),
        'x', 'has shape (2, 1, 3)', 'predicting the next vector needs at least two'),
    'learning behind embeddings': Misuse(InputError, lambda: ContinuousAutoregressiveWrapper(vectors())(X, prepend_embeds=X),
        'prepend_embeds', 'cannot be given here', 'their outputs have no targets', 'put them into x'),
    'going on from nothing': Misuse(InputError, lambda: ContinuousAutoregressiveWrapper(vectors()).generate(X[:, :0], 2),
        'start_tokens', 'is shape (2, 0, 3)', 'at least one vector (t, d) or (b, t, d) to'),
    'going on backwards': Misuse(InputError, lambda: ContinuousAutoregressiveWrapper(vectors()).generate(X, -1),
        'seq_len', 'seq_len=-1', 'the number of tokens to generate'),
    'tokens without numbers': Misuse(InputError, lambda: numbers()(IDS), 'x_num', 'is missing', 'XValTransformerWrapper takes x and x_num'),
    'numbers of another length': Misuse(InputError, lambda: numbers()(IDS, NUM[:, :3]), 'x_num', 'has shape (2, 3)', '(2, 4)'),
    'numbers as ids': Misuse(InputError, lambda: numbers()(IDS, IDS), 'x_num', 'has dtype torch.int64', 'floating point numbers'),
    'no number': Misuse(InputError, lambda: numbers()(IDS[:, :0], NUM[:, :0]),
        'x', 'has shape (2, 0)', 'there must be at least one sequence of at'),
    'tokens beyond the numbers': Misuse(InputError, lambda: numbers()(IDS + 5, NUM),
        'x', 'holds the token id 12', 'num_tokens=9', 'mend them or raise num_tokens'),
    'learning numbers of another shape': Misuse(InputError, lambda: XValAutoregressiveWrapper(numbers())(IDS, NUM[:1]),
        'x_num', 'has shape (1, 4)', '(2, 4)'),
    'going on from other numbers': Misuse(InputError, lambda: XValAutoregressiveWrapper(numbers()).generate(IDS, NUM[:1], 2),
        'start_numbers', 'has shape (1, 4)', '(2, 4)'),
    'one input of two': Misuse(InputError, lambda: several()({'a': IDS}), 'x', "is ['a']", "a dict with the ids of each of ['a', 'b']"),
    'a tensor for several': Misuse(InputError, lambda: several()(IDS), 'x', 'is Tensor', "a dict with the ids of each of ['a', 'b']"),
    'inputs of two lengths': Misuse(InputError, lambda: several()({'a': IDS, 'b': IDS[:, :3] % 5}), "x['b']", 'has shape (2, 3)', '(2, 4)'),
    'a token beyond one of several': Misuse(InputError, lambda: several()({'a': IDS, 'b': IDS}),
        "x['b']", 'holds the token id 7', "num_tokens['b']=5", "mend them or raise num_tokens['b']"),
    'heads that are not there': Misuse(InputError, lambda: several(return_only_embed=True)(BOTH, return_logits_and_embeddings=True),
        'model', 'has no head (return_only_embed=True), so', 'build it without that flag'),
    'a class token that looks back': Misuse(FlagError, lambda: images(use_cls_token=True, attn_layers=Decoder(**SMALL)),
        'use_cls_token', 'use_cls_token=True', 'ahead of the patches it would see nothing', 'Use an Encoder'),
    'more patches than places beside a class token': Misuse(InputError, lambda: images(use_cls_token=True)(torch.randn(2, 3, 16, 12)),
        'img', 'has shape (2, 3, 16, 12), 12 patches', 'has positions for 6', 'shrink it'),
    'an image of other channels': Misuse(InputError, lambda: images()(torch.zeros(2, 1, 8, 12)),
        'img', 'has shape (2, 1, 8, 12)', 'ViTransformerWrapper takes images'),
    'an image without a batch': Misuse(InputError, lambda: images()(torch.zeros(3, 8, 12)),
        'img', 'has shape (3, 8, 12)', 'ViTransformerWrapper takes images'),
    'no image': Misuse(InputError, lambda: images()(torch.zeros(0, 3, 8, 12)),
        'img', 'has shape (0, 3, 8, 12)', 'there must be at least one image of at'),
    'an image too large': Misuse(InputError, lambda: images()(torch.zeros(1, 3, 16, 12)),
        'img', 'has shape (1, 3, 16, 12), 12 patches', 'image_size=(8, 12) has positions for 6',
        'shrink it, or build the model with a larger'),
    'an image between patches': Misuse(InputError, lambda: images()(torch.zeros(1, 3, 9, 12)),
        'img', 'has shape (1, 3, 9, 12)', 'height and width must be multiples of patch_size=4'),
    'an image of bytes': Misuse(InputError, lambda: images()(torch.zeros(1, 3, 8, 12, dtype=torch.uint8)),
        'img', 'has dtype torch.uint8', 'floating point numbers'),
    'both and only one': Misuse(InputError, lambda: images()(torch.zeros(1, 3, 8, 12), True, True),
        'return_embeddings', 'and return_logits_and_embeddings were both', 'they say different things', 'give one'),
    'a misspelt input beside an image': Misuse(InputError, lambda: images()(torch.zeros(1, 3, 8, 12), contxt=X),
        "'contxt'", 'unknown input', "did you mean 'context'?"),
    'a mask beside an image': Misuse(InputError, lambda: images()(torch.zeros(1, 3, 8, 12), mask=BOOL),
        "'mask'", 'unknown input', ("did you mean 'attn_mask'?", 'ViTransformerWrapper')),
    'a source of vectors': Misuse(InputError, lambda: sides()(X, IDS),
        'src', 'has shape (2, 4, 3)', 'XTransformer takes token ids (batch, length)'),
    'a target of other rows': Misuse(InputError, lambda: sides()(IDS, IDS[:1]), 'tgt', 'has shape (1, 4)', '(2, any)'),
    'a source mask as numbers': Misuse(InputError, lambda: sides()(IDS, IDS, mask=NUM),
        'mask', 'has dtype torch.float32', 'torch.bool, True where something is'),
    'a source mask of another length': Misuse(InputError, lambda: sides()(IDS, IDS, mask=BOOL[:, :3]),
        'mask', 'has shape (2, 3)', '(2, 4)'),
    'a target of one token': Misuse(InputError, lambda: sides()(IDS, IDS[:, :1]),
        'tgt', 'has shape (2, 1)', 'predicting the next token needs at least two'),
    'a target beyond the vocabulary': Misuse(InputError, lambda: sides()(IDS, IDS + 5),
        'tgt', 'holds the token id 10 to predict', ('0 to 8, or ignore_index=-100', 'num_tokens=9')),
    'ids where vectors come': Misuse(InputError, lambda: vectors()(X, embed_ids={'a': IDS}),
        'embed_ids', 'was given', 'ContinuousTransformerWrapper has no use for', 'leave it out'),
    'keywords of no table': Misuse(InputError, lambda: several()(BOTH, token_emb_kwargs={'a': 1}),
        'token_emb_kwargs', 'was given', 'MultiInputTransformerWrapper has no use for', 'leave it out'),
    'a state that is none for a model': Misuse(InputError, lambda: vectors()(X, state=X),
        'state', 'is a Tensor', 'what an earlier call returned with return_state'),
    'padding alone before CLS tokens': Misuse(
        DecodeError, lambda: tokens(attn_layers=Encoder(**SMALL), use_cls_token=True)(IDS, seq_start_pos=torch.tensor([0, 5])),
        'first', 'call has 4 tokens, all padding in a row of', 'with use_cls_token=True it must reach the'),
    'no source': Misuse(InputError, lambda: sides()(IDS[:, :0], IDS),
        'x', 'has shape (2, 0)', 'there must be at least one sequence of at least one token'),
}  # fmt: skip
