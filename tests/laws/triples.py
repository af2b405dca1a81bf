"""Three flags together, drawn at random: `make triples ARGS="--count 1000 --seed 7"`. What fails is told with its seed and keywords."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator

import torch
from pairs import judged
from sizes import make_small
from subjects import KINDS, MODEL_FLAGS, STACK_FLAGS, Case


def triples(seed: int) -> Iterator[Case]:
    """Without end."""
    draw = random.Random(seed)
    while True:
        kind = draw.choice(sorted(KINDS))
        yield Case(kind, tuple(draw.sample(sorted([*STACK_FLAGS, *(MODEL_FLAGS if kind == 'model' else ())]), 3)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=500, help='how many triples')
    parser.add_argument('--seed', type=int, default=random.randrange(10**6), help='the same triples again')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    make_small()
    began, refused, broken = time.process_time(), 0, 0
    for _, case in zip(range(asked.count), triples(asked.seed)):
        try:
            refused += 'refused' in judged(case)
        except Exception as error:  # all of them are told, each with what makes it again
            broken += 1
            sys.stdout.write(f'seed {asked.seed}: {error}\n    keywords: {case.keywords}\n')
    seconds = time.process_time() - began
    sys.stdout.write(f'{asked.count} triples of seed {asked.seed}: {refused} refused, {broken} broken, {seconds:.0f} CPU seconds\n')
    return int(broken > 0)


if __name__ == '__main__':
    sys.exit(main())
