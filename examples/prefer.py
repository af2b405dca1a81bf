"""Teach a small model which of two right answers people prefer (direct preference optimisation), and measure what it does.

    python examples/prefer.py                   # about half a minute
    python examples/prefer.py --likelihood 0    # preferences alone

The model first learns to answer four digits with the same digits in order, rising or falling, half of the time each. Then it
sees pairs of both answers, of which the rising one is preferred, and is asked about digits it has not seen together.
Preferences alone look only at how far apart the answers are, and a model may get there by making both less likely; so some
likelihood of the preferred one is added (2404.19733).
"""
import argparse
import sys

import torch
from lm.terminal import at_least
from torch import Tensor

from x_transformers import DPO, AutoregressiveWrapper, Decoder, TransformerWrapper

DIGITS, ASKED = 10, 4
ARROW = DIGITS                                              # the token between a question and its answer


def questions(count: int) -> Tensor:
    """Different digits in random order (count, ASKED)."""
    return torch.rand(count, DIGITS).argsort(dim=-1)[:, :ASKED]


def answered(asked: Tensor, rising: Tensor | bool) -> Tensor:
    """Question, arrow, and its digits in order: (b, 2 * ASKED + 1)."""
    up = torch.as_tensor(rising).view(-1, 1)
    answer = torch.where(up, asked.sort(dim=-1).values, asked.sort(dim=-1, descending=True).values)
    return torch.cat((asked, torch.full_like(asked[:, :1], ARROW), answer), dim=-1)


def build() -> AutoregressiveWrapper:
    stack = Decoder(dim=64, depth=2, heads=4, attn_dim_head=16, rotary_pos_emb=True)
    return AutoregressiveWrapper(TransformerWrapper(num_tokens=DIGITS + 1, max_seq_len=2 * ASKED + 1, attn_layers=stack))


def learn_to_answer(model: AutoregressiveWrapper, steps: int, batch: int = 64) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = model(answered(questions(batch), torch.rand(batch) < 0.5))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def learn_to_prefer(model: AutoregressiveWrapper, steps: int, likelihood: float, batch: int = 32) -> None:
    dpo = DPO(model.net, beta=0.5)
    optimizer = torch.optim.AdamW(dpo.parameters(), lr=3e-4)
    # masks stand at the token that predicts: the arrow predicts the first digit of the answer, and must count
    prompt_mask = (torch.arange(2 * ASKED + 1) < ASKED).expand(batch, -1)
    for _ in range(steps):
        asked = questions(batch)
        preferred, unpreferred = answered(asked, True), answered(asked, False)
        loss = dpo(preferred, unpreferred, prompt_mask=prompt_mask)
        if likelihood:
            loss = loss + likelihood * model(preferred)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def shares(model: AutoregressiveWrapper, count: int = 1000) -> tuple[float, float]:
    """Share of sampled answers that rise, and that fall; the others are wrong."""
    asked = questions(count)
    written = model.generate(answered(asked, True)[:, :ASKED + 1], ASKED, filter_logits_fn=lambda logits: logits)
    up, down = ((written == answered(asked, way)[:, ASKED + 1:]).all(dim=-1).float().mean().item() for way in (True, False))
    return up, down


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('prefer.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=at_least(1), default=1200, help='steps of learning to answer')
    parser.add_argument('--preference-steps', type=at_least(1), default=100, help='steps of learning what is preferred')
    parser.add_argument('--likelihood', type=at_least(0, float), default=0.3, help='weight of the likelihood of preferred answers')
    parser.add_argument('--seed', type=at_least(0), default=0)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)                                # so small a model is no slower, and gives the same numbers everywhere
    torch.manual_seed(args.seed)
    model = build()
    learn_to_answer(model, args.steps)
    tell('before preferences', *shares(model))
    learn_to_prefer(model, args.preference_steps, args.likelihood)
    tell('after preferences', *shares(model))
    return 0


def tell(when: str, up: float, down: float) -> None:
    print(f'{when}: {up:.1%} of the answers rise, {down:.1%} fall, {1 - up - down:.1%} are wrong')


if __name__ == '__main__':
    sys.exit(main())
