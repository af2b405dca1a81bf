"""XValAutoregressiveWrapper: the next token and, where it is a number, its value (xVal, 2310.02989)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.decoding.nets import check_generator, check_given, check_outputs
from x_transformers.decoding.prompts import check_generation, check_lasting, check_padding
from x_transformers.decoding.rollout import Rollout
from x_transformers.decoding.sampling import Choice, chosen_filter, top_k
from x_transformers.errors import InputError
from x_transformers.flags import Config, configured, flag
from x_transformers.inputs import expect, expect_place, expect_switch
from x_transformers.models.xval import XValTransformerWrapper
from x_transformers.storable import Storable
from x_transformers.toolbox import evaluating
from x_transformers.training.losses import check_targets, mean_of


class LossBreakdown(NamedTuple):
    """The two losses of every target (b, n)."""

    cross_entropy_loss: Tensor
    numerical_mse_loss: Tensor


class GenerateReturn(NamedTuple):
    """What was generated (b, k): tokens, their numbers (NaN at others), and which tokens are numbers."""

    sampled_token_ids: Tensor
    sampled_numbers: Tensor
    is_number_mask: Tensor


@dataclass(frozen=True, kw_only=True)
class XValAutoregressiveConfig(Config):
    """The flags of `XValAutoregressiveWrapper`."""

    net: XValTransformerWrapper = flag(doc='The model: tokens and numbers (b, n) to logits and numbers.')
    ignore_index: int = flag(-100, 'Targets with this value do not count.')
    pad_value: int = flag(0, 'What the model reads where a token has the value `ignore_index`.')
    numerical_loss_weight: float = flag(1.0, 'Weight of the squared error of numbers.', example={'numerical_loss_weight': 0.3}, at_least=0)

    positional = ('net', 'ignore_index', 'pad_value', 'numerical_loss_weight')


@configured(XValAutoregressiveConfig)
class XValAutoregressiveWrapper(Storable, nn.Module):
    """Trains a model to predict the next token and number, and generates both.

    >>> from x_transformers import Decoder, XValTransformerWrapper
    >>> net = XValTransformerWrapper(num_tokens=9, numerical_token_id=3, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> model = XValAutoregressiveWrapper(net)
    >>> loss = model(torch.randint(0, 9, (2, 17)), torch.randn(2, 17))
    >>> ids, numbers, is_number = model.generate(torch.randint(0, 9, (2, 4)), torch.randn(2, 4), 8)
    >>> ids.shape, numbers.shape
    (torch.Size([2, 8]), torch.Size([2, 8]))
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = XValAutoregressiveConfig.of(None, args, keywords)
        self.net = cfg.net
        self.ignore_index, self.pad_value = cfg.ignore_index, cfg.pad_value
        self.numerical_loss_weight = cfg.numerical_loss_weight
        self.max_seq_len: int = cfg.net.max_seq_len

    def forward(self, x: Tensor, x_num: Tensor, return_loss_breakdown: bool = False, **kwargs: Any) -> Any:
        """x (b, n + 1) ids with numbers x_num (b, n + 1) -> mean loss, or `(loss, LossBreakdown)`.

        mask bool: (b, n + 1) the tokens that are there; or (b, n) the inputs whose successors count, as in 2.0.1.
        """
        expect('x', x, (None, None), 'int', 'XValAutoregressiveWrapper takes token ids and numbers (batch, length)')
        expect('x_num', x_num, tuple(x.shape), 'float', 'it has a number for each token of x')
        expect_place({'x_num': x_num, 'mask': kwargs.get('mask')}, x)
        if x.shape[1] < 2:
            raise InputError(f'x has shape {tuple(x.shape)}: predicting the next token needs at least two tokens')
        expect_switch('return_loss_breakdown', return_loss_breakdown)
        check_given(kwargs, self.net, XValAutoregressiveWrapper.forward, 'the loss')
        check_outputs(self.net, 'the loss')
        ids, targets, numbers = x[:, :-1].long(), x[:, 1:].long(), x_num[:, 1:]
        check_targets(targets, self.ignore_index, self.net.num_logits)
        counted = targets != self.ignore_index
        mask = kwargs.get('mask')
        if mask is not None:
            b, n = x.shape
            whole = isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] == n
            expect('mask', mask, (b, n if whole else n - 1), 'bool', f'({b}, {n}): the tokens that are there')
            counted = counted & (mask[:, 1:] if whole else mask)
            kwargs['mask'] = mask[:, :-1] if whole else mask
        if not 0 <= self.ignore_index < self.net.num_tokens:  # what is no token cannot be read
            ids = torch.where(ids == self.ignore_index, self.pad_value, ids)
        outputs = self.net(ids, x_num[:, :-1], **kwargs)
        logits, predicted = (t[:, -targets.shape[1] :] for t in outputs)  # embeddings ahead are not scored
        entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction='none', ignore_index=self.ignore_index).view_as(
            targets
        )
        # chosen before the difference: what stands beside a token that is no number may be NaN
        is_number = (targets == self.net.numerical_token_id) & counted
        error = torch.where(is_number, predicted - torch.where(is_number, numbers, 0.0), 0.0).square()
        loss = mean_of((entropy + self.numerical_loss_weight * error)[counted])
        return (loss, LossBreakdown(entropy, error)) if return_loss_breakdown else loss

    @torch.no_grad()
    def generate(
        self,
        start_tokens: Tensor,
        start_numbers: Tensor,
        seq_len: int,
        filter_logits_fn: str | Callable[..., Tensor] = top_k,
        filter_kwargs: dict[str, Any] | None = None,
        temperature: float = 1.0,
        cache_kv: bool = True,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> GenerateReturn:
        """Continue ids and numbers (b, t) by `seq_len` of both, each from the latest `max_seq_len`; returns the new ones.

        mask (b, t), or seq_start_pos (b,) of left padding: which of them are there. Other keywords go to the model.
        """
        seq_len, temperature, _ = check_generation(seq_len, temperature, generator=generator, cache_kv=cache_kv)
        expect('start_tokens', start_tokens, (None, None), 'int', 'give token ids (b, t)')
        if start_tokens.numel() == 0:
            raise InputError(f'start_tokens has shape {tuple(start_tokens.shape)}, expected at least one token to go on from')
        expect('start_numbers', start_numbers, tuple(start_tokens.shape), 'float', 'it has a number for each of start_tokens')
        choose = Choice(temperature, chosen_filter(filter_logits_fn, filter_kwargs), generator)
        check_given(kwargs, self.net, XValAutoregressiveWrapper.generate, 'generate')
        check_generator(self.net)
        check_lasting(kwargs, seq_len)
        check_padding(kwargs, *start_tokens.shape)
        start, out = start_tokens.shape[1], Paired(start_tokens.long(), start_numbers)
        with evaluating(self):
            rollout = Rollout(self.net, start, seq_len, cache_kv, kwargs)
            for _ in range(seq_len):
                logits, number = rollout.outputs(out)
                out = out.with_next(choose(logits), number)
        is_number = out.ids[:, start:] == self.net.numerical_token_id
        return GenerateReturn(out.ids[:, start:], out.numbers[:, start:].masked_fill(~is_number, torch.nan), is_number)


@dataclass(frozen=True)
class Paired:
    """Token ids and numbers (b, n), cut together like one sequence."""

    ids: Tensor
    numbers: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.ids.shape

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        return self.ids, self.numbers

    def __getitem__(self, index: Any) -> Paired:
        return Paired(self.ids[index], self.numbers[index])

    def with_next(self, ids: Tensor, numbers: Tensor) -> Paired:
        """One more of both (b,) at the end."""
        return Paired(torch.cat((self.ids, ids[:, None]), dim=1), torch.cat((self.numbers, numbers[:, None]), dim=1))
