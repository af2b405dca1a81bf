"""TransformerWrapper: tokens to embeddings, a layer stack, embeddings to logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.errors import DecodeError, FlagError, InputError
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect, expect_broadcast, expect_optional
from x_transformers.layers import AttentionLayers, LayerIntermediates
from x_transformers.models.heads import TiedLogits, calc_entropy, calc_z_loss
from x_transformers.models.memory_tokens import prepend, strip
from x_transformers.norms import LayerNorm
from x_transformers.positions.embeddings import AbsolutePositionalEmbedding, ScaledSinusoidalEmbedding, TokenEmbedding
from x_transformers.state import StackState


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """The flags of `TransformerWrapper` besides those of its layer stack."""

    num_tokens: int | None = flag(doc='Size of the vocabulary.', at_least=1)
    max_seq_len: int = flag(doc='Longest sequence; 0 switches absolute positions off.', at_least=0)
    attn_layers: AttentionLayers = flag(doc='The layer stack.')
    emb_dim: int | None = flag(None, 'Width of the embeddings; `dim` by default.', paper='1909.11942', example={'emb_dim': 12}, at_least=1)
    max_mem_len: int = flag(0, 'Positions kept in the memories that are returned; 0 keeps all.', paper='1901.02860', at_least=0)
    shift_mem_down: int = flag(0, 'Each layer reads the memory of the layer so many above.', paper='2012.15688', at_least=0)
    emb_dropout: float = flag(0.0, 'Dropout of embeddings.', example={'emb_dropout': 0.5}, at_least=0, at_most=1)
    post_emb_norm: bool = flag(False, 'LayerNorm of the summed embeddings.', paper='2211.05100')
    num_memory_tokens: int | None = flag(
        None, 'Learned tokens ahead of the sequence.', paper='2006.11527', example={'num_memory_tokens': 2}, at_least=0
    )
    tie_embedding: bool = flag(False, 'Logits by the token embedding.', paper='1608.05859')
    logits_dim: int | None = flag(None, 'Number of logits; `num_tokens` by default.', example={'logits_dim': 7}, at_least=1)
    return_only_embed: bool = flag(False, 'No head: embeddings are returned.')
    use_abs_pos_emb: bool = flag(
        True, 'Add absolute positions, unless the stack brings relative ones.', paper='2203.16634', example={'use_abs_pos_emb': False}
    )
    scaled_sinu_pos_emb: bool = flag(False, 'Sinusoids with a learned scale instead of learned positions.', paper='2202.10447')
    l2norm_embed: bool = flag(False, 'Embeddings of unit length, from a nearly zero start.', paper='1910.05895')
    token_emb: nn.Module | None = flag(None, 'A token embedding of your own; its `init_` is called where it has one.')
    to_logits: nn.Module | None = flag(None, 'A head of your own.')

    rules: ClassVar[Rules] = (
        demands(
            'tie_embedding',
            lambda c: c.token_emb is None or isinstance(c.token_emb, TokenEmbedding),
            'only a TokenEmbedding has a table to share.',
        ),
        demands(
            'tie_embedding',
            lambda c: c.emb_dim in (None, c.attn_layers.dim),
            'embeddings of another width than the stack have no common table.',
        ),
    )


@configured(TransformerConfig)
class TransformerWrapper(nn.Module):
    """A transformer over tokens. `forward(x (b, n) ids)` returns logits (b, n, num_tokens).

    >>> from x_transformers import Decoder, TransformerWrapper
    >>> model = TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> model(torch.randint(0, 256, (2, 16))).shape
    torch.Size([2, 16, 256])
    """

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = TransformerConfig.of(None, (), keywords)
        dim, width = cfg.attn_layers.dim, cfg.emb_dim or cfg.attn_layers.dim
        if cfg.num_tokens is None and cfg.token_emb is None:
            raise FlagError('num_tokens=None needs a token_emb of your own; give the size of the vocabulary')
        self.emb_dim, self.num_tokens, self.max_seq_len = width, cfg.num_tokens, cfg.max_seq_len
        self.max_mem_len, self.shift_mem_down, self.l2norm_embed = cfg.max_mem_len, cfg.shift_mem_down, cfg.l2norm_embed
        self.num_memory_tokens = cfg.num_memory_tokens or 0
        self.output_is_log_prob = False

        if self.num_memory_tokens:
            self.memory_tokens = nn.Parameter(torch.randn(self.num_memory_tokens, dim))
        self.token_emb = TokenEmbedding(width, cfg.num_tokens, l2norm_embed=cfg.l2norm_embed) if cfg.token_emb is None else cfg.token_emb
        self.pos_emb = make_positions(cfg, width)
        self.post_emb_norm = LayerNorm(width) if cfg.post_emb_norm else nn.Identity()
        self.emb_dropout = nn.Dropout(cfg.emb_dropout)
        self.project_emb = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.attn_layers = cfg.attn_layers
        self.to_logits = make_head(cfg, dim)
        self.init_()

    def init_(self) -> None:
        """Small random embeddings; called once when built."""
        if hasattr(self.token_emb, 'init_'):
            self.token_emb.init_()
        if self.l2norm_embed and isinstance(self.pos_emb, AbsolutePositionalEmbedding):
            nn.init.normal_(self.pos_emb.emb.weight, std=1e-5)

    # ------------------------------------------------------------------ decoding

    @property
    def can_cache_kv(self) -> bool:
        return self.attn_layers.can_cache_kv

    @property
    def can_cache_kv_outside_max_seq_len(self) -> bool:
        return self.pos_emb is None and not self.num_memory_tokens

    @property
    def num_logits(self) -> int | None:
        """How many tokens the head tells apart; None where it is your own."""
        if self.config.to_logits is not None and not self.config.tie_embedding:
            return None
        return self.num_tokens if self.config.tie_embedding else self.config.logits_dim or self.num_tokens

    def empty_state(self, capacity: int | None = None) -> StackState:
        """The state before the first token; `capacity` preallocates room for so many tokens."""
        return self.attn_layers.empty_state(None if capacity is None else capacity + self.num_memory_tokens)

    # ------------------------------------------------------------------ forward

    def forward(
        self,
        x: Tensor,
        return_embeddings: bool = False,
        return_logits_and_embeddings: bool = False,
        return_intermediates: bool = False,
        return_logit_entropies: bool = False,
        mask: Tensor | None = None,
        return_mems: bool = False,
        return_attn: bool = False,
        mems: Sequence[Tensor | None] | None = None,
        mem_masks: Sequence[Tensor | None] | None = None,
        pos: Tensor | None = None,
        prepend_embeds: Tensor | None = None,
        prepend_mask: Tensor | None = None,
        sum_embeds: Tensor | None = None,
        return_attn_z_loss: bool = False,
        attn_z_loss_weight: float = 1e-4,
        seq_start_pos: Tensor | None = None,
        cache: LayerIntermediates | None = None,
        input_not_include_cache: bool = False,
        state: StackState | None = None,
        return_state: bool = False,
        **kwargs: Any,
    ) -> Any:
        """x (b, n) token ids: all tokens, or with `state` the new ones.

        mask (b, n) bool: padding. mems, mem_masks: one (b, m, dim), (b, m) per self-attention. pos: positions as
        long (n,) or (b, n), or a float position embedding of your own. prepend_embeds (b, p, emb_dim) with
        prepend_mask (b, p). sum_embeds: added to embeddings. seq_start_pos (b,): tokens of left padding.
        cache: intermediates of an earlier call. `x` is then the whole sequence so far, or, when it is no longer than
        what is remembered or input_not_include_cache says so, the new tokens. Other inputs go to the
        layer stack: context, context_mask, attn_mask, self_attn_kv_mask, attn_bias, layers_execute_order ...

        Returns logits (b, n, num_tokens), or embeddings; with return_state `(logits, state)`; with return_mems
        `(logits, mems)`; with return_intermediates `(logits, LayerIntermediates)`; with return_attn `(logits, maps)`.
        """
        if cache is not None:
            state = self.attn_layers.state_of(cache)
            if not input_not_include_cache:
                x, mask, pos, sum_embeds, hidden = self.new_part(x, state, mask, pos, sum_embeds, kwargs.get('self_attn_kv_mask'))
                kwargs.update({} if hidden is None else {'self_attn_kv_mask': hidden})
            kwargs.update(cache=cache, cache_age=x.shape[1] + (0 if prepend_embeds is None or state.length else prepend_embeds.shape[1]))
        self.check(x, mask, prepend_embeds, prepend_mask)
        check_positions(x, pos, seq_start_pos, self.max_seq_len if isinstance(self.pos_emb, AbsolutePositionalEmbedding) else None)
        if return_logits_and_embeddings:
            self.expect_head()
        if sum_embeds is not None:
            expect_broadcast('sum_embeds', sum_embeds, (*x.shape[:2], self.emb_dim))
        first = state is None or state.length == 0
        seen = 0 if state is None or first else state.seen
        if state is not None and seq_start_pos is None:
            seq_start_pos = state.padding
        z = self.embed(x, seen, pos, sum_embeds, seq_start_pos)
        extra = self.num_memory_tokens if first else 0
        if prepend_embeds is not None and first:
            z, mask, seq_start_pos, kwargs = with_prepended(z, x, mask, prepend_embeds, prepend_mask, seq_start_pos, kwargs)
            extra += prepend_embeds.shape[1]
        z = self.project_emb(self.emb_dropout(z))
        memory = self.num_memory_tokens if first else 0
        if memory:
            check_first_chunk(x, seq_start_pos, memory)
            z = prepend(self.memory_tokens, z, seq_start_pos)
            mask = None if mask is None else torch.nn.functional.pad(mask, (memory, 0), value=True)
            kwargs = with_memory_visible(kwargs, memory)
        if mems is not None and self.shift_mem_down and first:
            mems = [*mems[self.shift_mem_down :], *mems[: self.shift_mem_down]]

        watch = return_intermediates or return_logit_entropies or return_attn_z_loss or return_mems or return_attn
        maps = True if return_attn or return_attn_z_loss else None if return_intermediates else False
        inputs = {
            'mask': mask,
            'mems': mems,
            'mem_masks': mem_masks,
            'seq_start_pos': seq_start_pos,
            'state': state if cache is None else None,
        }
        out = self.attn_layers(z, **inputs, return_hiddens=watch, return_maps=maps, return_state=return_state, **kwargs)
        embeds, seen_state = out if isinstance(out, tuple) else (out, None)
        intermediates = seen_state if isinstance(seen_state, LayerIntermediates) else LayerIntermediates(state=seen_state)
        if extra and intermediates.state is not None:
            intermediates.state = replace(intermediates.state, extra=extra)
        if memory:
            intermediates.memory_tokens, embeds = strip(embeds, memory, seq_start_pos)

        wants_logits = not return_embeddings and self.to_logits is not None
        logits = self.logits(embeds) if wants_logits or return_logits_and_embeddings else None
        result = (logits, embeds) if return_logits_and_embeddings else logits if wants_logits else embeds
        if return_logit_entropies:
            intermediates.logit_entropies = calc_entropy(self.logits(embeds) if logits is None else logits)
        if return_attn_z_loss:
            scores = [seen.pre_softmax_attn for seen in intermediates.attn_intermediates or ()]
            intermediates.attn_z_loss = calc_z_loss(scores, weight=attn_z_loss_weight)  # type: ignore[arg-type]
        if return_mems:
            intermediates.mems = self.new_mems(intermediates.memories or [], mems)
        if return_intermediates or return_logit_entropies or return_attn_z_loss:
            return result, intermediates
        if return_mems:
            return (result, intermediates.mems, intermediates.state) if return_state else (result, intermediates.mems)
        if return_attn:
            return result, [seen.post_softmax_attn for seen in intermediates.attn_intermediates or ()]
        return (result, intermediates.state) if return_state else result

    def embed(self, x: Tensor, seen: int, pos: Tensor | None, sum_embeds: Tensor | None, seq_start_pos: Tensor | None) -> Tensor:
        """Token ids (b, n), after `seen` earlier ones, to embeddings (b, n, emb_dim)."""
        if pos is not None and pos.is_floating_point():
            position: Any = pos
        elif self.pos_emb is None:
            position = 0.0
        else:
            if seen and pos is None:
                pos = torch.arange(seen, seen + x.shape[1], device=x.device)
            self.check_length(x.shape[1] if pos is None else seen + x.shape[1])
            position = self.pos_emb(x, pos=pos, seq_start_pos=seq_start_pos)
        z = self.token_emb(x) + position
        return self.post_emb_norm(z if sum_embeds is None else z + sum_embeds)

    def logits(self, x: Tensor) -> Tensor:
        """Embeddings (..., dim) to logits (..., num_tokens)."""
        self.expect_head()
        assert self.to_logits is not None
        return self.to_logits(x, self.token_emb.emb.weight) if isinstance(self.to_logits, TiedLogits) else self.to_logits(x)

    def expect_head(self) -> None:
        if self.to_logits is None:
            raise InputError('this model has no head (return_only_embed=True), so there are no logits; build it without that flag')

    def new_mems(self, memories: Sequence[Tensor], mems: Sequence[Tensor | None] | None) -> list[Tensor]:
        """What the next segment gets as `mems`: each self-attention's inputs, with the memory it had."""
        before = [*(mems or ()), *(None for _ in memories)]
        joined = [new if m is None else torch.cat((m, new), dim=1) for m, new in zip(before, memories, strict=False)]
        return [t[:, -self.max_mem_len :].detach() for t in joined]

    # ------------------------------------------------------------------ checks

    def new_part(self, x: Tensor, state: StackState, *beside: Tensor | None) -> tuple[Any, ...]:
        """The new tokens of `x`, which is the whole sequence where it is longer than what is remembered."""
        n = x.shape[1]
        new = n - state.remembered if n > state.remembered else n
        cut = lambda t: t if t is None or t.ndim < 2 or t.shape[1] != n else t[:, n - new :]
        mask, pos, sum_embeds, hidden = beside
        pos = pos[n - new :] if pos is not None and pos.ndim == 1 and pos.shape[0] == n else cut(pos)
        return x[:, n - new :], cut(mask), pos, cut(sum_embeds), cut(hidden)

    def check(self, x: Tensor, mask: Tensor | None, prepend_embeds: Tensor | None, prepend_mask: Tensor | None) -> None:
        if isinstance(self.token_emb, TokenEmbedding):
            expect('x', x, (None, None), 'int', 'TransformerWrapper takes token ids (batch, length)')
            if 0 in x.shape:
                raise InputError(f'x has shape {tuple(x.shape)}: there must be at least one sequence of at least one token')
            if askable(x):
                check_range(x, self.token_emb.emb.num_embeddings)
        expect_optional('mask', mask, tuple(x.shape[:2]), 'bool')
        if prepend_embeds is not None:
            expect('prepend_embeds', prepend_embeds, (x.shape[0], None, self.emb_dim), 'float')
            expect_optional('prepend_mask', prepend_mask, tuple(prepend_embeds.shape[:2]), 'bool')

    def check_length(self, total: int) -> None:
        if isinstance(self.pos_emb, AbsolutePositionalEmbedding) and total > self.max_seq_len:
            raise InputError(
                f'a sequence of {total} tokens is longer than max_seq_len={self.max_seq_len}, for which absolute positions were made; '
                'shorten it, raise max_seq_len, or use relative positions (rotary_pos_emb=True)'
            )


