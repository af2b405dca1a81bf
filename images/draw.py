"""Draw the figures of the README from the library itself: what is shown is what the modules compute.

    python images/draw.py                    # all of them, next to this file
    python images/draw.py masks layouts      # some
"""
import io
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import FancyBboxPatch, Patch
from PIL import Image
from torch import Tensor

from x_transformers import Decoder, Encoder, PrefixDecoder
from x_transformers.attention import Attend
from x_transformers.layers import AttentionLayers
from x_transformers.positions.alibi import AlibiPositionalBias
from x_transformers.positions.dynamic import DynamicPositionBias
from x_transformers.positions.rotary import RotaryEmbedding
from x_transformers.positions.t5 import t5_bucket
from x_transformers.training.autoregressive import forgetful_mask

HERE = Path(__file__).parent

INK, FAINT, BLUE, ORANGE, GREEN = '#22303c', '#c9d1d9', '#2a6f97', '#d9822b', '#4b9c76'
WEIGHTS = LinearSegmentedColormap.from_list('weights', ['#f3f6f8', '#8fb8cf', BLUE, '#0b2b40'])
SIGNED = LinearSegmentedColormap.from_list('signed', ['#a8571a', '#efb27a', '#f6f7f8', '#8fb8cf', '#174a68'])
SHADES = [BLUE, ORANGE, GREEN, '#8a5a9e', '#b5485d', '#6b7a88', '#3aa0c9', '#c9a227']

STYLE = {
    'figure.facecolor': 'white', 'savefig.facecolor': 'white', 'figure.dpi': 100, 'savefig.dpi': 100,
    'font.family': 'DejaVu Sans', 'font.size': 9, 'axes.titlesize': 9.5, 'axes.labelsize': 8.5,
    'xtick.labelsize': 8, 'ytick.labelsize': 8, 'legend.fontsize': 8, 'legend.frameon': False,
    'text.color': INK, 'axes.labelcolor': INK, 'xtick.color': INK, 'ytick.color': INK, 'axes.titlecolor': INK,
    'axes.edgecolor': FAINT, 'axes.spines.top': False, 'axes.spines.right': False, 'axes.linewidth': 0.8,
}


def panels(count: int, width: float, height: float):
    figure, axes = plt.subplots(1, count, figsize=(width, height), layout='constrained')
    return figure, list(axes)


def grid(axis, values: Tensor, title: str, cmap=WEIGHTS, low=0.0, high=None):
    """A matrix of queries (rows) and keys (columns), with thin lines between its cells."""
    rows, columns = values.shape
    image = axis.pcolormesh(values.detach().numpy(), cmap=cmap, vmin=low, vmax=high, edgecolors='white', linewidth=0.7)
    axis.set(title=title, aspect='equal', xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], xlabel='key')
    axis.spines[:].set_visible(False)
    return image


# ------------------------------------------------------------------ masks


def attention_map(stack: AttentionLayers, n: int, **inputs) -> Tensor:
    """Weights of the first head of the first attention, (queries, keys), for tokens that are all alike.

    A query that sees no key has output zero whatever its row says, so its row is shown empty.
    """
    stack.eval()
    with torch.no_grad():
        _, seen = stack(torch.ones(1, n, stack.dim), return_hiddens=True, return_maps=True, **inputs)
    seen = seen.attn_intermediates[0]
    scores, weights = seen.pre_softmax_attn[0, 0], seen.post_softmax_attn[0, 0]
    return weights.masked_fill((scores == torch.finfo(scores.dtype).min).all(dim=-1, keepdim=True), 0.0)


