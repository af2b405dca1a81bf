"""The loss of predicted tokens, and what is asked of the tokens it is computed from."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.decoding.nets import logits_of
from x_transformers.errors import FlagError, InputError
from x_transformers.inputs import askable, expect


def shifted(x: Tensor, ignore_index: int, pad_value: int, num_logits: int | None, who: str) -> tuple[Tensor, Tensor]:
    """Ids (b, n + 1) -> inputs (b, n), where what does not count becomes padding, and the targets (b, n) that follow them."""
    expect('x', x, (None, None), 'int', f'{who} takes token ids (batch, length)')
    if x.shape[0] == 0 or x.shape[1] < 2:
        raise InputError(f'x has shape {tuple(x.shape)}: predicting the next token needs a row of at least two tokens')
    inputs, targets = x[:, :-1].long(), x[:, 1:].long()
    check_targets(targets, ignore_index, num_logits)
    return torch.where(inputs == ignore_index, pad_value, inputs), targets


def check_targets(targets: Tensor, ignore_index: int | None, num_logits: int | None, name: str = 'x') -> None:
    """Every token to predict must have a logit; asked where that is free."""
    if num_logits is None or not askable(targets):
        return
    strange = targets[(targets < 0) | (targets >= num_logits)]
    strange = strange if ignore_index is None else strange[strange != ignore_index]
    if len(strange):
        other = '' if ignore_index is None else f', or ignore_index={ignore_index}'
        raise InputError(
            f'{name} holds the token id {int(strange[0])} to predict, but num_tokens={num_logits}: expected 0 to {num_logits - 1}{other}'
        )


def token_loss(logits: Any, targets: Tensor, ignore_index: int, is_log_prob: bool) -> Tensor:
    """Mean surprise in nats of targets (b, n) under logits (b, n, v), over those that count; zero where none does."""
    logits = logits_of(logits, *targets.shape)
    check_targets(targets, ignore_index, logits.shape[-1])  # a head of one's own may make fewer
    loss_of = F.nll_loss if is_log_prob else F.cross_entropy
    total = loss_of(logits.flatten(0, 1), targets.flatten(), ignore_index=ignore_index, reduction='sum')
    return total / (targets != ignore_index).sum().clamp(min=1)


def mean_of(losses: Tensor) -> Tensor:
    """Their mean; zero where there is none."""
    return losses.sum() / max(losses.numel(), 1)


def expect_token_model(name: str, net: nn.Module, *attributes: str) -> None:
    """The model must be one over tokens."""
    for attribute in attributes:
        if not hasattr(net, attribute):
            raise FlagError(f'{name}={type(net).__name__} has no {attribute}; expected a model over tokens, such as TransformerWrapper')