def askable(t: Tensor) -> bool:
    """Whether a question to a tensor is free: elsewhere it would stop the device, or break a compiled graph."""
    return t.device.type == 'cpu' and not torch.compiler.is_compiling()


def check_positions(x: Tensor, pos: Tensor | None, seq_start_pos: Tensor | None, limit: int | None) -> None:
    """Positions are long indices, or an embedding of your own; padding is a number per row."""
    if pos is not None and not pos.is_floating_point() and pos.dtype != torch.long:
        raise InputError(f'pos has dtype {pos.dtype}, expected torch.long indices, or a float position embedding')
    if pos is not None and not pos.is_floating_point() and limit and askable(pos):
        low, high = int(pos.min()), int(pos.max())
        if low < 0 or high >= limit:
            raise InputError(f'pos runs from {low} to {high}, expected 0 to {limit - 1} (max_seq_len={limit})')
    n = x.shape[1]
    if pos is not None and pos.shape[-2 if pos.is_floating_point() else -1] not in (1, n):
        raise InputError(f'pos has shape {tuple(pos.shape)}, expected a position for each of {n} tokens')
    expect_optional('seq_start_pos', seq_start_pos, (x.shape[0],), 'int', 'it is the number of padding tokens of each row')


def check_first_chunk(x: Tensor, seq_start_pos: Tensor | None, memory: int) -> None:
    """Memory tokens stand between the padding and the first token of each row, so the first call must reach it."""
    if seq_start_pos is not None and askable(seq_start_pos) and int(seq_start_pos.max()) > x.shape[1]:
        raise DecodeError(
            f'the first call has {x.shape[1]} tokens, all padding in a row of seq_start_pos={seq_start_pos.tolist()}; with '
            f'num_memory_tokens={memory} it must reach the first token of every row'
        )


