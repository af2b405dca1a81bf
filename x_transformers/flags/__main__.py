"""The catalogue on the command line: `python -m x_transformers.flags [PATTERN]` prints every flag that matches."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import x_transformers
from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper
from x_transformers.errors import FlagError
from x_transformers.flags.cataloguing import Entry, catalogue
from x_transformers.flags.listing import chapters
from x_transformers.flags.page import page
from x_transformers.flags.table import table
from x_transformers.layers import AttentionLayers

SMALL = {'dim': 16, 'depth': 2, 'heads': 4, 'attn_dim_head': 12}  # sizes at which every example can be built
WITH_CONTEXT = {'custom_layers': ('a', 'c', 'f', 'f', 'c', 'a'), 'par_ratio': 3}  # examples with room for a look at a context


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


def joined(entries: Sequence[Entry], context: bool = False) -> dict[str, Any]:
    """The smallest keywords that switch several flags on; a flag's own value counts more than what the example of another needs."""
    examples = [dict(entry.example or {}) for entry in entries]
    found = {name: value for each in examples for name, value in each.items()}
    found |= {entry.name: each[entry.name] for entry, each in zip(entries, examples, strict=True) if entry.name in each}
    if context or any(entry.name.startswith('cross_') for entry in entries):
        found['cross_attend'] = True
    return found | {name: value for name, value in WITH_CONTEXT.items() if name in found and found.get('cross_attend')}


def together(names: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """For each kind of stack, with a model around it: why these flags cannot be on together, or None. It is answered by building one."""
    own, training = by_name(TransformerWrapper), by_name(AutoregressiveWrapper)
    for kind in (Decoder, Encoder):
        known = {**by_name(kind), **own, **training}
        missing = [name for name in names if name not in known or not known[name].example]
        if missing:
            raise FlagError(f'{missing[0]!r} is no flag that can be switched on; `python -m x_transformers.flags` lists them')
        keywords = joined([known[name] for name in names])
        among = lambda flags, keywords=keywords: {name: value for name, value in keywords.items() if name in flags}
        stack = {**SMALL, **among(keywords.keys() - own.keys() - training.keys())}
        if 'custom_layers' in stack:
            del stack['depth']
        try:
            net = TransformerWrapper(**{'num_tokens': 32, 'max_seq_len': 24, **among(own)}, attn_layers=kind(**stack))
            AutoregressiveWrapper(net, **among(training))
        except FlagError as error:
            yield kind.__name__, str(error)
        else:
            yield kind.__name__, None


def by_name(cls: Any) -> dict[str, Entry]:
    return {entry.name: entry for entry in catalogue(cls.config_class)}


def flags_page() -> str:
    """What docs/flags.md holds."""
    return page(chapters(public_classes()), why_not_decode)


def main(arguments: Sequence[str] | None = None) -> int:
    classes = {cls.__name__: cls for cls in public_classes()}
    parser = argparse.ArgumentParser('python -m x_transformers.flags', description='List the flags of the public classes.')
    parser.add_argument('pattern', nargs='?', metavar='PATTERN', help="part of a name, or a shell pattern such as 'attn_*'")
    parser.add_argument('--of', choices=classes, metavar='CLASS', help=f'of one class: {", ".join(classes)}')
    parser.add_argument('--pair', nargs='+', metavar='FLAG', help='whether flags can be on together, or why not')
    parser.add_argument('--markdown', action='store_true', help='write docs/flags.md, which holds all flags, to standard output')
    asked = parser.parse_args(arguments)
    if asked.markdown:
        if asked.pattern or asked.of:
            parser.error('--markdown writes the whole page; leave out PATTERN and --of')
        return write(flags_page())
    if asked.pair:
        try:
            return write(''.join(f'{kind}: {why or "works"}\n' for kind, why in together(asked.pair)))
        except FlagError as error:
            parser.error(str(error))
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
