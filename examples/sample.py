"""Let a model that train_lm.py saved go on with a prompt, byte by byte.

    python examples/sample.py runs/20260131-120000 --prompt 'class Stack:' --length 500 --temperature 0.7 --top-p 0.95
"""
import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lm import Problem, checkpoint
from lm.model import on_device, room
from lm.terminal import at_least, write

from x_transformers.errors import CheckpointError, DecodeError, FlagError, InputError

FILTERS = dict(top_k='k', top_p='thres', min_p='min_p')     # each filter's own keyword


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('sample.py', usage='sample.py CHECKPOINT [--NAME VALUE ...], --help lists them all',
                                     description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path, help='the folder of a run, or of one of its steps')
    parser.add_argument('--prompt', default='def ')
    parser.add_argument('--length', type=at_least(1), default=300, help='bytes to write')
    parser.add_argument('--temperature', type=at_least(0, float), default=0.8, help='0 takes the likeliest byte each time')
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument('--top-k', type=at_least(1), help='sample from the k likeliest bytes')
    choice.add_argument('--top-p', type=at_least(0, float), help='sample from the likeliest bytes that together have this probability')
    choice.add_argument('--min-p', type=at_least(0, float), help='sample from bytes at least this likely, compared with the likeliest')
    parser.add_argument('--seed', type=at_least(0), help='the same seed writes the same text')
    parser.add_argument('--device', default='cpu')
    return parser


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of `AutoregressiveWrapper.stream`."""
    keywords: dict[str, Any] = dict(temperature=args.temperature, filter_logits_fn=lambda logits: logits)
    for name, keyword in FILTERS.items():
        if getattr(args, name) is not None:
            keywords.update(filter_logits_fn=name, filter_kwargs={keyword: getattr(args, name)})
    if args.seed is not None:
        keywords['generator'] = torch.Generator(args.device).manual_seed(args.seed)
    return keywords


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    prompt = os.fsencode(args.prompt)
    try:
        model = on_device(checkpoint.load(checkpoint.find(args.checkpoint)), args.device)
        if args.length > room(model, prompt):
            raise Problem(f'--length {args.length} is too long: after this prompt there is room for {room(model, prompt)} bytes, '
                          'for the model has absolute positions. Ask for less.')
        write(model, prompt, args.length, **sampling(args))
    except (Problem, CheckpointError, FlagError, InputError, DecodeError) as error:
        print(f'sample.py: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