def check_range(x: Tensor, num_tokens: int) -> None:
    """Every token id must be one of the vocabulary."""
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= num_tokens:
        wrong = low if low < 0 else high
        raise InputError(
            f'x holds the token id {wrong}, but num_tokens={num_tokens}: ids run from 0 to {num_tokens - 1}; mend them or raise num_tokens'
        )


def make_positions(cfg: TransformerConfig, width: int) -> nn.Module | None:
    """Absolute positions, where wanted."""
    if cfg.max_seq_len == 0 or not cfg.use_abs_pos_emb or cfg.attn_layers.disable_abs_pos_emb:
        return None
    if cfg.scaled_sinu_pos_emb:
        return ScaledSinusoidalEmbedding(width)
    return AbsolutePositionalEmbedding(width, cfg.max_seq_len, l2norm_embed=cfg.l2norm_embed)


def make_head(cfg: TransformerConfig, dim: int) -> nn.Module | None:
    """What makes logits of embeddings."""
    if cfg.return_only_embed:
        return None
    if cfg.tie_embedding:
        return TiedLogits()
    if cfg.to_logits is not None:
        return cfg.to_logits
    out = cfg.logits_dim or cfg.num_tokens
    if out is None:
        raise FlagError('num_tokens=None leaves the number of logits open; give logits_dim, to_logits or return_only_embed')
    return nn.Linear(dim, out, bias=False)


