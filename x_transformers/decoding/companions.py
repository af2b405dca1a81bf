"""Models beside the one that generates: amateurs that it decodes against, drafts that propose tokens to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from x_transformers.decoding.sources import Way
from x_transformers.errors import InputError, quoted
from x_transformers.inputs import real, whole


def contrasts(expert: Any, amateurs: Sequence[Any], options: Any) -> list[dict[str, Any]]:
    """The keywords of the contrast with each amateur."""
    each: Sequence[dict[str, Any]] = options if isinstance(options, (tuple, list)) else [{} if options is None else options] * len(amateurs)
    if len(each) != len(amateurs):
        raise InputError(f'contrastive_decode_kwargs has {len(each)} entries for {len(amateurs)} amateur models; give one each')
    for net, given in zip(amateurs, each):
        check_companion('amateur_model', net, expert)
        check_contrast(given)
    return list(each)


def check_companion(name: str, net: Any, ours: Any) -> None:
    """A model beside ours must be one over the same tokens."""
    if not isinstance(net, nn.Module):
        raise InputError(f'{name}={quoted(net)} is no model; expected one over the same tokens{WAYS[name]}')
    if not isinstance(getattr(net, 'max_seq_len', None), int):
        raise InputError(f'{name}={type(net).__name__} has no max_seq_len; expected a model over tokens, such as TransformerWrapper')
    mine, theirs = getattr(ours, 'num_logits', None), getattr(net, 'num_logits', None)
    if None not in (mine, theirs) and mine != theirs:
        raise InputError(f'{name} has logits for {theirs} tokens and the model for {mine}; give one with the same vocabulary')


WAYS = {'amateur_model': ', or several', 'draft': ', or a function (tokens so far, count) -> ids (b, count)'}


def check_contrast(options: Any) -> None:
    """The keywords of a contrast."""
    if not isinstance(options, Mapping):
        raise InputError(
            f'contrastive_decode_kwargs={quoted(options)} is not possible; expected a dict with alpha and beta, or one for each'
        )
    unknown = sorted(options.keys() - {'alpha', 'beta'})
    if unknown:
        raise InputError(f'contrastive_decode_kwargs holds {unknown[0]!r}; expected alpha and beta')
    alpha, beta = real(options.get('alpha', 0.1)), real(options.get('beta', 0.5))
    if alpha is None or not 0 < alpha <= 1:
        raise InputError(f'contrastive_decode_kwargs has alpha={quoted(options["alpha"])}; expected a share above 0 and at most 1')
    if beta is None or not abs(beta) < float('inf'):
        raise InputError(f'contrastive_decode_kwargs has beta={quoted(options["beta"])}; expected a number')


def check_draft(draft: Any, count: Any, ours: Any, way: Way) -> int:
    """Whether it can propose tokens to our model; how many at a time."""
    proposed = whole(count)
    if proposed is None or proposed < 1:
        raise InputError(f'draft_tokens={quoted(count)} is not possible; expected how many tokens to propose at a time, at least 1')
    if draft is None:
        return proposed
    if isinstance(draft, nn.Module) or not callable(draft):
        check_companion('draft', draft, ours)
    if not way.cache_kv:
        raise InputError('draft needs cache_kv=True: what it proposes is checked by one call that goes on from a state. Keep one')
    if way.compile:
        raise InputError('compile=True cannot be combined with draft: calls of the model have other lengths each time. Keep one')
    return proposed
