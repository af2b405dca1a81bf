"""Generation: ends, shapes, streams, seeds, ragged prompts and windows that slide."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.autoregressive_wrapper import eval_decorator, exists, top_k
from x_transformers.errors import InputError
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


@pytest.mark.parametrize('flags', [{}, {'rotary_pos_emb': True}])
def test_what_stands_ahead_of_the_tokens_takes_no_room_in_the_window(flags: dict[str, Any]) -> None:
    made = model(max_seq_len=8, wrapper={'num_memory_tokens': 2}, **flags)
    assert torch.equal(made.generate(PROMPT, 6, temperature=0.0), by_hand(made, PROMPT, 6))
    made, ahead = model(max_seq_len=8, **flags), torch.randn(2, 3, 16, dtype=torch.float64)
    whole = made.generate(PROMPT, 6, temperature=0.0, prepend_embeds=ahead, cache_kv=False)
    assert torch.equal(made.generate(PROMPT, 6, temperature=0.0, prepend_embeds=ahead), whole)


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


def contrasted(expert: Tensor, amateur: Tensor, alpha: float, beta: float) -> int:
    """Equations 2 and 3 of 2309.09117 for one row (v,), token by token: the best of what the expert finds plausible."""
    plausible = [token for token in range(VOCABULARY) if expert.softmax(-1)[token] >= alpha * expert.softmax(-1).max()]
    return max(plausible, key=lambda token: float((1 + beta) * expert[token] - beta * amateur[token]))


@pytest.mark.parametrize('cache_kv', [True, False])
@pytest.mark.parametrize('max_seq_len', [16, 5])
@pytest.mark.parametrize('wrapped', [True, False])
def test_contrastive_decoding_is_the_formula_each_time(cache_kv: bool, max_seq_len: int, wrapped: bool) -> None:
    made, amateur = (model(max_seq_len=max_seq_len, depth=1, rotary_pos_emb=True, heads=heads).requires_grad_(False) for heads in (2, 4))
    options, out = {'alpha': 0.3, 'beta': 1.5}, PROMPT
    made.eval(), amateur.train()
    for _ in range(7):
        window = out[:, -max_seq_len:]
        chosen = [contrasted(a, b, **options) for a, b in zip(made.net(window)[:, -1], amateur.net(window)[:, -1])]
        out = torch.cat((out, torch.tensor(chosen)[:, None]), dim=1)
    given: Any = amateur if wrapped else [amateur.net]
    got = made.generate(PROMPT, 7, temperature=0.0, amateur_model=given, contrastive_decode_kwargs=options, cache_kv=cache_kv)
    assert torch.equal(got, out[:, 3:])
    assert amateur.training and amateur.net.training and not torch.equal(got, made.generate(PROMPT, 7, temperature=0.0))


def test_an_amateur_equal_to_the_expert_changes_no_choice() -> None:
    made = model(rotary_pos_emb=True)
    plain = made.generate(PROMPT, 5, temperature=0.0)
    assert torch.equal(made.generate(PROMPT, 5, temperature=0.0, amateur_model=made), plain)
    twice = made.generate(PROMPT, 5, temperature=0.0, amateur_model=(made, made.net), contrastive_decode_kwargs=({}, {'beta': 1.0}))
    assert torch.equal(twice, plain)


def test_a_stream_says_what_is_wrong_when_it_is_called() -> None:
    with pytest.raises(InputError, match='seq_len=-1'):
        model().stream(PROMPT, -1)
    with pytest.raises(InputError, match="'top_q' is unknown; did you mean 'top_"):
        model().stream(PROMPT, 1, filter_logits_fn='top_q')


def test_a_stream_that_is_paused_leaves_the_model_in_its_mode() -> None:
    made = model(rotary_pos_emb=True).train()
    stream = made.stream(PROMPT, 3)
    next(stream)
    assert made.training and made.net.training and torch.is_grad_enabled()


@pytest.mark.parametrize('length', [0, 1, 2])
def test_a_window_of_none_one_or_two_is_the_same_kept_or_fed_anew(length: int) -> None:
    made = model(max_seq_len=length, depth=1, rotary_pos_emb=True)
    assert torch.equal(made.generate(PROMPT, 9, temperature=0.0), by_hand(made, PROMPT, 9))
    assert torch.equal(made.generate(PROMPT, 9, temperature=0.0, cache_kv=False), by_hand(made, PROMPT, 9))


@pytest.mark.parametrize('cache_kv', [True, False])
def test_a_mask_hides_tokens_of_the_prompts(cache_kv: bool) -> None:
    made, mask = model(alibi_pos_bias=True, disable_abs_pos_emb=True), torch.tensor([[True, True, True], [False, False, True]])
    masked = made.generate(PROMPT, 5, temperature=0.0, mask=mask, cache_kv=cache_kv)
    assert torch.equal(masked[1], made.generate(PROMPT[1, 2:], 5, temperature=0.0))
    assert torch.equal(masked[0], made.generate(PROMPT[0], 5, temperature=0.0))


@pytest.mark.parametrize('cache_kv', [True, False])
def test_embeddings_ahead_are_seen_at_every_step(cache_kv: bool) -> None:
    made, ahead = model(rotary_pos_emb=True), torch.randn(2, 2, 16, dtype=torch.float64)
    out = PROMPT
    for _ in range(6):
        out = torch.cat((out, made.net.eval()(out, prepend_embeds=ahead)[:, -1:].argmax(dim=-1)), dim=1)
    assert torch.equal(made.generate(PROMPT, 6, temperature=0.0, prepend_embeds=ahead, cache_kv=cache_kv), out[:, 3:])


def test_an_encoder_fills_its_window_anew_for_every_token() -> None:
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=LENGTH, attn_layers=Encoder(dim=16, depth=1, heads=2))
    made = AutoregressiveWrapper(net)
    assert torch.equal(made.generate(PROMPT, 4, temperature=0.0), by_hand(made, PROMPT, 4))


def test_generating_after_an_error_leaves_every_mode_as_it_was() -> None:
    made = model(rotary_pos_emb=True).train()
    with pytest.raises(ZeroDivisionError):
        made.generate(PROMPT, 3, filter_logits_fn=lambda logits: 1 / 0)
    assert all(part.training for part in made.modules())


class Scribe(AutoregressiveWrapper):
    """A subclass as people write them around 2.0.1: it steps the model by hand, with what the module path brings."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)

    @torch.no_grad()
    @eval_decorator
    def generate(self, start_tokens: Tensor, seq_len: int, eos_token: int | None = None, temperature: float = 1.0, **kwargs: Any) -> Tensor:
        out, t = start_tokens, start_tokens.shape[1]
        for _ in range(seq_len):
            logits = self.net(out[:, -self.max_seq_len :], **kwargs)[:, -1, :]
            probs = torch.softmax(top_k(logits, k=1) / temperature, dim=-1)
            out = torch.cat((out, torch.multinomial(probs, 1)), dim=-1)
            if exists(eos_token) and bool((torch.cumsum(out == eos_token, 1)[:, -1] >= 1).all()):
                break
        return out[:, t:]


