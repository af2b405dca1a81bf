"""Learn to sort or to copy sequences, as the source says, and count how many answers are right from start to end.

    python examples/sort.py                     # about a minute
    python examples/sort.py --length 16

An encoder reads the task and up to `--length` letters, a decoder writes them in order, or as they are, and an end token. Sources
are of many lengths, padded and masked. One sequence in seven, told by the sum of its letters, is never trained on.
"""
import argparse
import sys

import torch
from lm.terminal import at_least
from torch import Tensor

from x_transformers import XTransformer

LETTERS, KINDS = 16, 7                                      # of the kinds of sequences, the first is held out
SORT, COPY, START, END = range(LETTERS, LETTERS + 4)        # the tokens behind the letters
IGNORED = -100                                              # no target


def sequences(count: int, length: int, held_out: bool) -> tuple[Tensor, Tensor]:
    """Random letters (count, length), and how many of each row count, at least half."""
    letters = torch.randint(0, LETTERS, (2 * KINDS * count, length))
    lengths = torch.randint((length + 1) // 2, length + 1, (len(letters),))
    kind = (letters * (torch.arange(length) < lengths[:, None])).sum(dim=-1) % KINDS
    fits = (kind == 0) == held_out
    return letters[fits][:count], lengths[fits][:count]


def problems(count: int, length: int, held_out: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Sources (count, 1 + length), what of them is no padding, and targets (count, length + 2)."""
    letters, lengths = sequences(count, length, held_out)
    task = torch.randint(SORT, COPY + 1, (len(letters), 1))
    there = torch.arange(length) < lengths[:, None]
    in_order = letters.masked_fill(~there, END).sort(dim=-1).values
    answer = torch.where(task == SORT, in_order, letters)
    target = torch.cat((torch.full_like(task, START), answer, torch.full_like(task, END)), dim=-1)
    places = torch.arange(length + 2)
    target = target.masked_fill(places == lengths[:, None] + 1, END).masked_fill(places > lengths[:, None] + 1, IGNORED)
    return torch.cat((task, letters), dim=-1), torch.cat((torch.ones_like(task).bool(), there), dim=-1), target


def build(length: int) -> XTransformer:
    side = dict(num_tokens=END + 1, max_seq_len=length + 2, depth=2, heads=4, attn_dim_head=16, use_rmsnorm=True, rotary_pos_emb=True)
    sides = {f'{name}_{key}': value for name in ('enc', 'dec') for key, value in side.items()}
    return XTransformer(dim=64, tie_token_emb=True, ignore_index=IGNORED, pad_value=END, **sides)


def train(model: XTransformer, steps: int, batch: int, length: int) -> list[float]:
    """The loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for step in range(steps):
        source, mask, target = problems(batch, length)
        loss = model(source, target, mask=mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 5) == 0:
            print(f'step {step + 1}: loss {loss:.4f}')
    return losses


def solve(model: XTransformer, source: Tensor, mask: Tensor) -> Tensor:
    """The likeliest answers (b, length + 1), with END at the end and behind it."""
    start = torch.full_like(source[:, :1], START)
    return model.generate(source, start, source.shape[1], mask=mask, temperature=0.0, eos_token=END)


def word(tokens: Tensor) -> str:
    """Tokens as letters, END left out."""
    return ''.join(chr(97 + token) for token in tokens.tolist() if token != END)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('sort.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=at_least(1), default=1500)
    parser.add_argument('--batch', type=at_least(1), default=64)
    parser.add_argument('--length', type=at_least(2), default=10, help='letters in the longest sequence')
    parser.add_argument('--held-out', type=at_least(100), default=1000, help='sequences to be solved at the end')
    parser.add_argument('--seed', type=at_least(0), default=0)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)                                # so small a model is no slower, and gives the same numbers everywhere
    torch.manual_seed(args.seed)
    model = build(args.length)
    train(model, args.steps, args.batch, args.length)
    source, mask, target = problems(args.held_out, args.length, held_out=True)
    written = solve(model, source, mask)
    right = (written == target[:, 1:].masked_fill(target[:, 1:] == IGNORED, END)).all(dim=-1)
    for name, task in (('sorted', SORT), ('copied', COPY)):
        asked = source[:, 0] == task
        print(f'held out: {right[asked].float().mean():.2%} of {asked.sum()} sequences {name} right')
        print('for example:', *(f'{word(source[row, 1:][mask[row, 1:]])} -> {word(written[row])}' for row in asked.nonzero()[:3, 0]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
