"""Files that are there whole or not at all: written under another name, flushed to disk, then renamed."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from x_transformers.errors import CheckpointError

UNFINISHED = '.unfinished'
STALE = 3600  # seconds after which an unfinished file that nobody touches is what a killed process left


def prepare(path: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """Write what will be `path` beside it, and flush it to disk; returns where it stands."""
    part = path.with_name(f'.{path.name}.{secrets.token_hex(8)}{UNFINISHED}')
    try:
        with open(part, 'xb') as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def commit(part: Path, path: Path) -> None:
    """Give a prepared file its name, in place of what had it; this is one step, and lasting."""
    os.replace(part, path)
    flush_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """A small file."""
    try:
        commit(prepare(path, lambda file: file.write(content)), path)
    except OSError as error:
        raise unwritable(path, error) from error


def flush_folder(folder: Path) -> None:
    """Make names in it last; Windows cannot, and does not need to."""
    if os.name != 'nt':
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes left long ago."""
    for part in folder.glob(f'.*{UNFINISHED}'):
        try:
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()
        except OSError:  # another process was faster, or it is not ours to remove
            continue


def unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f'{path} cannot be written ({error.strerror or error}). What was there before is as it was. Make room, or name another folder.'
    )
