"""From a request to its tokens: all that is asked for is checked, then a source, a way to advance and the loop are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.decoding.beam import Beams, beam_search, check_beam
from x_transformers.decoding.callables import processors_of, stops_of, surrounded
from x_transformers.decoding.companions import check_draft, contrasts
from x_transformers.decoding.generate import Advance, Ends, OneByOne, tokens
from x_transformers.decoding.nets import check_generator, check_given
from x_transformers.decoding.prefix import Prefix, check_prefix, without_first
from x_transformers.decoding.prompts import Prompts, check_copies, check_end, check_generation, check_lasting, read_prompts
from x_transformers.decoding.request import Request
from x_transformers.decoding.sampling import Choice, chosen_filter
from x_transformers.decoding.sources import SLACK, Contrast, Refeeder, Stepper, Way, ahead, why_not_step
from x_transformers.decoding.speculative import Drafter, FunctionDrafter, ModelDrafter, Speculative
from x_transformers.errors import DecodeError, InputError
from x_transformers.inputs import expect
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding
from x_transformers.toolbox import evaluating, identity


@dataclass(frozen=True)
class Task:
    """What the models of one generation work on."""

    net: Any
    prompts: Prompts  # those of the prefix included
    inputs: dict[str, Any]  # what models are given beside
    seq_len: int
    slides: bool
    may_end: bool
    way: Way
    prefix: Prefix | None

    @classmethod
    def of(cls, net: Any, ask: Request, seq_len: int, may_end: bool, way: Way, taker: Callable[..., Any]) -> Task:
        prompts, inputs, prefix = read_prompts(ask.prompts, ask.prompt_lens, ask.seq_start_pos), dict(ask.inputs), ask.prefix
        check_given(inputs, net, taker, taker.__name__)
        check_generator(net)
        check_end(ask.eos_token, net)
        check_lasting(inputs, seq_len)
        check_mask(inputs.get('mask'), prompts)
        slides = bool(ask.restrict_to_max_seq_len)
        if prefix is not None:
            check_prefix(prefix, net, prompts, inputs, net.max_seq_len if slides else 0)
            prefix = prefix.rows(len(prompts.tokens))
            prompts, inputs = prefix.ahead_of(prompts), {**prefix.inputs, **inputs}
        return cls(net, prompts, inputs, seq_len, slides, may_end, way, prefix)

    def window(self, *nets: Any) -> int:
        """How many tokens can be seen by ours and these; 0 never slides."""
        lengths = [length for length in (self.net.max_seq_len, *(net.max_seq_len for net in nets)) if length]
        return min(lengths) if self.slides and lengths else 0

    def source(self, net: Any) -> Stepper | Refeeder:
        """How a model, ours or one beside it, decodes behind the prompts: what it sees is never longer than what ours sees."""
        check_generator(net)
        prompt, window = self.prompts.tokens.shape[1], self.window(net)
        total, table = prompt + self.seq_len, getattr(net, 'pos_emb', None)
        if not window and isinstance(table, AbsolutePositionalEmbedding) and total - 1 > table.max_seq_len:
            raise DecodeError(
                f'restrict_to_max_seq_len=False with a prompt of {prompt} tokens and seq_len={self.seq_len} goes beyond '
                f'max_seq_len={table.max_seq_len}, for which absolute positions were made; shorten them, or leave it out'
            )
        if not self.way.cache_kv or why_not_step(net):
            return Refeeder(net, window, self.inputs)
        over = window and total - 1 > window and not net.can_cache_kv_outside_max_seq_len
        if over and (prompt > window or not self.may_end):  # an end may come in time
            raise DecodeError(
                f'a prompt of {prompt} tokens with seq_len={self.seq_len} goes beyond max_seq_len={window}, where keys that were kept '
                'cannot slide along (absolute positions, memory tokens); shorten them, use cache_kv=False, or build the model without these'
            )
        capacity = window + SLACK if 0 < window < total else total
        capacity += -capacity % SLACK if self.way.compile else 0  # sizes that come back find their graphs
        if self.prefix is not None and net is self.net:
            return Stepper(net, window, without_first(self.inputs), self.way, self.prefix.state, self.prefix.length, capacity)
        return Stepper(net, window, self.inputs, self.way, net.empty_state(capacity=capacity + ahead(self.inputs)))


def generated(owner: nn.Module, net: Any, ask: Request, taker: Callable[..., Any]) -> tuple[torch.Size, Iterator[tuple[Tensor, Tensor]]]:
    """The axes of its rows; and the tokens (b,), with what had ended before them (b,), by `net` of a wrapper."""
    seq_len, temperature, eos_token = check_generation(ask.seq_len, ask.temperature, ask.eos_token, ask.generator, **ask.switches)
    way = Way.checked(ask.cache_kv, ask.compile, ask.prefill_chunk)
    choose = Choice(temperature, chosen_filter(ask.filter_logits_fn, ask.filter_kwargs), ask.generator)
    processors, ends = processors_of(ask.logits_processors), Ends(eos_token, stops_of(ask.stopping_criteria))
    copies, most = check_copies(ask.num_return_sequences), check_draft(ask.draft, ask.draft_tokens, net, way)
    task = Task.of(net, ask, seq_len, ends.possible, replace(way, recall=0 if ask.draft is None else min(most, seq_len)), taker)
    options = contrasts(net, ask.amateur_model, ask.contrastive_decode_kwargs)

    source: Any = task.source(net)
    if ask.draft is not None and isinstance(source, Refeeder):
        raise DecodeError(f'draft needs a model that goes on from earlier tokens, but {why_not_step(net)}; leave it out')
    if ask.amateur_model:
        source, choose = Contrast(source, [task.source(each) for each in ask.amateur_model], options), replace(choose, keep=identity)
    around = partial(surrounded, processors=processors, copies=copies)
    advance: Advance = OneByOne(around(source), choose)
    drafting = [ask.draft] if isinstance(ask.draft, nn.Module) else []
    if ask.draft is not None:
        drafter: Drafter = ModelDrafter(around(task.source(ask.draft)), choose) if drafting else FunctionDrafter(ask.draft)
        advance = Speculative(around(source), drafter, choose, most, task.window(*drafting))
    prompts = task.prompts.repeated(copies)
    return prompts.leading, tokens(advance, prompts, seq_len, ends, (owner, *ask.amateur_model, *drafting))


def searched(owner: nn.Module, net: Any, ask: Request, taker: Callable[..., Any], pad_value: int) -> Beams:
    """The best sequences that a beam finds, by `net` of a wrapper."""
    seq_len, _, eos_token = check_generation(ask.seq_len, eos_token=ask.eos_token, **ask.switches)
    way, processors = Way.checked(ask.cache_kv, ask.compile, ask.prefill_chunk), processors_of(ask.logits_processors)
    task = Task.of(net, ask, seq_len, eos_token is not None, way, taker)
    count = 1 if ask.num_return_sequences is None else ask.num_return_sequences
    check_beam(ask.num_beams, count, ask.length_penalty, seq_len, eos_token, getattr(net, 'num_logits', None))
    source = surrounded(task.source(net), processors)
    with evaluating(owner):
        found = beam_search(source, task.prompts, seq_len, int(ask.num_beams), eos_token, float(ask.length_penalty), pad_value)
    best = [t[:, : int(count)] for t in found]
    return Beams(*(t.reshape(*task.prompts.leading, *t.shape[1:]) for t in best))


def remembered(
    owner: nn.Module, net: Any, ids: Tensor, way: Way, before: Prefix | None, given: dict[str, Any], taker: Callable[..., Any]
) -> Prefix:
    """What `net` of a wrapper remembers of these ids and those before."""
    prompts = read_prompts(ids)
    check_given(given, net, taker, taker.__name__)
    check_generator(net)
    check_lasting(given, 2)
    if given.get('mask') is not None:
        raise InputError('mask cannot be given to remember: rows of a prefix have one length; leave out the tokens that are not there')
    if reason := why_not_step(net):
        raise DecodeError(f'remember needs a model that goes on from earlier tokens, but {reason}')
    if before is None:
        stepper = Stepper(net, 0, given, way, net.empty_state())
    else:
        check_prefix(before, net, prompts, given, 0)
        before = before.rows(len(prompts.tokens))
        prompts, given = before.ahead_of(prompts), {**before.inputs, **given}
        stepper = Stepper(net, 0, without_first(given), way, before.state, before.length)
    with evaluating(owner):
        stepper.logits(prompts.tokens, None)
    return Prefix(prompts.tokens, stepper.state, given, net)


def check_mask(mask: Any, prompts: Prompts) -> None:
    """A mask says which tokens of the prompts are there."""
    if mask is None:
        return
    if prompts.start is not None:
        raise InputError(
            'mask cannot be combined with prompt_lens or seq_start_pos: all say which tokens of the prompts are there. Keep one.'
        )
    expect('mask', mask, tuple(prompts.tokens.shape), 'bool', 'it has the shape of the prompts')
