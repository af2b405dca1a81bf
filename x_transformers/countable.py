"""Counting, as methods of every model. What does the work is imported when it is first called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from x_transformers.counting.table import Summary

Example = tuple[tuple[Any, ...], dict[str, Any]]  # what a forward pass takes, by position and by keyword


class Countable:
    """A model that can be asked what it holds, computes and remembers, without computing anything.

    >>> from x_transformers import Decoder
    >>> decoder = Decoder(dim=32, depth=2, heads=4, attn_dim_head=8)
    >>> decoder.summary().parameters == sum(p.numel() for p in decoder.parameters())
    True
    >>> weights = sum(p.numel() for p in decoder.parameters() if p.ndim == 2)
    >>> decoder.flops(1, 100) == 100 * (2 * weights + 4 * 100 * 32 * 2)  # each query meets 100 keys and values of 32, in 2 layers
    True
    """

    def flops(self, batch: int = 1, n: int | None = None, *, backward: bool = False, **inputs: Any) -> int:
        """Floating point operations of the matrix products of a forward pass over `n` tokens in each of `batch` rows.

        n: as many as the model takes where left out. backward: those of a training step, which by convention are three times as
        many; what activation checkpointing computes again is not counted. inputs: of the forward pass, in place of the zeros that
        are made up for what this model needs besides tokens, such as a `context` of another length than `n`.
        """
        from x_transformers.counting.counts import flops

        return flops(self, batch, n, backward, inputs)

    def summary(self, n: int | None = None, **inputs: Any) -> Summary:
        """Shape, parameters, FLOPs per token and bytes of state per token, part by part; print it for a table.

        n, inputs: as in `flops`, since attention costs each token more the more tokens there are.
        """
        from x_transformers.counting.counts import summary

        return summary(self, n, inputs)

    # ------------------------------------------------------------------ what a model says of itself

    @property
    def _length(self) -> int | None:
        """As many tokens as the model takes; None where any number is as good."""
        return None

    _takes_length: bool = True  # whether the caller may say how many tokens there are

    @property
    def _layers(self) -> nn.ModuleList | None:
        """The layers of a stack, each of which is one part."""
        return None

    @property
    def _remembers(self) -> Any:
        """The stack that decodes, if one does."""
        return None

    def _example(self, batch: int, n: int) -> Example:
        """What a forward pass over `n` tokens takes."""
        raise NotImplementedError

    def _zeros(self, *shape: int) -> Tensor:
        """Of the kind and in the place of the parameters."""
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.empty(0))  # type: ignore[attr-defined]
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _ids(self, *shape: int) -> Tensor:
        return self._zeros(*shape).long()


class CountableStack(Countable):
    """A layer stack that can be asked so."""

    config: Any
    dim: int

    @property
    def _layers(self) -> nn.ModuleList | None:
        layers: nn.ModuleList = self.layers  # type: ignore[attr-defined]
        return layers

    @property
    def _remembers(self) -> Any:
        return None if self.why_not_decode else self  # type: ignore[attr-defined]

    def _example(self, batch: int, n: int) -> Example:
        return (self._zeros(batch, n, self.dim),), self._beside(batch, n)

    def _beside(self, batch: int, n: int) -> dict[str, Any]:
        """What a forward pass takes besides tokens: something to look at, something to follow."""
        cfg = self.config
        context = {'context': self._zeros(batch, n, cfg.cross_attn.dim_context or cfg.dim)} if cfg.cross_attend else {}
        return context | ({'condition': self._zeros(batch, cfg.condition_given)} if cfg.need_condition else {})
