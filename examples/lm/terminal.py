"""The terminal: what the command line may say, Ctrl-C, and text that appears as it is sampled."""
import argparse
import ast
import codecs
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from x_transformers import AutoregressiveWrapper


def at_least(least: float, kind: type = int) -> Callable[[str], float]:
    """An argument type: finite numbers from `least` up."""
    def number(text: str) -> float:
        value = kind(text)
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f'{text} is not possible: expected at least {least}')
        return value
    number.__name__ = {int: 'whole number', float: 'number'}[kind]
    return number


def between(least: int, most: int) -> Callable[[str], int]:
    """An argument type: whole numbers from `least` to `most`."""
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f'{text} is not possible: expected {least} to {most}')
        return value
    number.__name__ = 'whole number'
    return number


def flag_pair(text: str) -> tuple[str, Any]:
    """An argument type: 'ff_mult=2' is ('ff_mult', 2); what is not a Python value is a string."""
    name, equals, value = text.partition('=')
    if not (name and equals):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE, as in ff_mult=2')
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


@contextmanager
def interruption(patient: bool = False) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or a polite kill) sets, so that the step under way can end; a second Ctrl-C acts as ever.

    patient: it does nothing more, for torchrun says it to its processes again, and ends those that do not come to an end.
    """
    event = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number, frame) -> None:
        event.set()
        if not patient:
            put_back()

    for number in before:
        signal.signal(number, note)
    try:
        yield event
    finally:
        put_back()


def write(model: AutoregressiveWrapper, prompt: bytes, length: int, **sampling: Any) -> None:
    """Print the prompt and `length` sampled bytes, each as soon as it is there."""
    encoding = sys.stdout.encoding or 'utf-8'
    for piece in stream_text(model, prompt, length, **sampling):
        print(piece.encode(encoding, 'replace').decode(encoding), end='', flush=True)
    print()


def stream_text(model: AutoregressiveWrapper, prompt: bytes, length: int, **sampling: Any) -> Iterator[str]:
    """The prompt and what follows as text; bytes that are not UTF-8, or that would steer the terminal, show as �."""
    decoder = codecs.getincrementaldecoder('utf-8')('replace')
    yield printable(decoder.decode(prompt))
    tokens = torch.tensor([*prompt], device=next(model.parameters()).device)
    for token in model.stream(tokens, length, **sampling):
        yield printable(decoder.decode(bytes([token.item()])))
    yield decoder.decode(b'', final=True)


def printable(text: str) -> str:
    return ''.join(c if c.isprintable() or c in '\n\t' else '\N{REPLACEMENT CHARACTER}' for c in text)
