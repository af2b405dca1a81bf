"""What a generation starts from, and whether what was asked for is possible: all of it is checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from x_transformers.errors import InputError, quoted
from x_transformers.inputs import expect, expect_place, expect_switch, real, whole
from x_transformers.models.ask import BY_TOKEN
from x_transformers.state import tensors


@dataclass(frozen=True)
class Prompts:
    """Prompts as rows of one length, moved to the right where they are ragged."""

    tokens: Tensor  # (b, t) ids
    start: Tensor | None  # (b,) padding in front of each, where there is some
    leading: torch.Size  # the axes that were flattened into b

    def ended(self, eos_token: int) -> Tensor:
        """(b,) bool: rows that hold the end token; padding in front holds none, whatever fills it."""
        found = self.tokens == eos_token
        if self.start is not None:
            found = found & (torch.arange(self.tokens.shape[1], device=self.tokens.device) >= self.start[:, None])
        return found.any(dim=-1)

    def repeated(self, copies: int | None) -> Prompts:
        """Each so many times, on an axis of their own; None: as they are."""
        if copies is None:
            return self
        start = None if self.start is None else self.start.repeat_interleave(copies, dim=0)
        return Prompts(self.tokens.repeat_interleave(copies, dim=0), start, torch.Size((*self.leading, copies)))


def read_prompts(prompts: Tensor, prompt_lens: Tensor | None = None, seq_start_pos: Tensor | None = None) -> Prompts:
    """ids (t,), (b, t) or (..., t) as rows, with the length of each, or how much padding stands in front of each already."""
    if not isinstance(prompts, Tensor):
        raise InputError(f'prompts is a {type(prompts).__name__}, expected a tensor of token ids (t,) or (b, t)')
    if prompts.is_floating_point() or prompts.dtype == torch.bool or prompts.ndim == 0:
        raise InputError(f'prompts must be token ids (t,) or (b, t), got shape {tuple(prompts.shape)} of {prompts.dtype}')
    if prompts.numel() == 0:
        raise InputError(f'prompts has shape {tuple(prompts.shape)}: give at least one token to start from')
    expect_place({'prompt_lens': prompt_lens, 'seq_start_pos': seq_start_pos}, prompts, 'prompts')
    rows = prompts.reshape(-1, prompts.shape[-1]).long()
    if seq_start_pos is not None:
        if prompt_lens is not None:
            raise InputError(
                'prompt_lens and seq_start_pos were both given: one pads the prompts, the other says how they are padded. Keep one.'
            )
        check_start('seq_start_pos', seq_start_pos, len(rows), rows.shape[1])
        return Prompts(rows, seq_start_pos, prompts.shape[:-1])
    if prompt_lens is None:
        return Prompts(rows, None, prompts.shape[:-1])
    expect('prompt_lens', prompt_lens, (len(rows),), 'int', 'the length of each prompt')
    return Prompts(align_right(rows, prompt_lens), rows.shape[1] - prompt_lens, prompts.shape[:-1])


def check_start(name: str, start: Any, b: int, n: int) -> None:
    """Left padding (b,) of rows of n entries, which leaves at least one of each."""
    expect(name, start, (b,), 'int', 'it is the number of padding tokens in front of each prompt')
    if int(start.min()) < 0 or int(start.max()) >= n:
        raise InputError(f'{name}={start.tolist()} is not possible: expected 0 to {n - 1}, so that something is left of prompts {n} long')


def check_padding(given: Mapping[str, Any], b: int, n: int) -> None:
    """What says which of the n entries of b prompts are there, among other inputs: a mask or left padding."""
    mask, start = given.get('mask'), given.get('seq_start_pos')
    if mask is not None and start is not None:
        raise InputError('mask and seq_start_pos were both given, and both say which entries of the prompts are there. Keep one.')
    if mask is not None:
        expect('mask', mask, (b, n), 'bool', 'it has the shape of the prompts')
    if start is not None:
        check_start('seq_start_pos', start, b, n)


def check_generation(
    seq_len: Any, temperature: Any = 0.0, eos_token: Any = None, generator: Any = None, **switches: Any
) -> tuple[int, float, int | None]:
    """What every generation takes; the numbers as numbers of Python."""
    count, heat, end = whole(seq_len), real(temperature), whole(eos_token)
    if eos_token is not None and (end is None or not abs(end) < 2**63):
        raise InputError(f'eos_token={quoted(eos_token)} is not possible; expected the id of a token')
    if count is None or count < 0:
        raise InputError(f'seq_len={quoted(seq_len)} is not possible; expected the number of tokens to generate')
    if heat is None or not 0 <= heat < float('inf'):
        raise InputError(f'temperature={quoted(temperature)} is not possible; expected a number: 0 (the most probable token) or more')
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError(f'generator={quoted(generator)} is not possible; expected a torch.Generator, or None for that of torch')
    for name, value in switches.items():
        expect_switch(name, value)
    return count, heat, end


def check_end(eos_token: int | None, net: Any) -> None:
    """Whether a row can end by it: an id that the model never makes would say nothing."""
    vocabulary = getattr(net, 'num_logits', None)  # None: a head of one's own
    if eos_token is not None and vocabulary is not None and not 0 <= eos_token < vocabulary:
        raise InputError(f'eos_token={eos_token} is no token of the vocabulary, which has {vocabulary}; expected 0 to {vocabulary - 1}')


def check_copies(count: Any) -> int | None:
    """How many sequences each prompt gets; None: one, without an axis for them."""
    copies = whole(count)
    if count is not None and (copies is None or copies < 1):
        raise InputError(f'num_return_sequences={quoted(count)} is not possible; expected a number of at least 1')
    return copies


LASTING = {  # inputs by token, and the axis of the tokens
    'embed_ids': -1, 'sum_embeds': -2, 'pos': -1, 'self_attn_kv_mask': -1, 'attn_mask': -1, 'attn_bias': -1, 'condition': -2,
    'in_attn_cond': -2,
}  # fmt: skip


def check_lasting(given: Mapping[str, Any], seq_len: int) -> None:
    """What has an entry for each token of the prompts says nothing of the tokens that follow; what is the same for all does."""
    embeds = given.get('prepend_embeds')
    if embeds is not None:
        expect('prepend_embeds', embeds, (None, None, None), 'float', 'they go ahead of the tokens, as wide as embeddings')
    for name, axis in LASTING.items() if seq_len > 1 else ():
        for t in tensors(given.get(name)):
            axis = -2 if name == 'pos' and t.is_floating_point() else axis
            if t.ndim > (2 if name in BY_TOKEN else -axis - 1) and t.shape[axis] > 1:
                raise InputError(
                    f'{name} has shape {tuple(t.shape)}, an entry for each token of the prompts, and seq_len={seq_len} makes tokens that '
                    'it says nothing of; leave it out, or go on token by token with the state of the model'
                )


def align_right(t: Tensor, lens: Tensor, pad_id: int = 0) -> Tensor:
    """Ragged rows (b, n) of the given lengths (b,), moved to the right, padding in front.

    >>> align_right(torch.tensor([[1, 2, 3]]), torch.tensor([2]))
    tensor([[0, 1, 2]])
    """
    b, n = t.shape
    if lens.ndim != 1 or lens.shape[0] != b:
        raise InputError(f'prompt_lens has shape {tuple(lens.shape)}, expected ({b},), the length of each prompt')
    if int(lens.max()) > n or int(lens.min()) < 1:
        raise InputError(f'prompt_lens={lens.tolist()} is not possible: expected lengths from 1 to {n}, the width of the prompts')
    source = torch.arange(n, device=t.device) - (n - lens)[:, None]
    return t.gather(1, source.clamp(min=0)).masked_fill(source < 0, pad_id)
