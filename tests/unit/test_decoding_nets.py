"""What generation takes over from a model: its left padding, the keywords of its head, a forward or hooks of one's own."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from x_transformers import (
    AutoregressiveWrapper,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    TransformerWrapper,
    XLAutoregressiveWrapper,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)
from x_transformers.errors import InputError

PROMPT = torch.randint(0, 13, (2, 4), generator=torch.Generator().manual_seed(1))
LENS = torch.tensor([4, 2])
PADDED, START = torch.stack((PROMPT[0], torch.cat((torch.zeros(2).long(), PROMPT[1, :2])))), 4 - LENS
STACK = {'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8, 'rotary_pos_emb': True}


def filled(net: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return net.double().eval()


def tokens(kind: type = TransformerWrapper, **flags: Any) -> Any:
    return filled(kind(**{'num_tokens': 13, 'max_seq_len': 12, 'attn_layers': Decoder(**STACK), **flags}))


def vectors(kind: type = ContinuousTransformerWrapper, **flags: Any) -> Any:
    return filled(kind(**{'dim_in': 3, 'dim_out': 3, 'max_seq_len': 6, 'attn_layers': Decoder(**STACK), **flags}))


def numbers(kind: type = XValTransformerWrapper) -> Any:
    return filled(kind(num_tokens=13, numerical_token_id=3, max_seq_len=6, attn_layers=Decoder(**STACK)))


@pytest.mark.parametrize('cache_kv', [True, False])
@pytest.mark.parametrize('max_seq_len', [12, 6])
def test_left_padding_is_that_of_ragged_prompts(cache_kv: bool, max_seq_len: int) -> None:
    made = AutoregressiveWrapper(tokens(max_seq_len=max_seq_len, attn_layers=Decoder(**{**STACK, 'depth': 1})))
    ragged = made.generate(PROMPT, 7, temperature=0.0, prompt_lens=LENS)
    assert torch.equal(made.generate(PADDED, 7, temperature=0.0, seq_start_pos=START, cache_kv=cache_kv), ragged)
    assert not torch.equal(made.generate(PADDED, 7, temperature=0.0), ragged)
    beams = [made.beam_search(PROMPT, 4, prompt_lens=LENS), made.beam_search(PADDED, 4, seq_start_pos=START, cache_kv=cache_kv)]
    assert torch.equal(beams[0].sequences, beams[1].sequences)


@pytest.mark.parametrize('cache_kv', [True, False])
def test_left_padding_stays_within_one_segment(cache_kv: bool) -> None:
    net = tokens(max_mem_len=12)
    made, plain = XLAutoregressiveWrapper(net), AutoregressiveWrapper(net)
    wanted = plain.generate(PROMPT, 9, temperature=0.0, prompt_lens=LENS)
    assert torch.equal(made.generate(PADDED, 9, temperature=0.0, seq_start_pos=START, cache_kv=cache_kv), wanted)
    with pytest.raises(InputError, match='beyond one segment'):
        made.generate(PADDED, 10, seq_start_pos=START)


def test_left_padding_and_lengths_exclude_each_other_and_something_must_be_left() -> None:
    made = AutoregressiveWrapper(tokens())
    with pytest.raises(InputError, match='prompt_lens and seq_start_pos were both given'):
        made.generate(PROMPT, 2, prompt_lens=LENS, seq_start_pos=START)
    with pytest.raises(InputError, match='mask cannot be combined with prompt_lens or seq_start_pos'):
        made.generate(PROMPT, 2, mask=PROMPT > 3, seq_start_pos=START)
    with pytest.raises(InputError, match=r'seq_start_pos=\[0, 4\] is not possible'):
        made.generate(PROMPT, 2, seq_start_pos=torch.tensor([0, 4]))


@pytest.mark.parametrize('cache_kv', [True, False])
def test_left_padding_moves_with_the_window_of_vectors(cache_kv: bool) -> None:
    made, start = ContinuousAutoregressiveWrapper(vectors()), torch.randn(2, 4, 3, dtype=torch.float64)
    together = made.generate(start, 8, seq_start_pos=START, cache_kv=cache_kv)
    whole = made.generate(start[:1], 8)
    assert torch.allclose(together[:1], whole)
    out = start
    for _ in range(8):
        window, dropped = out[:, -6:], max(out.shape[1] - 6, 0)
        out = torch.cat((out, made.net(window, seq_start_pos=(START - dropped).clamp(min=0))[:, -1:]), dim=1)
    assert torch.allclose(together, out[:, 4:])


@pytest.mark.parametrize('cache_kv', [True, False])
def test_left_padding_moves_with_the_window_of_numbers(cache_kv: bool) -> None:
    made, numeric = XValAutoregressiveWrapper(numbers()), torch.randn(2, 4, dtype=torch.float64)
    together = made.generate(PADDED, numeric, 8, temperature=0.0, seq_start_pos=START, cache_kv=cache_kv)
    ids, read = PADDED, numeric
    for _ in range(8):
        start = (START - max(ids.shape[1] - 6, 0)).clamp(min=0)
        logits, number = made.net(ids[:, -6:], read[:, -6:], seq_start_pos=start)
        ids, read = torch.cat((ids, logits[:, -1:].argmax(-1)), 1), torch.cat((read, number[:, -1:]), 1)
    assert torch.equal(together.sampled_token_ids, ids[:, 4:])


@pytest.mark.parametrize('cache_kv', [True, False])
def test_a_mask_of_vectors_is_that_of_the_prompts(cache_kv: bool) -> None:
    made, start = ContinuousAutoregressiveWrapper(vectors()), torch.randn(2, 4, 3, dtype=torch.float64)
    there = torch.arange(4) >= START[:, None]
    masked = made.generate(start, 6, mask=there, cache_kv=cache_kv)
    assert torch.allclose(masked[0], made.generate(start[0], 6)) and not torch.allclose(masked[1], made.generate(start[1], 6))
    assert torch.allclose(masked, made.generate(start, 6, mask=there, cache_kv=not cache_kv))


class Scaled(nn.Module):
    """A head that reads a sequence, and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(16, 13)

    def forward(self, x: Tensor, sign: float = 1.0) -> Tensor:
        b, n, d = x.shape
        return sign * self.proj(x.reshape(b * n, d)).view(b, n, -1)


