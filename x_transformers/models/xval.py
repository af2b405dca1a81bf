"""XValTransformerWrapper: tokens of which some are numbers, by magnitude instead of by digits (xVal, 2310.02989)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.flags import Rules, configured, demands, excludes, flag
from x_transformers.inputs import expect, expect_place
from x_transformers.models.ask import Ask, asks
from x_transformers.models.body import Body, assignable, make_positions
from x_transformers.models.checks import check_ids
from x_transformers.models.config import ModelFlags
from x_transformers.models.heads import TiedLogits, calc_entropy, count_ids, count_logits
from x_transformers.positions.embeddings import TokenEmbedding


@dataclass(frozen=True, kw_only=True)
class XValConfig(ModelFlags):
    """The flags of `XValTransformerWrapper` besides those of its layer stack."""

    num_tokens: int = flag(doc='Size of the vocabulary.', at_least=1)
    numerical_token_id: int = flag(doc='The token that stands for a number.', at_least=0)
    logits_dim: int | None = flag(None, 'Number of logits; `num_tokens` by default.', example={'logits_dim': 7}, at_least=1)
    tie_embedding: bool = flag(False, 'Logits by the token embedding.', paper='1608.05859')

    rules: ClassVar[Rules] = (
        demands(
            'tie_embedding',
            lambda c: c.emb_dim in (None, c.stack.dim),
            'embeddings of another width than the stack have no common table.',
        ),
        excludes('logits_dim', 'tie_embedding', 'the table has as many logits as tokens. Leave one out.'),
        demands('numerical_token_id', lambda c: c.numerical_token_id < c.num_tokens, 'it must be a token. Use less than num_tokens.'),
    )

    @property
    def has_positions(self) -> bool:
        """Sinusoids need no length, and stay with a max_seq_len of 0 as they do in 2.0.1."""
        return self.max_seq_len > 0 or self.scaled_sinu_pos_emb


@configured(XValConfig)
class XValTransformerWrapper(Body):
    """A transformer over tokens and numbers. `forward(x (b, n) ids, x_num (b, n))` returns logits (b, n, num_tokens) and numbers (b, n).

    The embedding of the numerical token is multiplied by the number that stands there; elsewhere `x_num` is not looked at.

    >>> from x_transformers import Decoder, XValTransformerWrapper
    >>> model = XValTransformerWrapper(num_tokens=9, numerical_token_id=3, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> logits, numbers = model(torch.randint(0, 9, (2, 16)), torch.randn(2, 16))
    >>> logits.shape, numbers.shape
    (torch.Size([2, 16, 9]), torch.Size([2, 16]))
    """

    _accumulates_mems = False

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = XValConfig.of(None, (), keywords)
        dim, width = cfg.attn_layers.dim, cfg.emb_dim or cfg.attn_layers.dim
        self._keep_settings(cfg, width)
        self.num_tokens, self.numerical_token_id = cfg.num_tokens, cfg.numerical_token_id
        self.token_emb = TokenEmbedding(width, cfg.num_tokens)
        self.pos_emb = make_positions(cfg, width)
        self._add_trunk(cfg, width)
        self._add_recycling_and_cls(cfg)
        self._add_memory_tokens(cfg)
        self.to_logits = TiedLogits(self) if cfg.tie_embedding else nn.Linear(dim, cfg.logits_dim or cfg.num_tokens)
        self.to_numerical_output = nn.Sequential(nn.Linear(dim, 1), nn.Flatten(-2))

    @assignable
    def num_logits(self) -> int | None:
        """How many tokens the head tells apart; None where it is your own."""
        return count_logits(self.to_logits)

    @asks(
        'return_embeddings', 'return_intermediates', 'return_mems', 'mask', 'return_attn', 'mems', 'pos', 'prepend_embeds',
    )  # fmt: skip
    def forward(self, x: Tensor, x_num: Tensor, ask: Ask) -> Any:
        """x (b, n) token ids with numbers x_num (b, n), all of them or with `state` the new ones; what else can be given and asked for
        stands in `Ask`."""
        return self._run((x, x_num), ask)

    def check_inputs(self, x: Any, ask: Ask) -> None:
        ids, numbers = x
        check_ids('x', ids, count_ids(self.token_emb), 'num_tokens', 'XValTransformerWrapper takes token ids and numbers (batch, length)')
        expect('x_num', numbers, tuple(ids.shape), 'float', 'it has a number for each token of x')
        expect_place({'x_num': numbers}, ids)

    def _inputs(self, batch: int, n: int) -> tuple[Any, ...]:
        return self._ids(batch, n), self._zeros(batch, n)

    def embed_inputs(self, x: Any, ask: Ask) -> Tensor:
        ids, numbers = x
        z = self.token_emb(ids)
        # chosen, not multiplied: what stands beside a token that is no number may be NaN
        scale = torch.where(ids == self.numerical_token_id, numbers.to(z.dtype), 1.0)
        return z * scale[..., None]

    def read_out(self, x: Tensor, **kwargs: Any) -> Any:
        """Embeddings (..., dim) to logits (..., num_tokens) and numbers (...)."""
        return self.to_logits(x, **kwargs), self.to_numerical_output(x)

    def _entropies(self, outputs: Any) -> Any:
        return calc_entropy(outputs[0])
