"""Learn to read handwritten digits, 8 by 8 pixels each, and count how many of those held out are read right.

    python examples/digits.py                               # half a minute
    python examples/digits.py --patch 4 4 --steps 2000
    python examples/digits.py --out runs/digits.png         # and draw the digits that were misread

The images come with scikit-learn. A fifth of them is held out; the others are shifted by up to a pixel while they are learned.
A patch is a row of pixels here. Patches are normed one by one, so those of few pixels no longer tell light from dark.
"""
import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from lm.terminal import at_least
from torch import Tensor

from x_transformers import Encoder, ViTransformerWrapper

SIZE = 8


def digits(seed: int) -> list[Tensor]:
    """Images (b, 1, 8, 8) between -1 and 1 to learn from and to hold out, then the digits (b,) on both."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, SIZE, SIZE) / 8 - 1
    return train_test_split(images, torch.tensor(labels), test_size=0.2, stratify=labels, random_state=seed)


def build(patch: tuple[int, int]) -> ViTransformerWrapper:
    stack = Encoder(dim=64, depth=4, heads=4, attn_dim_head=16, use_rmsnorm=True, ff_glu=True, ff_mult=2)
    return ViTransformerWrapper(image_size=SIZE, patch_size=patch, channels=1, num_classes=10, num_register_tokens=2, attn_layers=stack)


def shifted(images: Tensor) -> Tensor:
    """All images of a batch moved by the same pixel or none, in height and in width."""
    padded = F.pad(images, (1, 1, 1, 1), value=-1)
    top, left = torch.randint(0, 3, (2,)).tolist()
    return padded[..., top:top + SIZE, left:left + SIZE]


def train(model: ViTransformerWrapper, images: Tensor, labels: Tensor, steps: int, batch: int) -> list[float]:
    """The loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for step in range(steps):
        chosen = torch.randint(0, len(images), (batch,))
        loss = F.cross_entropy(model(shifted(images[chosen])), labels[chosen], label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 5) == 0:
            print(f'step {step + 1}: loss {loss:.3f}')
    return losses


@torch.no_grad()
def read(model: ViTransformerWrapper, images: Tensor) -> Tensor:
    """The likeliest digit of each image."""
    return model.eval()(images).argmax(dim=-1)


def draw(images: Tensor, taken: Tensor, labels: Tensor, path: Path) -> None:
    """The images with what they were taken for and what they are."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 1.4), layout='constrained')
    for axes in (places := figure.subplots(1, 8)):
        axes.axis('off')
    for axes, image, wrong, right in zip(places, images, taken, labels):
        axes.imshow(image[0].numpy(), cmap='gray_r')
        axes.set_title(f'{wrong}, is {right}', fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('digits.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=at_least(1), default=1200)
    parser.add_argument('--batch', type=at_least(1), default=64)
    parser.add_argument('--patch', type=int, choices=(1, 2, 4, 8), nargs=2, default=(1, 8), help='height and width of a patch')
    parser.add_argument('--seed', type=at_least(0), default=0)
    parser.add_argument('--out', type=Path, metavar='PNG', help='where to draw up to eight misread digits')
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)                                # so small a model is no slower, and gives the same numbers everywhere
    torch.manual_seed(args.seed)
    images, held_out, labels, right = digits(args.seed)
    model = build(tuple(args.patch))
    train(model, images, labels, args.steps, args.batch)
    taken = read(model, held_out)
    wrong = taken != right
    print(f'held out: {1 - wrong.float().mean():.1%} of {len(right)} digits read right')
    if args.out:
        draw(held_out[wrong], taken[wrong], right[wrong], args.out)
        print(f'misread digits drawn to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
