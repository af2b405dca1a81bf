"""Text as bytes: what to train on, what to hold out, and which bytes each step sees."""
import gzip
import hashlib
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lm import Problem

HELD_OUT = 0.1
SKIPPED = {'site-packages', 'dist-packages', 'test', 'tests', 'idlelib', 'lib2to3', 'ensurepip', 'turtledemo', '__pycache__',
           'encodings', 'pydoc_data'}      # these two are tables and prose made by machine: a few of them would decide the measure


class Corpus(NamedTuple):
    """Bytes to train on and bytes held out, both `(n,)` uint8, and a sentence that says what they are."""
    train: Tensor
    held_out: Tensor
    about: str

    @property
    def fingerprint(self) -> str:
        """Differs when any byte, or the split, differs."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            digest.update(hashlib.sha256(part.numpy()).digest())
        return digest.hexdigest()


def read_corpus(path: str | None, seq_len: int) -> Corpus:
    """The text file at `path`, plain or .gz, or without one the Python source of the standard library."""
    corpus = standard_library() if path is None else text_file(Path(path))
    for name, part in (('to train on', corpus.train), ('held out', corpus.held_out)):
        if len(part) <= seq_len:
            raise Problem(f'--data {path or "(the standard library)"} is too short: {len(part)} bytes are {name}, and a sequence of '
                          f'--seq-len {seq_len} needs {seq_len + 1}. Take a longer text or a shorter --seq-len.')
    return corpus


def standard_library() -> Corpus:
    """Split by file: one in ten is held out, chosen by a hash of its name, so the split is the same everywhere."""
    root = Path(sysconfig.get_paths()['stdlib'])
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob('*.py') if not SKIPPED & {*path.relative_to(root).parts})
    held_out = [name for name in names if hashlib.sha256(name.encode()).digest()[0] < 256 * HELD_OUT]
    train = sorted({*names} - {*held_out})
    if not train or not held_out:
        raise Problem(f'no Python source files in {root}, where the standard library should be. Name a text file with --data.')
    about = f'standard library of Python {sys.version_info.major}.{sys.version_info.minor}, {len(held_out)} of {len(names)} files held out'
    return Corpus(*(as_bytes(b'\n'.join((root / name).read_bytes() for name in part)) for part in (train, held_out)), about)


def text_file(path: Path) -> Corpus:
    """Split in two: the end of the text is held out."""
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Problem(f'--data {path} is not a complete gzip file ({error}). Compress it anew, or name the plain text.') from error
    except OSError as error:
        raise Problem(f'--data {path} cannot be read ({error.strerror}). Name a text file, plain or .gz.') from error
    if not text:
        raise Problem(f'--data {path} is empty. Name a file with text in it.')
    cut = len(text) - int(len(text) * HELD_OUT)
    return Corpus(as_bytes(text[:cut]), as_bytes(text[cut:]), f'{path}, its last {HELD_OUT:.0%} held out')


def as_bytes(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)


def counted_seed(*counters: int | str) -> int:
    """A seed for one purpose at one step of one run, so that no state of a random generator need be kept to go on exactly."""
    return int.from_bytes(hashlib.sha256(repr(counters).encode()).digest()[:4], 'big')


def batch_at(text: Tensor, index: int, seed: int, batch: int, length: int) -> Tensor:
    """The `index`-th batch of random windows `(batch, length)`: a function of its arguments."""
    generator = torch.Generator().manual_seed(counted_seed('batch', seed, index))
    starts = torch.randint(len(text) - length + 1, (batch,), generator=generator)
    return torch.stack([text[start:start + length] for start in starts.tolist()]).long()


def fixed_windows(text: Tensor, most: int, length: int) -> Tensor:
    """At most `most` windows `(n, length)`, evenly spread, that share no predicted byte: always the same ones."""
    n = min(most, (len(text) - 1) // (length - 1))
    starts = torch.arange(n) * ((len(text) - length) // max(1, n - 1))
    return torch.stack([text[start:start + length] for start in starts.tolist()]).long()
