"""What a folder holds: `model.safetensors`, which carries all that is needed to build its model, and `config.json`, the same to read.

One file is the checkpoint, so that weights and config are never a mixed pair: its metadata holds the config, and a digest of
config, names, shapes and numbers. `config.json` is written after it. When a process is killed between the two, the older
`config.json` is known by its digest, which the newer weights remember.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x_transformers.errors import CheckpointError, quoted
from x_transformers.files.tensors import Header, damaged, opened
from x_transformers.flags.plain import parse_json
from x_transformers.version import __version__

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
FORMAT_VERSION = 1
ENTRY, DIGEST = 'x_transformers', 'digest'  # in the metadata of the weights
MOST_CONFIG = 2**20


@dataclass(frozen=True)
class Described:
    """What a folder says of its model, and which of its files says it."""

    model: dict[str, Any]
    path: Path


def about(model: dict[str, Any]) -> dict[str, Any]:
    """What stands in `config.json`."""
    return {'format_version': FORMAT_VERSION, 'library_version': __version__, 'model': model}


def as_text(model: dict[str, Any]) -> str:
    return json.dumps(about(model), indent=2, allow_nan=False) + '\n'


def digest_of(header: Header, entry: str) -> Any:
    """A digest that has seen all but the numbers."""
    return hashlib.sha256(f'{entry}\n{header.listing}\n'.encode())


def read_config(folder: Path) -> bytes | None:
    """The bytes of `config.json`, where there is one."""
    path = folder / CONFIG
    if not path.exists():
        return None
    with opened(path) as (file, size):
        if size > MOST_CONFIG:
            raise damaged(path, f'{size} bytes are more than a config needs ({MOST_CONFIG})')
        return file.read(MOST_CONFIG)


def parsed(raw: bytes | str, path: Path) -> dict[str, Any]:
    """A JSON object of our format, of a version that we read."""
    try:
        data = parse_json(raw.decode('utf-8') if isinstance(raw, bytes) else raw)
    except ValueError as error:
        raise damaged(path, f'it is no JSON ({quoted(str(error))})') from None
    if not isinstance(data, dict) or 'format_version' not in data:
        raise CheckpointError(
            f'{path} says nothing of a model of this library: it has no format_version. Build the model, and give it the numbers alone: '
            'model.load_weights(folder).'
        )
    if data['format_version'] != FORMAT_VERSION:
        raise CheckpointError(
            f'{path} has format_version={quoted(data["format_version"])}, and this library (version {__version__}) reads {FORMAT_VERSION}. '
            f'It was written by version {quoted(data.get("library_version"))}; use that one or a later one.'
        )
    if 'model' not in data:
        raise damaged(path, 'it has no entry "model"')
    return data


def describe_folder(folder: Path, config: bytes | None, header: Header) -> Described:
    """What the folder says of its model: the weights where they say it, otherwise `config.json`."""
    weights, entry = folder / WEIGHTS, header.metadata.get(ENTRY)
    if entry is None:
        if config is None:
            raise CheckpointError(
                f'{weights} says nothing of its model, and there is no {CONFIG} beside it. Build the model, and give it the numbers alone: '
                'model.load_weights(folder).'
            )
        return Described(parsed(config, folder / CONFIG)['model'], folder / CONFIG)
    data = parsed(entry, weights)
    if config is not None and hashlib.sha256(config).hexdigest() != data.get('replaces'):
        other = parsed(config, folder / CONFIG)
        if other['model'] != data['model']:
            raise CheckpointError(
                f'{folder / CONFIG} is not the config that {weights} was saved with. Give flags that you want otherwise to load(), and '
                f'remove {CONFIG} or take it from a copy; the weights carry their own.'
            )
    return Described(data['model'], weights)


def check_digest(header: Header, path: Path, digest: Any) -> None:
    """Whether the numbers that `digest` has seen are those that were written."""
    if header.metadata.get(DIGEST) != digest.hexdigest():
        raise damaged(path, 'its digest is not that of what it holds')
