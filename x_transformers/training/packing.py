"""Sequences of any length packed in rows of one length (2107.02027): what a model takes as `x` and `document_ids`.

>>> from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
>>> net = TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
>>> rows = pack([torch.randint(0, 256, (n,)) for n in (30, 50, 9, 20)], length=64)
>>> rows.ids.shape
torch.Size([2, 64])
>>> loss = AutoregressiveWrapper(net)(rows.ids, document_ids=rows.document_ids)
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers.errors import InputError, quoted
from x_transformers.inputs import askable, expect, whole


class Packed(NamedTuple):
    """Rows of documents."""

    ids: Tensor  # (b, length) tokens
    document_ids: Tensor  # (b, length) the number of the sequence that each is of, -1 for padding


def pack(sequences: Sequence[Any], length: int, pad_value: int = 0) -> Packed:
    """Sequences of token ids (n,), the longest first, each into the fullest row that has room for it."""
    size, tokens = row_length(length), [tokens_of(f'sequences[{at}]', given) for at, given in enumerate(listed(sequences))]
    if not is_id(pad_value):
        raise InputError(f'pad_value={quoted(pad_value)} is not possible; expected the token that stands where there is none')
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # how many tokens still fit, and the row, in order
    for number in sorted(range(len(tokens)), key=lambda number: -len(tokens[number])):
        own = len(tokens[number])
        if own > size:
            raise InputError(f'sequences[{number}] has {own} tokens, and length={size}; cut it in pieces, or make rows longer')
        at = bisect_left(rooms, (own, -1))
        room, row = rooms.pop(at) if at < len(rooms) else (size, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(number)
        insort(rooms, (room - own, row))
    filled = lambda parts, value: F.pad(torch.cat(parts), (0, size - sum(map(len, parts))), value=value)
    return Packed(
        torch.stack([filled([tokens[number] for number in row], whole(pad_value)) for row in rows]),
        torch.stack([filled([torch.full_like(tokens[number], number) for number in row], -1) for row in rows]),
    )


def row_length(length: Any) -> int:
    size = whole(length)
    if size is None or not 1 <= size < 2**63:
        raise InputError(f'length={quoted(length)} is not possible; expected how many tokens a row has, at least 1')
    return size


def listed(sequences: Any) -> Sequence[Any]:
    if isinstance(sequences, (list, tuple)) and sequences:
        return sequences
    raise InputError(f'sequences={quoted(sequences)} is not possible; expected a list of sequences of token ids')


def tokens_of(name: str, given: Any) -> Tensor:
    """A sequence as long ids (n,)."""
    if isinstance(given, (list, tuple)) and all(map(is_id, given)):
        given = torch.tensor([whole(token) for token in given], dtype=torch.long)
    expect(name, given, (None,), 'int', 'a sequence is a tensor (n,) or a list of token ids')
    if not len(given):
        raise InputError(f'{name} has no tokens; leave it out')
    return given.long()


def is_id(token: Any) -> bool:
    return whole(token) is not None and -(2**63) <= whole(token) < 2**63


def ids_from_cu_seqlens(cu_seqlens: Tensor, length: int) -> Tensor:
    """Where documents begin, and where the last one ends, (k + 1,) from 0 -> (1, length) their numbers, -1 behind the last.

    >>> ids_from_cu_seqlens(torch.tensor([0, 3, 5]), length=6)
    tensor([[ 0,  0,  0,  1,  1, -1]])
    """
    expect('cu_seqlens', cu_seqlens, (None,), 'int', 'it holds where each document begins, and where the last one ends')
    size = row_length(length)
    if len(cu_seqlens) < 2 or askable(cu_seqlens) and (cu_seqlens[0] != 0 or cu_seqlens[-1] > size or bool((cu_seqlens.diff() < 0).any())):
        raise InputError(f'cu_seqlens={quoted(cu_seqlens)} is not possible; expected numbers that grow from 0 to length={size} at most')
    ends = cu_seqlens[1:].long().contiguous()
    number = torch.bucketize(torch.arange(size, device=ends.device), ends, right=True)
    return torch.where(number < len(ends), number, -1)[None]


def ids_from_lengths(lengths: Sequence[Sequence[int]], length: int) -> Tensor:
    """The lengths of each row's documents -> (b, length) their numbers, -1 behind the last.

    >>> ids_from_lengths([[3, 2], [4]], length=5)
    tensor([[ 0,  0,  0,  1,  1],
            [ 0,  0,  0,  0, -1]])
    """
    rows = lengths if isinstance(lengths, (list, tuple)) else []
    right = lambda row: isinstance(row, (list, tuple)) and row and all(0 < (whole(n) or 0) < 2**31 for n in row)
    if not rows or not all(map(right, rows)):
        raise InputError(f'lengths={quoted(lengths)} is not possible; expected for each row a list of the lengths of its documents')
    longest = max(sum(row) for row in rows)
    if row_length(length) < longest:
        raise InputError(f'lengths has a row of {longest} tokens, and length={quoted(length)}; make rows longer')
    return torch.cat([ids_from_cu_seqlens(torch.tensor([0, *row]).cumsum(0), length) for row in rows])
