"""A module beside attention, whose output is averaged with the heads' (Hymba, 2411.13676): recurrent, convolutional, any.

To be decoded, such a module must say what it remembers. PyTorch's recurrent layers do (`batch_first=True`); any other
module does by `carries_state`:

    class Mixer(nn.Module):
        def empty_state(self, x): ...      # (b, ...) tensors, or a nest of them: before the first token of x (b, n, dim)
        def forward(self, x, state): ...   # -> (y, state)

Without it the module runs over whole sequences only, and decoding in pieces is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from x_transformers.call import Call
from x_transformers.flags import Config, Rules, demands, flag
from x_transformers.inputs import expect, expect_sizes
from x_transformers.norms import MultiheadRMSNorm
from x_transformers.state import map_tensors

PAPER = '2411.13676'


@dataclass(frozen=True, kw_only=True)
class HybridFlags(Config):
    """A module beside attention."""

    hybrid_module: nn.Module | None = flag(
        None,
        'A module beside attention, copied for every layer: (b, n, dim) -> (b, n, heads * value_dim_head).',
        paper=PAPER,
        example=lambda: {'hybrid_module': nn.GRU(16, 48, batch_first=True)},
        scope='self',
    )
    hybrid_mask_kwarg: str | None = flag(
        None,
        'The name under which that module takes the padding mask (bidirectional attention only).',
        paper=PAPER,
        scope='self',
    )
    hybrid_fold_axial_dim: int | None = flag(
        None,
        'Let that module run over so many interleaved sequences, each of every so-many-th token; 1 by default.',
        paper=PAPER,
        example=lambda: {'hybrid_module': nn.GRU(16, 48, batch_first=True), 'hybrid_fold_axial_dim': 2},
        scope='self',
        at_least=1,
    )

    rules: ClassVar[Rules] = (
        demands(
            'hybrid_module',
            lambda c: not isinstance(c.hybrid_module, nn.RNNBase) or c.hybrid_module.batch_first,
            'attention has the batch in front, so build the module with batch_first=True.',
        ),
        demands(
            'hybrid_module',
            lambda c: not (c.causal and isinstance(c.hybrid_module, nn.RNNBase) and c.hybrid_module.bidirectional),
            'a bidirectional module looks at later tokens. Use bidirectional=False in a causal stack.',
        ),
        demands(
            'hybrid_module',
            lambda c: not isinstance(c.hybrid_module, nn.RNNBase) or c.hybrid_module.input_size == c.dim,
            'it reads what attention reads, so build the module with input_size=dim, the width of the stream.',
        ),
        demands(
            'hybrid_module',
            lambda c: not isinstance(c.hybrid_module, nn.RNNBase) or output_width(c.hybrid_module) == c.heads * c.value_width,
            'its output is averaged with the heads, so it must be as wide as all their values: heads * {prefix}value_dim_head (by default '
            '{prefix}dim_head) features.',
        ),
        demands(
            'hybrid_module',
            lambda c: not getattr(c.hybrid_module, 'carries_state', False) or callable(getattr(c.hybrid_module, 'empty_state', None)),
            'it says carries_state, so it needs empty_state(x), its state before the first token. Define it.',
        ),
    )


class FoldAxially(nn.Module):
    """Runs `fn` over every `axial_dim`-th token: (b, n, d) -> (b, n, e), position p in sequence p mod `axial_dim`.

    >>> FoldAxially(3, nn.Linear(16, 8))(torch.randn(2, 7, 16)).shape
    torch.Size([2, 7, 8])
    """

    def __init__(self, axial_dim: int, fn: nn.Module):
        super().__init__()
        expect_sizes(axial_dim=axial_dim)
        self.axial_dim = axial_dim
        self.fn = fn

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.axial_dim == 1:
            return self.fn(x, *args, **kwargs)
        expect('x', x, (None, None, None), hint='FoldAxially takes tokens (b, n, d)')
        n, folds = x.shape[1], self.axial_dim
        padded = F.pad(x, (0, 0, 0, -n % folds))
        out = first_tensor(self.fn(fold(padded, folds), *args, **kwargs))
        return unfold(out, folds)[:, :n]


def make_hybrid(cfg: Any) -> tuple[FoldAxially | None, nn.ModuleList | None, nn.Linear | None]:
    """The layer's copy of the module, the norms of both sides, and a map that 2.0.1 checkpoints hold and nothing uses."""
    if cfg.hybrid_module is None:
        return None, None, None
    # where new parameters are made at the moment, which may be the meta device
    module = copy.deepcopy(cfg.hybrid_module).to(torch.empty(0).device)
    norms = nn.ModuleList(MultiheadRMSNorm(cfg.value_width, cfg.heads) for _ in range(2))
    unused = nn.Linear(cfg.dim, cfg.heads, bias=False).requires_grad_(False)
    return FoldAxially(cfg.hybrid_fold_axial_dim or 1, module), norms, unused


