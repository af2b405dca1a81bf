"""What a model remembers of tokens that stand ahead of many prompts: it is computed once, and any number of batches go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from x_transformers.decoding.prompts import Prompts
from x_transformers.decoding.sources import FIRST_ONLY, rows_of
from x_transformers.errors import InputError, quoted
from x_transformers.inputs import expect_place
from x_transformers.state import StackState


@dataclass(frozen=True)
class Prefix:
    """Tokens and the state behind them, of the model's weights as they were; no use of it changes it."""

    tokens: Tensor  # (b, p) ids; one row is that of any batch
    state: StackState
    inputs: Mapping[str, Any]  # what the model was given beside
    net: Any = field(repr=False)

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    def rows(self, b: int) -> Prefix:
        """For b prompts."""
        if len(self.tokens) == b:
            return self
        index = torch.zeros(b, dtype=torch.long, device=self.tokens.device)
        return replace(self, tokens=self.tokens[index], state=self.state.reorder(index), inputs=rows_of(dict(self.inputs), index, 1))

    def ahead_of(self, prompts: Prompts) -> Prompts:
        """The prompts (b, t) behind it: (b, p + t), padding in front of both."""
        both = torch.cat((self.tokens, prompts.tokens), dim=1)
        if prompts.start is not None:
            p, to = self.length, prompts.start[:, None]
            place = torch.arange(both.shape[1], device=both.device) - to  # where each comes from, but for what is left of the prompts
            both = both.gather(1, torch.where(place < p, place.clamp(min=0), place + to)).masked_fill(place < 0, 0)
        return replace(prompts, tokens=both)


def check_prefix(prefix: Any, net: Any, prompts: Prompts, inputs: Mapping[str, Any], window: int) -> None:
    """Whether the model can go on from it with these prompts."""
    if not isinstance(prefix, Prefix):
        raise InputError(f'prefix={quoted(prefix)} is not possible; expected what remember(prompts) of this model returned')
    if prefix.net is not net:
        raise InputError('prefix is of another model: what one remembers says nothing to another; call remember of this one')
    expect_place({'prefix': prefix.tokens}, prompts.tokens, 'prompts')
    b, t = prompts.tokens.shape
    if len(prefix.tokens) not in (1, b):
        raise InputError(
            f'prefix has {len(prefix.tokens)} rows and prompts {b}; remember one row, for all prompts, or one for each of them'
        )
    if window and prefix.length + t > window:
        raise InputError(
            f'prefix has {prefix.length} tokens and prompts {t}, which goes beyond max_seq_len={window}, so that its first tokens would '
            'be forgotten; shorten them, or set restrict_to_max_seq_len=False'
        )
    for name, value in inputs.items():
        if value is not None and (name in FIRST_ONLY or name in prefix.inputs):
            raise InputError(f'{name} cannot be combined with prefix, which goes ahead of the prompts; give it to remember')


def without_first(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with later tokens too."""
    return {name: value for name, value in inputs.items() if name not in FIRST_ONLY}
