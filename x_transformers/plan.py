"""The plan of a layer stack: which layers are built, and in which order they run. Pure data, no torch.

Blocks in any order (1911.03864), feed-forwards on both sides (macaron, 1906.02762), PAR layouts (2009.04534),
shared weights (1909.11942), repeated layers (2405.15071), stochastic depth (1603.09382).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, ClassVar

from x_transformers.errors import FlagError, quoted
from x_transformers.flags import Config, Rules, at_most_one, demands, excludes, flag

KINDS = {'a': 'self-attention', 'c': 'cross-attention', 'f': 'feed-forward'}


@dataclass(frozen=True, kw_only=True)
class PlanFlags(Config):
    """Which layers there are, and their order."""

    depth: int | None = flag(None, 'Number of blocks.', at_least=1)
    cross_attend: bool = flag(False, 'Add cross-attention to a context to each block.', paper='1706.03762', inputs=('context',))
    only_cross: bool = flag(
        False,
        'With cross_attend: leave self-attention out of the block.',
        example={'cross_attend': True, 'only_cross': True},
        inputs=('context',),
    )
    weight_tie_layers: bool = flag(False, 'All blocks share the weights of one.', paper='1909.11942')
    custom_layers: tuple | str | None = flag(
        None,
        'The layers, written out: a self-attention, c cross-attention, f feed-forward.',
        example={'custom_layers': ('a', 'f', 'f', 'a')},
    )
    layers_execute_order: tuple[int, ...] | None = flag(
        None,
        'Order in which built layers run; repeats and omissions allowed.',
        paper='2405.15071',
        example={'layers_execute_order': (0, 1, 0, 1, 2, 3)},
    )
    sandwich_coef: int | None = flag(
        None,
        'So many attentions first and feed-forwards last, blocks in between.',
        paper='1911.03864',
        example={'sandwich_coef': 1},
        at_least=1,
    )
    par_ratio: int | None = flag(
        None, 'More feed-forwards than attentions, most of them late.', paper='2009.04534', example={'par_ratio': 2}, at_least=2
    )
    macaron: bool = flag(False, 'A second feed-forward ahead of each block, both halved.', paper='1906.02762')
    parallel_block: bool = flag(False, 'The branches of a block all read the stream that enters it.', paper='2204.06745')
    parallel_block_one_norm: bool = flag(
        False,
        'They read it through one norm, that of the first.',
        paper='2204.02311',
        example={'parallel_block': True, 'parallel_block_one_norm': True},
    )
    layer_dropout: float | tuple[float, ...] = flag(
        0.0,
        'Chance that training skips a layer; a tuple gives each layer its own.',
        paper='1603.09382',
        example={'layer_dropout': 0.5},
        per_layer=True,
        at_least=0,
        at_most=1,
    )

    rules: ClassVar[Rules] = (
        at_most_one('custom_layers', 'par_ratio', 'sandwich_coef', 'weight_tie_layers'),
        excludes(
            'weight_tie_layers', 'layers_execute_order', 'tying decides the order. Write repeats into {prefix}layers_execute_order alone.'
        ),
        *(
            excludes('parallel_block', layout, 'there are single layers, and no blocks of which they are part. Keep one.')
            for layout in ('custom_layers', 'par_ratio', 'sandwich_coef')
        ),
        excludes('parallel_block', 'macaron', 'its feed-forwards stand before and behind the attention. Keep one.'),
        demands('parallel_block_one_norm', lambda c: c.parallel_block, 'blocks are not parallel. Set {prefix}parallel_block=True.'),
        excludes(
            'parallel_block_one_norm', 'layer_dropout', 'where the first layer of a block is left out, so is the norm of all. Keep one.'
        ),
        demands(
            'only_cross',
            lambda c: c.cross_attend,
            'it leaves cross-attention alone in the block, so there must be one. Set {prefix}cross_attend=True.',
        ),
        demands('sandwich_coef', lambda c: c.depth is None or c.sandwich_coef <= c.depth, 'it must not exceed {prefix}depth.'),
    )


@dataclass(frozen=True)
class LayerSpec:
    """One executed layer."""

    kind: str  # 'a', 'c', 'f'
    module: int  # which built layer runs; equal numbers share weights
    block: int  # the transformer block it belongs to
    shift: int = 0  # token shift
    dropout: float = 0.0  # chance that training skips it
    opens: bool = False  # whether a parallel block begins with it


@dataclass(frozen=True)
class Plan:
    """Layers to build, and steps to run."""

    kinds: tuple[str, ...]  # one per built layer
    order: tuple[int, ...]  # built layers in order of execution
    block_length: int
    shifts: tuple[int, ...]
    dropouts: tuple[float, ...]
    skips: tuple[int | None, ...]  # number of the step whose stream joins the one that enters the layer
    parallel: bool = False  # whether the branches of a block all read what enters it

    def steps(self, order: tuple[int, ...] | None = None) -> tuple[LayerSpec, ...]:
        """The executed layers, for the plan's own or another order."""
        return self.own_steps if order is None else self.steps_of(checked_order(order, len(self.kinds)))

    @cached_property
    def own_steps(self) -> tuple[LayerSpec, ...]:
        return self.steps_of(self.order)

    def steps_of(self, chosen: tuple[int, ...]) -> tuple[LayerSpec, ...]:
        for at, i in enumerate(chosen):
            source = self.skips[i]
            if source is not None and source > at:
                raise FlagError(
                    f'layers_execute_order={chosen} runs layer {i} as step {at}, but unet_skips=True joins the stream of step {source} '
                    'to it, which comes later; run it later, or leave out unet_skips'
                )
        if self.parallel and not self.keeps_blocks(chosen):
            raise FlagError(
                f'layers_execute_order={chosen} cuts blocks apart, but parallel_block=True runs the {self.block_length} layers of a block '
                'on one stream; run whole blocks, or leave out parallel_block'
            )
        opens = lambda at: self.parallel and at % self.block_length == 0
        return tuple(
            LayerSpec(self.kinds[i], i, at // self.block_length, self.shifts[i], self.dropouts[i], opens(at)) for at, i in enumerate(chosen)
        )

    def keeps_blocks(self, order: tuple[int, ...]) -> bool:
        """Whether an order is one of whole blocks."""
        length = self.block_length
        return len(order) % length == 0 and all(
            i % length == at % length and i - at % length == order[at - at % length] for at, i in enumerate(order)
        )

    def __str__(self) -> str:
        """Layers as letters; a number before a group counts its repetitions."""
        return ''.join(self.kinds[i] for i in self.order)


def plan(cfg: Any) -> Plan:
    """Flags -> plan, or a FlagError for layouts that are none."""
    kinds, block_length = layout(cfg)
    order = tuple(range(len(kinds)))
    if cfg.weight_tie_layers:
        order = order * cfg.depth
    if cfg.layers_execute_order is not None:
        order = checked_order(cfg.layers_execute_order, len(kinds))
    strange = sorted(set(kinds) - set(KINDS))
    if strange:
        raise FlagError(
            f'custom_layers={cfg.custom_layers!r} has {strange[0]!r}; expected {", ".join(f"{k} ({v})" for k, v in KINDS.items())}'
        )
    if 'c' in kinds and not cfg.cross_attend:
        raise FlagError(
            f"custom_layers={cfg.custom_layers!r} has cross-attention ('c') without cross_attend=True: it would look at its own "
            'tokens, later ones too. Set cross_attend=True and give a context.'
        )
    if cfg.cross_attend and 'c' not in kinds:
        raise FlagError(
            f"custom_layers={cfg.custom_layers!r} has no cross-attention ('c'), so cross_attend=True would do nothing and the context go "
            'unread. Write a c among the layers, or leave out cross_attend.'
        )
    per_layer = lambda name: spread(name, getattr(cfg, name), len(kinds))
    skips = unet(len(kinds), block_length) if cfg.unet_skips else (None,) * len(kinds)
    made = Plan(kinds, order, block_length, per_layer('shift_tokens'), per_layer('layer_dropout'), skips, cfg.parallel_block)
    made.steps()  # checks the order
    return made


def layout(cfg: Any) -> tuple[tuple[str, ...], int]:
    """Kinds of the built layers, and how many make a block."""
    block = ('a', 'c', 'f') if cfg.cross_attend else ('a', 'f')
    if cfg.cross_attend and cfg.only_cross:
        block = ('c', 'f')
    if cfg.macaron:
        block = ('f', *block)
    if cfg.custom_layers is not None:
        if cfg.depth is not None and cfg.layers_execute_order is not None:
            raise FlagError('custom_layers, layers_execute_order and depth together say the depth twice; leave out depth')
        if not cfg.custom_layers:
            raise FlagError(f'custom_layers={cfg.custom_layers!r} has no layer; name at least one, such as af')
        return tuple(cfg.custom_layers), 1
    if cfg.depth is None:
        raise FlagError("'depth' is required: the number of blocks (or write the layers out in custom_layers)")
    if cfg.par_ratio is not None:
        return par_layout(block, cfg.depth, cfg.par_ratio), 1
    if cfg.sandwich_coef is not None:
        ends = cfg.sandwich_coef
        return ('a',) * ends + block * (cfg.depth - ends) + ('f',) * ends, 1
    return block * (1 if cfg.weight_tie_layers else cfg.depth), len(block)


def unet(built: int, block_length: int) -> tuple[int | None, ...]:
    """The first layer of each block in the second half is joined by the stream of its mirror image in the first (2209.12152).

    Of an odd number of blocks, as many late ones as there are early ones. Layouts without blocks pair single layers.
    """
    blocks = built // block_length
    if blocks < 2:
        raise FlagError('unet_skips=True pairs the blocks of two halves, and there is only one; raise depth')
    sources: list[int | None] = [None] * built
    for early in range(blocks // 2):
        sources[(blocks - 1 - early) * block_length] = early * block_length
    return tuple(sources)


def par_layout(block: tuple[str, ...], depth: int, ratio: int) -> tuple[str, ...]:
    """PAR (2009.04534): fewer attentions, in the first two thirds, each followed by more feed-forwards."""
    total = depth * len(block)
    if not 1 < ratio <= total:
        raise FlagError(f'par_ratio={ratio} is not possible: expected 2 to {total}, the number of layers')
    attention = tuple(kind for kind in block if kind != 'f')
    groups, early = total // ratio, 2 * total // 3
    width = (early + early // groups) // groups
    if len(attention) > width:
        both = '' if len(attention) == 1 else ' of a block with cross_attend=True'
        raise FlagError(f'par_ratio={ratio} leaves groups of {width} layers, too few for {len(attention)} attentions{both}; raise it')
    front = (attention + ('f',) * (width - len(attention))) * groups
    return front + ('f',) * max(0, total - len(front))


def checked_order(order: Any, built: int) -> tuple[int, ...]:
    """Indices of built layers, counted from the end where negative."""
    if not isinstance(order, Sequence) or not all(isinstance(i, Integral) and not isinstance(i, bool) for i in order):
        raise FlagError(f'layers_execute_order={quoted(order)} is not possible: expected a tuple of whole numbers, the layers to run')
    if not order:
        raise FlagError('layers_execute_order=() names no layer; leave it out to run all')
    wrong = [i for i in order if not -built <= i < built]
    if wrong:
        raise FlagError(f'layers_execute_order={tuple(order)!r} names layer {wrong[0]}, but {built} layers are built (0 to {built - 1})')
    return tuple(i % built for i in order)


def spread(name: str, value: Any, built: int, kind: str = 'layers') -> tuple[Any, ...]:
    """A value per built layer (of a kind) from one value, or from a tuple of as many."""
    if not isinstance(value, (tuple, list)):
        return (value,) * built
    if len(value) != built:
        raise FlagError(f'{name}={tuple(value)!r} has {len(value)} entries; expected one for each of the {built} {kind}, or a single value')
    return tuple(value)
