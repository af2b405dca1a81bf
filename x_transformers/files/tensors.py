"""The format of safetensors, read and written tensor by tensor.

A file is eight bytes with the length of a header, the header (JSON: names, dtypes, shapes, places, and a dict of strings), and
the numbers. Nothing in it can be executed. Here everything that the header says is checked before a byte is allocated for it,
numbers go straight to where they belong, and what is read or written can be hashed on the way.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from x_transformers.errors import CheckpointError, quoted
from x_transformers.flags.plain import parse_json

DTYPES = {
    'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16, 'I64': torch.int64, 'I32': torch.int32,
    'I16': torch.int16, 'I8': torch.int8, 'U8': torch.uint8, 'BOOL': torch.bool, 'F8_E4M3': torch.float8_e4m3fn,
    'F8_E5M2': torch.float8_e5m2, 'U16': torch.uint16, 'U32': torch.uint32, 'U64': torch.uint64, 'C64': torch.complex64,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MOST_HEADER = 32 * 2**20
PIECE = 16 * 2**20  # bytes that are read, hashed and written at a time
Feed = Callable[[Any], object]  # what is told every byte of the numbers


@dataclass(frozen=True)
class Stored:
    """One tensor in a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # of its bytes, counted from the first number
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]  # in the order of their bytes
    offset: int  # of the first number in the file

    @property
    def listing(self) -> str:
        """Names, dtypes, shapes and places as one text, always written the same way."""
        return json.dumps({t.name: [NAMES[t.dtype], t.shape, t.start, t.end] for t in self.tensors.values()}, sort_keys=True)


def damaged(path: Path, why: object) -> CheckpointError:
    return CheckpointError(f'{path} is damaged or no file of this kind: {why}. Take it from a copy, or save the model again.')


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A plain file and its size; whatever else has that name (a folder, a pipe, a device) is refused without waiting for it."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    except FileNotFoundError:
        raise CheckpointError(f'{path} does not exist. Name a folder that save(folder) wrote, with all its files.') from None
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read ({error.strerror}). Name a folder that save(folder) wrote.') from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise CheckpointError(f'{path} is no plain file. Name a folder that save(folder) wrote.')
    with os.fdopen(handle, 'rb') as file:
        try:
            yield file, about.st_size
        except OSError as error:
            raise CheckpointError(f'{path} cannot be read ({error.strerror}). Take it from a copy.') from error


# ------------------------------------------------------------------------------------------------ reading


def read_header(file: BinaryIO, size: int, path: Path) -> Header:
    """The header of a file of `size` bytes, or a CheckpointError for anything that is not exactly as it must be."""
    file.seek(0)
    first = file.read(8)
    length = int.from_bytes(first, 'little')
    if len(first) < 8 or length > size - 8:
        raise damaged(path, f'a header of {length} bytes does not fit into {size} bytes')
    if length > MOST_HEADER:
        raise damaged(path, f'a header of {length} bytes is longer than any model needs ({MOST_HEADER})')
    raw = file.read(length)
    try:
        content = parse_json(raw.decode('utf-8'))
    except ValueError as error:  # of JSON, and of what is no text
        raise damaged(path, f'its header is no JSON ({quoted(str(error))})') from None
    if not isinstance(content, dict):
        raise damaged(path, 'its header is no JSON object')
    metadata = content.pop('__metadata__', {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise damaged(path, '__metadata__ is no dict of texts')
    try:
        tensors = sorted((stored(name, about) for name, about in content.items()), key=lambda t: (t.start, t.end))
    except ValueError as error:
        raise damaged(path, error) from None
    at = 0
    for tensor in tensors:
        if tensor.start != at:
            raise damaged(path, f'{quoted(tensor.name)} begins at byte {tensor.start} of the numbers, where {at} is next')
        at = tensor.end
    if at != size - 8 - length:
        raise damaged(path, f'its header speaks of {at} bytes of numbers, and there are {size - 8 - length}')
    return Header(metadata, {tensor.name: tensor for tensor in tensors}, 8 + length)


def stored(name: str, about: Any) -> Stored:
    """One entry of a header; a ValueError says what is wrong with it."""
    if not isinstance(about, dict) or set(about) != {'dtype', 'shape', 'data_offsets'}:
        raise ValueError(f'{quoted(name)} is not described by dtype, shape and data_offsets')
    dtype, shape, offsets = about['dtype'], about['shape'], about['data_offsets']
    whole = lambda values: isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f'{quoted(name)} has dtype {quoted(dtype)}, expected one of {", ".join(DTYPES)}')
    if not whole(shape) or len(shape) > 64:
        raise ValueError(f'{quoted(name)} has shape {quoted(shape)}, expected a list of whole numbers')
    if not whole(offsets) or len(offsets) != 2:
        raise ValueError(f'{quoted(name)} has data_offsets {quoted(offsets)}, expected two whole numbers')
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f'{quoted(name)} of shape {quoted(shape)} and dtype {dtype} does not have {end - start} bytes')
    return Stored(name, DTYPES[dtype], tuple(shape), start, end)


