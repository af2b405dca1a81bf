"""What a flag changes, drawn for its page in the site: a stack without its example and with it."""
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import torch
from draw import BLUE, FAINT, ORANGE, SIGNED, WEIGHTS, grid, painted, panels, stream_sizes, strips
from torch import Tensor

from x_transformers import Decoder
from x_transformers.feedforward import ACTIVATIONS
from x_transformers.flags.__main__ import SMALL
from x_transformers.flags.cataloguing import Entry
from x_transformers.layers import AttentionLayers

TOKENS = 12
SHARPER = 4.0       # weights of queries, against those they start from: attention of an untrained layer is nearly even


def compared(entry: Entry) -> tuple[bytes, str] | None:
    """(PNG, what is seen) where there is a picture in which the flag changes something."""
    for draws, figure_of, caption in PICTURES:
        if entry.example and draws(entry):
            picture = painted(partial(figure_of, entry))
            return None if picture is None else (picture, caption)
    return None


def pair(entry: Entry, **shape: Any) -> tuple[AttentionLayers, AttentionLayers]:
    """A causal stack without and with the example, of the same random numbers."""
    made = []
    for flags in ({}, entry.example or {}):
        torch.manual_seed(0)
        made.append(AttentionLayers(**{**shape, 'causal': True, **flags}).eval())
    return made[0], made[1]


def weights(entry: Entry):
    if entry.flag.scope == 'cross' or entry.flag.inputs:
        return None
    plain, stack = pair(entry, **{**SMALL, 'depth': 1})
    numbers, places = plain.state_dict(), stack.state_dict()
    if any(name not in places or places[name].shape != value.shape for name, value in numbers.items()):
        return None                                             # other weights would be the difference that one sees
    stack.load_state_dict(numbers, strict=False)
    x = torch.randn(1, TOKENS, SMALL['dim'], generator=torch.Generator().manual_seed(0))
    without, with_it = weights_of(plain, x), weights_of(stack, x)
    if without.shape == with_it.shape and torch.allclose(without, with_it, atol=1e-3):
        return None
    figure, axes = panels(2, 5.4, 2.6)
    low, high = min(without.min().item(), with_it.min().item()), max(without.max().item(), with_it.max().item())
    colours = {'cmap': SIGNED, 'low': -high, 'high': high} if low < -1e-3 else {'cmap': WEIGHTS, 'low': 0.0, 'high': high}
    for axis, values, title in zip(axes, (without, with_it), ('without', entry.name)):
        image = grid(axis, values, title, **colours)
    axes[0].set_ylabel('query')
    figure.colorbar(image, ax=axes, shrink=0.75, aspect=14, pad=0.02).outline.set_visible(False)
    return figure


def weights_of(stack: AttentionLayers, x: Tensor) -> Tensor:
    with torch.no_grad():
        stack.layers[0][1].to_q.weight *= SHARPER
        _, seen = stack(x, return_hiddens=True, return_maps=True)
    return seen.attn_intermediates[0].post_softmax_attn[0, 0]


def sizes(entry: Entry):
    if entry.flag.scope == 'cross' or (entry.example or {}).get('cross_attend'):
        return None
    stacks = pair(entry, dim=64, depth=8, heads=4, attn_dim_head=16)
    x = torch.randn(2, 32, 64)
    width = (entry.example or {}).get('dim_condition', 64)
    given = {'condition': torch.randn(2, width)} if 'condition' in entry.flag.inputs else {}
    without, with_it = stream_sizes(stacks[0], x), stream_sizes(stacks[1], x, **given)
    if torch.allclose(torch.tensor(without), torch.tensor(with_it), rtol=0.05):
        return None
    figure, axis = plt.subplots(figsize=(6.6, 2.4), layout='constrained')
    for values, shade, label in ((without, BLUE, 'without'), (with_it, ORANGE, entry.name)):
        axis.plot(values, color=shade, linewidth=1.5, marker='o', markersize=3, label=label)
    axis.set(xlabel='layer', ylabel='standard deviation', ylim=(0, None))
    axis.grid(axis='y', color=FAINT, linewidth=0.5, alpha=0.6)
    axis.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
    return figure


def layers(entry: Entry):
    example = dict(entry.example or {})
    shape = {'dim': 16, 'heads': 1, **({} if 'custom_layers' in example else {'depth': 4})}
    rows = {'depth=4': Decoder(dim=16, heads=1, depth=4), entry.name: AttentionLayers(causal=True, **{**shape, **example})}
    if len({tuple((step.kind, step.module) for step in stack.plan.steps()) for stack in rows.values()}) == 1:
        return None
    figure, axis = plt.subplots(figsize=(8, 1.1), layout='constrained')
    strips(axis, rows)
    return figure


def activation(entry: Entry):
    x = torch.linspace(-4, 3, 200)
    figure, axis = plt.subplots(figsize=(4, 2.4), layout='constrained')
    for of, shade, label in ((torch.nn.GELU(), FAINT, 'GELU'), (ACTIVATIONS[entry.field](), ORANGE, entry.name)):
        axis.plot(x.numpy(), of(x).numpy(), color=shade, linewidth=1.6, label=label)
    axis.legend(loc='upper left')
    return figure


def declared_in(*modules: str) -> Callable[[Entry], bool]:
    return lambda entry: entry.declared.__module__.split('.')[1] in modules


# which flags, what draws them, what is seen
PICTURES = (
    (
        lambda entry: entry.name in (f'ff_{name}' for name in ACTIVATIONS), activation,
        'The activation, and GELU, which it takes the place of.',
    ),
    (
        declared_in('plan'), layers,
        'The layers in their order, without the flag and with it. A number is a built layer: equal ones share weights.',
    ),
    (
        declared_in('attention', 'positions'), weights,
        'Weights of the first head for twelve random tokens, without the flag and with it.',
    ),
    (
        declared_in('norms', 'residuals', 'layerscale', 'skips', 'layers_config'), sizes,
        'Size of the residual stream that enters each layer of a stack as initialised, without the flag and with it.',
    ),
)