def test_a_subclass_may_bring_its_own_generation() -> None:
    plain = model(rotary_pos_emb=True, dim=16)
    scribe = Scribe(plain.net, -100, 11)
    assert (scribe.ignore_index, scribe.pad_value, scribe.mask_prob) == (-100, 11, 0.0)
    assert torch.equal(scribe.generate(PROMPT, 6), plain.generate(PROMPT, 6, temperature=0.0))
    assert torch.equal(torch.stack(list(scribe.stream(PROMPT, 6, temperature=0.0)), dim=-1), scribe.generate(PROMPT, 6))


def test_arguments_may_stand_in_the_order_of_2_0_1() -> None:
    made = model(rotary_pos_emb=True)
    lens = torch.tensor([3, 2])
    assert torch.equal(made.generate(PROMPT, 6, 12, 0.0, lens), made.generate(PROMPT, 6, eos_token=12, temperature=0.0, prompt_lens=lens))
    built = AutoregressiveWrapper(made.net, -1, 2, 0.25, True)
    assert (built.ignore_index, built.pad_value, built.mask_prob, built.add_attn_z_loss) == (-1, 2, 0.25, True)


@pytest.mark.parametrize('name', ['generate', 'stream', 'beam_search'])
def test_help_shows_every_argument_with_its_sentence(name: str) -> None:
    method = getattr(AutoregressiveWrapper, name)
    shown, said = inspect.signature(method).parameters, inspect.getdoc(method)
    assert {'prompts', 'seq_len', 'eos_token', 'prefix', 'logits_processors', 'inputs'} <= shown.keys()
    assert said is not None and all(f'\n{argument}: ' in said for argument in shown if argument != 'self')
    with pytest.raises(TypeError, match="missing a required argument: 'prompts'"):
        getattr(model(), name)()
    with pytest.raises(TypeError, match='too many positional arguments'):
        getattr(model(), name)(PROMPT, *[None] * 20)


def test_the_z_loss_is_added_with_its_weight() -> None:
    plain = model(rotary_pos_emb=True)
    x = torch.randint(0, VOCABULARY, (2, 7))
    _, seen = plain.net(x[:, :-1], return_attn_z_loss=True, attn_z_loss_weight=1.0)
    weighed = AutoregressiveWrapper(plain.net, add_attn_z_loss=True)
    assert torch.allclose(weighed(x), plain(x) + 1e-4 * seen.attn_z_loss)
    assert torch.allclose(weighed(x, attn_z_loss_weight=0.5), plain(x) + 0.5 * seen.attn_z_loss)
    loss, (logits, cache) = weighed(x, return_outputs=True)
    assert torch.equal(loss, weighed(x)) and logits.shape == (2, 6, VOCABULARY) and cache.attn_z_loss is not None


def test_embeddings_ahead_are_not_scored_and_nothing_to_predict_costs_nothing() -> None:
    made, ahead = model(rotary_pos_emb=True), torch.randn(2, 3, 16, dtype=torch.float64)
    x = torch.randint(0, VOCABULARY, (2, 7))
    logits = made.net(x[:, :-1], prepend_embeds=ahead)[:, 3:]
    surprise = -logits.log_softmax(dim=-1).gather(-1, x[:, 1:, None])
    assert torch.allclose(made(x, prepend_embeds=ahead), surprise.mean())
    assert made(torch.full((1, 3), made.ignore_index)).item() == 0


@pytest.mark.parametrize('inputs', [{}, {'mems': True}, {'prepend_embeds': True}])
def test_forgetting_goes_with_memory_tokens_memories_and_embeddings_ahead(inputs: dict[str, Any]) -> None:
    made = AutoregressiveWrapper(model(rotary_pos_emb=True, wrapper={'num_memory_tokens': 2}).net, mask_prob=0.4)
    rows = torch.randn(2, 3, 16, dtype=torch.float64)
    given: dict[str, Any] = {name: [rows, rows] if name == 'mems' else rows for name in inputs}
    made(torch.randint(0, VOCABULARY, (2, 7)), **given).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


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
