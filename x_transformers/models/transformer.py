"""TransformerWrapper: tokens to embeddings, a layer stack, embeddings to logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from x_transformers.attention.scores import softclamp
from x_transformers.countable import Example
from x_transformers.errors import FlagError, InputError
from x_transformers.feedforward import activation_of
from x_transformers.flags import Rules, at_most_one, configured, demands, excludes, flag
from x_transformers.inputs import askable, expect_broadcast, expect_kind
from x_transformers.models.ask import Ask, asks
from x_transformers.models.body import Body, assignable, make_positions
from x_transformers.models.checks import check_ids
from x_transformers.models.config import BodyFlags, ModelFlags, vocabularies
from x_transformers.models.heads import Named, TiedLogits, count_ids, count_logits, mix, sigsoftmax
from x_transformers.norms import make_layer_norm
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, TokenEmbedding
from x_transformers.shortcuts import run

HEAD_FLAGS = ('logits_bias', 'logits_mlp', 'logits_softclamp_value')
NO_HEAD = 'there is no head that it could change. Leave one out.'


@dataclass(frozen=True, kw_only=True)
class TokenFlags(BodyFlags):
    """What turns token ids into embeddings, and embeddings into logits."""

    num_tokens: int | None = flag(doc='Size of the vocabulary.', at_least=1)
    token_emb: nn.Module | None = flag(None, 'A token embedding of your own; its `init_` is called where it has one.')
    embed_num_tokens: dict = flag(
        {},
        'Names of further embeddings, and how many ids each has; their ids come as `embed_ids`.',
        paper='1810.04805',
        example={'embed_num_tokens': {'type': 4}},
        inputs=('embed_ids',),
    )
    emb_scale: float | None = flag(
        None,
        'What embeddings of tokens are multiplied by, before positions join them.',
        paper='1706.03762',
        example={'emb_scale': 4.0},
        at_least=1e-9,
        at_most=1e9,
    )
    l2norm_embed: bool = flag(False, 'Embeddings of unit length, from a nearly zero start.', paper='1910.05895')
    tie_embedding: bool = flag(False, 'Logits by the token embedding.', paper='1608.05859')
    logits_dim: int | None = flag(None, 'Number of logits; `num_tokens` by default.', example={'logits_dim': 7}, at_least=1)
    logits_bias: bool = flag(False, 'A bias of the head.', paper='1810.04805')
    logits_mlp: bool = flag(False, "A linear map, the feed-forward's activation and a LayerNorm ahead of the head.", paper='1810.04805')
    logits_mlp_bias: bool = flag(
        True, 'Whether that map has a bias.', paper='2412.13663', example={'logits_mlp': True, 'logits_mlp_bias': False}
    )
    logits_softclamp_value: float | None = flag(
        None, 'Bound logits by a scaled tanh.', paper='2408.00118', example={'logits_softclamp_value': 1.0}, at_least=1e-6, at_most=1e9
    )
    return_only_embed: bool = flag(False, 'No head: embeddings are returned.')
    num_output_heads: int = flag(1, 'Heads, each with logits of its own.', example={'num_output_heads': 2}, at_least=1)
    to_logits: nn.Module | None = flag(None, 'A head of your own.')
    mixture_of_softmax: bool = flag(False, 'Log-probabilities of several softmaxes, mixed.', paper='1711.03953')
    mixture_of_softmax_k: int = flag(
        4, 'How many are mixed.', paper='1711.03953', example={'mixture_of_softmax': True, 'mixture_of_softmax_k': 2}, at_least=1
    )
    sigsoftmax_logits: bool = flag(False, 'Sigsoftmax instead of softmax.', paper='1805.10829')
    squeeze_out_last_dim: bool = flag(False, 'A single logit loses its axis.', example={'logits_dim': 1, 'squeeze_out_last_dim': True})

    rules: ClassVar[Rules] = (
        demands(
            'tie_embedding',
            lambda c: c.token_emb is None or isinstance(c.token_emb, TokenEmbedding),
            'only a TokenEmbedding has a table to share.',
        ),
        demands(
            'tie_embedding',
            lambda c: c.emb_dim in (None, c.stack.dim),
            'embeddings of another width than the stack (emb_dim) have no common table.',
        ),
        *vocabularies('embed_num_tokens'),
        at_most_one('return_only_embed', 'tie_embedding', 'num_output_heads', 'to_logits'),
        excludes('mixture_of_softmax', 'num_output_heads', 'a mixture is made of the logits of one head. Leave one out.'),
        excludes('logits_dim', 'tie_embedding', 'the table has as many logits as tokens. Leave one out.'),
        demands(
            'mixture_of_softmax',
            lambda c: (c.logits_dim or c.num_tokens) != 1,
            'of a single logit (logits_dim=1) every softmax is 1, whatever came in. Use logits_dim=2 or more, or leave it out.',
        ),
        demands('mixture_of_softmax_k', lambda c: c.mixture_of_softmax, 'it counts mixed softmaxes. Set {prefix}mixture_of_softmax=True.'),
        *(
            excludes(name, 'return_only_embed', NO_HEAD)
            for name in ('mixture_of_softmax', 'sigsoftmax_logits', 'squeeze_out_last_dim', 'logits_dim', *HEAD_FLAGS)
        ),
        demands('logits_mlp_bias', lambda c: c.logits_mlp, 'there is no such map. Set {prefix}logits_mlp=True.'),
        excludes('logits_bias', 'to_logits', 'a head of your own has what it has. Leave one out.'),
    )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TokenFlags, ModelFlags):
    """The flags of `TransformerWrapper` besides those of its layer stack."""


@configured(TransformerConfig)
class TransformerWrapper(Body):
    """A transformer over tokens. `forward(x (b, n) ids)` returns logits (b, n, num_tokens).

    >>> from x_transformers import Decoder, TransformerWrapper
    >>> model = TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> model(torch.randint(0, 256, (2, 16))).shape
    torch.Size([2, 16, 256])
    """

    _foreign = ()

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = TransformerConfig.of(None, (), keywords)
        dim, width = cfg.attn_layers.dim, cfg.emb_dim or cfg.attn_layers.dim
        if cfg.num_tokens is None and cfg.token_emb is None:
            raise FlagError('num_tokens=None needs a token_emb of your own; give the size of the vocabulary')
        self._keep_settings(cfg, width)
        self.num_tokens, self.l2norm_embed = cfg.num_tokens, cfg.l2norm_embed
        self.sigsoftmax_logits, self.squeeze_out_last_dim = cfg.sigsoftmax_logits, cfg.squeeze_out_last_dim
        self.has_multiple_heads = cfg.num_output_heads > 1
        self.output_is_log_prob = cfg.mixture_of_softmax
        self._emb_scale, self._logits_bound = cfg.emb_scale, cfg.logits_softclamp_value

        self.token_emb = TokenEmbedding(width, cfg.num_tokens, l2norm_embed=cfg.l2norm_embed) if cfg.token_emb is None else cfg.token_emb
        self.pos_emb = make_positions(cfg, width, cfg.l2norm_embed)
        tables = {f'{name}_embed': nn.Embedding(count, width) for name, count in cfg.embed_num_tokens.items()}
        self.embeds = Named(tables) if tables else None
        self._add_trunk(cfg, width)
        self.init_()
        self._add_recycling_and_cls(cfg)
        parts = cfg.mixture_of_softmax_k
        self.to_mixture = mixture(dim, parts) if cfg.mixture_of_softmax else None
        self.combine_mixture = nn.Linear(dim, parts, bias=False) if cfg.mixture_of_softmax else None
        self.logits_mlp = make_logits_mlp(cfg, dim) if cfg.logits_mlp else None
        self.to_logits = make_head(cfg, dim, self)
        self._add_memory_tokens(cfg)

    def init_(self) -> None:
        """Small random embeddings; called once when built."""
        if hasattr(self.token_emb, 'init_'):
            self.token_emb.init_()
        if self.l2norm_embed and isinstance(self.pos_emb, AbsolutePositionalEmbedding):
            nn.init.normal_(self.pos_emb.emb.weight, std=1e-5)

    @assignable
    def num_logits(self) -> int | None:
        """How many tokens the head tells apart; None where it is your own."""
        return count_logits(self.to_logits)

    @property
    def _has_head(self) -> bool:
        return self.to_logits is not None

    @asks(
        'return_embeddings', 'return_logits_and_embeddings', 'return_intermediates', 'return_logit_entropies', 'mask', 'return_mems',
        'return_attn', 'mems', 'mem_masks', 'recycle_steps', 'pos', 'prepend_embeds', 'prepend_mask', 'embed_ids', 'sum_embeds',
        'return_attn_z_loss', 'attn_z_loss_weight', 'seq_start_pos', 'cache', 'token_emb_kwargs', 'to_logits_kwargs',
    )  # fmt: skip
    def forward(self, x: Tensor, ask: Ask) -> Any:
        """x (b, n) token ids, all of them or with `state` the new ones; what else can be given and asked for stands in `Ask`.

        Returns logits (b, n, num_tokens) with one head, otherwise a tuple of them; embeddings without a head, or on request;
        log-probabilities with a mixture of softmaxes. What is asked for beside them comes second, in a pair.
        """
        return self._run(x, ask)

    def check_inputs(self, x: Any, ask: Ask) -> None:
        if isinstance(self.token_emb, TokenEmbedding):
            hint = 'TransformerWrapper takes token ids (batch, length)'
            check_ids('x', x, count_ids(self.token_emb), 'num_tokens', hint)
        given, known = set(ask.embed_ids or {}), {name.removesuffix('_embed') for name in self.embeds or ()}
        if given != known:
            raise InputError(f'embed_ids has ids for {sorted(given)}, expected {sorted(known)}: one entry for each of embed_num_tokens')
        for name, ids in (ask.embed_ids or {}).items():
            expect_kind(f'embed_ids[{name!r}]', ids, 'int')
            expect_broadcast(f'embed_ids[{name!r}]', ids, tuple(x.shape[:2]))
            assert self.embeds is not None
            count = count_ids(self.embeds[f'{name}_embed'])
            if count is not None and askable(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
                raise InputError(f'embed_ids[{name!r}] runs from {int(ids.min())} to {int(ids.max())}, expected 0 to {count - 1}')
        if ask.token_emb_kwargs and type(self.token_emb) is TokenEmbedding:
            raise InputError(f'token_emb_kwargs={sorted(ask.token_emb_kwargs)} has no use: only a token_emb of your own takes keywords')
        heads = self.to_logits if isinstance(self.to_logits, nn.ModuleList) else [self.to_logits]
        if ask.to_logits_kwargs and any(type(head) in (nn.Linear, TiedLogits) for head in heads):
            raise InputError(f'to_logits_kwargs={sorted(ask.to_logits_kwargs)} has no use: only a to_logits of your own takes keywords')

    def _inputs(self, batch: int, n: int) -> tuple[Any, ...]:
        return (self._ids(batch, n),)

    def _example(self, batch: int, n: int) -> Example:
        given, beside = super()._example(batch, n)
        further = {name.removesuffix('_embed'): self._ids(batch, n) for name in self.embeds or ()}
        return given, {**beside, **({'embed_ids': further} if further else {})}

    def embed_inputs(self, x: Any, ask: Ask) -> Tensor:
        z: Tensor = self.token_emb(x, **(ask.token_emb_kwargs or {}))
        z = z if self._emb_scale is None else z * self._emb_scale
        for name, ids in (ask.embed_ids or {}).items():
            assert self.embeds is not None
            z = z + self.embeds[f'{name}_embed'](ids)
        return z

    def read_in(self, x: Tensor) -> Tensor:
        return x if self.to_mixture is None else self.to_mixture(x)

    def read_out(self, x: Tensor, **kwargs: Any) -> Any:
        """Embeddings (..., dim) to logits (..., num_tokens)."""
        if self.to_logits is None:
            raise InputError('this model has no head (return_only_embed=True), so there are no logits; build it without that flag')
        x = x if self.logits_mlp is None else self.logits_mlp(x)
        if isinstance(self.to_logits, nn.ModuleList):
            return tuple(self._finished(run(head, x, **kwargs), x) for head in self.to_logits)
        return self._finished(run(self.to_logits, self.read_in(x), **kwargs), x)

    def _finished(self, logits: Tensor, x: Tensor) -> Tensor:
        """The logits of one head as they are returned."""
        if self._logits_bound is not None:
            logits = softclamp(logits, self._logits_bound)
        if self.sigsoftmax_logits:
            logits = sigsoftmax(logits)
        if self.combine_mixture is not None:
            logits = mix(logits, self.combine_mixture(x)).to(x.dtype)
        return logits.squeeze(-1) if self.squeeze_out_last_dim else logits


def mixture(dim: int, parts: int) -> nn.Module:
    """One embedding (..., dim) to one for each softmax (..., parts, dim)."""
    return nn.Sequential(nn.Linear(dim, parts * dim, bias=False), nn.Unflatten(-1, (parts, dim)))


def make_logits_mlp(cfg: TransformerConfig, dim: int) -> nn.Module:
    """What the heads of masked language models read embeddings through."""
    stack = cfg.attn_layers.config
    return nn.Sequential(nn.Linear(dim, dim, bias=cfg.logits_mlp_bias), activation_of(stack.ff), make_layer_norm(stack, dim))


def make_head(cfg: TransformerConfig, dim: int, model: nn.Module) -> nn.Module | None:
    """What makes logits of embeddings."""
    if cfg.return_only_embed:
        return None
    if cfg.tie_embedding:
        return TiedLogits(model, cfg.logits_bias)
    if cfg.to_logits is not None:
        return cfg.to_logits
    out = cfg.logits_dim or cfg.num_tokens
    if out is None:
        raise FlagError('num_tokens=None leaves the number of logits open; give logits_dim, to_logits or return_only_embed')
    if cfg.num_output_heads > 1:
        return nn.ModuleList(nn.Linear(dim, out, bias=cfg.logits_bias) for _ in range(cfg.num_output_heads))
    return nn.Linear(dim, out, bias=cfg.logits_bias)
