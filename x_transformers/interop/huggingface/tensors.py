"""The tensors of a foreign model and ours, both ways: one table of names and of what is done to the numbers.

A row says which tensors of theirs are which of ours, and the steps from theirs to ours; each step knows its inverse, so the way
back is read off the same table. Names may hold `{l}`, the number of a block, `{2l+1}` and the like, the layer that it is here, and
`{p}`, weight or bias. Widths are letters: e features of the stream, h heads, g key heads, r heads that share one (h = g r), d
features of a head.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from x_transformers.errors import CheckpointError

Tensors = dict[str, Tensor]
Sizes = Mapping[str, Any]
Change = Callable[[list[Tensor], Sizes], list[Tensor]]

LAYER = re.compile(r'\{(\d?)l(?:\+(\d))?\}')


@dataclass(frozen=True)
class Step:
    """What is done to tensors on the way to ours, and undone on the way back."""

    there: Change
    back: Change

    @property
    def inverse(self) -> Step:
        return Step(self.back, self.there)


@dataclass(frozen=True)
class Row:
    """Tensors of theirs that are tensors of ours."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    steps: tuple[Step, ...] = ()

    def there(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        for step in self.steps:
            tensors = step.there(tensors, sizes)
        return tensors

    @property
    def inverse(self) -> Row:
        return Row(self.ours, self.theirs, tuple(step.inverse for step in reversed(self.steps)))


def row(theirs: str | tuple[str, ...], ours: str | tuple[str, ...], *steps: Step) -> Row:
    listed = lambda names: (names,) if isinstance(names, str) else names
    return Row(listed(theirs), listed(ours), steps)


# ------------------------------------------------------------------------------------------------ steps


def shaped(theirs: str, ours: str) -> Step:
    """A rearrangement, as einops writes it, of the first tensor."""
    return Step(
        lambda ts, sizes: [turned(ts[0], theirs, ours, sizes), *ts[1:]], lambda ts, sizes: [turned(ts[0], ours, theirs, sizes), *ts[1:]]
    )


def turned(t: Tensor, before: str, after: str, sizes: Sizes) -> Tensor:
    return rearrange(t, f'{before} -> {after}', **{axis: size for axis, size in sizes.items() if re.search(rf'\b{axis}\b', before)})


def cut(*widths: str) -> Step:
    """One tensor is several, below each other: each as wide as the product of its letters; without letters, two halves."""

    def apart(tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        (whole,) = tensors
        rows = [math.prod(sizes[axis] for axis in width) for width in widths] or len(whole) // 2
        return list(whole.split(rows))

    return Step(apart, lambda tensors, _: [torch.cat(tensors)])


def times(factor: Callable[[Sizes], float]) -> Step:
    return Step(
        lambda tensors, sizes: [scaled(t, factor(sizes)) for t in tensors],
        lambda tensors, sizes: [scaled(t, 1 / factor(sizes)) for t in tensors],
    )


def scaled(t: Tensor, factor: float) -> Tensor:
    """Rounded once."""
    return (t.double() * factor).to(t.dtype)


def plus(number: float) -> Step:
    added = lambda tensors, sign: [(t.double() + sign * number).to(t.dtype) for t in tensors]
    return Step(lambda tensors, _: added(tensors, 1), lambda tensors, _: added(tensors, -1))


halves = cut()
joined = halves.inverse
reversed_order = Step(lambda tensors, _: tensors[::-1], lambda tensors, _: tensors[::-1])
transposed = shaped('i o', 'o i')
# query heads that share a key head lie side by side there; here they are a stride of g apart
grouped_rows = shaped('(g r d) ...', '(r g d) ...')
grouped_columns = shaped('e (g r d)', 'e (r g d)')


# ------------------------------------------------------------------------------------------------ rows that many families have


def layer_norm(theirs: str, ours: str) -> tuple[Row, ...]:
    """Gain and bias; where there is no bias, its row concerns nothing."""
    return row(f'{theirs}.weight', f'{ours}.gamma'), row(f'{theirs}.bias', f'{ours}.beta')


def rms_norm(theirs: str, ours: str) -> tuple[Row, ...]:
    return (row(f'{theirs}.weight', f'{ours}.g'),)


# ------------------------------------------------------------------------------------------------ the tables at work


def convert(rows: tuple[Row, ...], given: Tensors, wanted: Mapping[str, object], sizes: Sizes) -> tuple[Tensors, set[str]]:
    """The tensors that `wanted` names, made of `given` ones; and the names of the given ones that were used."""
    made: Tensors = {}
    used: set[str] = set()
    for each in expanded(rows, {*given, *wanted}):
        if not any(name in wanted for name in each.ours):
            continue
        missing = [name for name in each.theirs if name not in given]
        if len(missing) == len(each.theirs):
            continue  # told by the caller, who knows what is tied
        if missing:
            raise CheckpointError(f'{missing[0]} is missing, which belongs to {each.theirs[0]}')
        for name, tensor in zip(each.ours, each.there([given[name] for name in each.theirs], sizes), strict=True):
            if name in made and not torch.equal(made[name], tensor):
                raise CheckpointError(f'{each.theirs[0]} would be {name}, and so would another tensor with other numbers')
            made[name] = tensor
        used.update(each.theirs)
    return made, used


def inverse(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The table read the other way."""
    return tuple(row.inverse for row in rows)


def expanded(rows: tuple[Row, ...], names: set[str]) -> Iterator[Row]:
    """Each row for every block and, where it says so, for weight and bias."""
    numbers = [int(number) for name in names for number in re.findall(r'\.(\d+)\.', name)]
    for each in rows:
        text = ''.join((*each.theirs, *each.ours))
        blocks = range(max(numbers, default=-1) + 1) if LAYER.search(text) else (0,)
        for block in blocks:
            for kind in ('weight', 'bias') if '{p}' in text else ('',):
                theirs, ours = (tuple(named(name, block, kind) for name in side) for side in (each.theirs, each.ours))
                yield Row(theirs, ours, each.steps)


def named(pattern: str, block: int, kind: str) -> str:
    """`{l}` is the block, `{2l+1}` twice that and one, `{p}` weight or bias."""
    number = lambda match: str(int(match[1] or 1) * block + int(match[2] or 0))
    return LAYER.sub(number, pattern).replace('{p}', kind)
