"""Learn to add, subtract and multiply numbers that are written as numbers, and measure how far off the answers are.

    python examples/arithmetic.py                               # about a minute
    python examples/arithmetic.py --out runs/arithmetic.png     # and draw answers against what is right

A question is two hundredths between -1 and 1 with an operation between them: number, +, number, =, and then the answer, five
tokens whatever the digits. A fifth of the numbers is never seen in training; each question at the end has at least one of them.
"""
import argparse
import sys
from pathlib import Path

import torch
from lm.terminal import at_least
from torch import Tensor

from x_transformers import Decoder, XValAutoregressiveWrapper, XValTransformerWrapper

PLUS, MINUS, TIMES, EQUALS, NUMBER = range(5)
SIGNS = {PLUS: '+', MINUS: '-', TIMES: '×'}


def split(seed: int) -> tuple[Tensor, Tensor]:
    """The numbers to learn from, and those never seen in training."""
    numbers = torch.arange(-100, 101) / 100
    shuffled = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))]
    return shuffled[len(numbers) // 5:], shuffled[:len(numbers) // 5]


def drawn(numbers: Tensor, count: int) -> Tensor:
    """Random ones of the numbers (count,)."""
    return numbers[torch.randint(0, len(numbers), (count,))]


def questions(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids (count, 5) of a, an operation, b, =, and the answer; and the numbers (count, 5) that stand there."""
    sign = torch.randint(PLUS, TIMES + 1, a.shape)
    answer = torch.stack((a + b, a - b, a * b))[sign, torch.arange(len(a))]        # in the order of their tokens
    ids = torch.tensor([NUMBER, PLUS, NUMBER, EQUALS, NUMBER]).repeat(len(a), 1)
    ids[:, 1] = sign
    none = torch.full_like(a, torch.nan)                    # beside tokens that are no numbers
    return ids, torch.stack((a, none, b, none, answer), dim=-1)


def build() -> XValAutoregressiveWrapper:
    stack = Decoder(dim=64, depth=3, heads=4, attn_dim_head=16, ff_glu=True)
    net = XValTransformerWrapper(num_tokens=5, numerical_token_id=NUMBER, max_seq_len=5, attn_layers=stack)
    return XValAutoregressiveWrapper(net, numerical_loss_weight=10.0)


def train(model: XValAutoregressiveWrapper, numbers: Tensor, steps: int, batch: int) -> list[float]:
    """The squared error of the answers of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    errors = []
    for step in range(steps):
        loss, parts = model(*questions(drawn(numbers, batch), drawn(numbers, batch)), return_loss_breakdown=True)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        errors.append(parts.numerical_mse_loss[:, -1].mean().item())
        if (step + 1) % max(1, steps // 5) == 0:
            print(f'step {step + 1}: squared error of answers {errors[-1]:.6f}')
    return errors


def answer(model: XValAutoregressiveWrapper, ids: Tensor, numbers: Tensor) -> Tensor:
    """What the model makes of the questions (count,)."""
    return model.generate(ids[:, :-1], numbers[:, :-1], 1, temperature=0.0).sampled_numbers[:, 0]


def draw(answers: Tensor, right: Tensor, path: Path) -> None:
    """Each answer over what is right."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(5, 5), layout='constrained')
    axes = figure.subplots()
    axes.plot([-2, 2], [-2, 2], color='0.75')
    axes.scatter(right, answers, s=4)
    axes.set(xlabel='right', ylabel='answered', title='questions with a number never seen in training')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('arithmetic.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=at_least(1), default=2000)
    parser.add_argument('--batch', type=at_least(1), default=256)
    parser.add_argument('--held-out', type=at_least(1), default=2000, help='questions to be answered at the end')
    parser.add_argument('--seed', type=at_least(0), default=0)
    parser.add_argument('--out', type=Path, metavar='PNG', help='where to draw the answers')
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)                                # so small a model is no slower, and gives the same numbers everywhere
    torch.manual_seed(args.seed)
    seen, unseen = split(args.seed)
    model = build()
    train(model, seen, args.steps, args.batch)
    everything = torch.cat((seen, unseen))
    for which, first, second in (('of numbers seen in training', seen, seen), ('with a number never seen', unseen, everything)):
        ids, numbers = questions(drawn(first, args.held_out), drawn(second, args.held_out))
        answers, right = answer(model, ids, numbers), numbers[:, -1]
        guess = (right.mean() - right).abs().mean()
        print(f'questions {which}: mean absolute error {(answers - right).abs().mean():.4f}; of their mean as every answer {guess:.4f}')
    for example in range(3):
        a, b = numbers[example, [0, 2]].tolist()
        print(f'for example: {a:.2f} {SIGNS[int(ids[example, 1])]} {b:.2f} = {answers[example]:.3f}')
    if args.out:
        draw(answers, right, args.out)
        print(f'answers drawn to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
