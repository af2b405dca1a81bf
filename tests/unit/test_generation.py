"""Generation: ends, shapes, streams, seeds, ragged prompts and windows that slide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.training.autoregressive import forgetful_mask

VOCABULARY, LENGTH = 13, 16


def model(max_seq_len: int = LENGTH, pad_value: int = 0, wrapper: dict[str, Any] | None = None, **flags: Any) -> AutoregressiveWrapper:
    torch.manual_seed(0)
    stack = Decoder(**{'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8, **flags})
    net = TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=max_seq_len, attn_layers=stack, **(wrapper or {}))
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return AutoregressiveWrapper(net.double(), pad_value=pad_value)


PROMPT = torch.randint(0, VOCABULARY, (2, 3), generator=torch.Generator().manual_seed(1))


def by_hand(made: AutoregressiveWrapper, prompt: Tensor, steps: int) -> Tensor:
    """The most probable continuation, with the whole window run for every token."""
    out = prompt
    for _ in range(steps):
        window = out[:, -made.net.max_seq_len :] if made.net.max_seq_len else out
        out = torch.cat((out, made.net.eval()(window)[:, -1:].argmax(dim=-1)), dim=1)
    return out[:, prompt.shape[1] :]


@pytest.mark.parametrize('flags', [{}, {'rotary_pos_emb': True}, {'attn_kv_heads': 1, 'shift_tokens': 1}, {'resi_dual': True}])
@pytest.mark.parametrize('cache_kv', [True, False])
def test_greedy_generation_is_argmax_of_the_whole_each_time(flags: dict[str, Any], cache_kv: bool) -> None:
    made = model(**flags)
    assert torch.equal(made.generate(PROMPT, 8, temperature=0.0, cache_kv=cache_kv), by_hand(made, PROMPT, 8))


def test_a_stream_is_generation_token_by_token() -> None:
    made = model(rotary_pos_emb=True)
    whole = made.generate(PROMPT, 6, generator=torch.Generator().manual_seed(3))
    pieces = list(made.stream(PROMPT, 6, generator=torch.Generator().manual_seed(3)))
    assert len(pieces) == 6 and pieces[0].shape == (2,)
    assert torch.equal(torch.stack(pieces, dim=-1), whole)


def test_a_generator_decides_everything_and_the_global_one_is_left_alone() -> None:
    made = model(rotary_pos_emb=True)
    draw = lambda seed: made.generate(PROMPT, 8, temperature=2.0, generator=torch.Generator().manual_seed(seed))
    before = torch.random.get_rng_state()
    assert torch.equal(draw(5), draw(5)) and not torch.equal(draw(5), draw(6))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_prompts_of_one_and_three_axes_keep_their_axes() -> None:
    made = model(rotary_pos_emb=True)
    rows = made.generate(PROMPT, 4, temperature=0.0)
    assert torch.equal(made.generate(PROMPT[0], 4, temperature=0.0), rows[0])
    stacked = torch.stack((PROMPT, PROMPT.flip(0)))
    assert torch.equal(made.generate(stacked, 4, temperature=0.0), torch.stack((rows, rows.flip(0))))


def test_no_token_asked_for_is_no_token_given() -> None:
    assert model().generate(PROMPT, 0).shape == (2, 0)
    assert model().generate(PROMPT[0], 0, eos_token=1).shape == (0,)


def test_what_follows_an_end_is_padding_and_the_end_of_all_ends_early() -> None:
    made = model(rotary_pos_emb=True, pad_value=11)
    free = made.generate(PROMPT, 8, temperature=0.0)
    end = int(free[0, 2])
    if bool((end == PROMPT).any()):
        pytest.fail('choose another prompt: its end token must not stand in it')
    stopped = made.generate(PROMPT, 8, temperature=0.0, eos_token=end)
    for row, plain in zip(stopped.tolist(), free.tolist()):
        upto = plain.index(end) + 1 if end in plain else 8
        assert row == (plain[:upto] + [11] * 8)[: stopped.shape[1]]
    single = made.generate(PROMPT[:1], 8, temperature=0.0, eos_token=end)
    assert single.shape == (1, free[0].tolist().index(end) + 1)


def test_a_prompt_that_has_ended_is_not_continued() -> None:
    out = model(rotary_pos_emb=True, pad_value=11).generate(torch.tensor([[1, 12], [1, 2]]), 4, temperature=0.0, eos_token=12)
    assert out[0].tolist() == [11] * out.shape[1]


@pytest.mark.parametrize('cache_kv', [True, False])
@pytest.mark.parametrize(
    'flags, wrapper',
    [({'rotary_pos_emb': True}, {}), ({}, {}), ({}, {'num_memory_tokens': 2}), ({'rel_pos_bias': True, 'shift_tokens': 1}, {})],
)
def test_a_ragged_prompt_continues_as_it_would_alone(flags: dict[str, Any], wrapper: dict[str, Any], cache_kv: bool) -> None:
    made = model(wrapper=wrapper, **flags)
    lens = torch.tensor([3, 1])
    together = made.generate(PROMPT, 5, temperature=0.0, prompt_lens=lens, cache_kv=cache_kv)
    alone = [made.generate(row[:n], 5, temperature=0.0) for row, n in zip(PROMPT, lens)]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize('flags', [{'rotary_pos_emb': True}, {'alibi_pos_bias': True, 'disable_abs_pos_emb': True}, {'rel_pos_bias': True}])
def test_a_window_slides_beyond_max_seq_len(flags: dict[str, Any]) -> None:
    shallow = model(max_seq_len=6, depth=1, **flags)  # with one layer, kept keys hold nothing of tokens that have left
    assert torch.equal(shallow.generate(PROMPT, 14, temperature=0.0), by_hand(shallow, PROMPT, 14))
    deep = model(max_seq_len=6, **flags)
    assert torch.equal(deep.generate(PROMPT, 14, temperature=0.0, cache_kv=False), by_hand(deep, PROMPT, 14))
    assert deep.generate(PROMPT, 150, temperature=0.0).shape == (2, 150)


def test_a_window_that_need_not_slide_does_not() -> None:
    made = model(max_seq_len=4, rotary_pos_emb=True)
    free = model(max_seq_len=0, rotary_pos_emb=True)
    assert torch.equal(made.generate(PROMPT, 8, temperature=0.0, restrict_to_max_seq_len=False), free.generate(PROMPT, 8, temperature=0.0))


def test_generating_puts_every_module_back_in_its_own_mode() -> None:
    made = model(rotary_pos_emb=True, attn_dropout=0.1).train()
    made.net.token_emb.eval()
    made.generate(PROMPT, 2)
    assert made.training and made.net.attn_layers.training and not made.net.token_emb.training


def test_an_amateur_equal_to_the_expert_changes_no_choice() -> None:
    made = model(rotary_pos_emb=True)
    assert torch.equal(made.generate(PROMPT, 5, temperature=0.0, amateur_model=made), made.generate(PROMPT, 5, temperature=0.0))


def test_the_loss_is_the_mean_surprise_of_the_next_token() -> None:
    made = model(rotary_pos_emb=True)
    x = torch.randint(0, VOCABULARY, (2, 7))
    surprise = -made.net(x[:, :-1]).log_softmax(dim=-1).gather(-1, x[:, 1:, None])
    torch.testing.assert_close(made(x), surprise.mean())
    x[0, 4:] = made.ignore_index
    inputs = x[:, :-1].masked_fill(x[:, :-1] == made.ignore_index, 0)
    surprise = -made.net(inputs).log_softmax(dim=-1).gather(-1, x[:, 1:, None].clamp(min=0))[..., 0]
    torch.testing.assert_close(made(x), surprise[x[:, 1:] != made.ignore_index].mean())


def test_a_forgetful_mask_hides_its_share_and_never_the_first_token() -> None:
    inputs = torch.zeros(50, 19, dtype=torch.long)
    mask = forgetful_mask(20, inputs, 0.3)
    assert bool((mask.sum(dim=-1) == 19 - 6).all()) and bool(mask[:, 0].all())
