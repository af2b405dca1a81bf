"""What reaches a layer past those before it: U-net skips (2209.12152), and the input injected into every branch.

An injection is added to what a branch reads, not to the stream: the stack's input by a linear map (1909.01377,
2410.03020), or what the caller gives as `in_attn_cond` (2105.04090), optionally gated per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.errors import InputError, quoted
from x_transformers.flags import Config, Rules, excludes, flag
from x_transformers.inputs import expect, expect_features, expect_place, expect_sizes
from x_transformers.norms import Unchanged


@dataclass(frozen=True, kw_only=True)
class SkipFlags(Config):
    """Streams and inputs that skip layers."""

    unet_skips: bool = flag(
        False, 'Blocks of the second half are joined by the streams that entered those of the first, last one first.', paper='2209.12152'
    )
    reinject_input: bool = flag(False, 'Add a linear map of the input of the stack to what every branch reads.', paper='2410.03020')
    learned_reinject_input_gate: bool = flag(
        False,
        'A gate per token on what is added to the inputs of branches.',
        paper='2410.03020',
        example={'reinject_input': True, 'learned_reinject_input_gate': True},
    )

    rules: ClassVar[Rules] = (
        excludes('weight_tie_layers', 'unet_skips', 'both halves are the same layers, and only one of them is joined. Keep one.'),
    )


class ConcatCombine(nn.Module):
    """The stream joined with the one that entered layer number `prev_layer_ind`: a linear map of both (2209.12152)."""

    def __init__(self, dim: int, prev_layer_ind: int):
        super().__init__()
        expect_sizes(dim=dim)
        self.dim, self.prev_layer_ind = dim, prev_layer_ind
        self.combine = nn.Linear(dim * 2, dim, bias=False)

    def forward(self, x: Tensor, prev_layers: Sequence[Tensor]) -> Tensor:
        expect_features(x, self.dim, self)
        if not isinstance(prev_layers, Sequence) or not -len(prev_layers) <= self.prev_layer_ind < len(prev_layers):
            raise InputError(
                f'prev_layers={quoted(prev_layers)} is not possible; expected a list of streams up to number {self.prev_layer_ind}'
            )
        before = prev_layers[self.prev_layer_ind]
        expect('prev_layers', before, tuple(x.shape), 'float', 'they are streams like x')
        expect_place({'prev_layers': before}, x)
        return self.combine(torch.cat((before, x), dim=-1))


class Skips(nn.ModuleList):
    """For every built layer, what joins the stream that enters it; `sources` holds the number of the stream, or None."""

    def __init__(self, dim: int, sources: Sequence[int | None]):
        super().__init__(Unchanged() if source is None else ConcatCombine(dim, source) for source in sources)

    def forward(self, x: Tensor, layer: int, streams: list[Tensor]) -> Tensor:
        streams.append(x)
        return self[layer](x, streams)


def injection(x: Tensor, project: nn.Module | None, given: Tensor | None, gate: nn.Module | None) -> Tensor | None:
    """What every branch reads besides its stream: the projected input of the stack (b, n, dim), or what was given."""
    injected = given if project is None else project(x)
    return injected if injected is None or gate is None else injected * gate(x).sigmoid()


def make_skips(cfg: Any, sources: Sequence[int | None]) -> nn.Module:
    return Skips(cfg.dim, sources) if cfg.unet_skips else Unchanged()
