"""What flows through one forward pass: `Call` is the same for all layers, `Depth` is handed down them.

`Span` places tokens on the time line of a sequence. Visibility is decided on their order, relative position
schemes on their positions; both travel with the tokens and never follow from the shape of a tensor. In a packed row a
token also brings where its document begins, which says whom it sees and from where its position counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from x_transformers.positions.distance import DistanceBias
    from x_transformers.positions.rotary import Rotation


def known(condition: bool) -> bool:
    """Whether it is so, whatever the sizes that a compiled graph leaves open: a question would close them."""
    if not torch.compiler.is_compiling():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # heavy, and loaded where anything is compiled

    return statically_known_true(condition)


@dataclass(frozen=True)
class Span:
    """A run of consecutive tokens: the first has order `start`, the next one more, and so on."""

    start: int = 0
    length: int = 0
    pos: Tensor | None = None  # (b|1, length) positions of their own; None: the order
    visible: Tensor | None = None  # (b, length) bool, False where no query may look; None: everywhere
    document: Tensor | None = None  # (b, length) order of the first token of each one's document; None: all are of one

    def order(self, device: torch.device) -> Tensor:
        return torch.arange(self.start, self.start + self.length, device=device)

    def positions(self, device: torch.device) -> Tensor:
        """(b|1, length): those of their own, or the order in their document."""
        if self.pos is not None:
            return self.pos
        order = self.order(device)[None]
        return order if self.document is None else order - self.document

    def last(self, count: int) -> Span:
        """The latest `count` tokens."""
        cut = self.length - count
        if known(cut == 0):
            return self
        keep = lambda t: None if t is None else t[:, cut:]
        return Span(self.start + cut, count, keep(self.pos), keep(self.visible), keep(self.document))

    def first(self, count: int) -> Span:
        """The earliest `count` tokens."""
        keep = lambda t: None if t is None else t[:, :count]
        return Span(self.start, count, keep(self.pos), keep(self.visible), keep(self.document))

    def join(self, later: Span, device: torch.device) -> Span:
        """This span followed by `later`."""
        if self.length == 0:
            return later
        pos = visible = None
        if self.pos is not None or later.pos is not None:
            pos = _cat(self.positions(device), later.positions(device))
        if self.visible is not None or later.visible is not None:
            visible = _cat(self._seen(device), later._seen(device))
        return Span(self.start, self.length + later.length, pos, visible)

    def _seen(self, device: torch.device) -> Tensor:
        if self.visible is not None:
            return self.visible
        return torch.ones((1, self.length), dtype=torch.bool, device=device)


def _cat(a: Tensor, b: Tensor) -> Tensor:
    batch = max(a.shape[0], b.shape[0])
    return torch.cat((a.expand(batch, -1), b.expand(batch, -1)), dim=-1)


class Trace:
    """What the caller asked to see of a forward pass; layers append to it.

    It is no dataclass, and neither is `Depth`: engines that shard layers copy those among the inputs of a layer, and what
    is written to a copy is lost.
    """

    def __init__(self, maps: bool = False, fused_maps: bool = False, past: Sequence[Any] = ()):
        self.maps = maps  # attention maps too, which only the reference backend forms
        self.fused_maps = fused_maps  # even of layers that were built with attn_flash=True
        self.past = past  # `Intermediates` of the call before, when decoding the 2.0.1 way
        self.hiddens: list[Tensor] = []  # stream entering every self-attention layer
        self.layer_hiddens: list[Tensor] = []  # branch input of every layer, then the last stream
        self.memories: list[Tensor] = []  # (b, n, dim) of every self-attention layer, skipped ones too
        self.attention: list[Any] = []  # `Intermediates` of every attention layer

    def apart(self) -> Trace:
        """The same, to which one layer may append without the others seeing it."""
        own = Trace(self.maps, self.fused_maps, self.past)
        own.hiddens, own.memories = self.hiddens, self.memories
        own.layer_hiddens, own.attention = list(self.layer_hiddens), list(self.attention)
        return own


@dataclass(frozen=True)
class Call:
    """One forward pass, the same for all layers. Nobody writes to it, except into `shared`."""

    queries: Span  # the tokens of this call
    keys: Span  # all tokens that self-attention can look at: memories, earlier tokens, and these
    context: Tensor | None = None  # (b, c, dim_context) tokens that cross-attention looks at
    context_keys: Span | None = None
    mask: Tensor | None = None  # (b, n) bool: attention puts out zero where False
    begins: Tensor | None = None  # (b,) order of each row's first token, behind its left padding
    padding: Tensor | None = None  # (b, n) bool: True where no token is, only left padding
    attn_mask: Tensor | None = None  # broadcastable to (b, h, i, j) bool
    attn_bias: Tensor | None = None  # broadcastable to (b, h, i, j), added to the scores
    rotation: Rotation | tuple[Rotation, ...] | None = None  # turns of the queries and of the new keys; of each rotary embedding
    context_rotation: Rotation | None = None
    bias: DistanceBias | None = None  # the relative position bias that all layers share
    condition: Tensor | None = None  # (b, 1|n, dim_condition) what adaptive norms and scales follow
    memory_condition: Tensor | None = None  # (b, 1|m, dim_condition) the same for the rows of memories
    stream_condition: Tensor | None = None  # (b S, 1|n, dim_condition) the same for every residual stream
    injection: Tensor | None = None  # (b, 1|n, dim) added to what every branch reads
    keep_state: bool = True  # False in training: nothing is retained
    trace: Trace | None = None
    shared: dict[Any, Any] = field(default_factory=dict)  # masks and biases, computed once and used by all layers

    def condition_of(self, memory: Tensor) -> Tensor | None:
        """The condition for rows of memory (b, m, dim)."""
        return None if self.memory_condition is None else self.memory_condition[:, -memory.shape[1] :]

    def once(self, key: Any, make: Any) -> Any:
        """The result of `make()`, computed by the first layer that asks."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def apart(self) -> Call:
        """The same call, to which one layer may write without the others seeing it."""
        return replace(self, shared={}, trace=None if self.trace is None else self.trace.apart())


class Depth:
    """Handed down the layers of one forward pass. Each field has one writer.

    A graph that leaves out layers by chance computes them all, so there it depends on `chosen` whether a layer that
    counts has written the values; where nothing is said of them, one has.
    """

    def __init__(self) -> None:
        self.scores: dict[str, Tensor] = {}  # attention: logits of the layer before, by kind
        self.values: dict[str, Tensor] = {}  # attention: values of the first layer of each kind
        self.dual: Tensor | None = None  # ResiDual's second, un-normed stream (residuals.py)
        self.entered: Tensor | None = None  # parallel blocks: the stream entering the block, which all its branches read (layers.py)
        self.normed: Tensor | None = None  # the same through the one norm of a block (layer.py)
        self.streams: list[Tensor] = []  # U-net skips: the stream entering every layer so far (skips.py)
        self.chosen: dict[str, Tensor] = {}  # () bool, by kind (running.py)

    def apart(self) -> Depth:
        """The same, to which one layer may write without the others seeing it."""
        own = Depth()
        own.__dict__.update(self.__dict__)
        own.scores, own.values, own.chosen = dict(self.scores), dict(self.values), dict(self.chosen)
        return own

    def first_values(self, kind: str, v: Tensor) -> Tensor:
        """The values of the first layer of this kind, which are `v` where there were none before."""
        first = self.values.setdefault(kind, v)
        if kind in self.chosen:
            first = self.values[kind] = torch.where(self.chosen.pop(kind), first, v)
        return first
