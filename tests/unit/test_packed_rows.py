"""Packed rows: where documents begin, masks that are made once, windows that stay blocks, and sequences that are put into rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.attention import windowed
from x_transformers.attention.masks import KeyRule
from x_transformers.documents import first_tokens, first_tokens_of, followed, places, starts
from x_transformers.training.autoregressive import forgetful_mask
from x_transformers.training.packing import ids_from_cu_seqlens, ids_from_lengths, pack

IDS = torch.tensor([[3, 3, 0, 0, 0, -1, 4, -1, -1]])


def test_a_document_is_a_run_of_equal_ids_and_padding_stands_alone() -> None:
    assert first_tokens(IDS).tolist() == [[0, 0, 2, 2, 2, 5, 6, 7, 8]]
    assert places(IDS).tolist() == [[0, 1, 0, 1, 2, 0, 0, 0, 0]]
    assert followed(IDS).tolist() == [[True, False, True, True, False, False, False, False]]
    assert first_tokens_of(IDS, torch.tensor([[0, 4, 7, 3]])).tolist() == [[2, 6, -1, 0]]


def documents(lengths: list[int], n: int) -> list[slice]:
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    assert ends[-1] <= n
    return [slice(a, b) for a, b in pairwise(ends)]


@pytest.mark.parametrize('flags', [
    {'rotary_pos_emb': True, 'attn_num_mem_kv': 2},
    {'alibi_pos_bias': True, 'attn_flash': False},
    {'attn_data_dependent_alibi': True, 'attn_add_zero_kv': True},
], ids=str)  # fmt: skip
def test_windows_of_packed_rows_are_blocks_that_know_their_documents(flags: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(windowed, 'SMALLEST', 4)
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, attn_max_attend_past=5, **flags).double()
    lengths, n = [3, 17, 1, 9, 4, 22], 60
    ids, x = ids_from_lengths([lengths, [30, 29]], n), torch.randn(2, n, 16, dtype=torch.float64, requires_grad=True)
    met = []
    monkeypatch.setattr(windowed.InBlocks, 'run', lambda *args, run=windowed.InBlocks.run: met.append(args) or run(*args))
    packed = stack(x, document_ids=ids)
    assert len(met) == 2
    for row, each in enumerate((lengths, [30, 29])):
        for own in documents(each, n):
            alone = stack(x[row : row + 1, own])
            torch.testing.assert_close(packed[row : row + 1, own], alone, rtol=1e-10, atol=1e-10)
            one, other = (torch.autograd.grad(t.square().sum(), x, retain_graph=True)[0] for t in (packed[row, own], alone))
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_mask_of_documents_is_made_once_for_all_layers(monkeypatch: Any) -> None:
    made = []
    together = KeyRule.together
    monkeypatch.setattr(KeyRule, 'together', staticmethod(lambda *spans: made.append(spans) or together(*spans)))
    for flags in ({}, {'attn_flash': False}, {'rel_pos_bias': True}):
        made.clear()
        Decoder(dim=16, depth=5, heads=2, attn_dim_head=8, **flags)(torch.randn(2, 9, 16), document_ids=IDS.expand(2, -1))
        assert len(made) == 1


def test_a_row_may_be_longer_than_the_table_of_positions() -> None:
    net = TransformerWrapper(num_tokens=9, max_seq_len=5, attn_layers=Decoder(dim=16, depth=1, heads=2)).double()
    x, ids = torch.arange(12)[None] % 9, ids_from_lengths([[5, 4]], 12)
    torch.testing.assert_close(net(x, document_ids=ids)[:, 5:9], net(x[:, 5:9]))


def test_the_z_loss_of_scores_is_the_mean_over_all_tokens_but_padding() -> None:
    net = TransformerWrapper(num_tokens=9, max_seq_len=16, attn_layers=Decoder(dim=16, depth=2, heads=2)).double()
    x, z_loss = torch.arange(9)[None], lambda x, **given: net(x, return_attn_z_loss=True, **given)[1].attn_z_loss
    alone = sum(z_loss(x[:, own]) * (own.stop - own.start) for own in documents([2, 3], 9)) / 5
    torch.testing.assert_close(z_loss(x, document_ids=ids_from_lengths([[2, 3]], 9)), alone)


def test_the_last_token_of_a_document_learns_nothing_of_the_next() -> None:
    model = AutoregressiveWrapper(TransformerWrapper(num_tokens=9, max_seq_len=16, attn_layers=Decoder(dim=16, depth=1, heads=2)))
    ids, x = ids_from_lengths([[3, 4]], 8), torch.tensor([[1, 2, 3, 4, 5, 6, 7, 0]])
    loss, (logits, _) = model(x, return_outputs=True, document_ids=ids)
    (grad,) = torch.autograd.grad(loss, logits)
    assert (grad.abs().sum(dim=-1) > 0).tolist() == [[True, True, False, True, True, True, False]]


def test_a_forgetful_mask_hides_its_share_and_no_first_token_of_a_document() -> None:
    ids = ids_from_lengths([[4, 6, 10], [9, 8]], 20)
    mask = forgetful_mask(20, torch.zeros(2, 20, dtype=torch.long), 0.7, ids)
    assert (~mask).sum(dim=-1).tolist() == [14, 14]
    assert mask[starts(ids)].all()


# ---------------------------------------------------------------------- packing


@pytest.mark.parametrize('length, lengths', [(10, [3, 7, 5, 5, 9, 1]), (8, [8, 8]), (7, [1] * 20), (64, list(range(1, 65)))])
def test_packed_rows_hold_every_sequence_once_and_are_few(length: int, lengths: list[int]) -> None:
    sequences = [torch.randint(1, 100, (n,)) for n in lengths]
    rows = pack(sequences, length)
    assert rows.ids.shape == rows.document_ids.shape and rows.ids.shape[1] == length
    assert all(torch.equal(rows.ids[rows.document_ids == at], sequence) for at, sequence in enumerate(sequences))
    assert (rows.ids[rows.document_ids < 0] == 0).all()
    assert len(rows.ids) <= -(-sum(lengths) // length) + 1


def test_packing_takes_lists_and_fills_with_what_it_is_told() -> None:
    rows = pack([[1, 2], (3,), torch.tensor([4, 5, 6], dtype=torch.int32)], 5, pad_value=9)
    assert rows.ids.tolist() == [[4, 5, 6, 1, 2], [3, 9, 9, 9, 9]]
    assert rows.document_ids.tolist() == [[2, 2, 2, 0, 0], [1, -1, -1, -1, -1]]


def test_numbers_of_documents_from_where_they_begin() -> None:
    begin = torch.tensor([0, 2, 2, 5], dtype=torch.int32)
    assert ids_from_cu_seqlens(begin, 6).tolist() == [[0, 0, 2, 2, 2, -1]]
    assert torch.equal(ids_from_lengths([[2, 3], [6]], 6), torch.tensor([[0, 0, 1, 1, 1, -1], [0] * 6]))


def naive_loss(model: AutoregressiveWrapper, sequences: list[Tensor]) -> Tensor:
    """The mean over all tokens that are predicted, sequence by sequence."""
    return sum(model(s[None]) * (len(s) - 1) for s in sequences) / sum(len(s) - 1 for s in sequences)  # type: ignore[return-value]


def test_a_packed_batch_trains_as_its_sequences_do_one_by_one() -> None:
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=30, max_seq_len=16, attn_layers=Decoder(dim=16, depth=2, heads=2, rotary_pos_emb=True))
    model, sequences = AutoregressiveWrapper(net).double(), [torch.randint(0, 30, (n,)) for n in (5, 16, 2, 9, 7, 3)]
    rows = pack(sequences, 16)
    losses = (model(rows.ids, document_ids=rows.document_ids), naive_loss(model, sequences))
    for one, other in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in losses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
