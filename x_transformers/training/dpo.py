"""Direct preference optimisation (2305.18290): learn from pairs which answer is preferred, measured against a frozen copy."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.decoding.nets import check_outputs, logits_of
from x_transformers.errors import FlagError, InputError
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect, expect_kind, expect_place
from x_transformers.storable import Storable
from x_transformers.training.autoregressive import AutoregressiveWrapper
from x_transformers.training.losses import check_targets


@dataclass(frozen=True, kw_only=True)
class DPOConfig(Config):
    """The flags of `DPO`."""

    model: nn.Module = flag(doc='The model to train: token ids (b, n) to logits (b, n, vocabulary).')
    beta: float = flag(0.1, 'How strongly the model is held to its copy.', example={'beta': 1.5})
    pad_id: int | None = flag(None, 'Token that fills sequences and does not count.', example={'pad_id': 0})

    rules: ClassVar[Rules] = (demands('beta', lambda c: c.beta > 0, 'it weighs preferences. Use a number above 0.'),)
    positional = ('model',)


@configured(DPOConfig)
class DPO(Storable, nn.Module):
    """Trains `policy_model`, the model that was given, against `ref_model`, a frozen copy of it.

    The score of a sequence is the mean log-probability of its tokens. As in 2.0.1 masks stand at the token that predicts:
    what the last token of a prompt predicts does not count, what the last token of an answer predicts does.

    >>> from x_transformers import Decoder, TransformerWrapper
    >>> dpo = DPO(TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1)))
    >>> preferred, unpreferred = torch.randint(0, 256, (2, 2, 16))
    >>> loss = dpo(preferred, unpreferred, prompt_mask=torch.arange(16).expand(2, -1) < 5)
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = DPOConfig.of(None, args, keywords)
        if isinstance(cfg.model, AutoregressiveWrapper):
            raise FlagError('model=AutoregressiveWrapper returns a loss and no logits; give the model inside it, its `net`')
        self.policy_model = cfg.model
        self.ref_model = deepcopy(cfg.model)
        freeze_all_layers_(self.ref_model)
        self.ref_model.eval()
        self.beta = cfg.beta
        self.pad_id = cfg.pad_id

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Those of the policy, so that an optimiser gets nothing else."""
        return self.policy_model.parameters(recurse)

    def train(self, mode: bool = True) -> DPO:
        """The mode of the policy; the reference is always evaluated."""
        super().train(mode)
        self.ref_model.eval()
        return self

    def forward(
        self,
        preferred_seq: Tensor,
        unpreferred_seq: Tensor,
        *,
        prompt_mask: Tensor,
        preferred_seq_mask: Tensor | None = None,
        unpreferred_seq_mask: Tensor | None = None,
    ) -> Tensor:
        """Two answers (b, n) to the same prompts -> loss.

        prompt_mask (b, n) or (b, n - 1) bool: True on the prompt. The masks of the sequences are True where a token
        stands; left out, they follow from `pad_id`.
        """
        expect('preferred_seq', preferred_seq, (None, None), 'int', 'DPO takes token ids (batch, length)')
        expect('unpreferred_seq', unpreferred_seq, tuple(preferred_seq.shape), 'int', 'it must be of the shape of preferred_seq')
        if preferred_seq.shape[0] == 0 or preferred_seq.shape[1] < 2:
            raise InputError(f'preferred_seq has shape {tuple(preferred_seq.shape)}: give at least one row of two tokens')
        beside: dict[str, Any] = {'unpreferred_seq': unpreferred_seq, 'prompt_mask': prompt_mask}
        beside |= {'preferred_seq_mask': preferred_seq_mask, 'unpreferred_seq_mask': unpreferred_seq_mask}
        expect_place(beside, preferred_seq, 'preferred_seq')
        pairs = (('preferred_seq', preferred_seq, preferred_seq_mask), ('unpreferred_seq', unpreferred_seq, unpreferred_seq_mask))
        counted = []
        for name, seq, mask in pairs:
            check_targets(seq[:, 1:], None, getattr(self.policy_model, 'num_logits', None), name)
            check_mask('prompt_mask', prompt_mask, seq)
            if mask is not None:
                check_mask(f'{name}_mask', mask, seq)
            elif self.pad_id is not None:
                mask = seq != self.pad_id
            at = [m[:, : seq.shape[1] - 1] for m in (~prompt_mask, mask) if m is not None]
            counted.append(maybe_and_mask(*at))
        check_outputs(self.policy_model, 'the loss')
        (_, preferred, _), (_, unpreferred, _) = pairs
        margin = self.margin(self.policy_model, preferred, unpreferred, *counted)
        with torch.no_grad():
            reference = self.margin(self.ref_model.eval(), preferred, unpreferred, *counted)
        return -F.logsigmoid(self.beta * (margin - reference)).mean()

    @staticmethod
    def margin(model: nn.Module, preferred: Tensor, unpreferred: Tensor, keep: Tensor | None, keep_other: Tensor | None) -> Tensor:
        """(b,): by how much the model scores the preferred sequence higher."""
        score = lambda seq, mask: masked_mean(log_prob_from_model_and_seq(model, seq), mask)
        return score(preferred, keep) - score(unpreferred, keep_other)


def check_mask(name: str, mask: Tensor, seq: Tensor) -> None:
    b, n = seq.shape
    if not isinstance(mask, Tensor) or tuple(mask.shape) not in ((b, n), (b, n - 1)):
        got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f'{name} is {got}, expected a bool tensor ({b}, {n}), or ({b}, {n - 1}) without the last token')
    expect_kind(name, mask, 'bool')


def freeze_all_layers_(module: nn.Module) -> None:
    """No parameter of a module learns."""
    for parameter in module.parameters():
        parameter.requires_grad = False


def log_prob_from_model_and_seq(model: nn.Module, seq: Tensor) -> Tensor:
    """(b, n) ids -> (b, n - 1): the log-probability of each token after the first."""
    inputs, targets = seq[:, :-1].long(), seq[:, 1:].long()
    logits = logits_of(model(inputs), *inputs.shape)
    check_targets(targets, None, logits.shape[-1], 'seq')
    return logits.log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0]


def masked_mean(log_probs: Tensor, mask: Tensor | None = None) -> Tensor:
    """(b, n) -> (b,): the mean over what a mask keeps; zero where it keeps nothing."""
    if mask is None:
        return log_probs.mean(dim=-1)
    return log_probs.masked_fill(~mask, 0.0).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1e-5)


def maybe_and_mask(*masks: Tensor | None) -> Tensor | None:
    """True where all masks that are given are; None without any."""
    given = [mask for mask in masks if mask is not None]
    return torch.stack(given).all(dim=0) if given else None
