"""MultiInputTransformerWrapper: several aligned sequences of tokens, embeddings summed, a head for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from x_transformers.errors import FlagError, InputError
from x_transformers.flags import Rules, configured, flag
from x_transformers.inputs import expect, expect_place
from x_transformers.models.ask import Ask, asks
from x_transformers.models.body import Body, make_positions
from x_transformers.models.checks import check_ids
from x_transformers.models.config import ModelFlags, vocabularies
from x_transformers.models.heads import Named, count_ids


@dataclass(frozen=True, kw_only=True)
class MultiInputConfig(ModelFlags):
    """The flags of `MultiInputTransformerWrapper` besides those of its layer stack."""

    num_tokens: dict = flag({}, 'Names of the inputs, and the size of the vocabulary of each; there must be one.')
    return_only_embed: bool = flag(False, 'No heads: embeddings are returned.')

    rules: ClassVar[Rules] = vocabularies('num_tokens')


@configured(MultiInputConfig)
class MultiInputTransformerWrapper(Body):
    """A transformer over several aligned sequences. `forward({name: (b, n) ids})` returns {name: logits (b, n, vocabulary)}.

    >>> from x_transformers import Decoder, MultiInputTransformerWrapper
    >>> model = MultiInputTransformerWrapper(num_tokens={'pitch': 12, 'length': 5}, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> logits = model({'pitch': torch.randint(0, 12, (2, 16)), 'length': torch.randint(0, 5, (2, 16))})
    >>> logits['length'].shape
    torch.Size([2, 16, 5])
    """

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = MultiInputConfig.of(None, (), keywords)
        if not cfg.num_tokens:
            raise FlagError('num_tokens={} leaves no input; give a name and a vocabulary, as in dict(note=128)')
        dim, width = cfg.attn_layers.dim, cfg.emb_dim or cfg.attn_layers.dim
        self._keep_settings(cfg, width)
        self.num_tokens = cfg.num_tokens
        self.pos_emb = make_positions(cfg, width)
        self.embeds = Named({f'{name}_embed': nn.Embedding(count, width) for name, count in cfg.num_tokens.items()})
        self._add_trunk(cfg, width)
        self._add_recycling_and_cls(cfg)
        heads = {} if cfg.return_only_embed else {name: nn.Linear(dim, count, bias=False) for name, count in cfg.num_tokens.items()}
        self.to_logits = Named(heads) if heads else None
        self._add_memory_tokens(cfg)

    @property
    def _has_head(self) -> bool:
        return self.to_logits is not None

    @asks(
        'return_embeddings', 'return_logits_and_embeddings', 'return_intermediates', 'mask', 'return_mems', 'return_attn', 'mems',
        'mem_masks', 'pos', 'prepend_embeds', 'prepend_mask', 'sum_embeds', 'return_attn_z_loss', 'attn_z_loss_weight', 'seq_start_pos',
        'cache',
    )  # fmt: skip
    def forward(self, x: dict[str, Tensor], ask: Ask) -> Any:
        """x {name: (b, n) ids} for every input, all of them or with `state` the new ones; what else can be given and asked for stands
        in `Ask`."""
        return self._run(x, ask)

    def check_inputs(self, x: Any, ask: Ask) -> None:
        names = list(self.num_tokens)
        if not isinstance(x, dict) or set(x) != set(names):
            got = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise InputError(f'x is {got}, expected a dict with the ids of each of {names}')
        for name in names:
            count, hint = count_ids(self.embeds[f'{name}_embed']), 'MultiInputTransformerWrapper takes token ids (batch, length)'
            check_ids(f'x[{name!r}]', x[name], count, f'num_tokens[{name!r}]', hint)
            expect(f'x[{name!r}]', x[name], tuple(x[names[0]].shape), 'int', f'all inputs have the shape of {names[0]!r}')
            expect_place({f'x[{name!r}]': x[name]}, x[names[0]])

    def _inputs(self, batch: int, n: int) -> tuple[Any, ...]:
        return ({name: self._ids(batch, n) for name in self.num_tokens},)

    def embed_inputs(self, x: Any, ask: Ask) -> Tensor:
        return sum(self.embeds[f'{name}_embed'](x[name].long()) for name in self.num_tokens)

    def read_out(self, x: Tensor, **kwargs: Any) -> Any:
        """Embeddings (..., dim) to the logits (..., vocabulary) of every input."""
        if self.to_logits is None:
            raise InputError('this model has no head (return_only_embed=True), so there are no logits; build it without that flag')
        return {name: self.to_logits[name](x, **kwargs) for name in self.num_tokens}
