"""The catalogues of several classes as one list: chapters of classes, sections of flag sets, each flag once.

The same flag is reached under several names: `attn_flash` and `cross_attn_flash` of a layer stack, `flash` of attention
alone. It stands where it comes first; the other places are notes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from x_transformers.flags.accepting import in_code
from x_transformers.flags.cataloguing import Entry, catalogue, groups

FEW = 4  # names that are listed rather than called X


@dataclass
class Chapter:
    """What one public class, and those that are of its kind, take besides the flags of earlier chapters."""

    cls: Any
    kin: list[Any] = field(default_factory=list)  # its subclasses that take nothing else
    entries: list[Entry] = field(default_factory=list)
    elsewhere: list[tuple[Entry, Entry]] = field(default_factory=list)  # (where it stands, its other name here)

    def sections(self) -> dict[type, list[Entry]]:
        """Entries by the flag set that declares them; those that the class's own config declares come first."""
        found: dict[type, list[Entry]] = {self.cls.config_class: []}
        for entry in self.entries:
            found.setdefault(entry.declared, []).append(entry)
        return {declared: entries for declared, entries in found.items() if entries}

    def heading(self, declared: type) -> str | None:
        """What a flag set is about, as its docstring says; None for the class's own."""
        if declared is self.cls.config_class:
            return None
        return (inspect.getdoc(declared) or declared.__name__).partition('\n')[0].rstrip('.')

    def notes(self) -> list[str]:
        """Where the flags of this class stand that are not among its entries, and what kinds of it decide themselves."""
        return [*self._followed(), *self._other_names(), *self._decided()]

    def _followed(self) -> list[str]:
        shown = {(known.prefix, entry.prefix) for known, entry in self.elsewhere}
        return [f'`{here}X` follows `{there}X` where nothing else is said.' for there, here in self._inherited() if (there, here) in shown]

    def _other_names(self) -> list[str]:
        places: dict[tuple[str, str], list[str]] = {}
        for known, entry in self.elsewhere:
            if (known.prefix, entry.prefix) not in self._inherited():
                places.setdefault((known.prefix, entry.prefix), []).append(entry.field)
        notes = []
        for (there, here), names in places.items():
            if here == there:
                notes.append(f'{joined(here + name for name in names)}: as above.')
            elif len(names) < FEW:
                notes.append(f'{joined(here + name for name in names)}: as {joined(there + name for name in names)} above.')
            else:
                notes.append(f'`{here}X`: as `{there}X` above.')
        return notes

    def _inherited(self) -> list[tuple[str, str]]:
        nested = groups(self.cls.config_class)
        return [(nested[group.inherits].prefix, group.prefix) for group in nested.values() if group.inherits]

    def _decided(self) -> list[str]:
        own = {entry.name for entry in self.entries}
        kinds: dict[tuple[str, ...], list[str]] = {}
        for cls in self.kin:
            names = tuple(name for name in cls.config_class.fixed if name in own)
            kinds.setdefault(names, []).append(cls.__name__)
        return [f'Decided by {joined(by)}, and not to be set there: {joined(names)}.' for names, by in kinds.items() if names]


def chapters(classes: Iterable[Any], pattern: str | None = None) -> list[Chapter]:
    """The flags of the classes whose names match, in the order of the classes; classes without any are left out."""
    seen: dict[tuple[type, str], Entry] = {}
    found: list[Chapter] = []
    for cls in classes:
        chapter = Chapter(cls)
        for entry in catalogue(cls.config_class):
            if pattern is None or matches(entry.name, pattern):
                known = seen.setdefault((entry.declared, entry.field), entry)
                if known is entry:
                    chapter.entries.append(entry)
                else:
                    chapter.elsewhere.append((known, entry))
        kind = next((earlier for earlier in found if issubclass(cls, earlier.cls)), None)
        if chapter.entries or chapter.elsewhere and kind is None:
            found.append(chapter)
        elif chapter.elsewhere and kind is not None:
            kind.kin.append(cls)
    return found


def matches(name: str, pattern: str) -> bool:
    """By a shell-style pattern (`attn_*`), or by a part of the name (`rotary`)."""
    return fnmatchcase(name, pattern) if set(pattern) & set('*?[') else pattern in name


def joined(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    *others, last = (f'`{name}`' for name in names)
    return f'{", ".join(others)} and {last}' if others else last


def source(declared: type) -> str:
    """The file of a flag set: `x_transformers/positions/flags.py`."""
    return f'{declared.__module__.replace(".", "/")}.py'


def type_of(entry: Entry) -> str:
    return in_code(entry.type)


def default_of(entry: Entry) -> str:
    return 'required' if entry.required else spelt(entry.default)


def example_of(entry: Entry) -> str:
    return ', '.join(f'{name}={spelt(value)}' for name, value in (entry.example or {}).items())


def spelt(value: Any) -> str:
    """As one would write it on one line: functions and classes by their name."""
    if isinstance(value, type) or inspect.isroutine(value):
        return value.__name__
    return ' '.join(repr(value).split())
