"""Learn to write all letters of a word at once, filling in masked ones step by step, and count how many words are right.

    python examples/fill_in.py                  # about a minute
    python examples/fill_in.py --critic         # with a critic of its own, that says which letters to take back

The words are palindromes: each half decides the other, so letters that are chosen at the same time must wait for one another.
In one step a model can only guess; one letter at a time it writes nearly all words right.
"""
import argparse
import sys

import torch
from lm.terminal import at_least
from torch import Tensor

from x_transformers import Encoder, NonAutoregressiveWrapper, TransformerWrapper

LETTERS, LENGTH = 8, 12
MASK = LETTERS                                              # the token behind the letters


def words(count: int) -> Tensor:
    """Random palindromes (count, LENGTH)."""
    half = torch.randint(0, LETTERS, (count, LENGTH // 2))
    return torch.cat((half, half.flip(-1)), dim=-1)


def build(critic: bool) -> NonAutoregressiveWrapper:
    stack = Encoder(dim=64, depth=3, heads=4, attn_dim_head=16, use_rmsnorm=True)
    net = TransformerWrapper(num_tokens=LETTERS + 1, max_seq_len=LENGTH, attn_layers=stack)
    return NonAutoregressiveWrapper(net, mask_id=MASK, steps=LENGTH // 2, schedule='linear', self_token_critic=critic)


def train(model: NonAutoregressiveWrapper, steps: int, batch: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        losses = model(words(batch))
        losses.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        falling.step()
        if (step + 1) % max(1, steps // 5) == 0:
            print(f'step {step + 1}: loss {losses.generator_loss:.3f}')


def right(model: NonAutoregressiveWrapper, steps: int, count: int = 512) -> float:
    """Share of the words written in so many steps that are palindromes of letters."""
    model.steps = steps
    written = model.generate(batch_size=count, filter_thres=0.0)
    return ((written == written.flip(-1)) & (written != MASK)).all(dim=-1).float().mean().item()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('fill_in.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=at_least(1), default=1000, help='training steps')
    parser.add_argument('--batch', type=at_least(1), default=128)
    parser.add_argument('--critic', action='store_true', help='train a critic beside')
    parser.add_argument('--seed', type=at_least(0), default=0)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)                                # so small a model is no slower, and gives the same numbers everywhere
    torch.manual_seed(args.seed)
    model = build(args.critic)
    train(model, args.steps, args.batch)
    for steps in (1, 3, LENGTH // 2, 2 * LENGTH):           # the last settle at most one letter each
        print(f'written in {steps} {"step" if steps == 1 else "steps"}: {right(model, steps):.1%} right')
    shown = model.generate(batch_size=4, filter_thres=0.0)
    print('for example:', *(''.join(chr(97 + int(letter)) if letter < MASK else '_' for letter in word) for word in shown))
    return 0


if __name__ == '__main__':
    sys.exit(main())