def fold(x: Tensor, folds: int) -> Tensor:
    return rearrange(x, 'b (t a) d -> (b a) t d', a=folds)


def unfold(x: Tensor, folds: int) -> Tensor:
    return rearrange(x, '(b a) t d -> b (t a) d', a=folds)


def first_tensor(out: Any) -> Tensor:
    """The first tensor of a nest of outputs."""
    while not isinstance(out, Tensor):
        out = next(iter(out.values() if isinstance(out, dict) else out))
    return out


def output_width(layer: nn.RNNBase) -> int:
    """Features that a recurrent layer puts out."""
    return (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)


class Recurrent:
    """PyTorch's recurrent layers by the protocol: their state has the batch second, ours first."""

    def __init__(self, layer: nn.RNNBase):
        self.layer = layer

    def empty_state(self, x: Tensor) -> Any:
        layer = self.layer
        zeros = lambda width: x.new_zeros((x.shape[0], layer.num_layers, width))
        hidden = zeros(layer.proj_size or layer.hidden_size)
        return (hidden, zeros(layer.hidden_size)) if isinstance(layer, nn.LSTM) else hidden

    def __call__(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        turned = lambda t: t.transpose(0, 1).contiguous()
        out, state = self.layer(x, map_tensors(turned, state))
        return out, map_tensors(turned, state)


def remembering(module: nn.Module) -> Any:
    """What runs the module by the protocol, or None for one that does not say what it remembers."""
    if isinstance(module, nn.RNNBase):
        return Recurrent(module)
    return module if getattr(module, 'carries_state', False) else None


def run_beside(folded: FoldAxially, x: Tensor, call: Call, state: Any, keep: bool, width: int, **beside: Tensor) -> tuple[Tensor, Any]:
    """The module's output (b, n, width) for `x` (b, n, dim), and with `keep` its state after these tokens.

    Rows that begin at different tokens, behind left padding, run apart: the module never sees padding. Their first
    tokens are read from the device once per call.
    """
    start, n = call.queries.start, x.shape[1]
    if call.begins is None:
        return run_rows(folded, x, state, start, keep, width, beside)
    begins = call.begins
    groups = call.once('rows by their first token', lambda: rows_alike(begins.tolist()))
    outs, states = [], []
    for begin, rows in groups:
        index = torch.tensor(rows, device=x.device)
        part = lambda t, index=index: t.index_select(0, index)
        padding = min(max(begin - start, 0), n)
        own = {name: part(t)[:, padding:] for name, t in beside.items()}
        y, after = run_rows(folded, part(x)[:, padding:], map_tensors(part, state), max(start - begin, 0), keep, width, own)
        outs.append(F.pad(y, (0, 0, padding, 0)))
        states.append(after)
    back = torch.tensor([row for _, rows in groups for row in rows], device=x.device).argsort()
    whole = lambda *parts: torch.cat(parts).index_select(0, back)
    return whole(*outs), map_tensors(whole, *states)


def rows_alike(begins: list[int]) -> list[tuple[int, list[int]]]:
    """Rows of the batch by the order of their first token."""
    return [(begin, [row for row, other in enumerate(begins) if other == begin]) for begin in sorted(set(begins))]


def run_rows(
    folded: FoldAxially, x: Tensor, state: Any, seen: int, keep: bool, width: int, beside: dict[str, Tensor]
) -> tuple[Tensor, Any]:
    """The same for rows that begin together, of which `seen` tokens went before. States are (b, folds, ...)."""
    n, folds = x.shape[1], folded.axial_dim
    if not keep:
        return x.new_zeros((x.shape[0], 0, width)) if n == 0 else first_tensor(folded(x, **beside)), None
    module = remembering(folded.fn)
    split = lambda t, count=folds: t.unflatten(0, (-1, count))
    if state is None:
        state = map_tensors(split, module.empty_state(x.repeat_interleave(folds, dim=0)))
    state = map_tensors(lambda t: t.roll(-seen, 1), state)  # the sequence of the first new token in front
    outs = [x.new_zeros((x.shape[0], 0, width))]
    for part, count in ((x[:, : n - n % folds], folds), (x[:, n - n % folds :], n % folds)):
        if part.shape[1]:
            y, after = module(fold(part, count), map_tensors(lambda t, count=count: t[:, :count].flatten(0, 1), state))
            outs.append(unfold(first_tensor(y), count))
            state = map_tensors(lambda new, old, count=count: torch.cat((split(new, count), old[:, count:]), dim=1), after, state)
    return torch.cat(outs, dim=1), map_tensors(lambda t: t.roll(seen, 1), state)
