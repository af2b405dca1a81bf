"""The catalogue: every flag of a config under its public name, and the value of each in a parsed one."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING, Any

from x_transformers.flags.declaring import Flag, Group

if TYPE_CHECKING:
    from x_transformers.flags.config import Config

F = typing.TypeVar('F', bound=Callable[..., Any])


def _once_per_class(fn: F) -> F:
    return typing.cast(F, cache(fn))


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue: a flag under its public name."""

    name: str
    flag: Flag
    type: Any
    default: Any
    declared: type  # the flag set that declares it
    prefix: str = ''  # the part of the name that leads to the config it is in
    around: str | None = None  # the prefix of the config around that one, where there is one

    @property
    def doc(self) -> str:
        return self.flag.doc

    @property
    def paper(self) -> str | None:
        return self.flag.paper

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def field(self) -> str:
        """The name without its prefix."""
        return self.name[len(self.prefix) :]

    @property
    def example(self) -> dict[str, Any] | None:
        """Smallest public keywords that switch the flag on."""
        example = self.flag.example() if callable(self.flag.example) else self.flag.example
        if example is None:
            return {self.name: True} if self.default is False else None
        inner = {self.prefix + name: value for name, value in example.items() if not name.startswith('^')}
        outer = {name[1:]: value for name, value in example.items() if name.startswith('^')}
        return inner if self.around is None else {**inner, **{self.around + name: value for name, value in outer.items()}}


@_once_per_class
def own_flags(config: Any) -> dict[str, Entry]:
    """The flags of a config itself, without its groups."""
    hints = typing.get_type_hints(config)
    found = {}
    for f in fields(config):
        if 'flag' in f.metadata:
            default = f.default if f.default_factory is MISSING else f.default_factory()
            declared = next(base for base in config.__mro__ if f.name in inspect.get_annotations(base))
            found[f.name] = Entry(f.name, f.metadata['flag'], hints[f.name], default, declared)
    return found


@_once_per_class
def groups(config: Any) -> dict[str, Group]:
    """The configs nested in a config, by field."""
    return {f.name: f.metadata['group'] for f in fields(config) if 'group' in f.metadata}


@_once_per_class
def by_prefix(config: Any) -> tuple[tuple[str, Group], ...]:
    """The same, the longest prefix first: the order in which names are matched."""
    return tuple(sorted(groups(config).items(), key=lambda item: -len(item[1].prefix)))


@_once_per_class
def catalogue(config: Any) -> tuple[Entry, ...]:
    """Every flag that a user of `config` can set, under its public name; nested ones with their prefix."""
    return tuple(_catalogue(config, '', None, hidden=config.fixed, shadow=frozenset()))


def _catalogue(config: type[Config], prefix: str, around: str | None, hidden: tuple[str, ...], shadow: frozenset[str]) -> Iterator[Entry]:
    """Entries under `prefix`; `around` is that of the config which nests this one, None where no other does."""
    own = frozenset(prefix + name for name in own_flags(config))
    for name, entry in own_flags(config).items():
        if name not in hidden and prefix + name not in shadow:
            yield replace(entry, name=prefix + name, prefix=prefix, around=around)
    for nested in groups(config).values():
        inside = prefix + nested.prefix
        for entry in _catalogue(nested.config, inside, prefix, nested.decided, shadow | own):
            if entry.prefix != inside or entry.flag.scope != nested.foreign:
                yield entry


def values(config: Config, hidden: tuple[str, ...] | None = None) -> Iterator[tuple[str, Any, Any]]:
    """(public name, value, default) of every flag; the default of an inheriting group is its sibling's value."""
    hidden = type(config).fixed if hidden is None else hidden
    own = own_flags(type(config))
    for name, entry in own.items():
        if name not in hidden:
            yield name, getattr(config, name), entry.default
    for name, nested in groups(type(config)).items():
        sibling = getattr(config, nested.inherits) if nested.inherits else None
        scoped = {field for field, entry in own_flags(nested.config).items() if entry.flag.scope}
        for inner, value, default in values(getattr(config, name), nested.decided):
            if sibling is not None and inner not in scoped:
                default = lookup(sibling, inner)
            yield nested.prefix + inner, value, default


def _place(config: Config, name: str) -> tuple[Config, str]:
    """The config that holds the flag of a public name, and its field there."""
    if name in own_flags(type(config)):
        return config, name
    for attribute, nested in by_prefix(type(config)):
        if name.startswith(nested.prefix):
            return _place(getattr(config, attribute), name[len(nested.prefix) :])
    raise KeyError(name)


def lookup(config: Config, name: str) -> Any:
    """The value of a flag by its public name: `lookup(cfg, 'attn_flash')` is `cfg.attn.flash`."""
    return getattr(*_place(config, name))


def is_on(config: Config, name: str) -> bool:
    """A flag is on when it differs from its default."""
    part, field = _place(config, name)
    return not same(getattr(part, field), own_flags(type(part))[field].default)


def same(a: Any, b: Any) -> bool:
    """Equal, and of one type unless both are numbers."""
    return a is b or (type(a) is type(b) or isinstance(a, Real) and isinstance(b, Real)) and bool(a == b)
