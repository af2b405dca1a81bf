"""What a generation starts from, and whether what was asked for is possible: all of it is checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from x_transformers.errors import InputError
from x_transformers.inputs import expect


@dataclass(frozen=True)
class Prompts:
    """Prompts as rows of one length, moved to the right where they are ragged."""

    tokens: Tensor  # (b, t) ids
    start: Tensor | None  # (b,) padding in front of each, where they are ragged
    leading: torch.Size  # the axes that were flattened into b

    def ended(self, eos_token: int) -> Tensor:
        """(b,) bool: rows that hold the end token; padding in front holds none, whatever fills it."""
        found = self.tokens == eos_token
        if self.start is not None:
            found = found & (torch.arange(self.tokens.shape[1], device=self.tokens.device) >= self.start[:, None])
        return found.any(dim=-1)


def read_prompts(prompts: Tensor, prompt_lens: Tensor | None = None) -> Prompts:
    """ids (t,), (b, t) or (..., t) and the length of each, as rows."""
    if not isinstance(prompts, Tensor):
        raise InputError(f'prompts is a {type(prompts).__name__}, expected a tensor of token ids (t,) or (b, t)')
    if prompts.is_floating_point() or prompts.dtype == torch.bool or prompts.ndim == 0:
        raise InputError(f'prompts must be token ids (t,) or (b, t), got shape {tuple(prompts.shape)} of {prompts.dtype}')
    if prompts.numel() == 0:
        raise InputError(f'prompts has shape {tuple(prompts.shape)}: give at least one token to start from')
    rows = prompts.reshape(-1, prompts.shape[-1]).long()
    if prompt_lens is None:
        return Prompts(rows, None, prompts.shape[:-1])
    expect('prompt_lens', prompt_lens, (len(rows),), 'int', 'the length of each prompt')
    return Prompts(align_right(rows, prompt_lens), rows.shape[1] - prompt_lens, prompts.shape[:-1])


def check_generation(seq_len: Any, temperature: Any = 0.0, eos_token: Any = None) -> None:
    """Numbers that a generation takes."""
    if eos_token is not None and (not isinstance(eos_token, int) or isinstance(eos_token, bool)):
        raise InputError(f'eos_token={eos_token!r} is not possible; expected the id of a token')
    if not isinstance(seq_len, int) or isinstance(seq_len, bool) or seq_len < 0:
        raise InputError(f'seq_len={seq_len!r} is not possible; expected the number of tokens to generate')
    if not isinstance(temperature, (int, float)) or not 0 <= temperature < float('inf'):
        raise InputError(f'temperature={temperature!r} is not possible; expected a number: 0 (the most probable token) or more')


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