def test_a_head_reads_a_sequence_and_its_keywords() -> None:
    made = AutoregressiveWrapper(tokens(to_logits=Scaled()))
    least = made.generate(PROMPT, 6, temperature=0.0, to_logits_kwargs={'sign': -1.0})
    assert torch.equal(least, made.generate(PROMPT, 6, temperature=0.0, to_logits_kwargs={'sign': -1.0}, cache_kv=False))
    assert not torch.equal(least, made.generate(PROMPT, 6, temperature=0.0))


class Turned(TransformerWrapper):
    """A forward as people write it around 2.0.1, which turns the logits around."""

    def forward(self, x: Tensor, return_intermediates: bool = False, cache: Any = None, seq_start_pos: Any = None, **kwargs: Any) -> Any:
        logits, seen = super().forward(x, return_intermediates=True, cache=cache, seq_start_pos=seq_start_pos, **kwargs)
        return (-logits, seen) if return_intermediates else -logits


class Talkative(Turned):
    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        return super().forward(x, return_intermediates=True, **kwargs)


def by_hand(net: Any, out: Tensor, steps: int) -> Tensor:
    """The least probable continuation."""
    n = out.shape[1]
    for _ in range(steps):
        out = torch.cat((out, net(out)[:, -1:].argmin(-1)), dim=1)
    return out[:, n:]


@pytest.mark.parametrize('kind', [Turned, Talkative])
def test_a_model_decodes_by_the_forward_of_a_subclass(kind: type) -> None:
    wanted = by_hand(tokens(), PROMPT, 6)
    made = AutoregressiveWrapper(tokens(kind))
    assert torch.equal(made.generate(PROMPT, 6, temperature=0.0), wanted)
    assert torch.equal(made.beam_search(PROMPT, 6, num_beams=1).sequences[:, 0], wanted)
    if kind is Turned:
        assert torch.equal(XLAutoregressiveWrapper(tokens(kind)).generate(PROMPT, 6, temperature=0.0), wanted)


def test_a_model_decodes_with_its_hooks_and_with_a_forward_put_on_it() -> None:
    hooked, patched = tokens(), tokens()
    handle = hooked.register_forward_hook(lambda net, args, out: -out)
    ours = patched.forward
    patched.forward = lambda x, **given: -ours(x, **given)
    for net in (hooked, patched):
        assert torch.equal(AutoregressiveWrapper(net).generate(PROMPT, 6, temperature=0.0), by_hand(tokens(), PROMPT, 6))
    handle.remove()
    assert torch.equal(*(AutoregressiveWrapper(net).generate(PROMPT, 6, temperature=0.0) for net in (hooked, tokens())))


class Doubled(ContinuousTransformerWrapper):
    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        return 2 * super().forward(x, **kwargs)


class Reversed(XValTransformerWrapper):
    def forward(self, x: Tensor, x_num: Tensor, **kwargs: Any) -> Any:
        logits, number = super().forward(x, x_num, **kwargs)
        return -logits, number


def test_vectors_and_numbers_roll_out_by_the_forward_of_a_subclass() -> None:
    start = torch.randn(2, 4, 3, dtype=torch.float64)
    net = vectors(Doubled)
    assert torch.allclose(ContinuousAutoregressiveWrapper(net).generate(start, 1)[:, 0], net(start)[:, -1])
    paired, read = numbers(Reversed), torch.randn(2, 4, dtype=torch.float64)
    made = XValAutoregressiveWrapper(paired).generate(PROMPT, read, 1, temperature=0.0)
    assert torch.equal(made.sampled_token_ids, numbers()(PROMPT, read)[0][:, -1:].argmin(-1))


def test_generation_shows_the_options_of_its_stream() -> None:
    options = [inspect.signature(each).parameters for each in (AutoregressiveWrapper.generate, AutoregressiveWrapper.stream)]
    assert list(options[0].values()) == list(options[1].values())


def test_numbers_of_any_library_are_numbers() -> None:
    made = AutoregressiveWrapper(tokens())
    plain = made.generate(PROMPT, 5, eos_token=3, temperature=0.5, generator=torch.Generator().manual_seed(2))
    for end in (np.int64(3), torch.tensor(3)):
        drawn = made.generate(PROMPT, np.int64(5), end, torch.tensor(0.5), generator=torch.Generator().manual_seed(2))
        assert torch.equal(drawn, plain)
    found, same = (made.beam_search(PROMPT, length, eos_token=end) for length, end in ((5, 3), (np.int64(5), torch.tensor(3))))
    assert torch.equal(found.sequences, same.sequences)