def masks():
    """What a query can look at: equal tokens, so that weight is spread evenly over what is visible."""
    n, shape = 12, {'dim': 16, 'depth': 1, 'heads': 1}
    shown = {
        'Encoder': attention_map(Encoder(**shape), n),
        'Decoder': attention_map(Decoder(**shape), n),
        'attn_max_attend_past=3': attention_map(Decoder(**shape, attn_max_attend_past=3), n),
        'PrefixDecoder,\nprefix_attn_len=5': attention_map(PrefixDecoder(**shape), n, prefix_attn_len=5),
        'Decoder,\nseq_start_pos=[4]': attention_map(Decoder(**shape), n, seq_start_pos=torch.tensor([4])),
    }
    figure, axes = panels(len(shown), 10, 2.4)
    for axis, (title, weights) in zip(axes, shown.items()):
        image = grid(axis, weights, title, high=0.5)
    axes[0].set_ylabel('query')
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=14, pad=0.01, ticks=[0, 0.25, 0.5])
    bar.outline.set_visible(False)
    bar.set_label('weight (0.5 or more is darkest)')
    return figure


# ------------------------------------------------------------------ positions


def biases():
    """What is added to scores against distance: per head, or through the buckets of T5."""
    distance = torch.arange(0, 129)
    heads = 8
    dynamic = DynamicPositionBias(dim=16, heads=heads, depth=2, log_distance=True)
    figure, (left, middle, right) = panels(3, 10, 2.8)
    with torch.no_grad():
        for axis, lines in ((left, AlibiPositionalBias(heads=heads).at(distance)), (right, dynamic.at(distance))):
            for head, values in enumerate(lines.unbind(-1)):
                axis.plot(distance.numpy(), values.numpy(), color=SHADES[head], linewidth=1.4)
    for (buckets, farthest), shade in zip(((32, 128), (32, 64), (16, 128)), SHADES):
        stairs = t5_bucket(distance, True, buckets, farthest)
        middle.plot(distance.numpy(), stairs.numpy(), color=shade, linewidth=1.4, drawstyle='steps-post',
                    label=f'{buckets} buckets, up to {farthest}')
    left.set(title='alibi_pos_bias: a slope per head', ylabel='added to the score', ylim=(-20, 0.8))
    middle.set(title='rel_pos_bias: bucket, each with a bias', ylabel='bucket')
    middle.legend(loc='lower right')
    right.set(title='dynamic_pos_bias: a network, untrained', ylabel='added to the score')
    for axis in (left, middle, right):
        axis.set(xlabel='distance from query back to key')
        axis.grid(axis='y', color=FAINT, linewidth=0.5, alpha=0.6)
    return figure


def rotary():
    """Angles of rotary positions, what they do to a score, and the decay of xPos."""
    n = 192
    positions = torch.arange(n)
    freqs, _ = RotaryEmbedding(32).forward(positions)
    plain, far = freqs[0], RotaryEmbedding(32, interpolation_factor=4.0).forward(positions)[0][0]
    scores = lambda turned: turned.cos().mean(dim=-1)                   # of equal query and key, a distance apart
    decays = RotaryEmbedding(32, use_xpos=True, scale_base=512)
    query = decays.decay(positions[None])[0]                            # n pairs

    figure, axes = panels(3, 10, 2.9)
    image = axes[0].imshow(plain[:128, ::2].cos().T.numpy(), cmap=SIGNED, vmin=-1, vmax=1, aspect='auto', interpolation='nearest')
    axes[0].set(title='cosine of the angles', xlabel='position', ylabel='pair of features')
    figure.colorbar(image, ax=axes[0], ticks=[-1, 0, 1], aspect=14).outline.set_visible(False)
    axes[1].plot(positions.numpy(), scores(plain).numpy(), color=BLUE, linewidth=1.4, label='rotary_pos_emb')
    axes[1].plot(positions.numpy(), scores(far).numpy(), color=ORANGE, linewidth=1.4, label='rotary_interpolation_factor=4')
    axes[1].set(title='score of equal query and key', xlabel='distance')
    axes[1].legend(loc='upper right')
    for pair, shade in zip((0, 5, 10, 15), SHADES):
        axes[2].plot(positions.numpy(), query[:, pair].numpy(), color=shade, linewidth=1.4, label=f'pair {pair}')
    axes[2].set(title='rotary_xpos: factor on the score', xlabel='distance', ylim=(0, 1.04))
    axes[2].legend(loc='lower left')
    for axis in axes[1:]:
        axis.grid(axis='y', color=FAINT, linewidth=0.5, alpha=0.6)
    return figure


