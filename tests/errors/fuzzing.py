"""Every public callable with keywords that work, and the wrong kinds of thing that any of its arguments may be given."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import x_transformers as xt
from x_transformers import x_transformers as old
from x_transformers.attend import Attend
from x_transformers.decoding import processors
from x_transformers.decoding.speculative import prompt_lookup
from x_transformers.errors import DecodeError, FlagError, InputError
from x_transformers.flags import catalogue
from x_transformers.layers import AttentionLayers
from x_transformers.training import packing

torch.set_num_threads(1)
OURS = (FlagError, InputError, DecodeError)
Target = tuple[Callable[..., Any], dict[str, Any]]

# ------------------------------------------------------------------------------------------------ what is wrong

KINDS: dict[str, Any] = {
    'None': None,
    'a string': 'x',
    '-1': -1,
    '0': 0,
    '0.5': 0.5,
    'nan': float('nan'),
    'inf': float('inf'),
    'a huge number': 2**70,
    'a list': [1, 2],
    'an empty list': [],
    'a tuple of three': (1, 2, 3),
    'a dict': {'x': 1},
    'True': True,
    'an object': object(),
    'a function': len,
    'a module': nn.Identity(),
    'a numpy number': np.float32(1.5),
    'a numpy array': np.zeros((2, 4)),
    'an empty tensor': torch.zeros(0),
    'a scalar tensor': torch.tensor(1.5),
    'a long tensor': torch.zeros(2, dtype=torch.long),
    'a tensor of five axes': torch.zeros(1, 1, 1, 1, 1),
}
SIZES = {  # what is allocated, or repeated, as often as it says
    'heads', 'length', 'seq_len', 'max_seq_len', 'batch_size', 'capacity', 'max_pos', 'i', 'j', 'image_size', 'channels', 'total_heads',
    'layer_index',
}  # fmt: skip


def wrong(good: Any, huge: bool) -> Iterator[tuple[str, Any]]:
    """What else might be given: other kinds of thing, and for a tensor those that differ in one respect."""
    for kind, value in KINDS.items():
        if kind != 'a huge number' or huge:
            yield kind, value
    if isinstance(good, Tensor):
        yield 'another axis', good[None]
        yield 'an axis less', good[0] if good.ndim else good
        yield 'one entry less', good[..., :-1] if good.ndim else good
        yield 'a row less', good[:-1] if good.ndim else good
        yield 'a row more', torch.cat((good, good[:1])) if good.ndim else good
        yield 'no entries', good[..., :0] if good.ndim else good
        yield 'no rows', good[:0] if good.ndim else good
        yield 'floats', good.float()
        yield 'doubles', good.double()
        yield 'half precision', good.half()
        yield 'complex numbers', good.to(torch.complex64)
        yield 'whole numbers', good.long()
        yield 'bytes', good.to(torch.uint8)
        yield 'truth values', good.bool()
        yield 'a meta tensor', good.to('meta')
        yield 'a numpy array of it', good.numpy()
        yield 'a list of it', good.tolist()
        if not good.is_floating_point():
            yield 'numbers too large', good.long() + 99
            yield 'numbers too small', good.long() - 99
    if isinstance(good, (tuple, list)):
        yield 'one more of it', type(good)([*good, *good[:1]])
        yield 'one less of it', type(good)(good[:-1])
        yield 'others of it', type(good)('x' for _ in good)


# ------------------------------------------------------------------------------------------------ what is called


def decoder(**flags: Any) -> Any:
    return xt.Decoder(**{'dim': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8, **flags})


def encoder(**flags: Any) -> Any:
    return xt.Encoder(dim=16, depth=1, heads=2, attn_dim_head=8, **flags)


def model(**flags: Any) -> Any:
    return xt.TransformerWrapper(**{'num_tokens': 11, 'max_seq_len': 8, 'attn_layers': decoder(), **flags}).eval()


def constructors() -> dict[str, Target]:
    small = {'dim': 16, 'depth': 1, 'heads': 2}
    net, stack, bare = model(), decoder(), encoder()
    masked = model(attn_layers=encoder())
    numbers = xt.XValTransformerWrapper(num_tokens=11, numerical_token_id=3, max_seq_len=8, attn_layers=stack)
    vectors = xt.ContinuousTransformerWrapper(dim_in=3, dim_out=3, max_seq_len=8, attn_layers=stack)
    sides = {f'{side}_{name}': n for side in ('enc', 'dec') for name, n in {'num_tokens': 9, 'max_seq_len': 8, 'depth': 1}.items()}
    found: dict[str, Target] = {
        'Decoder': (xt.Decoder, small),
        'Encoder': (xt.Encoder, small),
        'PrefixDecoder': (xt.PrefixDecoder, small),
        'CrossAttender': (xt.CrossAttender, small),
        'AttentionLayers': (AttentionLayers, small),
        'Attention': (xt.Attention, {'dim': 16, 'heads': 2}),
        'Attend': (Attend, {}),
        'FeedForward': (xt.FeedForward, {'dim': 16}),
        'TransformerWrapper': (xt.TransformerWrapper, {'num_tokens': 11, 'max_seq_len': 8, 'attn_layers': stack}),
        'ContinuousTransformerWrapper': (
            xt.ContinuousTransformerWrapper, {'max_seq_len': 8, 'attn_layers': stack, 'dim_in': 3, 'dim_out': 3}),
        'XValTransformerWrapper': (
            xt.XValTransformerWrapper, {'num_tokens': 11, 'numerical_token_id': 3, 'max_seq_len': 8, 'attn_layers': stack}),
        'MultiInputTransformerWrapper': (
            xt.MultiInputTransformerWrapper, {'num_tokens': {'a': 11, 'b': 5}, 'max_seq_len': 8, 'attn_layers': stack}),
        'ViTransformerWrapper': (xt.ViTransformerWrapper, {'image_size': 8, 'patch_size': 4, 'attn_layers': bare, 'num_classes': 3}),
        'NeoMLP': (xt.NeoMLP, {'dim_in': 3, 'dim_hidden': 2, 'dim_out': 1, 'dim_model': 16, 'depth': 1}),
        'XTransformer': (xt.XTransformer, {'dim': 16, **sides}),
        'AutoregressiveWrapper': (xt.AutoregressiveWrapper, {'net': net}),
        'XLAutoregressiveWrapper': (xt.XLAutoregressiveWrapper, {'net': net}),
        'NonAutoregressiveWrapper': (xt.NonAutoregressiveWrapper, {'net': masked, 'mask_id': 10}),
        'ContinuousAutoregressiveWrapper': (xt.ContinuousAutoregressiveWrapper, {'net': vectors}),
        'XValAutoregressiveWrapper': (xt.XValAutoregressiveWrapper, {'net': numbers}),
        'DPO': (xt.DPO, {'model': net}),
    }  # fmt: skip
    flagged = {}
    for name, (kind, keywords) in found.items():
        names = {entry.name: entry.default for entry in catalogue(kind.config_class)}  # type: ignore[attr-defined]
        flagged[name] = (kind, {**dict.fromkeys(names, LEFT_OUT), **keywords})
    parts: dict[str, Target] = {
        'AdaptiveLayerNorm': (old.AdaptiveLayerNorm, {'dim': 16}),
        'AdaptiveLayerScale': (old.AdaptiveLayerScale, {'fn': nn.Identity(), 'dim': 16}),
        'AdaptiveRMSNorm': (old.AdaptiveRMSNorm, {'dim': 16}),
        'LayerNorm': (old.LayerNorm, {'dim': 16}),
        'LayerScale': (old.LayerScale, {'fn': nn.Identity(), 'dim': 16}),
        'MultiheadRMSNorm': (old.MultiheadRMSNorm, {'dim': 16, 'heads': 2}),
        'RMSNorm': (old.RMSNorm, {'dim': 16}),
        'ScaleNorm': (old.ScaleNorm, {'dim': 16}),
        'SimpleRMSNorm': (old.SimpleRMSNorm, {'dim': 16}),
        'GLU': (old.GLU, {'dim_in': 16, 'dim_out': 16, 'activation': nn.GELU()}),
        'ConcatCombine': (old.ConcatCombine, {'dim': 16, 'prev_layer_ind': 0}),
        'GRUGating': (old.GRUGating, {'dim': 16}),
        'HyperConnection': (old.HyperConnection, {'dim': 16, 'layer_index': 0, 'num_residual_streams': 2}),
        'Residual': (old.Residual, {'dim': 16}),
        'ShiftTokens': (old.ShiftTokens, {'shifts': (0, 1), 'fn': nn.Identity()}),
        'Scale': (old.Scale, {'value': 0.5, 'fn': nn.Identity()}),
        'FoldAxially': (old.FoldAxially, {'axial_dim': 2, 'fn': nn.Identity()}),
        'AbsolutePositionalEmbedding': (old.AbsolutePositionalEmbedding, {'dim': 16, 'max_seq_len': 8}),
        'ScaledSinusoidalEmbedding': (old.ScaledSinusoidalEmbedding, {'dim': 16}),
        'TokenEmbedding': (old.TokenEmbedding, {'dim': 16, 'num_tokens': 11}),
        'AlibiPositionalBias': (old.AlibiPositionalBias, {'heads': 2}),
        'DynamicPositionBias': (old.DynamicPositionBias, {'dim': 8, 'heads': 2, 'depth': 1}),
        'RelativePositionBias': (old.RelativePositionBias, {'scale': 1.0, 'heads': 2}),
        'RotaryEmbedding': (old.RotaryEmbedding, {'dim': 8}),
        'CoPE': (old.CoPE, {'dim': 8, 'heads': 2, 'max_pos': 4}),
        'DataDependentAlibi': (old.DataDependentAlibi, {'dim': 16, 'heads': 2}),
        'PerRowDataDependentAlibi': (old.PerRowDataDependentAlibi, {'dim': 16, 'heads': 2}),
    }
    made = {name: (kind, {**optional(kind), **keywords}) for name, (kind, keywords) in parts.items()}
    wishes = {'mesh': LEFT_OUT, 'checkpoint': LEFT_OUT, 'precision': LEFT_OUT}
    together = {f'parallelize {name}': (in_a_group_of_one, {'model': stack, 'strategy': name, **wishes}) for name in ('ddp', 'fsdp', 'tp')}
    return {**flagged, **made, **together}


def in_a_group_of_one(model: Any, strategy: Any, **wishes: Any) -> Any:
    """`parallelize` where it works, of a copy."""
    from x_transformers.parallel import parallelize

    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    try:
        return parallelize(copy.deepcopy(model), strategy, **wishes)
    finally:
        dist.destroy_process_group()


def optional(kind: Callable[..., Any]) -> dict[str, Any]:
    """What a constructor takes by name."""
    return {name: LEFT_OUT for name, p in inspect.signature(kind).parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


class LeftOut:
    """In place of an argument that is not given."""

    def __repr__(self) -> str:
        return 'left out'


LEFT_OUT = LeftOut()


def calls() -> dict[str, Target]:
    """Calls of what was built, each input of which is given where it is possible."""
    ids, x, tokens_mask = torch.arange(8).view(2, 4), torch.randn(2, 4, 16), torch.ones(2, 4, dtype=torch.bool)
    vec, num = torch.randn(2, 4, 3), torch.randn(2, 4)
    stack = decoder()
    every = decoder(cross_attend=True, rotary_pos_emb=True, use_adaptive_rmsnorm=True, attn_flash=False, rotary_emb_dim=8)
    ar = xt.AutoregressiveWrapper(model())
    xl = xt.XLAutoregressiveWrapper(model(max_mem_len=4))
    nar = xt.NonAutoregressiveWrapper(model(attn_layers=encoder()), mask_id=10, steps=2)
    critic = xt.NonAutoregressiveWrapper(model(attn_layers=encoder()), mask_id=10, steps=2, self_token_critic=True, self_cond=True)
    vectors = xt.ContinuousTransformerWrapper(dim_in=3, dim_out=3, max_seq_len=8, attn_layers=decoder(), probabilistic=True)
    car = xt.ContinuousAutoregressiveWrapper(vectors)
    numbers = xt.XValTransformerWrapper(num_tokens=11, numerical_token_id=3, max_seq_len=8, attn_layers=decoder())
    xar = xt.XValAutoregressiveWrapper(numbers)
    several = xt.MultiInputTransformerWrapper(num_tokens={'a': 11, 'b': 11}, max_seq_len=8, attn_layers=decoder())
    images = xt.ViTransformerWrapper(image_size=8, patch_size=4, attn_layers=encoder(), num_classes=3)
    neo = xt.NeoMLP(dim_in=3, dim_hidden=2, dim_out=1, dim_model=16, depth=1)
    sides = {f'{side}_{name}': n for side in ('enc', 'dec') for name, n in {'num_tokens': 11, 'max_seq_len': 8, 'depth': 1}.items()}
    pair = xt.XTransformer(dim=16, **sides)
    dpo = xt.DPO(model())
    attention = xt.Attention(16, heads=2, dim_head=8, flash=False)
    q = torch.randn(2, 2, 4, 8)
    with torch.no_grad():
        state = stack(x, return_state=True)[1]
        model_state = ar.net(ids, return_state=True)[1]
    prefix = ar.remember(ids[:1, :3])
    angles = every.rotary_pos_emb.forward_from_seq_len(8)
    begin, lens = torch.zeros(2, dtype=torch.long), torch.tensor([4, 2])
    packed = torch.tensor([[0, 0, 1, 1], [0, 1, 1, -1]])
    further = {'return_intermediates': False, 'return_mems': False, 'return_attn': False, 'return_state': False, 'return_embeddings': False}
    of_tokens = {
        'mask': tokens_mask, 'pos': torch.arange(4), 'sum_embeds': x, 'prepend_embeds': LEFT_OUT, 'prepend_mask': LEFT_OUT,
        'mems': LEFT_OUT,
        'mem_masks': LEFT_OUT, 'seq_start_pos': begin, 'cache': LEFT_OUT, 'state': LEFT_OUT, 'recycle_steps': LEFT_OUT,
        'embed_ids': LEFT_OUT, 'document_ids': LEFT_OUT, 'context_document_ids': LEFT_OUT,
        'attn_z_loss_weight': LEFT_OUT, 'token_emb_kwargs': LEFT_OUT, 'to_logits_kwargs': LEFT_OUT, 'attn_mask': LEFT_OUT,
        'attn_bias': LEFT_OUT, 'self_attn_kv_mask': tokens_mask, 'condition': LEFT_OUT, 'context': LEFT_OUT, 'context_mask': LEFT_OUT,
        'in_attn_cond': x, 'rotary_pos_emb': LEFT_OUT, 'cache_age': LEFT_OUT, 'layers_execute_order': LEFT_OUT,
        'return_logit_entropies': False,
        'return_logits_and_embeddings': False, 'return_attn_z_loss': False, **further,
    }  # fmt: skip
    going = {
        'eos_token': LEFT_OUT, 'temperature': 1.0, 'filter_logits_fn': 'top_k', 'filter_kwargs': LEFT_OUT, 'cache_kv': True,
        'generator': LEFT_OUT, 'mask': LEFT_OUT, 'seq_start_pos': LEFT_OUT, 'sum_embeds': LEFT_OUT, 'pos': LEFT_OUT, 'mems': LEFT_OUT,
        'embed_ids': LEFT_OUT, 'self_attn_kv_mask': LEFT_OUT, 'prepend_embeds': LEFT_OUT, 'condition': LEFT_OUT, 'attn_mask': LEFT_OUT,
    }  # fmt: skip
    restrict = {
        'restrict_to_max_seq_len': True, 'prompt_lens': LEFT_OUT, 'amateur_model': LEFT_OUT, 'contrastive_decode_kwargs': LEFT_OUT, **going,
        'logits_processors': LEFT_OUT, 'prefix': LEFT_OUT, 'stopping_criteria': LEFT_OUT, 'num_return_sequences': LEFT_OUT,
        'draft': LEFT_OUT, 'draft_tokens': 2, 'prefill_chunk': LEFT_OUT,
    }  # fmt: skip
    sampling = (
        'temperature', 'filter_logits_fn', 'filter_kwargs', 'generator', 'amateur_model', 'contrastive_decode_kwargs', 'stopping_criteria',
        'draft', 'draft_tokens',
    )  # fmt: skip
    searching = {name: value for name, value in restrict.items() if name not in sampling}
    sources = {name: value for name, value in restrict.items() if name not in ('mask', 'attn_mask')}
    stack_inputs = {
        'x': x, 'mask': tokens_mask, 'attn_mask': torch.ones(4, 4, dtype=torch.bool), 'self_attn_kv_mask': tokens_mask, 'mems': LEFT_OUT,
        'mem_masks': LEFT_OUT, 'seq_start_pos': LEFT_OUT, 'cache': LEFT_OUT, 'cache_age': LEFT_OUT, 'state': LEFT_OUT, 'pos': LEFT_OUT,
        'attn_bias': torch.zeros(2, 4, 4), 'in_attn_cond': x, 'layers_execute_order': (0, 1), 'return_hiddens': False,
        'return_state': False, 'document_ids': LEFT_OUT, 'context_document_ids': LEFT_OUT,
    }  # fmt: skip
    made: dict[str, Target] = {
        'Decoder.forward': (stack, stack_inputs),
        'Decoder.forward with a state': (stack, {
            'x': x, 'state': state, 'mask': tokens_mask, 'pos': LEFT_OUT, 'mems': LEFT_OUT, 'mem_masks': LEFT_OUT}),
        'Decoder.forward with all': (every, {
            'x': x, 'context': x, 'context_mask': tokens_mask, 'condition': x[:, 0], 'rotary_pos_emb': angles, 'pos': LEFT_OUT,
            'context_pos': torch.arange(4), 'mems': [x], 'mem_masks': [tokens_mask],
        }),
        'Decoder.forward of packed rows': (decoder(cross_attend=True), {
            'x': x, 'document_ids': packed, 'context': x, 'context_document_ids': packed, 'mask': tokens_mask, 'state': LEFT_OUT,
            'mems': LEFT_OUT, 'seq_start_pos': LEFT_OUT, 'return_state': False, 'return_hiddens': False}),
        'PrefixDecoder.forward': (xt.PrefixDecoder(dim=16, depth=1, heads=2), {
            'x': x, 'prefix_attn_len': 2, 'attn_mask': torch.ones(4, 4, dtype=torch.bool)}),
        'CrossAttender.forward': (xt.CrossAttender(dim=16, depth=1, heads=2), {'x': x, 'context': x, 'context_mask': tokens_mask}),
        'Attention.forward': (attention, {
            'x': x, 'context': LEFT_OUT, 'mask': tokens_mask, 'context_mask': LEFT_OUT, 'attn_mask': torch.ones(4, 4, dtype=torch.bool),
            'rel_pos': LEFT_OUT, 'attn_bias': torch.zeros(2, 4, 4), 'rotary_pos_emb': angles, 'pos': LEFT_OUT,
            'prev_attn': torch.zeros(2, 2, 4, 4),
            'mem': LEFT_OUT, 'mem_mask': LEFT_OUT, 'return_intermediates': False, 'cache': LEFT_OUT, 'value_residual': LEFT_OUT,
        }),
        'Attention.forward with a context': (attention, {
            'x': x, 'context': x, 'context_mask': tokens_mask, 'mem': x, 'mem_mask': tokens_mask, 'context_rotary_pos_emb': LEFT_OUT}),
        'Attention.forward with a bias': (attention, {'x': x, 'rel_pos': old.RelativePositionBias(1.0, heads=2), 'pos': torch.arange(4)}),
        'Attend.forward': (Attend(), {'q': q, 'k': q, 'v': q, 'mask': tokens_mask, 'attn_bias': torch.zeros(2, 4, 4),
        'prev_attn': LEFT_OUT}),
        'TransformerWrapper.forward': (ar.net, {'x': ids, **of_tokens}),
        'TransformerWrapper.forward with a state': (ar.net, {'x': ids, 'state': model_state}),
        'TransformerWrapper.forward of packed rows': (ar.net, {
            'x': ids, 'document_ids': packed, 'mask': LEFT_OUT, 'pos': LEFT_OUT, 'state': LEFT_OUT, 'cache': LEFT_OUT, **further}),
        'ContinuousTransformerWrapper.forward': (vectors, {'x': vec, **of_tokens}),
        'XValTransformerWrapper.forward': (numbers, {'x': ids, 'x_num': num, **of_tokens}),
        'MultiInputTransformerWrapper.forward': (several, {'x': {'a': ids, 'b': ids}, **of_tokens}),
        'MultiInputTransformerWrapper.forward of a': (lambda a: several({'a': a, 'b': ids}), {'a': ids}),
        'ViTransformerWrapper.forward': (images, {
            'img': torch.randn(2, 3, 8, 8), 'return_embeddings': False, 'return_logits_and_embeddings': False, 'mask': LEFT_OUT}),
        'NeoMLP.forward': (neo, {'x': torch.randn(2, 3), 'return_embeds': False}),
        'XTransformer.forward': (pair, {
            'src': ids, 'tgt': ids, 'mask': tokens_mask, 'attn_mask': torch.ones(4, 4, dtype=torch.bool), 'src_prepend_embeds': LEFT_OUT}),
        'XTransformer.generate': (pair.generate, {
            'seq_in': ids, 'seq_out_start': ids, 'seq_len': 2, 'mask': tokens_mask, 'attn_mask': LEFT_OUT, 'src_prepend_embeds': LEFT_OUT,
            **sources}),
        'AutoregressiveWrapper.forward': (ar, {'x': ids, 'return_outputs': False, **dict.fromkeys(of_tokens, LEFT_OUT)}),
        'AutoregressiveWrapper.forward of packed rows': (ar, {'x': ids, 'document_ids': packed}),
        'AutoregressiveWrapper.generate': (ar.generate, {'prompts': ids, 'seq_len': 2, **restrict}),
        'AutoregressiveWrapper.stream': (lambda **given: list(ar.stream(**given)), {'prompts': ids, 'seq_len': 2, **restrict}),
        'AutoregressiveWrapper.beam_search': (ar.beam_search, {
            'prompts': ids, 'seq_len': 2, 'num_beams': 2, 'length_penalty': 1.0, **searching, 'num_return_sequences': 1}),
        'AutoregressiveWrapper.generate with functions': (ar.generate, {
            'prompts': ids, 'seq_len': 4, 'logits_processors': [lambda out, logits: logits], 'stopping_criteria': [lambda out: False],
            'num_return_sequences': 2, 'draft': prompt_lookup, 'draft_tokens': 2}),
        'AutoregressiveWrapper.generate with a draft': (ar.generate, {'prompts': ids, 'seq_len': 4, 'draft': model(), 'prompt_lens': lens}),
        'AutoregressiveWrapper.generate behind a prefix': (ar.generate, {
            'prompts': ids[:, :2], 'seq_len': 2, 'prefix': prefix, 'prompt_lens': begin + 1, 'seq_start_pos': LEFT_OUT, 'mask': LEFT_OUT}),
        'AutoregressiveWrapper.remember': (ar.remember, {
            'prompts': ids, 'prefix': LEFT_OUT, 'prefill_chunk': LEFT_OUT, 'mems': LEFT_OUT, 'prepend_embeds': LEFT_OUT}),
        'AutoregressiveWrapper.remember more': (ar.remember, {'prompts': ids, 'prefix': prefix}),
        'XLAutoregressiveWrapper.forward': (xl, {'x': ids, 'mems': LEFT_OUT}),
        'XLAutoregressiveWrapper.generate': (xl.generate, {'start_tokens': ids, 'seq_len': 2, **going}),
        'NonAutoregressiveWrapper.forward': (nar, {'x': ids.repeat(1, 2), 'only_train_generator': False, 'only_train_critic': False}),
        'NonAutoregressiveWrapper.forward with a critic': (critic, {
            'x': ids.repeat(1, 2), 'only_train_generator': False, 'only_train_critic': False, 'generator_sample_temperature': LEFT_OUT}),
        'NonAutoregressiveWrapper.generate': (critic.generate, {
            'batch_size': 2, 'start_temperature': 1.0, 'filter_thres': 0.7, 'noise_level_scale': 1.0}),
        'ContinuousAutoregressiveWrapper.forward': (car, {'x': vec, 'mask': tokens_mask}),
        'ContinuousAutoregressiveWrapper.generate': (car.generate, {
            'start_tokens': vec, 'seq_len': 2, **{k: v for k, v in going.items() if not k.startswith('filter') and k != 'eos_token'}}),
        'XValAutoregressiveWrapper.forward': (xar, {'x': ids, 'x_num': num, 'mask': tokens_mask, 'return_loss_breakdown': False}),
        'XValAutoregressiveWrapper.generate': (xar.generate, {
            'start_tokens': ids, 'start_numbers': num, 'seq_len': 2, **{k: v for k, v in going.items() if k != 'eos_token'}}),
        'DPO.forward': (dpo, {
            'preferred_seq': ids, 'unpreferred_seq': ids, 'prompt_mask': tokens_mask, 'preferred_seq_mask': tokens_mask,
            'unpreferred_seq_mask': LEFT_OUT}),
        'pack': (packing.pack, {'sequences': [[1, 2], torch.tensor([3])], 'length': 4, 'pad_value': 0}),
        'ids_from_cu_seqlens': (packing.ids_from_cu_seqlens, {'cu_seqlens': torch.tensor([0, 1, 3]), 'length': 4}),
        'ids_from_lengths': (packing.ids_from_lengths, {'lengths': [[1, 2], [4]], 'length': 4}),
        'StackState.keep': (state.keep, {'count': 2}),
        'StackState.rewind': (state.rewind, {'count': 2}),
        'StackState.reorder': (state.reorder, {'index': torch.tensor([1, 0])}),
        'StackState.of a decoder.rewind': (model_state.rewind, {'count': 2}),
        'AttentionLayers.flops': (stack.flops, {'batch': 2, 'n': 4, 'backward': True}),
        'TransformerWrapper.flops': (ar.net.flops, {'batch': 2, 'n': 4, 'backward': True}),
        'TransformerWrapper.summary': (ar.net.summary, {'n': 4}),
        'AttentionLayers.empty_state': (stack.empty_state, {'capacity': 8}),
        'TransformerWrapper.empty_state': (ar.net.empty_state, {'capacity': 8}),
    }  # fmt: skip
    return {**made, **made_ready(ids), **parts()}


def made_ready(tokens: Tensor) -> dict[str, Target]:
    """Processors of logits: how they are made, and what they are given."""
    given = {
        'RepetitionPenalty': {'penalty': 1.2, 'after': 0}, 'PresencePenalty': {'penalty': 0.5, 'after': 0},
        'FrequencyPenalty': {'penalty': 0.5, 'after': 0}, 'NoRepeatNgrams': {'size': 2, 'after': 0},
        'MinLength': {'length': 3, 'eos_token': 1, 'after': 0}, 'LogitBias': {'bias': {3: 1.0}},
    }  # fmt: skip

    def running(kind: Any) -> Callable[..., Any]:
        return lambda **keywords: kind(**keywords)(tokens, torch.zeros(len(tokens), 11))

    return {name: (running(getattr(processors, name)), keywords) for name, keywords in given.items()}


def parts() -> dict[str, Target]:
    """What stands in layers, used alone."""
    x, q = torch.randn(2, 4, 16), torch.randn(2, 2, 4, 8)
    per_row = torch.randn(2, 16)
    tokens_mask, ids = torch.ones(2, 4, dtype=torch.bool), torch.arange(8).view(2, 4)
    identity = nn.Identity()
    alibi, t5 = old.AlibiPositionalBias(heads=2), old.RelativePositionBias(1.0, heads=2)
    dynamic = old.DynamicPositionBias(8, heads=2, depth=1)
    hyper = old.HyperConnection(16, layer_index=0, num_residual_streams=2)
    rotary = old.RotaryEmbedding(8)
    angles, _ = rotary.forward_from_seq_len(4)
    absolute = {'x': ids, 'pos': torch.arange(4), 'seq_start_pos': torch.zeros(2, dtype=torch.long)}
    return {
        'FeedForward.forward': (xt.FeedForward(16), {'x': x}),
        'FeedForward.forward with a gate': (xt.FeedForward(16, glu=True), {'x': x}),
        'GLU.forward': (old.GLU(16, 16, nn.GELU()), {'x': x}),
        'ReluSquared.forward': (old.ReluSquared(), {'x': x}),
        'LayerNorm.forward': (old.LayerNorm(16), {'x': x}),
        'RMSNorm.forward': (old.RMSNorm(16), {'x': x}),
        'ScaleNorm.forward': (old.ScaleNorm(16), {'x': x}),
        'SimpleRMSNorm.forward': (old.SimpleRMSNorm(16), {'x': x}),
        'MultiheadRMSNorm.forward': (old.MultiheadRMSNorm(8, heads=2), {'x': q}),
        'AdaptiveLayerNorm.forward': (old.AdaptiveLayerNorm(16), {'x': x, 'condition': per_row}),
        'AdaptiveRMSNorm.forward': (old.AdaptiveRMSNorm(16), {'x': x, 'condition': x}),
        'LayerScale.forward': (old.LayerScale(identity, 16), {'x': x}),
        'AdaptiveLayerScale.forward': (old.AdaptiveLayerScale(identity, 16), {'x': x, 'condition': per_row}),
        'Scale.forward': (old.Scale(0.5, identity), {'x': x}),
        'ConcatCombine.forward': (old.ConcatCombine(16, 0), {'x': x, 'prev_layers': [x]}),
        'Residual.forward': (old.Residual(16, scale_residual=True), {'x': x, 'residual': x}),
        'GRUGating.forward': (old.GRUGating(16), {'x': x, 'residual': x}),
        'HyperConnection.prepare': (hyper.prepare, {'x': x}),
        'ShiftTokens.forward': (old.ShiftTokens((0, 1), identity), {'x': x, 'mask': LEFT_OUT}),
        'FoldAxially.forward': (old.FoldAxially(2, identity), {'x': x}),
        'AbsolutePositionalEmbedding.forward': (old.AbsolutePositionalEmbedding(16, 8), absolute),
        'ScaledSinusoidalEmbedding.forward': (old.ScaledSinusoidalEmbedding(16), absolute),
        'TokenEmbedding.forward': (old.TokenEmbedding(16, 11), {'x': ids}),
        'AlibiPositionalBias.forward': (alibi, {'i': 3, 'j': 4}),
        'RelativePositionBias.forward': (t5, {'i': 3, 'j': 4}),
        'DynamicPositionBias.forward': (dynamic, {'i': 3, 'j': 4}),
        'RelativePositionBias.forward_custom_pos': (t5.forward_custom_pos, {'pos_i': torch.arange(4), 'pos_j': torch.arange(4)}),
        'AlibiPositionalBias.forward_custom_pos': (alibi.forward_custom_pos, {'pos_i': torch.arange(4), 'pos_j': torch.arange(4)}),
        'RotaryEmbedding.forward': (rotary, {'t': torch.arange(4)}),
        'RotaryEmbedding.forward_from_seq_len': (rotary.forward_from_seq_len, {'seq_len': 4}),
        'CoPE.forward': (old.CoPE(8, 2, 4), {'query': q, 'attn_logits': torch.randn(2, 2, 4, 4), 'allowed': LEFT_OUT}),
        'DataDependentAlibi.forward': (old.DataDependentAlibi(16, 2), {'x': x}),
        'PerRowDataDependentAlibi.forward': (old.PerRowDataDependentAlibi(16, 2), {'x': x}),
        'apply_rotary_pos_emb': (old.apply_rotary_pos_emb, {'t': q, 'freqs': angles, 'scale': 1.0}),
        'rotate_half': (old.rotate_half, {'x': q}),
        'dropout_seq': (old.dropout_seq, {'seq': x, 'mask': tokens_mask, 'dropout': 0.5}),
        'calc_entropy': (old.calc_entropy, {'t': q}),
        'calc_z_loss': (old.calc_z_loss, {'pre_softmax_attns': [q], 'mask': LEFT_OUT, 'weight': 1.0}),
        'softclamp': (old.softclamp, {'t': q, 'value': 2.0}),
        'l2norm': (old.l2norm, {'t': q, 'groups': 2}),
    }


# ------------------------------------------------------------------------------------------------ one call


def cases(target: Target) -> list[tuple[str, str, Any]]:
    """(argument, what is wrong with it, the value) of a target."""
    return [(name, kind, value) for name, good in target[1].items() for kind, value in wrong(good, not allocates(name))]


def allocates(name: str) -> bool:
    """Whether a huge number would be taken at its word: that much memory, or that many turns of a loop."""
    bare = name.split('attn_')[-1].removeprefix('ff_').removeprefix('enc_').removeprefix('dec_')
    return bare in SIZES or any(part in name for part in ('num_', 'dim', 'depth', 'steps'))


def outcome(target: Target, name: str | None, value: Any) -> Exception | None:
    """What a call raises with one argument in another form."""
    fn, keywords = target
    given = {key: (dict(good) if isinstance(good, Mapping) else good) for key, good in keywords.items() if good is not LEFT_OUT}
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            fn(**{**given, **({} if name is None else {name: value})})
    except Exception as error:
        return error
    return None


def is_ours(error: Exception) -> bool:
    """One sentence of ours, or Python's own about keywords that a function does not have."""
    if isinstance(error, OURS):
        return '\n' not in str(error) and len(str(error)) < 600
    return type(error) is TypeError and any(words in str(error) for words in ('unexpected keyword argument',
    'required positional argument'))


def is_known(target: str, argument: str, kind: str, error: Exception) -> bool:
    """What is not ours to say: an error inside a function of the user's own, and what torch says of the precision and the place of
    a part alone. Every layer of a stack would have to ask for these; the stack asks once."""
    if argument in ('filter_logits_fn', 'draft') and kind == 'a function':
        return True
    words = ('dtype', 'scalar type', 'device')
    return target in parts() and kind in ('doubles', 'half precision', 'a meta tensor') and any(word in str(error) for word in words)
