"""ContinuousTransformerWrapper: vectors in, vectors out, or the mean and variance of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.errors import InputError
from x_transformers.flags import Rules, configured, demands, flag
from x_transformers.inputs import expect, expect_dtype
from x_transformers.models.ask import Ask, asks
from x_transformers.models.body import Body, make_positions
from x_transformers.models.config import ModelFlags


@dataclass(frozen=True, kw_only=True)
class ContinuousConfig(ModelFlags):
    """The flags of `ContinuousTransformerWrapper` besides those of its layer stack."""

    emb_dim: int | None = flag(None, 'Taken and unused, as in 2.0.1: vectors are projected to `dim` at once.', at_least=1)
    dim_in: int | None = flag(None, 'Width of the inputs, where it is not that of the stack.', example={'dim_in': 5}, at_least=1)
    dim_out: int | None = flag(None, 'Width of the outputs, where it is not that of the stack.', example={'dim_out': 3}, at_least=1)
    probabilistic: bool = flag(False, 'Outputs are means and variances, stacked.', example={'dim_out': 3, 'probabilistic': True})

    rules: ClassVar[Rules] = (demands('probabilistic', lambda c: c.dim_out, 'a head must make mean and variance. Set dim_out.'),)


class MeanAndVariance(nn.Linear):
    """(..., dim) to (2, ..., dim_out): the means, then the variances. Its rows are (mean, log-variance) of each feature in turn."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__(dim, 2 * dim_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = super().forward(x).unflatten(-1, (-1, 2)).unbind(dim=-1)
        return torch.stack((mean, log_variance.exp()))


@configured(ContinuousConfig)
class ContinuousTransformerWrapper(Body):
    """A transformer over vectors. `forward(x (b, n, dim_in))` returns (b, n, dim_out), or (2, b, n, dim_out) where probabilistic.

    >>> from x_transformers import ContinuousTransformerWrapper, Encoder
    >>> model = ContinuousTransformerWrapper(dim_in=6, dim_out=4, max_seq_len=64, attn_layers=Encoder(dim=32, depth=1))
    >>> model(torch.randn(2, 16, 6)).shape
    torch.Size([2, 16, 4])
    """

    _accumulates_mems = False

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = ContinuousConfig.of(None, (), keywords)
        dim = cfg.attn_layers.dim
        self._keep_settings(cfg, dim)
        self.dim_in, self.dim_out = cfg.dim_in or dim, cfg.dim_out or dim
        self.probabilistic = cfg.probabilistic
        self.pos_emb = make_positions(cfg, dim)
        self._add_trunk(cfg, dim)
        self._add_recycling_and_cls(cfg)
        self._add_memory_tokens(cfg)
        self.project_in = nn.Linear(cfg.dim_in, dim, bias=False) if cfg.dim_in else nn.Identity()
        head = MeanAndVariance(dim, cfg.dim_out) if cfg.probabilistic else None
        self.project_out = head or (nn.Linear(dim, cfg.dim_out, bias=False) if cfg.dim_out else nn.Identity())

    @asks(
        'return_embeddings', 'return_intermediates', 'return_mems', 'mask', 'return_attn', 'mems', 'mem_masks', 'pos', 'prepend_embeds',
        'prepend_mask',
    )  # fmt: skip
    def forward(self, x: Tensor, ask: Ask) -> Any:
        """x (b, n, dim_in) vectors, all of them or with `state` the new ones; what else can be given and asked for stands in `Ask`."""
        return self._run(x, ask)

    def check_inputs(self, x: Any, ask: Ask) -> None:
        expect('x', x, (None, None, self.dim_in), 'float', f'ContinuousTransformerWrapper takes vectors (batch, length, {self.dim_in})')
        expect_dtype('x', x, self)
        if 0 in x.shape:
            raise InputError(f'x has shape {tuple(x.shape)}: there must be at least one sequence of at least one vector')
        if ask.return_logit_entropies:
            raise InputError('return_logit_entropies=True has no meaning here: vectors are no logits; leave it out')

    def _inputs(self, batch: int, n: int) -> tuple[Any, ...]:
        return (self._zeros(batch, n, self.dim_in),)

    def embed_inputs(self, x: Any, ask: Ask) -> Tensor:
        return self.project_in(x)

    def read_out(self, x: Tensor, **kwargs: Any) -> Any:
        """Embeddings (..., dim) to vectors (..., dim_out)."""
        return self.project_out(x, **kwargs)
