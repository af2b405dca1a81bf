"""The catalogue as a table for a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap

from x_transformers.flags.cataloguing import Entry
from x_transformers.flags.listing import Chapter, default_of, example_of, source, type_of

HEAD = ('flag', 'type', 'default', 'what it does, paper, example')
NARROWEST = 50
GAP = '  '


def table(chapters: Sequence[Chapter], width: int) -> Iterator[str]:
    """The lines of the table; none is wider than `width`, unless that is less than 50."""
    width = max(width, NARROWEST)
    columns = widths([entry for chapter in chapters for entry in chapter.entries], width)
    yield from row(HEAD[0], HEAD[1:], columns)
    yield '-' * width
    for chapter in chapters:
        kin = f' ({", ".join(cls.__name__ for cls in chapter.kin)})' if chapter.kin else ''
        yield from wrap(f'{chapter.cls.__name__}{kin}', width)
        for note in chapter.notes():
            yield from wrap(note.replace('`', ''), width, initial_indent=GAP, subsequent_indent=GAP)
        yield ''
        for declared, entries in chapter.sections().items():
            heading = chapter.heading(declared)
            yield from wrap(f'{heading}: {source(declared)}' if heading else source(declared), width)
            yield ''
            for entry in entries:
                yield from row(entry.name, (type_of(entry), default_of(entry), about(entry)), columns)
            yield ''


def widths(entries: Sequence[Entry], width: int) -> tuple[int, ...]:
    """Of the four columns: the first three as wide as they need, within bounds, and the text in what is left."""
    cells = ((entry.name, type_of(entry), default_of(entry)) for entry in entries)
    needed = [max(map(len, column)) for column in zip(HEAD, *cells, strict=False)]
    bounds = (width // 3, width // 6, width // 8)
    first = [min(need, max(bound, len(head))) for need, bound, head in zip(needed, bounds, HEAD, strict=False)]
    return (*first, width - sum(first) - 3 * len(GAP))


def about(entry: Entry) -> str:
    paper = entry.paper and (entry.paper if entry.paper.startswith('http') else f'arXiv {entry.paper}')
    return '\n'.join(filter(None, (entry.doc, paper, example_of(entry))))


def row(name: str, cells: Sequence[str], columns: Sequence[int]) -> Iterator[str]:
    """The lines of one row: a name that is too long stands on a line of its own, other cells are wrapped."""
    if len(name) > columns[0]:
        yield name
        name = ''
    wrapped = [[line for text in cell.split('\n') for line in wrap(text, size, break_on_hyphens=False)]
               for cell, size in zip(cells, columns[1:], strict=True)]  # fmt: skip
    for parts in zip_longest([name], *wrapped, fillvalue=''):
        yield GAP.join(f'{part:<{size}}' for part, size in zip(parts, columns, strict=True)).rstrip()
