"""Packed rows: documents one behind the other, of which none sees another (2107.02027).

A document is a run of equal ids. What layers need to know of a token is where its document begins (`first_tokens`): tokens of one
document share it, and positions count from it. Tokens with a negative id are padding: each is a document of its own, which no loss
asks about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.errors import DecodeError, InputError
from x_transformers.inputs import askable, expect

WHAT = 'it holds the number of the document that each token belongs to, negative for padding'
AT_THE_START = {  # inputs that a row of one document begins with, and the way out
    'seq_start_pos': 'give padding a negative id, wherever it stands',
    'mems': 'run documents that have memories one per row',
    'return_mems': 'run documents that have memories one per row',
    'prefix_attn_len': 'say by attn_mask what all tokens of a document see',
    'prepend_embeds': 'put them among the tokens by sum_embeds',
}


def starts(ids: Tensor) -> Tensor:
    """(b, n) bool: tokens that begin a document."""
    return F.pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True) | (ids < 0)


def first_tokens(ids: Tensor) -> Tensor:
    """(b, n): the place in the row of the first token of each one's document."""
    place = torch.arange(ids.shape[1], device=ids.device)
    return torch.where(starts(ids), place, 0).cummax(dim=1).values


def places(ids: Tensor) -> Tensor:
    """(b, n): how many tokens of its document stand before each one."""
    return torch.arange(ids.shape[1], device=ids.device) - first_tokens(ids)


def first_tokens_of(ids: Tensor, wanted: Tensor) -> Tensor:
    """(b, c): the place in the row of the first token of each wanted document (b, c); -1 where there is no such document."""
    same = wanted[:, :, None] == ids[:, None, :]
    return torch.where(same.any(dim=-1), same.long().argmax(dim=-1), -1)


def followed(ids: Tensor) -> Tensor:
    """(b, n - 1) bool: tokens behind which stands another of their document."""
    return ~starts(ids)[:, 1:]


def expect_documents(name: str, ids: Any, shape: tuple[int, ...]) -> None:
    """`ids` must be whole numbers of this shape, each one, where they may be asked about, in one run of its row."""
    expect(name, ids, shape, 'int', WHAT)
    if not askable(ids):
        return
    runs, distinct = ((starts(t) & (t >= 0)).sum(dim=1) for t in (ids, ids.sort(dim=1).values))
    torn = (runs != distinct).nonzero()
    if len(torn):
        row = int(torn[0])
        raise InputError(
            f'{name} has {int(distinct[row])} documents in {int(runs[row])} runs in row {row}: an id comes back behind another document; '
            'the tokens of a document stand together, and another document has another id'
        )


def refuse_beside(given: Mapping[str, Any]) -> None:
    """What belongs to the start of a row says nothing of the documents behind the first."""
    for name, way_out in AT_THE_START.items():
        if given.get(name) is not None and given[name] is not False:
            raise InputError(f'document_ids cannot be combined with {name}, which concerns the start of a row alone; {way_out}')


def refuse_to_go_on(ids: Any, *ways: Any) -> None:
    """A packed row has no one sequence that a state could be of."""
    if ids is not None and any(way is not None and way is not False for way in ways):
        raise DecodeError(
            'document_ids cannot be combined with state, cache and return_state: a row of several documents has no one end to go on '
            'from. Decode one sequence per row.'
        )
