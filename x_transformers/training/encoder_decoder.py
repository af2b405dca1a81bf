"""XTransformer: an encoder that reads a source, and a decoder that writes a target while it looks at what was read (1706.03762)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.context import dropout_seq
from x_transformers.countable import Countable, Example
from x_transformers.errors import InputError
from x_transformers.flags import Config, Rules, configured, demands, flag, group
from x_transformers.inputs import expect, expect_optional
from x_transformers.layers import Decoder, Encoder
from x_transformers.layers_config import DecoderConfig, EncoderConfig
from x_transformers.models.transformer import TokenFlags, TransformerWrapper
from x_transformers.storable import Storable
from x_transformers.toolbox import evaluating
from x_transformers.training.autoregressive import AutoregressiveWrapper
from x_transformers.training.losses import check_targets


@dataclass(frozen=True, kw_only=True)
class SideFlags(TokenFlags):
    """The flags of one side: of its model, and (joined below) of its layer stack."""

    @property
    def stack(self) -> Any:
        """What tells `dim` and `causal`."""
        return self


@dataclass(frozen=True, kw_only=True)
class EncoderSide(SideFlags, EncoderConfig):
    """Everything that can follow `enc_`."""


@dataclass(frozen=True, kw_only=True)
class DecoderSide(SideFlags, DecoderConfig):
    """Everything that can follow `dec_`."""


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(Config):
    """The flags of `XTransformer`; those of its sides by the prefixes `enc_` and `dec_`."""

    dim: int = flag(doc='Width of both sides.', at_least=1)
    tie_token_emb: bool = flag(False, 'The decoder embeds tokens by the table of the encoder.')
    ignore_index: int = flag(-100, 'Targets with this value do not count.')
    pad_value: int = flag(0, 'Token that fills ragged prompts and what follows an end token.')
    cross_attn_tokens_dropout: float = flag(
        0.0,
        'Share of the encoded source that training takes away from the decoder.',
        example={'cross_attn_tokens_dropout': 0.5},
        at_least=0,
        at_most=1,
    )
    enc: EncoderSide = group(EncoderSide, 'enc_', shares=('dim',), fixes={'causal': False, 'return_only_embed': True})
    dec: DecoderSide = group(DecoderSide, 'dec_', shares=('dim',), fixes={'causal': True, 'cross_attend': True})

    rules: ClassVar[Rules] = (
        demands(
            'dec_cross_attn_dim_context',
            lambda c: c.dec.cross_attn.dim_context == c.dim,
            'the context is what the encoder puts out, which is as wide as dim. Leave it out.',
        ),
    )


@configured(EncoderDecoderConfig)
class XTransformer(Storable, Countable, nn.Module):
    """An encoder and a decoder. `forward(src (b, n) ids, tgt (b, m) ids)` returns the loss of the target, `generate` writes one.

    >>> from x_transformers import XTransformer
    >>> sides = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in dict(num_tokens=9, max_seq_len=16, depth=1).items()}
    >>> model = XTransformer(dim=32, **sides)
    >>> loss = model(torch.randint(0, 9, (2, 12)), torch.randint(0, 9, (2, 8)))
    >>> model.generate(torch.randint(0, 9, (2, 12)), torch.zeros(2, 1).long(), 5).shape
    torch.Size([2, 5])
    """

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = EncoderDecoderConfig.of(None, (), keywords)
        self.cross_attn_tokens_dropout = cfg.cross_attn_tokens_dropout
        self.encoder = TransformerWrapper(attn_layers=Encoder(part(cfg.enc, EncoderConfig)), **model_flags(cfg.enc))
        net = TransformerWrapper(attn_layers=Decoder(part(cfg.dec, DecoderConfig)), **model_flags(cfg.dec))
        self.decoder = AutoregressiveWrapper(net, ignore_index=cfg.ignore_index, pad_value=cfg.pad_value)
        if cfg.tie_token_emb:
            net.token_emb = self.encoder.token_emb

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        src_prepend_embeds: Tensor | None = None,
        src_condition: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Any:
        """src (b, n) and tgt (b, m) token ids: mean loss of the target in nats. mask (b, n): what is source and no padding.

        src_prepend_embeds (b, p, dim): embeddings ahead of the source. src_condition and condition (b, dim_condition): what the norms
        of encoder and decoder follow. The target's padding is told by `ignore_index`.
        """
        expect('src', src, (None, None), 'int', 'XTransformer takes token ids (batch, length)')
        expect('tgt', tgt, (src.shape[0], None), 'int', 'it has a row for each of src')
        if tgt.shape[1] < 2:
            raise InputError(f'tgt has shape {tuple(tgt.shape)}: predicting the next token needs at least two tokens')
        check_targets(tgt[:, 1:], self.decoder.ignore_index, self.decoder.net.num_logits, 'tgt')
        encoded, mask = self.encode(src, mask, attn_mask, src_prepend_embeds, src_condition)
        if self.training and self.cross_attn_tokens_dropout > 0:
            encoded, mask = dropout_seq(encoded, mask, self.cross_attn_tokens_dropout)
        return self.decoder(tgt, context=encoded, context_mask=mask, **({} if condition is None else {'condition': condition}))

    @torch.no_grad()
    def generate(
        self,
        seq_in: Tensor,
        seq_out_start: Tensor,
        seq_len: int,
        mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        src_prepend_embeds: Tensor | None = None,
        src_condition: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Continue `seq_out_start` (b, t) by up to `seq_len` tokens, looking at the source `seq_in` (b, n); returns the new ones.

        Other keywords are those of `AutoregressiveWrapper.generate`, `condition` of the decoder among them.
        """
        with evaluating(self):
            encoded, mask = self.encode(seq_in, mask, attn_mask, src_prepend_embeds, src_condition)
            return self.decoder.generate(seq_out_start, seq_len, context=encoded, context_mask=mask, **kwargs)

    def encode(
        self,
        src: Tensor,
        mask: Tensor | None,
        attn_mask: Tensor | None,
        prepend_embeds: Tensor | None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The source as the decoder sees it (b, p + n, dim), and what of it is no padding."""
        expect('src', src, (None, None), 'int', 'XTransformer takes token ids (batch, length)')
        expect_optional('mask', mask, tuple(src.shape), 'bool', 'it belongs to the source')
        given = {} if condition is None else {'condition': condition}
        encoded = self.encoder(src, mask=mask, attn_mask=attn_mask, prepend_embeds=prepend_embeds, **given)
        if mask is not None and prepend_embeds is not None:
            mask = F.pad(mask, (prepend_embeds.shape[1], 0), value=True)
        return encoded, mask

    # ------------------------------------------------------------------ counting

    @property
    def _length(self) -> int | None:
        return self.decoder.net._length

    @property
    def _remembers(self) -> Any:
        return self.decoder.net._remembers

    def _example(self, batch: int, n: int) -> Example:
        """A target of `n` tokens and one more to predict, and as long a source, or one as long as the encoder takes."""
        src, tgt = self.encoder._ids(batch, min(n, self.encoder._length or n)), self.decoder.net._ids(batch, n + 1)
        sides = {'src_condition': self.encoder, 'condition': self.decoder.net}
        followed = {name: net.attn_layers._beside(batch, n).get('condition') for name, net in sides.items()}
        return (src, tgt), {name: t for name, t in followed.items() if t is not None}


def part(side: Config, kind: type[Config]) -> Config:
    """The flags of `side` that are those of `kind`, as one."""
    return kind(**{f.name: getattr(side, f.name) for f in fields(kind)})


def model_flags(side: SideFlags) -> dict[str, Any]:
    """The flags of `side` that are those of its model."""
    return {f.name: getattr(side, f.name) for f in fields(TokenFlags)}