# ------------------------------------------------------------------ layouts

KINDS = {'a': ('attention', BLUE), 'c': ('cross-attention', GREEN), 'f': ('feed-forward', ORANGE)}


def layouts():
    """The plan of each stack, as it runs from left to right. A number is the built layer: equal numbers share weights."""
    shape = {'dim': 16, 'heads': 1}
    rows = {
        'depth=6': Decoder(**shape, depth=6),
        'depth=4, macaron': Decoder(**shape, depth=4, macaron=True),
        'depth=6, sandwich_coef=2': Decoder(**shape, depth=6, sandwich_coef=2),
        'depth=6, par_ratio=5': Decoder(**shape, depth=6, par_ratio=5),
        'depth=6, weight_tie_layers': Decoder(**shape, depth=6, weight_tie_layers=True),
        'depth=3, layers_execute_order=\n(0, 1, 2, 3, 2, 3, 2, 3, 4, 5)': Decoder(
            **shape, depth=3, layers_execute_order=(0, 1, 2, 3, 2, 3, 2, 3, 4, 5)),
        "custom_layers=('a', 'f', 'f', 'a', 'f', 'f')": Decoder(**shape, custom_layers=('a', 'f', 'f', 'a', 'f', 'f')),
        'depth=4, cross_attend': Decoder(**shape, depth=4, cross_attend=True),
    }
    figure, axis = plt.subplots(figsize=(10, 3.7), layout='constrained')
    strips(axis, rows)
    axis.legend(handles=[Patch(color=color, label=name) for name, color in KINDS.values()], loc='upper center',
                bbox_to_anchor=(0.5, -0.01), ncol=3)
    return figure


