"""The catalogue on the command line: `python -m x_transformers.flags [PATTERN]` prints every flag that matches."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import x_transformers
from x_transformers.flags.cataloguing import Entry
from x_transformers.flags.listing import chapters
from x_transformers.flags.page import page
from x_transformers.flags.table import table
from x_transformers.layers import AttentionLayers

SMALL = {'dim': 16, 'depth': 2, 'heads': 4, 'attn_dim_head': 12}  # sizes at which every example can be built


def public_classes() -> list[Any]:
    """The layer stack, its kinds, then all other public classes that declare flags."""
    public = [getattr(x_transformers, name) for name in x_transformers.__all__]
    flagged = [cls for cls in public if isinstance(cls, type) and hasattr(cls, 'config_class')]
    return [AttentionLayers, *sorted(flagged, key=lambda cls: not issubclass(cls, AttentionLayers))]


def why_not_decode(entry: Entry) -> str | None:
    """What a small causal stack with the example of a flag answers."""
    keywords = {**SMALL, 'causal': True, **(entry.example or {})}
    if 'custom_layers' in keywords:
        del keywords['depth']
    return AttentionLayers(**keywords).why_not_decode


def flags_page() -> str:
    """What docs/flags.md holds."""
    return page(chapters(public_classes()), why_not_decode)


def main(arguments: Sequence[str] | None = None) -> int:
    classes = {cls.__name__: cls for cls in public_classes()}
    parser = argparse.ArgumentParser('python -m x_transformers.flags', description='List the flags of the public classes.')
    parser.add_argument('pattern', nargs='?', metavar='PATTERN', help="part of a name, or a shell pattern such as 'attn_*'")
    parser.add_argument('--of', choices=classes, metavar='CLASS', help=f'of one class: {", ".join(classes)}')
    parser.add_argument('--markdown', action='store_true', help='write docs/flags.md, which holds all flags, to standard output')
    asked = parser.parse_args(arguments)
    if asked.markdown:
        if asked.pattern or asked.of:
            parser.error('--markdown writes the whole page; leave out PATTERN and --of')
        return write(flags_page())
    found = chapters([classes[asked.of]] if asked.of else classes.values(), asked.pattern)
    if not found:
        sys.stderr.write(f'no flag of {asked.of or "any public class"} matches {asked.pattern!r}; leave the pattern out to see all\n')
        return 2
    return write('\n'.join(table(found, shutil.get_terminal_size().columns)) + '\n')


def write(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python would flush once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == '__main__':
    sys.exit(main())