def with_prepended(
    z: Tensor, x: Tensor, mask: Tensor | None, embeds: Tensor, embeds_mask: Tensor | None, start: Tensor | None, kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor | None, Tensor | None, dict[str, Any]]:
    """Embeddings ahead of those of the tokens, and the masks that go with them."""
    if start is not None:
        raise DecodeError(
            'prepend_embeds cannot be combined with seq_start_pos or prompt_lens: padding would stand between them and the tokens'
        )
    ones = lambda t: torch.ones(t.shape[:2], dtype=torch.bool, device=z.device)
    if mask is not None or embeds_mask is not None:
        mask = torch.cat((ones(embeds) if embeds_mask is None else embeds_mask, ones(x) if mask is None else mask), dim=1)
    return torch.cat((embeds.to(z.dtype), z), dim=1), mask, start, with_memory_visible(kwargs, embeds.shape[1])


def with_memory_visible(kwargs: dict[str, Any], count: int) -> dict[str, Any]:
    """What counts or masks tokens, extended over `count` entries ahead, which can be seen."""
    moved = dict(kwargs)
    if moved.get('self_attn_kv_mask') is not None:
        moved['self_attn_kv_mask'] = torch.nn.functional.pad(moved['self_attn_kv_mask'], (count, 0), value=True)
    if moved.get('prefix_attn_len') is not None:
        moved['prefix_attn_len'] = moved['prefix_attn_len'] + count
    return moved