def read_tensor(file: BinaryIO, header: Header, name: str, path: Path, feed: Feed | None = None) -> Tensor:
    """The numbers of one tensor, in memory of their own."""
    about = header.tensors[name]
    tensor = torch.empty(about.shape, dtype=about.dtype, device='cpu')
    file.seek(header.offset + about.start)
    for piece in pieces(tensor):
        got = 0
        while got < len(piece):
            count = file.readinto(piece[got:])  # type: ignore[attr-defined]
            if not count:
                raise damaged(path, f'it ends within {quoted(name)}')
            got += count
        if feed is not None:
            feed(piece)
    return tensor


def feed_all(file: BinaryIO, header: Header, feed: Feed) -> None:
    """All bytes of the numbers."""
    file.seek(header.offset)
    while piece := file.read(PIECE):
        feed(piece)


def pieces(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a contiguous tensor in main memory, as they lie there."""
    if sys.byteorder != 'little':
        raise CheckpointError('files hold numbers with the lowest byte first, and this machine does not; use one that does')
    count = tensor.numel() * tensor.itemsize
    if count:
        view = memoryview((ctypes.c_ubyte * count).from_address(tensor.data_ptr())).cast('B')
        for at in range(0, count, PIECE):
            yield view[at : at + PIECE]


# ------------------------------------------------------------------------------------------------ writing


def lay_out(tensors: Mapping[str, Tensor]) -> Header:
    """Where each tensor will stand: the widest numbers first, so that every one is aligned."""
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    at, placed = 0, {}
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in NAMES or tensor.layout != torch.strided:
            raise CheckpointError(f'{name} is of {tensor.dtype}, {tensor.layout}, which files cannot hold; convert it before you save')
        size = tensor.numel() * tensor.itemsize
        placed[name] = Stored(name, tensor.dtype, tuple(tensor.shape), at, at + size)
        at += size
    return Header({}, placed, 0)


def write_header(file: BinaryIO, header: Header, metadata: Mapping[str, str]) -> None:
    content: dict[str, Any] = {'__metadata__': dict(metadata)} if metadata else {}
    for t in header.tensors.values():
        content[t.name] = {'dtype': NAMES[t.dtype], 'shape': t.shape, 'data_offsets': (t.start, t.end)}
    raw = json.dumps(content, separators=(',', ':')).encode()
    raw += b' ' * (-len(raw) % 8)
    if len(raw) > MOST_HEADER:
        raise CheckpointError(
            f'the names and shapes of {len(header.tensors)} tensors take {len(raw)} bytes, and at most {MOST_HEADER} can be read; '
            'save the model in parts'
        )
    file.write(len(raw).to_bytes(8, 'little') + raw)


def feed_tensors(tensors: Mapping[str, Tensor], header: Header, feed: Feed) -> None:
    """The bytes of all tensors in the order of the file, one at a time in main memory."""
    for name in header.tensors:
        for piece in pieces(tensors[name].detach().resolve_conj().resolve_neg().to('cpu').contiguous()):
            feed(piece)


def write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A whole file."""
    header = lay_out(tensors)
    write_header(file, header, metadata)
    feed_tensors(tensors, header, file.write)
