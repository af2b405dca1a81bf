"""NonAutoregressiveWrapper: learn to fill in masked tokens, and generate all tokens at once in a few steps.

MaskGIT (2202.04200) with self-conditioning (2208.04202), token critics (2209.04439; the model as its own: 2301.00704)
and the replacements of BERT (1810.04805).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.decoding.nets import check_generator, check_given, check_outputs, has_own_forward, logits_of
from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect, expect_switch, whole, within
from x_transformers.storable import Storable
from x_transformers.toolbox import evaluating
from x_transformers.training.losses import check_targets, expect_token_model

CONDITIONS = ('context', 'context_mask', 'context_pos', 'condition')  # what a model needs, it also needs as its own critic
ONE_LOGIT = 'a critic makes one for every token, as a model with logits_dim=1 does'


class Losses(NamedTuple):
    loss: Tensor
    generator_loss: Tensor | None
    critic_loss: Tensor | None


# ------------------------------------------------------------------------------------------------ schedules, from 0 to 1


def linear_schedule(t: Tensor) -> Tensor:
    """Share of tokens that are masked at time t."""
    return 1 - t


def cosine_schedule(t: Tensor) -> Tensor:
    """Share of tokens that are masked at time t: the first steps settle few, the last many (2202.04200)."""
    return torch.cos(t * math.pi * 0.5)


SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {'linear': linear_schedule, 'cosine': cosine_schedule}


# ------------------------------------------------------------------------------------------------ sampling


def log(t: Tensor, eps: float = 1e-10) -> Tensor:
    return (t + eps).log()


def gumbel_noise(t: Tensor) -> Tensor:
    """Standard Gumbel noise of the shape of t."""
    return -log(-log(torch.zeros_like(t).uniform_(0, 1)))


def gumbel_sample(t: Tensor, temperature: float | Tensor = 1.0, dim: int = -1) -> Tensor:
    """Sample indices by logits: the argmax of logits over temperature plus Gumbel noise (1411.0030)."""
    heat = temperature.clamp(min=1e-10) if isinstance(temperature, Tensor) else max(temperature, 1e-10)
    return (t / heat + gumbel_noise(t)).argmax(dim=dim)


def top_k(logits: Tensor, thres: float = 0.9) -> Tensor:
    """Keep the best share of `1 - thres` of the logits (..., v)."""
    kept = logits.topk(math.ceil((1 - thres) * logits.shape[-1]), dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)


def sample_prob(prob: float) -> bool:
    return random.random() < prob


def coin_flip() -> bool:
    return sample_prob(0.5)


def coin(device: torch.device) -> Tensor:
    """0 or 1, drawn where it is used: a question to Python would break a compiled graph."""
    return (torch.rand((), device=device) < 0.5).float()


def get_mask_subset_prob(mask: Tensor, prob: float | Tensor, min_mask: int = 0) -> Tensor:
    """A random share (rounded up) of what each row (b, n) of a mask holds, and at least `min_mask`."""
    count = (mask.sum(dim=-1, keepdim=True) * prob).clamp(min=min_mask)
    scores = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
    rank = scores.argsort(dim=-1).argsort(dim=-1) - (~mask).sum(dim=-1, keepdim=True)  # from 0 on what the mask holds
    return (rank < count) & mask


# ------------------------------------------------------------------------------------------------ the wrapper


class SelfCritic(nn.Module):
    """Logits (b, n, 1) of a token being wrong, from the embeddings of the model itself."""

    def __init__(self, net: nn.Module):
        super().__init__()
        expect_token_model('net', net, 'attn_layers')
        self.net = net
        self.to_logits = nn.Linear(net.attn_layers.dim, 1)  # type: ignore[arg-type]

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.to_logits(self.net(x, return_embeddings=True, **kwargs))


@dataclass(frozen=True, kw_only=True)
class NonAutoregressiveConfig(Config):
    """The flags of `NonAutoregressiveWrapper`."""

    net: nn.Module = flag(doc='The model, usually over an Encoder; sequences are its max_seq_len long.')
    mask_id: int = flag(doc='Token that stands for a masked one; part of the vocabulary.', at_least=0)
    steps: int = flag(18, 'Steps in which a sequence is generated.', paper='2202.04200', example={'steps': 2}, at_least=1)
    self_cond: bool = flag(False, 'Show the model what it thought one step before.', paper='2208.04202')
    self_cond_train_prob: float = flag(
        0.75, 'How often it is shown that in training.', example={'self_cond': True, 'self_cond_train_prob': 1.0}, at_least=0, at_most=1
    )
    no_replace_prob: float = flag(
        0.15, 'Share of masked tokens left as they are.', paper='1810.04805', example={'no_replace_prob': 0.9}, at_least=0, at_most=1
    )
    random_token_prob: float = flag(
        0.1, 'Share replaced by random tokens.', paper='1810.04805', example={'random_token_prob': 0.9}, at_least=0, at_most=1
    )
    schedule: str | Callable[[Tensor], Tensor] = flag(
        'linear', "'linear', 'cosine', or a function of time (0 to 1): the share that is masked.", example={'schedule': 'cosine'}
    )
    can_mask_prev_unmasked: bool = flag(False, 'Let tokens that were settled be masked again.')
    token_critic: nn.Module | None = flag(None, 'A model that tells wrong tokens, by logits (b, n, 1).', paper='2209.04439')
    self_token_critic: bool = flag(False, 'Let the model itself tell wrong tokens.', paper='2301.00704')
    critic_loss_weight: float = flag(
        1.0, 'Weight of the critic in the loss.', example={'self_token_critic': True, 'critic_loss_weight': 0.1}, at_least=0
    )

    rules: ClassVar[Rules] = (demands('self_token_critic', lambda c: c.token_critic is None, 'a token_critic was given too. Keep one.'),)
    positional = ('net',)


@configured(NonAutoregressiveConfig)
class NonAutoregressiveWrapper(Storable, nn.Module):
    """Trains a model to fill in masked tokens, and generates sequences by filling in all of them step by step.

    >>> from x_transformers import Encoder, TransformerWrapper
    >>> net = TransformerWrapper(num_tokens=257, max_seq_len=16, attn_layers=Encoder(dim=32, depth=1))
    >>> model = NonAutoregressiveWrapper(net, mask_id=256, self_token_critic=True)
    >>> losses = model(torch.randint(0, 256, (2, 16)))
    >>> model.generate(batch_size=3).shape
    torch.Size([3, 16])
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = NonAutoregressiveConfig.of(None, args, keywords)
        net: Any = cfg.net
        expect_token_model('net', net, 'emb_dim', 'num_tokens', 'max_seq_len')
        if not net.max_seq_len:
            raise FlagError('net has max_seq_len=0, which gives sequences no length; give it one (positions may still be relative)')
        if net.num_tokens is None:
            raise FlagError('net has num_tokens=None, so there is no vocabulary to mask and to sample; build it with the number of tokens')
        if cfg.mask_id >= net.num_tokens:
            raise FlagError(f'mask_id={cfg.mask_id} is no token of the vocabulary; expected 0 to {net.num_tokens - 1} (num_tokens)')
        if cfg.self_cond and net.emb_dim != net.attn_layers.dim:
            raise FlagError(
                f'self_cond=True adds what the model made, dim={net.attn_layers.dim} wide, to emb_dim={net.emb_dim}: leave one out'
            )
        self.dim, self.num_tokens, self.max_seq_len = net.emb_dim, net.num_tokens, net.max_seq_len
        self.mask_id, self.steps, self.critic_loss_weight = cfg.mask_id, cfg.steps, cfg.critic_loss_weight
        self.no_replace_prob, self.random_token_prob = cfg.no_replace_prob, cfg.random_token_prob
        self.can_mask_prev_unmasked = cfg.can_mask_prev_unmasked
        self.schedule_fn = schedule_of(cfg.schedule)

        self.self_cond, self.self_cond_train_prob = cfg.self_cond, cfg.self_cond_train_prob
        self.null_embed = nn.Parameter(torch.randn(self.dim)) if cfg.self_cond else None
        self.net = net
        self.to_self_cond = nn.Linear(self.dim, self.dim, bias=False) if cfg.self_cond else None
        self.token_critic = SelfCritic(net) if cfg.self_token_critic else cfg.token_critic

    def forward(
        self,
        x: Tensor,
        only_train_generator: bool = False,
        only_train_critic: bool = False,
        generator_sample_temperature: float | None = None,
        **kwargs: Any,
    ) -> Losses:
        """x (b, max_seq_len) token ids -> `Losses(loss, generator_loss, critic_loss)`; other inputs go to the model.

        only_train_generator, only_train_critic: one of two turns. generator_sample_temperature: of the samples that the critic
        judges; random by default.
        """
        self.check(x, only_train_generator, only_train_critic)
        heat: Any = generator_sample_temperature
        single = isinstance(heat, Tensor) and heat.numel() == 1  # of a tensor only its size is asked, as it may be elsewhere
        if not (heat is None or single or within(heat, 0)):
            raise InputError(f'generator_sample_temperature={quoted(heat)} is not possible; expected a number of at least 0')
        check_given(kwargs, self.net, NonAutoregressiveWrapper.forward, 'the loss')
        check_outputs(self.net, 'the loss')
        self.check_critic()
        x = x.long()
        mask, corrupted = self.corrupt(x)
        if self.self_cond:
            assert self.null_embed is not None
            seen = self.null_embed
            if self.shows_thought():
                with torch.no_grad():
                    seen = self.net(corrupted, return_embeddings=True, **kwargs)
            kwargs = self.conditioned(kwargs, seen)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not only_train_critic):
            logits = logits_of(self.net(corrupted, **kwargs), *x.shape)
        check_targets(x, None, logits.shape[-1])
        loss_of = F.nll_loss if getattr(self.net, 'output_is_log_prob', False) else F.cross_entropy
        surprise = loss_of(logits.flatten(0, 1), x.flatten(), reduction='none').view_as(x)
        loss = (surprise * mask).sum() / mask.sum()
        if self.token_critic is None or only_train_generator:
            return Losses(loss, loss, None)

        heat = torch.rand((), device=x.device) if heat is None else heat if single else float(heat)
        sampled = gumbel_sample(logits, heat)
        wrong = self.criticise(torch.where(mask, sampled, x), kwargs)
        critic_loss = F.binary_cross_entropy_with_logits(wrong, (sampled != x).to(wrong.dtype))
        if only_train_critic:
            return Losses(critic_loss, None, critic_loss)
        return Losses(loss + critic_loss * self.critic_loss_weight, loss, critic_loss)

    def corrupt(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (b, n) -> the places to fill in (b, n), a random share of each row, and the ids with most of them masked."""
        b, n = x.shape
        share = self.schedule_fn(torch.empty(b, device=x.device).uniform_(0, 1))
        count = (share * n).clamp(min=1.0)
        mask = torch.rand((b, n), device=x.device).argsort(dim=-1) < count[:, None]
        replaced: Tensor = mask
        left: Any = 1.0
        if self.no_replace_prob > 0:
            kept = self.no_replace_prob * coin(x.device)
            replaced, left = mask & ~get_mask_subset_prob(mask, kept), 1 - kept
        if self.random_token_prob > 0:
            scrambled = get_mask_subset_prob(replaced, self.random_token_prob * left * coin(x.device))
            x = torch.where(scrambled, torch.randint_like(x, self.num_tokens), x)
            replaced = replaced & ~scrambled
        return mask, x.masked_fill(replaced, self.mask_id)

    def shows_thought(self) -> bool:
        """Whether self-conditioning is shown this time: drawn in Python, since the model then runs twice."""
        return self.self_cond_train_prob == 1 or self.self_cond_train_prob > 0 and sample_prob(self.self_cond_train_prob)

    def conditioned(self, kwargs: dict[str, Any], embeds: Tensor) -> dict[str, Any]:
        """The inputs of the model with what it thought before, (b, n, d) or (d,), added to its embeddings."""
        assert self.to_self_cond is not None
        thought = self.to_self_cond(embeds)
        given = kwargs.get('sum_embeds')
        return {**kwargs, 'sum_embeds': thought if given is None else thought + given}

    def criticise(self, x: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """(b, n) logits of each token being wrong."""
        assert self.token_critic is not None
        own = isinstance(self.token_critic, SelfCritic)
        wrong = self.token_critic(x, **{name: kwargs[name] for name in CONDITIONS if own and name in kwargs})
        expect('outputs of token_critic', wrong, (*x.shape, 1), 'float', ONE_LOGIT)
        return wrong[..., 0]

    @torch.no_grad()
    def generate(
        self,
        batch_size: int | None = None,
        start_temperature: float = 1.0,
        filter_thres: float | None = 0.7,
        noise_level_scale: float = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        """Sequences (batch_size, max_seq_len), or one (max_seq_len,) without a batch_size.

        Each step fills in every masked token, and masks again those that seem least likely, or most wrong to the critic, as
        many as the schedule says. filter_thres: sample among the best share of `1 - filter_thres`; None: among all. The
        temperature falls to zero with the steps, as does the noise (noise_level_scale) on what the critic says.
        """
        check_generation(batch_size, start_temperature, filter_thres, noise_level_scale)
        start_temperature, noise_level_scale = float(start_temperature), float(noise_level_scale)
        check_given(kwargs, self.net, NonAutoregressiveWrapper.generate, 'generate')
        check_generator(self.net)
        self.check_critic()
        rows, device = batch_size or 1, next(self.net.parameters()).device
        seq = torch.full((rows, self.max_seq_len), self.mask_id, device=device)
        mask, embeds = torch.ones_like(seq, dtype=torch.bool), self.null_embed
        with evaluating(self):
            for left, masked in zip(range(self.steps - 1, -1, -1), self.masked_per_step(), strict=True):
                given = kwargs if embeds is None else self.conditioned(kwargs, embeds)
                logits, thought = self.net(seq, return_logits_and_embeddings=True, **given)
                embeds = thought if self.self_cond else None
                logits = logits if filter_thres is None else top_k(logits, filter_thres)
                sampled = gumbel_sample(logits, max(start_temperature * left / self.steps, 1e-3))
                seq = torch.where(mask, sampled, seq)
                if self.token_critic is not None:
                    doubt = self.criticise(seq, kwargs)
                    doubt = doubt + noise_level_scale * gumbel_noise(doubt) * left / self.steps
                else:
                    doubt = 1 - logits.softmax(dim=-1).gather(-1, sampled[..., None])[..., 0]
                if not self.can_mask_prev_unmasked:
                    doubt = doubt.masked_fill(~mask, -torch.finfo(doubt.dtype).max)
                mask = torch.zeros_like(mask).scatter(1, doubt.topk(masked, dim=-1).indices, True)
                seq = seq.masked_fill(mask, self.mask_id)
        return seq if batch_size is not None else seq[0]

    def masked_per_step(self) -> list[int]:
        """How many tokens are masked again after each step."""
        times = torch.linspace(0.0, 1.0, self.steps + 1)[1:]
        return (self.schedule_fn(times) * self.max_seq_len).long().tolist()

    def check_critic(self) -> None:
        """A critic of one's own must make one logit for every token."""
        if self.token_critic is None or isinstance(self.token_critic, SelfCritic):
            return
        check_outputs(self.token_critic, 'token_critic')
        count = getattr(self.token_critic, 'num_logits', None)
        if count not in (None, 1) and not has_own_forward(self.token_critic):
            raise InputError(f'token_critic makes {count} logits for every token; {ONE_LOGIT}')

    def check(self, x: Tensor, only_train_generator: bool, only_train_critic: bool) -> None:
        expect('x', x, (None, self.max_seq_len), 'int', f'sequences are as long as the model: max_seq_len={self.max_seq_len}')
        if x.shape[0] == 0:
            raise InputError(f'x has shape {tuple(x.shape)}: there must be at least one sequence')
        check_targets(x, None, self.num_tokens)
        expect_switch('only_train_generator', only_train_generator)
        expect_switch('only_train_critic', only_train_critic)
        if only_train_generator and only_train_critic:
            raise InputError('only_train_generator and only_train_critic exclude each other; give one')
        if only_train_critic and self.token_critic is None:
            raise InputError('only_train_critic=True, but there is no critic; build with token_critic= or self_token_critic=True')


def schedule_of(choice: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A schedule by name or as a function of time, which must fall from a share of at most 1 to 0."""
    if isinstance(choice, str):
        if choice not in SCHEDULES:
            raise FlagError(f'schedule={choice!r} is unknown; expected one of {sorted(SCHEDULES)}, or a function of time')
        return SCHEDULES[choice]
    times = torch.linspace(0.0, 1.0, 17)
    shares = choice(times)
    falls = isinstance(shares, Tensor) and shares.shape == times.shape and bool((shares.diff() <= 1e-6).all())
    if not falls or float(shares[0]) > 1 + 1e-6 or abs(float(shares[-1])) > 1e-6:
        raise FlagError(
            'schedule is a function that does not fall from at most 1 (all masked) at time 0 to 0 at time 1, tensor to tensor; '
            'expected one such as lambda t: 1 - t'
        )
    return choice


def check_generation(batch_size: Any, start_temperature: Any, filter_thres: Any, noise_level_scale: Any) -> None:
    """Numbers that a generation takes."""
    if batch_size is not None and (whole(batch_size) or 0) < 1:
        raise InputError(f'batch_size={quoted(batch_size)} is not possible; expected a number of sequences, or None for a single one')
    for name, number in (('start_temperature', start_temperature), ('noise_level_scale', noise_level_scale)):
        if not within(number, 0):
            raise InputError(f'{name}={quoted(number)} is not possible; expected a number of at least 0')
    if filter_thres is not None and not within(filter_thres, 0, 1):
        raise InputError(
            f'filter_thres={quoted(filter_thres)} is not possible; expected a share of logits to leave out, at least 0 and below 1'
        )
