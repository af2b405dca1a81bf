"""The catalogue as a page of documentation: docs/flags.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from x_transformers.flags.cataloguing import Entry
from x_transformers.flags.listing import Chapter, default_of, example_of, joined, source, type_of

Refusal = Callable[[Entry], 'str | None']  # why a layer stack with the example of a flag does not decode, or None

INTRODUCTION = """\
<!-- Written from the declarations by `make docs`. Change those, not this page. -->

# Flags

Every keyword of the public classes, as it is declared beside the code it steers. The same list in a terminal, searched by a
part of a name or a pattern: `python -m x_transformers.flags rotary`, `python -m x_transformers.flags 'attn_*'`,
`python -m x_transformers.flags --of Decoder`. In Python: `x_transformers.flags.catalogue(Decoder.config_class)`.

Flags of the parts of a layer stack carry a prefix: `attn_` for self-attention, `cross_attn_` for cross-attention, `ff_` for the
feed-forward. The tables show the first name of each flag, and say above them what else it is called.

An *example* is the smallest set of keywords that switches a flag on; every law in `tests/laws` is tested with it. *Fused* says
whether a fused attention kernel can run it (`attn_flash=True` refuses where the answer is no, and `attn_flash=None` takes the
reference). *Decodes* says whether a causal stack with it can go on from a state, with the numbers of the whole sequence.
"""


def page(chapters: Sequence[Chapter], refusal: Refusal) -> str:
    """The whole page. The first chapter is the layer stack, whose flags may keep a kernel or decoding from running."""
    parts = [INTRODUCTION]
    for at, chapter in enumerate(chapters):
        obstacles = obstacles_of(chapter)
        parts.append(f'## {chapter.cls.__name__}\n')
        parts += [f'{line}\n' for line in opening(chapter)]
        for declared, entries in chapter.sections().items():
            heading, file = chapter.heading(declared), source(declared)
            parts += [f'### {heading}\n'] if heading else []
            parts.append(f'[{file}](../{file})\n')
            parts.append(section(entries, obstacles, refusal) if at == 0 else plain(entries))
    return '\n'.join(parts)


def opening(chapter: Chapter) -> Iterator[str]:
    if chapter.kin:
        yield f'The flags of {joined(cls.__name__ for cls in chapter.kin)}.'
    if notes := chapter.notes():
        yield '\n'.join(notes)


def plain(entries: Sequence[Entry]) -> str:
    return grid(('flag', 'type', 'default', 'what it does', 'example'), [cells(entry) for entry in entries])


def section(entries: Sequence[Entry], obstacles: Mapping[str, str], refusal: Refusal) -> str:
    """A table with two more columns, and the reasons beneath it."""
    rows: list[tuple[str, ...]] = []
    reasons: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        unfusable, undecodable = why_not_fused(entry, obstacles), refusal(entry)
        rows.append((*cells(entry), yes_or_no(unfusable), yes_or_no(undecodable)))
        for verb, reason in (('Not fused', unfusable), ('Does not decode', undecodable)):
            if reason:
                reasons.setdefault((verb, reason.rstrip('.')), []).append(entry.name)
    beneath = ''.join(f'\n{verb}: {joined(names)}; {reason}.\n' for (verb, reason), names in reasons.items())
    return grid(('flag', 'type', 'default', 'what it does', 'example', 'fused', 'decodes'), rows) + beneath


def obstacles_of(chapter: Chapter) -> dict[str, str]:
    """Why no fused kernel runs it, of the flags of which that is so."""
    return {entry.name: entry.flag.unfusable for entry in chapter.entries if entry.flag.unfusable}


def why_not_fused(entry: Entry, obstacles: Mapping[str, str]) -> str | None:
    """What keeps the example of a flag from a fused kernel."""
    return next((obstacles[name] for name in (entry.name, *(entry.example or ())) if name in obstacles), None)


def yes_or_no(problem: str | None) -> str:
    return 'no' if problem else 'yes'


def cells(entry: Entry) -> tuple[str, ...]:
    doc = f'{entry.doc} {paper_link(entry.paper)}' if entry.paper else entry.doc
    default = default_of(entry) if entry.required else code(default_of(entry))
    return code(entry.name), code(type_of(entry)), default, doc.replace('|', '\\|'), code(example_of(entry))


def code(text: str) -> str:
    return f'`{text}`'.replace('|', '\\|') if text else ''


def paper_link(paper: str) -> str:
    return f'[{urlsplit(paper).netloc}]({paper})' if paper.startswith('http') else f'[{paper}](https://arxiv.org/abs/{paper})'


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)
