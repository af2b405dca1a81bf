"""NeoMLP: an MLP as a transformer over its neurons (2412.08731)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.countable import Countable, Example
from x_transformers.errors import InputError
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect_dtype, expect_kind, expect_switch
from x_transformers.layers import Encoder
from x_transformers.storable import Storable


@dataclass(frozen=True, kw_only=True)
class NeoMLPConfig(Config):
    """The flags of `NeoMLP`."""

    dim_in: int = flag(doc='Number of input neurons.', at_least=1)
    dim_hidden: int = flag(doc='Number of hidden neurons.', at_least=0)
    dim_out: int = flag(doc='Number of output neurons.', at_least=1)
    dim_model: int = flag(doc='Width of a neuron.', at_least=1)
    depth: int = flag(doc='Blocks of the encoder.', at_least=1)
    encoder_kwargs: dict[str, Any] = flag(
        {'attn_dim_head': 16, 'heads': 4}, 'Flags of the encoder.', example={'encoder_kwargs': {'attn_dim_head': 8, 'heads': 2}}
    )

    rules: ClassVar[Rules] = (
        demands(
            'encoder_kwargs',
            lambda c: all(isinstance(name, str) for name in c.encoder_kwargs) and not {'dim', 'depth'} & set(c.encoder_kwargs),
            'it holds other flags than the width and the depth. Use dim_model and depth.',
        ),
    )


class RandomFourierEmbed(nn.Module):
    """Numbers (...) to random cosine features (..., dim), which do not learn (2006.10739)."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Linear(1, dim).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(2 * math.pi * self.proj(x[..., None]))


@configured(NeoMLPConfig)
class NeoMLP(Storable, Countable, nn.Module):
    """Input, hidden and output neurons attend to each other. `forward(x (b, dim_in))` returns (b, dim_out).

    >>> NeoMLP(dim_in=5, dim_hidden=7, dim_out=3, dim_model=32, depth=2)(torch.randn(4, 5)).shape
    torch.Size([4, 3])
    """

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = NeoMLPConfig.of(None, (), keywords)
        neurons = lambda count: nn.Parameter(0.02 * torch.randn(count, cfg.dim_model))
        self.input_embed, self.hidden_embed, self.output_embed = map(neurons, (cfg.dim_in, cfg.dim_hidden, cfg.dim_out))
        self.random_fourier = nn.Sequential(RandomFourierEmbed(cfg.dim_model), nn.Linear(cfg.dim_model, cfg.dim_model))
        self.transformer = Encoder(dim=cfg.dim_model, depth=cfg.depth, **cfg.encoder_kwargs)
        self.to_output_weights = nn.Parameter(torch.randn(cfg.dim_out, cfg.dim_model))
        self.to_output_bias = nn.Parameter(torch.zeros(cfg.dim_out))
        self._sizes = (cfg.dim_in, cfg.dim_hidden, cfg.dim_out)

    def forward(self, x: Tensor, return_embeds: bool = False) -> Any:
        """x (b, dim_in) or (dim_in,) -> outputs (b, dim_out) or (dim_out,); with return_embeds also those of all three layers."""
        width = self._sizes[0]
        if not isinstance(x, Tensor) or x.ndim not in (1, 2) or x.shape[-1] != width or 0 in x.shape:
            got = f'has shape {tuple(x.shape)}' if isinstance(x, Tensor) else f'is a {type(x).__name__}'
            raise InputError(f'x {got}, expected ({width},) or (batch, {width}): dim_in={width} numbers')
        expect_kind('x', x, 'float')
        expect_dtype('x', x, self)
        expect_switch('return_embeds', return_embeds)
        rows = x if x.ndim == 2 else x[None]
        inputs = self.random_fourier(rows) + self.input_embed
        rest = torch.cat((self.hidden_embed, self.output_embed)).expand(len(rows), -1, -1)
        embeds = self.transformer(torch.cat((inputs, rest), dim=1)).split(self._sizes, dim=1)
        y = (embeds[-1] * self.to_output_weights).sum(dim=-1) + self.to_output_bias  # b o
        y = y if x.ndim == 2 else y[0]
        return (y, embeds) if return_embeds else y

    # ------------------------------------------------------------------ counting

    _takes_length = False

    @property
    def _length(self) -> int | None:
        return sum(self._sizes)

    def _example(self, batch: int, n: int) -> Example:
        return (self._zeros(batch, self._sizes[0]),), {}
