"""What stands around a layer stack: memory tokens, tied logits, losses and entropies."""

from __future__ import annotations

import copy

import pytest
import torch

from x_transformers import Decoder, TransformerWrapper
from x_transformers.models.heads import TiedLogits, calc_entropy, calc_z_loss
from x_transformers.models.memory_tokens import prepend, strip, unweave, weave


@pytest.mark.parametrize('start', [None, [0, 0], [0, 3], [2, 4]])
def test_memory_tokens_come_off_again_as_they_were_put_on(start: list[int] | None) -> None:
    memory, x = torch.randn(3, 4), torch.randn(2, 5, 4)
    at = None if start is None else torch.tensor(start)
    joined = prepend(memory[None], x, at)
    assert joined.shape == (2, 8, 4)
    taken, rest = strip(joined, 3, at)
    assert torch.equal(taken, memory.expand(2, -1, -1)) and torch.equal(rest, x)


def test_memory_tokens_stand_between_padding_and_text() -> None:
    memory, x = torch.full((2, 1), 7.0), torch.arange(4.0).view(1, 4, 1)
    assert prepend(memory[None], x, torch.tensor([3])).flatten().tolist() == [0.0, 1.0, 2.0, 7.0, 7.0, 3.0]


@pytest.mark.parametrize('n', [1, 4, 7, 8])
def test_memory_woven_between_blocks_comes_off_again(n: int) -> None:
    memory, x = torch.randn(1, 2, 3), torch.randn(2, n, 3)
    woven = weave(memory, x, 4)
    blocks = -(-n // 4)
    assert woven.shape == (2, n + 2 * blocks, 3)
    assert torch.equal(woven[:, :2], memory.expand(2, -1, -1))
    taken, rest = unweave(woven, 2, 4)
    assert torch.equal(taken, memory.expand(2 * blocks, -1, -1)) and torch.equal(rest, x)


def test_the_z_loss_is_the_mean_square_of_summed_log_partition_functions() -> None:
    layers = [torch.randn(2, 3, 4, 5, dtype=torch.float64) for _ in range(2)]
    by_hand = sum(
        sum(layer[b, h, i].exp().sum().log() for layer in layers) ** 2 for b in range(2) for h in range(3) for i in range(4)
    ) / (2 * 4)  # fmt: skip
    torch.testing.assert_close(calc_z_loss(layers), by_hand)
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    per_query = torch.stack(layers).logsumexp(dim=-1).sum(dim=0).square().sum(dim=1)
    torch.testing.assert_close(calc_z_loss(layers, mask=mask, weight=0.5), per_query[mask].mean() * 0.5)


def test_entropy_is_that_of_the_distribution() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(calc_entropy(logits), expected)
    torch.testing.assert_close(calc_entropy(logits.softmax(dim=-1), is_prob=True), expected)
    assert calc_entropy(torch.tensor([[1.0, 0.0]]), is_prob=True).item() == 0.0


def test_tied_logits_follow_the_table_of_their_own_model() -> None:
    model = TransformerWrapper(num_tokens=7, max_seq_len=8, tie_embedding=True, attn_layers=Decoder(dim=16, depth=1, heads=2))
    twin = copy.deepcopy(model)
    assert isinstance(model.to_logits, TiedLogits) and not list(model.to_logits.parameters())
    assert model.to_logits(torch.ones(16)).shape == (7,)
    x = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(twin(x), model(x))
    with torch.no_grad():
        twin.token_emb.emb.weight.zero_()
    assert not twin(x).any() and model(x).any()


def test_long_memories_keep_their_latest_rows() -> None:
    stack = Decoder(dim=16, depth=2, heads=2, rotary_pos_emb=True)
    model = TransformerWrapper(num_tokens=7, max_seq_len=8, max_mem_len=3, attn_layers=stack)
    x = torch.randint(0, 7, (2, 4))
    _, mems = model(x, return_mems=True)
    _, later = model(x, mems=mems, return_mems=True)
    _, seen = model(x, mems=mems, return_intermediates=True)
    assert [tuple(m.shape) for m in mems + later] == [(2, 3, 16)] * 4
    for memory, hidden in zip(later, seen.hiddens):
        torch.testing.assert_close(memory, hidden[:, -3:].detach())
        assert not memory.requires_grad


def test_what_is_watched_changes_no_logit() -> None:
    model = TransformerWrapper(num_tokens=7, max_seq_len=8, attn_layers=Decoder(dim=16, depth=1, heads=2)).double().eval()
    x = torch.randint(0, 7, (2, 5))
    logits = model(x)
    for watch in ('return_intermediates', 'return_attn', 'return_mems', 'return_attn_z_loss', 'return_logit_entropies', 'return_state'):
        torch.testing.assert_close(model(x, **{watch: True})[0], logits)
    both, embeds = model(x, return_logits_and_embeddings=True)
    torch.testing.assert_close(both, logits)
    torch.testing.assert_close(model.to_logits(embeds), logits)
    _, maps = model(x, return_attn=True)
    torch.testing.assert_close(maps[0].sum(dim=-1), torch.ones(2, 2, 5, dtype=torch.float64))
