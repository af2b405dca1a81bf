"""Feed-forward: two linear maps around an activation, optionally gated (GLU, 2002.05202)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.flags import Config, Rules, at_most_one, configured, demands, flag, pick
from x_transformers.inputs import expect_features, expect_numbers, expect_settings, expect_sizes
from x_transformers.norms import LayerNorm
from x_transformers.shortcuts import run
from x_transformers.storable import Storable


class ReluSquared(nn.Module):
    """Square of ReLU (Primer, 2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:
        expect_numbers('x', x)
        return F.relu(x).square()


class GLU(nn.Module):
    """One linear map gives value and gate: value * activation(gate), times a learned gain with `mult_bias` (2002.05202)."""

    def __init__(self, dim_in: int, dim_out: int, activation: nn.Module, mult_bias: bool = False, *, bias: bool = True):
        super().__init__()
        expect_sizes(dim_in=dim_in, dim_out=dim_out)
        expect_settings(switches={'mult_bias': mult_bias, 'bias': bias})
        self.dim_in, self.act = dim_in, activation
        self.proj = nn.Linear(dim_in, dim_out * 2, bias=bias)
        self.mult_bias = nn.Parameter(torch.ones(dim_out)) if mult_bias else 1.0

    def forward(self, x: Tensor) -> Tensor:
        expect_features(x, self.dim_in, self)
        value, gate = run(self.proj, x).chunk(2, dim=-1)
        out = value * self.act(gate)
        return out * self.mult_bias if isinstance(self.mult_bias, Tensor) else out


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {  # the first that is on
    'relu_squared': ReluSquared,
    'swish': nn.SiLU,
    'relu': nn.ReLU,
    'gelu_tanh': partial(nn.GELU, approximate='tanh'),
}


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig(Config):
    """The flags of the feed-forward."""

    dim: int = flag(doc='Width of the tokens.', at_least=1)
    dim_out: int | None = flag(None, 'Width of the output; `dim` by default. Other widths only outside of a layer stack.', at_least=1)
    mult: float = flag(4, 'Hidden width as a multiple of `dim`.', example={'mult': 2}, at_least=1e-9, at_most=1e6)
    glu: bool = flag(False, 'Gate the hidden layer by a second projection.', paper='2002.05202')
    glu_mult_bias: bool = flag(
        False, 'Learned gain on the gated hidden layer.', paper='2002.05202', example={'glu': True, 'glu_mult_bias': True}
    )
    swish: bool = flag(False, 'SiLU instead of GELU.', paper='1710.05941')
    relu_squared: bool = flag(False, 'Square of ReLU as activation.', paper='2109.08668')
    relu: bool = flag(False, 'ReLU instead of GELU.', paper='1706.03762')
    gelu_tanh: bool = flag(False, "GELU by its paper's approximation with tanh.", paper='1606.08415')
    post_act_ln: bool = flag(False, 'LayerNorm after the activation.', paper='2110.09456')
    dropout: float = flag(0.0, 'Dropout of the hidden layer.', paper='1207.0580', example={'dropout': 0.5}, at_least=0, at_most=1)
    no_bias: bool = flag(False, "No biases (a GLU's projection keeps its own).", paper='2204.02311')
    glu_no_bias: bool = flag(False, 'No bias in the projection of a GLU.', paper='2302.13971', example={'glu': True, 'glu_no_bias': True})
    zero_init_output: bool = flag(False, 'Start the last projection at zero.')

    rules: ClassVar[Rules] = (
        demands('mult', lambda c: int(c.dim * c.mult) >= 1, 'no hidden feature would be left. Raise it.'),
        demands('glu_no_bias', lambda c: c.glu, 'it is about the projection of a GLU. Set {prefix}glu=True.'),
        at_most_one('relu', 'gelu_tanh', 'swish'),  # swish with relu_squared is the latter, as in 2.0.1
        at_most_one('relu', 'gelu_tanh', 'relu_squared'),
    )
    positional = (
        'dim', 'dim_out', 'mult', 'glu', 'glu_mult_bias', 'swish', 'relu_squared', 'post_act_ln', 'dropout', 'no_bias', 'zero_init_output',
    )  # fmt: skip


def activation_of(cfg: FeedForwardConfig) -> nn.Module:
    """The activation that the flags choose."""
    return pick(cfg, ACTIVATIONS, default=nn.GELU)()


@configured(FeedForwardConfig)
class FeedForward(Storable, nn.Module):
    """(..., dim) -> (..., dim_out), each token on its own.

    >>> FeedForward(dim=512, glu=True)(torch.randn(1, 16, 512)).shape
    torch.Size([1, 16, 512])
    """

    takes_call = False  # each token on its own: there is nothing to know of others

    def __init__(self, config: Any = None, /, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = FeedForwardConfig.of(config, args, keywords)
        hidden, bias = int(cfg.dim * cfg.mult), not cfg.no_bias
        activation = activation_of(cfg)
        widen = (
            GLU(cfg.dim, hidden, activation, mult_bias=cfg.glu_mult_bias, bias=not cfg.glu_no_bias)
            if cfg.glu
            else nn.Sequential(nn.Linear(cfg.dim, hidden, bias=bias), activation)
        )
        norm = (LayerNorm(hidden),) if cfg.post_act_ln else ()
        contract = nn.Linear(hidden, cfg.dim_out or cfg.dim, bias=bias)
        if cfg.zero_init_output:
            for parameter in contract.parameters():
                nn.init.zeros_(parameter)
        self.ff = nn.Sequential(widen, *norm, nn.Dropout(cfg.dropout), contract)

    def forward(self, x: Tensor) -> Tensor:
        expect_features(x, self.config.dim, self)
        return run(self.ff, x)