def strips(axis, stacks: dict[str, AttentionLayers]):
    """The layers of each stack, a strip for each."""
    for y, stack in enumerate(stacks.values()):
        for x, step in enumerate(stack.plan.steps()):
            box = FancyBboxPatch((x + 0.08, y + 0.14), 0.84, 0.72, boxstyle='round,pad=0,rounding_size=0.1', linewidth=0,
                                 facecolor=KINDS[step.kind][1], mutation_aspect=0.8)
            axis.add_patch(box)
            axis.text(x + 0.5, y + 0.52, step.module, ha='center', va='center', color='white', fontsize=8.5)
    axis.set(xlim=(0, 12.1), ylim=(len(stacks), -0.05), xticks=[], yticks=[y + 0.5 for y in range(len(stacks))])
    axis.set_yticklabels(list(stacks), fontfamily='DejaVu Sans Mono', fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


# ------------------------------------------------------------------ attention


def normalisers():
    """The same queries and keys, weighed in several ways."""
    n = 12
    q, k = torch.randn(2, 1, 1, n, 24) * 1.25
    shown = {
        'softmax': {},
        'attn_qk_norm': {'qk_norm': True, 'scale': 10.0},
        'attn_sparse_topk=3': {'sparse_topk': 3},
        'attn_hard': {'hard': True},
        'attn_sigmoid': {'sigmoid': True},
    }
    figure, axes = panels(len(shown), 10, 2.45)
    for axis, (title, flags) in zip(axes, shown.items()):
        queries, keys = (torch.nn.functional.normalize(t, dim=-1) for t in (q, k)) if 'qk_norm' in flags else (q, k)
        _, seen = Attend(causal=True, flash=False, **flags)(queries, keys, keys)
        image = grid(axis, seen.post_softmax_attn[0, 0], title, high=1.0)
    axes[0].set_ylabel('query')
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=14, pad=0.01, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label('weight')
    return figure


def depth():
    """Size of the residual stream over the layers, for ways to norm and join branches."""
    rows = {
        'pre-norm': {},
        'sandwich_norm': {'sandwich_norm': True},
        'pre_norm=False': {'pre_norm': False},
        'gate_residual': {'gate_residual': True},
        'scale_residual_constant=0.7': {'scale_residual_constant': 0.7},
    }
    x = torch.randn(4, 32, 64)
    figure, axis = plt.subplots(figsize=(7.6, 2.9), layout='constrained')
    for (name, flags), shade in zip(rows.items(), SHADES):
        torch.manual_seed(0)
        stack = Encoder(dim=64, depth=12, heads=4, attn_dim_head=16, **flags).eval()
        axis.plot(stream_sizes(stack, x), color=shade, linewidth=1.5, marker='o', markersize=3, label=name)
    axis.set(title='size of the residual stream, as initialised', xlabel='block', ylabel='standard deviation', ylim=(0, None))
    axis.grid(axis='y', color=FAINT, linewidth=0.5, alpha=0.6)
    axis.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
    return figure


def stream_sizes(stack: AttentionLayers, x: Tensor, **inputs) -> list[float]:
    """Standard deviation of the stream that enters each layer."""
    with torch.no_grad():
        _, seen = stack(x, return_hiddens=True, **inputs)
    return [h.std().item() for h in seen.hiddens]


def forgetting():
    """Keys that forgetful causal masks hide, for three sequences."""
    n = 20
    kept = forgetful_mask(n + 1, torch.zeros(3, n, dtype=torch.long), 0.2)
    figure, axes = panels(3, 7.4, 2.75)
    stack = Decoder(dim=16, depth=1, heads=1)
    for row, axis in enumerate(axes):
        grid(axis, attention_map(stack, n, self_attn_kv_mask=kept[row:row + 1]), f'sequence {row + 1}', high=0.3)
    axes[0].set_ylabel('query')
    return figure


FIGURES = {figure.__name__: figure for figure in (masks, biases, rotary, layouts, normalisers, depth, forgetting)}


# The flags that each shows; their pages in the site have it
SHOWS = {
    'masks': ('causal', 'attn_max_attend_past'),
    'biases': ('alibi_pos_bias', 'rel_pos_bias', 'rel_pos_num_buckets', 'rel_pos_max_distance', 'dynamic_pos_bias'),
    'rotary': ('rotary_pos_emb', 'rotary_interpolation_factor', 'rotary_xpos', 'rotary_xpos_scale_base'),
    'layouts': ('macaron', 'sandwich_coef', 'par_ratio', 'weight_tie_layers', 'layers_execute_order', 'custom_layers', 'cross_attend'),
    'normalisers': ('attn_qk_norm', 'attn_sparse_topk', 'attn_hard', 'attn_sigmoid'),
    'depth': ('pre_norm', 'sandwich_norm', 'gate_residual', 'scale_residual_constant'),
    'forgetting': ('AutoregressiveWrapper.mask_prob',),
}


def draw(name: str, folder: Path):
    (folder / f'{name}.png').write_bytes(painted(FIGURES[name]))


def painted(figure_of) -> bytes | None:
    """What a function draws, as a small PNG of few colours and no metadata: the same bytes every time. None if it draws nothing."""
    torch.manual_seed(1)
    drawn, small = io.BytesIO(), io.BytesIO()
    with plt.rc_context(STYLE):
        figure = figure_of()
        if figure is None:
            return None
        figure.savefig(drawn, format='png')
        plt.close(figure)
    Image.open(drawn).convert('RGB').quantize(128, dither=Image.Dither.NONE).save(small, format='png', optimize=True)
    return small.getvalue()


def main(names: list[str]):
    for name in names or FIGURES:
        if name not in FIGURES:
            sys.exit(f'no figure {name!r}; there are {", ".join(FIGURES)}')
        draw(name, HERE)


if __name__ == '__main__':
    main(sys.argv[1:])
