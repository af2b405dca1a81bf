"""ContinuousAutoregressiveWrapper: the next vector, by squared error or any other loss, and rollouts of a model on its own outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.decoding.nets import check_generator, check_given, check_outputs
from x_transformers.decoding.prompts import check_generation, check_lasting, check_padding
from x_transformers.decoding.rollout import Rollout
from x_transformers.errors import FlagError, InputError
from x_transformers.flags import Config, configured, flag
from x_transformers.inputs import expect
from x_transformers.models.continuous import ContinuousTransformerWrapper
from x_transformers.storable import Storable
from x_transformers.toolbox import evaluating, masked_mean
from x_transformers.training.losses import mean_of


@dataclass(frozen=True, kw_only=True)
class ContinuousAutoregressiveConfig(Config):
    """The flags of `ContinuousAutoregressiveWrapper`."""

    net: ContinuousTransformerWrapper = flag(doc='The model: vectors (b, n, d) to vectors (b, n, d).')
    ignore_index: int = flag(-100, 'Taken and unused, as in 2.0.1: vectors have no value to ignore. Use `mask`.')
    pad_value: float = flag(0, 'Taken and unused, as in 2.0.1.')
    loss_fn: Callable | None = flag(
        None, 'Loss of (outputs, targets) without reduction; squared error, or the Gaussian likelihood of a probabilistic model.'
    )
    equal_loss_weight_batch: bool = flag(
        False, 'Every row counts the same, however much of it `mask` leaves; features are summed, not averaged.'
    )

    positional = ('net', 'ignore_index', 'pad_value', 'loss_fn', 'equal_loss_weight_batch')


ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)  # losses that would broadcast outputs of another shape


class GaussianLoss(nn.Module):
    """Negative log-likelihood, without its constant, of targets under (mean, variance) stacked ahead: (2, ...) and (...) to (...)."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        mean, variance = outputs[0], outputs[1].clamp(min=1e-6)
        return 0.5 * (variance.log() + (targets - mean).square() / variance)


