"""AutoregressiveWrapper: next-token loss (with forgetful causal masks, 2210.13432) and generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.decoding.generate import align_right, stepper_for
from x_transformers.decoding.sampling import FILTER_LOGITS_FN, contrastive_decode_fn, pick, top_k
from x_transformers.errors import FlagError, InputError
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig(Config):
    """The flags of `AutoregressiveWrapper`."""

    net: nn.Module = flag(doc='The model: token ids (b, n) to logits (b, n, vocabulary).')
    ignore_index: int = flag(-100, 'Targets with this value do not count.')
    pad_value: int = flag(0, 'Token that fills ragged prompts and what follows an end token.')
    mask_prob: float = flag(
        0.0, 'Share of earlier tokens hidden from attention.', paper='2210.13432', example={'mask_prob': 0.3}, at_least=0
    )
    add_attn_z_loss: bool = flag(False, 'Add the z-loss of attention scores.', paper='2202.08906')

    rules: ClassVar[Rules] = (demands('mask_prob', lambda c: c.mask_prob < 1, 'something must stay visible. Use less than 1.'),)
    positional = ('net', 'ignore_index', 'pad_value', 'mask_prob', 'add_attn_z_loss')


@configured(AutoregressiveConfig)
class AutoregressiveWrapper(nn.Module):
    """Trains a model to predict the next token, and generates with it.

    >>> from x_transformers import Decoder, TransformerWrapper
    >>> net = TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> model = AutoregressiveWrapper(net)
    >>> loss = model(torch.randint(0, 256, (2, 17)))
    >>> model.generate(torch.randint(0, 256, (2, 4)), 8).shape
    torch.Size([2, 8])
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = AutoregressiveConfig.of(None, args, keywords)
        if not hasattr(cfg.net, 'max_seq_len'):
            raise FlagError(f'net={type(cfg.net).__name__} has no max_seq_len; expected a model over tokens, such as TransformerWrapper')
        self.net = cfg.net
        self.pad_value = cfg.pad_value
        self.ignore_index = cfg.ignore_index
        self.mask_prob = cfg.mask_prob
        self.add_attn_z_loss = cfg.add_attn_z_loss
        self.max_seq_len: int = cfg.net.max_seq_len

    def forward(self, x: Tensor, return_outputs: bool = False, **kwargs: Any) -> Any:
        """x (b, n + 1) token ids -> mean loss in nats, or `(loss, (logits, LayerIntermediates))` with return_outputs."""
        expect('x', x, (None, None), 'int', 'AutoregressiveWrapper takes token ids (batch, length)')
        if x.shape[1] < 2:
            raise InputError(f'x has shape {tuple(x.shape)}: predicting the next token needs at least two tokens')
        inputs, targets = x[:, :-1], x[:, 1:]
        inputs = torch.where(inputs == self.ignore_index, self.pad_value, inputs)
        check_targets(targets, self.ignore_index, getattr(self.net, 'num_logits', None))
        if self.mask_prob > 0:
            kwargs.update(self_attn_kv_mask=forgetful_mask(x.shape[1], inputs, self.mask_prob))
        if return_outputs or self.add_attn_z_loss:
            logits, cache = self.net(inputs, return_intermediates=True, return_attn_z_loss=self.add_attn_z_loss, **kwargs)
        else:
            logits, cache = self.net(inputs, **kwargs), None
        loss_of = F.nll_loss if getattr(self.net, 'output_is_log_prob', False) else F.cross_entropy
        loss = loss_of(logits.flatten(0, 1), targets.reshape(-1), ignore_index=self.ignore_index)
        if self.add_attn_z_loss:
            loss = loss + cache.attn_z_loss
        return (loss, (logits, cache)) if return_outputs else loss

    @torch.no_grad()
    def generate(self, prompts: Tensor, seq_len: int, eos_token: int | None = None, **options: Any) -> Tensor:
        """Continue `prompts`, ids (t,), (b, t) or (..., t), by up to `seq_len` tokens; returns only the new ones.

        temperature (0: the most probable token), filter_logits_fn ('top_k', 'top_p', 'top_a', 'min_p' or a function)
        with filter_kwargs, prompt_lens (b,) for ragged prompts, generator (torch.Generator), cache_kv, amateur_model
        with contrastive_decode_kwargs, restrict_to_max_seq_len. What follows `eos_token` becomes `pad_value`.
        Other keywords go to the model.
        """
        made = list(self.stream(prompts, seq_len, eos_token=eos_token, **options))
        if not made:
            return prompts.new_empty((*prompts.shape[:-1], 0))
        return torch.stack(made, dim=-1)

    @torch.no_grad()
    def stream(
        self,
        prompts: Tensor,
        seq_len: int,
        eos_token: int | None = None,
        temperature: float = 1.0,
        prompt_lens: Tensor | None = None,
        filter_logits_fn: str | Callable[..., Tensor] = top_k,
        restrict_to_max_seq_len: bool = True,
        amateur_model: Any = None,
        filter_kwargs: dict[str, Any] | None = None,
        contrastive_decode_kwargs: Any = None,
        cache_kv: bool = True,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Iterator[Tensor]:
        """As `generate`, token by token: yields ids of the shape of `prompts` without its last axis."""
        check_generation(prompts, seq_len, temperature, eos_token)
        keep = chosen_filter(filter_logits_fn, filter_kwargs or {})
        leading, out = prompts.shape[:-1], prompts.reshape(-1, prompts.shape[-1]).long()
        start = None
        if prompt_lens is not None:
            expect('prompt_lens', prompt_lens, (len(out),), 'int', 'the length of each prompt')
            out = align_right(out, prompt_lens, self.pad_value)
            start = out.shape[1] - prompt_lens
        amateurs, contrasts = contrast(amateur_model, contrastive_decode_kwargs)
        total = out.shape[1] + seq_len
        with evaluating(self, *amateurs):
            windowed: Any = lambda net: net if restrict_to_max_seq_len else Unrestricted(net)
            make = lambda net: stepper_for(windowed(net), total, cache_kv, kwargs, eos_token is not None, out.shape[1])
            expert, others = make(self.net), [make(net) for net in amateurs]
            done = None if eos_token is None else ended(out, eos_token, start)
            for _ in range(seq_len):
                logits = expert.logits(out, start)
                for other, options in zip(others, contrasts, strict=True):
                    logits = contrastive_decode_fn(logits, other.logits(out, start), **options)
                token = pick(logits, temperature, (lambda t: t) if amateurs else keep, generator)
                out = torch.cat((out, token[:, None]), dim=1)
                shown = token if done is None else token.masked_fill(done, self.pad_value)
                yield shown.reshape(leading)
                if done is not None:
                    done = done | (token == eos_token)
                    if bool(done.all()):
                        break


def check_targets(targets: Tensor, ignore_index: int, num_logits: int | None) -> None:
    """Every token to predict must have a logit; asked where that is free."""
    if num_logits is None or targets.device.type != 'cpu' or torch.compiler.is_compiling():
        return
    strange = targets[(targets != ignore_index) & ((targets < 0) | (targets >= num_logits))]
    if len(strange):
        raise InputError(
            f'x holds the token id {int(strange[0])} to predict, but num_tokens={num_logits}: expected 0 to {num_logits - 1}, '
            f'or ignore_index={ignore_index}'
        )


def ended(out: Tensor, eos_token: int, start: Tensor | None) -> Tensor:
    """(b,) bool: rows that hold the end token; padding in front holds none, whatever fills it."""
    found = out == eos_token
    if start is not None:
        found = found & (torch.arange(out.shape[1], device=out.device) >= start[:, None])
    return found.any(dim=-1)


def forgetful_mask(n: int, inputs: Tensor, prob: float) -> Tensor:
    """(b, n - 1) bool: a random share of keys is hidden, the first one last of all."""
    scores = torch.randn(inputs.shape, device=inputs.device)
    scores[:, 0] = -torch.finfo(scores.dtype).max
    count = min(int(n * prob), inputs.shape[1])
    hidden = scores.topk(count, dim=-1).indices
    return ~torch.zeros_like(inputs, dtype=torch.bool).scatter(1, hidden, True)


def check_generation(prompts: Tensor, seq_len: int, temperature: float, eos_token: int | None) -> None:
    if not isinstance(prompts, Tensor):
        raise InputError(f'prompts is a {type(prompts).__name__}, expected a tensor of token ids (t,) or (b, t)')
    if eos_token is not None and not isinstance(eos_token, int):
        raise InputError(f'eos_token={eos_token!r} is not possible; expected the id of a token')
    if prompts.is_floating_point() or prompts.ndim == 0:
        raise InputError(f'prompts must be token ids (t,) or (b, t), got shape {tuple(prompts.shape)} of {prompts.dtype}')
    if prompts.shape[-1] == 0 or prompts.numel() == 0:
        raise InputError(f'prompts has shape {tuple(prompts.shape)}: give at least one token to start from')
    if not isinstance(seq_len, int) or seq_len < 0:
        raise InputError(f'seq_len={seq_len!r} is not possible; expected the number of tokens to generate')
    if not isinstance(temperature, (int, float)) or not 0 <= temperature < float('inf'):
        raise InputError(f'temperature={temperature!r} is not possible; expected a number: 0 (the most probable token) or more')


def chosen_filter(choice: str | Callable[..., Tensor], keywords: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    if isinstance(choice, str):
        if choice not in FILTER_LOGITS_FN:
            raise InputError(f'filter_logits_fn={choice!r} is unknown; expected one of {sorted(FILTER_LOGITS_FN)}, or a function')
        choice = FILTER_LOGITS_FN[choice]
    keep = partial(choice, **keywords)
    if choice in FILTER_LOGITS_FN.values():
        try:
            keep(torch.zeros(1, 2))  # whatever is wrong with the keywords is found before anything is computed
        except TypeError as error:
            raise InputError(f'filter_kwargs={keywords!r} do not fit the filter: {error}') from error
    return keep


def contrast(models: Any, options: Any) -> tuple[list[nn.Module], list[dict[str, Any]]]:
    """Amateur models, taken out of their wrappers, and the keywords of each contrast."""
    listed = [] if models is None else list(models) if isinstance(models, (tuple, list)) else [models]
    nets = [model.net if isinstance(model, AutoregressiveWrapper) else model for model in listed]
    options = {'beta': 0.5, 'alpha': 0.1} if options is None else options
    each = list(options) if isinstance(options, (tuple, list)) else [options] * (len(nets) if isinstance(options, dict) else 1)
    if len(each) != len(nets):
        raise InputError(f'contrastive_decode_kwargs has {len(each)} entries for {len(nets)} amateur models; give one each')
    return nets, each


class Unrestricted:
    """A model whose window never slides."""

    max_seq_len = 0

    def __init__(self, net: Any):
        self.net = net

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.net(*args, **kwargs)


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every submodule gets its own mode back, also after an error."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


def eval_decorator(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A method that runs in evaluation mode."""

    @wraps(fn)
    def inner(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with evaluating(self):
            return fn(self, *args, **kwargs)

    return inner