@configured(ContinuousAutoregressiveConfig)
class ContinuousAutoregressiveWrapper(Storable, nn.Module):
    """Trains a model to predict the next vector, and lets it go on from its own predictions.

    >>> from x_transformers import ContinuousTransformerWrapper, Decoder
    >>> net = ContinuousTransformerWrapper(dim_in=3, dim_out=3, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> model = ContinuousAutoregressiveWrapper(net)
    >>> loss = model(torch.randn(2, 17, 3))
    >>> model.generate(torch.randn(2, 4, 3), 8).shape
    torch.Size([2, 8, 3])
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = ContinuousAutoregressiveConfig.of(None, args, keywords)
        if cfg.net.probabilistic and isinstance(cfg.loss_fn, ELEMENTWISE):
            raise FlagError(
                f'loss_fn={type(cfg.loss_fn).__name__} compares vectors, but a net with probabilistic=True makes means and variances '
                '(2, b, n, d); leave loss_fn out for their likelihood, or give one that takes both'
            )
        if (cfg.loss_fn is None or isinstance(cfg.loss_fn, ELEMENTWISE)) and cfg.net.dim_in != cfg.net.dim_out:
            raise FlagError(
                f'net has dim_in={cfg.net.dim_in} and dim_out={cfg.net.dim_out}, so outputs are no next inputs; make them equal, or give '
                'a loss_fn that compares them'
            )
        self.net = cfg.net
        self.loss_fn = cfg.loss_fn or (GaussianLoss() if cfg.net.probabilistic else nn.MSELoss(reduction='none'))
        self.equal_loss_weight_batch = cfg.equal_loss_weight_batch
        self.max_seq_len: int = cfg.net.max_seq_len

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        """x (b, n + 1, d) -> mean loss. mask (b, n + 1) or (b, n) bool: the inputs whose successors count."""
        expect('x', x, (None, None, self.net.dim_in), 'float', 'ContinuousAutoregressiveWrapper takes vectors (batch, length, dim_in)')
        if x.shape[1] < 2:
            raise InputError(f'x has shape {tuple(x.shape)}: predicting the next vector needs at least two')
        if kwargs.get('prepend_embeds') is not None:
            raise InputError('prepend_embeds cannot be given here: their outputs have no targets; put them into x')
        check_given(kwargs, self.net, ContinuousAutoregressiveWrapper.forward, 'the loss')
        check_outputs(self.net, 'the loss')
        mask = kwargs.get('mask')
        if mask is not None:
            b, n = x.shape[:2]
            whole = isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] == n
            expect('mask', mask, (b, n if whole else n - 1), 'bool', f'({b}, {n}): the vectors that are there')
            kwargs['mask'] = mask = mask[:, :-1] if whole else mask
        targets = x[:, 1:]
        loss = self.loss_fn(self.net(x[:, :-1], **kwargs), targets)
        if loss.ndim > 3 or loss.ndim > 1 and loss.shape[:2] != targets.shape[:2]:
            raise InputError(
                f'loss_fn returned shape {tuple(loss.shape)} for outputs and targets {tuple(targets.shape)}; expected a loss for each '
                'vector or feature, or one number'
            )
        if mask is None:
            return loss.mean()
        if loss.ndim < 2:
            raise InputError(
                f"loss_fn returned shape {tuple(loss.shape)}, expected a loss for each vector: with a mask use reduction='none'"
            )
        if not self.equal_loss_weight_batch:
            return mean_of(loss[mask])
        return masked_mean(loss.flatten(2).sum(dim=-1) if loss.ndim > 2 else loss, mask).mean()

    @torch.no_grad()
    def generate(
        self,
        start_tokens: Tensor,
        seq_len: int,
        temperature: float = 1.0,
        cache_kv: bool = True,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Continue `start_tokens` (t, d) or (b, t, d) by `seq_len` vectors, each predicted from the latest `max_seq_len`; returns them.

        A probabilistic model draws each from its Gaussian, whose deviation is multiplied by `temperature`. mask (b, t), or
        seq_start_pos (b,) of left padding: which vectors are there. Other keywords go to the model.
        """
        seq_len, temperature, _ = check_generation(seq_len, temperature, generator=generator, cache_kv=cache_kv)
        check_start(start_tokens)
        check_given(kwargs, self.net, ContinuousAutoregressiveWrapper.generate, 'generate')
        check_generator(self.net)
        check_lasting(kwargs, seq_len)
        if self.net.dim_in != self.net.dim_out:
            raise InputError(f'the model has dim_in={self.net.dim_in} and dim_out={self.net.dim_out}, so it cannot read what it predicts')
        out = start_tokens if start_tokens.ndim == 3 else start_tokens[None]
        start = out.shape[1]
        check_padding(kwargs, len(out), start)
        with evaluating(self):
            rollout = Rollout(self.net, start, seq_len, cache_kv, kwargs)
            for _ in range(seq_len):
                predicted = rollout.outputs(out)
                if self.net.probabilistic:
                    predicted = draw(predicted[0], predicted[1], temperature, generator)
                out = torch.cat((out, predicted[:, None]), dim=1)
        made = out[:, start:]
        return made if start_tokens.ndim == 3 else made[0]


def draw(mean: Tensor, variance: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """A sample of the Gaussian with its deviation times `temperature`."""
    noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
    return mean + noise * variance.clamp(min=1e-5).sqrt() * temperature


def check_start(start: Any) -> None:
    """Whether there is something to go on from."""
    if not isinstance(start, Tensor) or start.ndim not in (2, 3) or 0 in start.shape:
        what = f'shape {tuple(start.shape)}' if isinstance(start, Tensor) else f'a {type(start).__name__}'
        raise InputError(f'start_tokens is {what}, expected at least one vector (t, d) or (b, t, d) to go on from')
