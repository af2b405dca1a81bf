"""Flags: declared once as fields of frozen dataclasses, parsed once from keywords, listed by `catalogue`.

A flag stands in the file that implements it. A config that spans several files is the join of their flags
(`class AttentionConfig(ProjectFlags, ScoreFlags, ...)`); a config inside another is a `group` reached by its
prefix (`attn_`, `ff_`). Docs, tests and command lines read the same catalogue. Nothing here knows torch.
"""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar

from x_transformers.errors import FlagError

Rule = Callable[[Any, str], 'str | None']  # (config, prefix of its public names) -> what is wrong, or None
Rules = tuple[Rule, ...]


@dataclass(frozen=True)
class Flag:
    """What is known of one flag besides its type and default."""

    doc: str
    paper: str | None = None
    example: Mapping[str, Any] | None = None  # smallest keywords that switch it on; None: nothing to switch
    inputs: tuple[str, ...] = ()  # forward inputs that the example needs
    unfusable: str | None = None  # why a fused attention kernel cannot run it
    scope: str | None = None  # 'self' or 'cross': the only kind of attention it concerns
    per_layer: bool = False  # a tuple gives every layer its own value
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Group:
    """A config nested in another, reached by a prefix."""

    config: type[Config]
    prefix: str
    inherits: str | None = None  # sibling group whose keywords it starts from
    shares: tuple[str, ...] = ()  # fields that follow the parent's field of the same name
    fixes: Mapping[str, Any] = field(default_factory=dict)  # fields whose value the place decides


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue: a flag under its public name."""

    name: str
    flag: Flag
    type: Any
    default: Any

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
    def example(self) -> dict[str, Any] | None:
        """Smallest public keywords that switch the flag on."""
        return None if self.flag.example is None else dict(self.flag.example)


def flag(default: Any = MISSING, doc: str = '', **about: Any) -> Any:
    """Declare a flag as a dataclass field; a switch (default False) is its own example."""
    metadata = {'flag': Flag(doc, **about)}
    if isinstance(default, (dict, list)):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(config: type[Config], prefix: str, **about: Any) -> Any:
    """Declare a nested config as a dataclass field."""
    return field(metadata={'group': Group(config, prefix, **about)})


@dataclass(frozen=True, kw_only=True)
class Config:
    """A frozen set of flag values. Subclasses declare fields with `flag` and `group`, and `rules` between them."""

    rules: ClassVar[Rules] = ()
    fixed: ClassVar[tuple[str, ...]] = ()  # fields that a subclass decides and users may not set
    positional: ClassVar[tuple[str, ...]] = ()  # order of positional constructor arguments, where 2.0.1 has one

    @classmethod
    def of(cls, config: Any, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """A ready config as it is, otherwise one parsed from constructor arguments."""
        if isinstance(config, cls):
            if args or keywords:
                raise FlagError(f'a ready {cls.__name__} takes no further arguments, got {sorted(keywords) or args}')
            return config
        if isinstance(config, Config):
            raise FlagError(f'a {cls.__name__} is expected, got a {type(config).__name__}; give its keywords instead')
        return parse(cls, bind(cls, args if config is None else (config, *args), keywords))

    def keywords(self) -> dict[str, Any]:
        """Public keywords that rebuild this config: every value that differs from its default."""
        return {name: value for name, value, default in _values(self) if default is MISSING or not _same(value, default)}


# ------------------------------------------------------------------------------------------------ catalogue

F = typing.TypeVar('F', bound=Callable[..., Any])


def _once_per_class(fn: F) -> F:
    return typing.cast(F, cache(fn))


@_once_per_class
def _flags(config: Any) -> dict[str, tuple[Flag, Any, Any]]:
    hints = typing.get_type_hints(config)
    found = {}
    for f in fields(config):
        if 'flag' in f.metadata:
            default = f.default if f.default_factory is MISSING else f.default_factory()
            found[f.name] = (f.metadata['flag'], hints[f.name], default)
    return found


@_once_per_class
def _groups(config: Any) -> dict[str, Group]:
    return {f.name: f.metadata['group'] for f in fields(config) if 'group' in f.metadata}


@_once_per_class
def catalogue(config: Any) -> tuple[Entry, ...]:
    """Every flag that a user of `config` can set, under its public name; nested ones with their prefix."""
    return tuple(_catalogue(config, '', hidden=config.fixed, shadow=frozenset()))


def _catalogue(config: type[Config], prefix: str, hidden: tuple[str, ...], shadow: frozenset[str]) -> Iterator[Entry]:
    own = frozenset(prefix + name for name in _flags(config))
    for name, (about, kind, default) in _flags(config).items():
        if name not in hidden and prefix + name not in shadow:
            example = about.example
            if example is None and default is False:
                example = {name: True}
            if example is not None:
                example = {key.removeprefix('^') if key.startswith('^') else prefix + key: value for key, value in example.items()}
            yield Entry(prefix + name, replace(about, example=example), kind, default)
    for nested in _groups(config).values():
        decided = (*nested.shares, *nested.fixes)
        inner = _catalogue(nested.config, prefix + nested.prefix, decided, shadow | own)
        foreign = 'self' if nested.inherits else 'cross'  # the group beside `attn_` is cross-attention's
        yield from (entry for entry in inner if entry.flag.scope != foreign)


def _values(config: Config, prefix: str = '', hidden: tuple[str, ...] | None = None) -> Iterator[tuple[str, Any, Any]]:
    """(public name, value, default) of every flag; an inheriting group yields what differs from its sibling."""
    hidden = type(config).fixed if hidden is None else hidden
    for name, (_, _, default) in _flags(type(config)).items():
        if name not in hidden:
            yield prefix + name, getattr(config, name), default
    groups = _groups(type(config))
    for name, nested in groups.items():
        sibling = getattr(config, nested.inherits) if nested.inherits else None
        for inner, value, default in _values(getattr(config, name), '', (*nested.shares, *nested.fixes)):
            about = _flags(nested.config)[inner][0]
            if sibling is not None and about.scope is None:
                default = getattr(sibling, inner)
            yield prefix + nested.prefix + inner, value, default


def lookup(config: Config, name: str) -> Any:
    """The value of a flag by its public name: `lookup(cfg, 'attn_flash')` is `cfg.attn.flash`."""
    if name in _flags(type(config)):
        return getattr(config, name)
    for attribute, nested in _by_prefix(type(config)):
        if name.startswith(nested.prefix):
            return lookup(getattr(config, attribute), name[len(nested.prefix) :])
    raise KeyError(name)


def _by_prefix(config: type[Config]) -> list[tuple[str, Group]]:
    return sorted(_groups(config).items(), key=lambda item: -len(item[1].prefix))


def is_on(config: Config, name: str) -> bool:
    """A flag is on when it differs from its default."""
    value = lookup(config, name)
    for attribute, nested in _by_prefix(type(config)):
        if name not in _flags(type(config)) and name.startswith(nested.prefix):
            return is_on(getattr(config, attribute), name[len(nested.prefix) :])
    return not _same(value, _flags(type(config))[name][2])


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) or isinstance(a, Real) and isinstance(b, Real)) and bool(a == b)


# ------------------------------------------------------------------------------------------------ parsing


def bind(config: type[Config], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Positional constructor arguments joined with keywords."""
    if len(args) > len(config.positional):
        raise FlagError(f'at most {len(config.positional)} positional arguments {config.positional}, got {len(args)}; use keywords')
    named = dict(zip(config.positional, args, strict=False))
    twice = sorted(named.keys() & keywords.keys())
    if twice:
        raise FlagError(f'{twice[0]!r} was given both by position and by keyword; give it once')
    return {**named, **keywords}


def parse(config: type[Config], keywords: Mapping[str, Any]) -> Any:
    """Keywords -> frozen config, or a FlagError that quotes the keyword, says why and what to do."""
    parsed = _build(config, dict(keywords), '', {}, config)
    for prefix, part in _parts(parsed, ''):
        for rule in _rules(type(part)):
            problem = rule(part, prefix)
            if problem:
                raise FlagError(problem)
    return parsed


def _build(config: type[Config], keywords: dict[str, Any], prefix: str, given: Mapping[str, Any], root: type[Config]) -> Config:
    own, groups = _flags(config), _by_prefix(config)
    values: dict[str, Any] = dict(given)
    routed: dict[str, dict[str, Any]] = {name: {} for name, _ in groups}
    for key, value in keywords.items():
        if key in own:
            if key in given or key in config.fixed:
                who = config.__name__.removesuffix('Config') if key in config.fixed else 'what is around it'
                raise FlagError(f'{prefix + key!r} cannot be set: {who} decides it. Leave it out.')
            values[key] = _checked(prefix + key, value, *own[key][:2])
            continue
        name = next((name for name, nested in groups if key.startswith(nested.prefix)), None)
        if name is None:
            raise _unknown(prefix + key, root)
        routed[name][key[len(_groups(config)[name].prefix) :]] = value
    missing = [name for name, (_, _, default) in own.items() if default is MISSING and name not in values]
    if missing:
        raise FlagError(f'{prefix + missing[0]!r} is required: {own[missing[0]][0].doc}')
    complete = {name: values.get(name, default) for name, (_, _, default) in own.items()}
    for name, nested in _groups(config).items():
        values[name] = _nested(nested, routed, name, prefix, {**complete}, root)
    return config(**values)


def _nested(
    nested: Group, routed: Mapping[str, dict[str, Any]], name: str, prefix: str, parent: dict[str, Any], root: type[Config]
) -> Config:
    given = {**{shared: parent[shared] for shared in nested.shares}, **nested.fixes}
    about = _flags(nested.config)
    inherited = {}
    if nested.inherits:
        inherited = {k: v for k, v in routed[nested.inherits].items() if k in about and about[k][0].scope is None}
    foreign = 'self' if nested.inherits else 'cross'
    for key in routed[name]:
        if key in about and about[key][0].scope == foreign:
            raise FlagError(f'{prefix + nested.prefix + key!r} concerns {about[key][0].scope}-attention only: {about[key][0].doc}')
    return _build(nested.config, {**inherited, **routed[name]}, prefix + nested.prefix, given, root)


def _unknown(name: str, root: type[Config]) -> FlagError:
    near = difflib.get_close_matches(name, [entry.name for entry in catalogue(root)], 1, cutoff=0.75)
    hint = f'; did you mean {near[0]!r}?' if near else f'. `x_transformers.flags.catalogue({root.__name__})` lists them.'
    return FlagError(f'unknown flag {name!r}{hint}')


def _checked(name: str, value: Any, about: Flag, kind: Any) -> Any:
    kinds = _union(kind)
    if not any(_fits(value, k) for k in kinds):
        raise FlagError(f'{name}={value!r} is not possible: expected {_spell(kinds)}. {about.doc}')
    for number in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(number, Real) and not isinstance(number, bool):
            _within(name, value, number, about)
    if kinds == (bool,):
        return bool(value)
    return tuple(value) if isinstance(value, list) else value


def _within(name: str, value: Any, number: Any, about: Flag) -> None:
    if about.at_least is not None and not number >= about.at_least:
        raise FlagError(f'{name}={value!r} is too small: expected at least {about.at_least}. {about.doc}')
    if about.at_most is not None and not number <= about.at_most:
        raise FlagError(f'{name}={value!r} is too large: expected at most {about.at_most}. {about.doc}')


def _union(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is bool:
        return isinstance(value, bool) or value in (0, 1) and isinstance(value, Integral)
    if kind is int:
        return isinstance(value, Integral)
    if kind is float:
        return isinstance(value, Real)
    origin = typing.get_origin(kind) or kind
    if origin is tuple:
        inner = typing.get_args(kind)[:1]
        return isinstance(value, (tuple, list)) and all(_fits(v, k) for v in value for i in inner for k in _union(i)[:1])
    if origin is Callable:
        return callable(value)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    return isinstance(value, origin)


def _spell(kinds: tuple[Any, ...]) -> str:
    names = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a string', type(None): 'None', Callable: 'a function'}
    return ' or '.join(names.get(typing.get_origin(k) or k, names.get(k, str(getattr(k, '__name__', k)))) for k in kinds)


# ------------------------------------------------------------------------------------------------ rules


def _rules(config: type[Config]) -> Iterator[Rule]:
    for base in config.__mro__:
        yield from base.__dict__.get('rules', ())


def _parts(config: Config, prefix: str) -> Iterator[tuple[str, Config]]:
    yield prefix, config
    for name, nested in _groups(type(config)).items():
        yield from _parts(getattr(config, name), prefix + nested.prefix)


def quote(config: Config, prefix: str, *names: str) -> str:
    """`attn_hard=True and attn_sparse_topk=8`: flags as the user wrote them."""
    return ' and '.join(f'{prefix}{name}={lookup(config, name)!r}' for name in names)


def at_most_one(*names: str) -> Rule:
    """These flags exclude one another: each fills the same place."""

    def rule(config: Config, prefix: str) -> str | None:
        on = [name for name in names if is_on(config, name)]
        return f'{quote(config, prefix, *on[:2])} cannot be combined: they fill the same place. Keep one.' if len(on) > 1 else None

    return rule


def excludes(name: str, other: str, because: str) -> Rule:
    """Two flags that cannot be on together, and why."""

    def rule(config: Config, prefix: str) -> str | None:
        if is_on(config, name) and is_on(config, other):
            return f'{quote(config, prefix, name)} cannot be combined with {quote(config, prefix, other)}: {because}'
        return None

    return rule


def demands(name: str, holds: Callable[[Any], bool], because: str) -> Rule:
    """When `name` is on, `holds(config)` must be true."""

    def rule(config: Config, prefix: str) -> str | None:
        if is_on(config, name) and not holds(config):
            return f'{quote(config, prefix, name)} is not possible here: {because}'
        return None

    return rule


def pick(config: Config, table: Mapping[str, Any], default: Any) -> Any:
    """The entry of the first flag of `table` that is on, or the default."""
    return next((choice for name, choice in table.items() if getattr(config, name)), default)


# ------------------------------------------------------------------------------------------------ public classes


def configured(config: type[Config]) -> Callable[[type], type]:
    """Class decorator: the public class takes the flags of `config`, and `help()` shows them."""

    def decorate(cls: type) -> type:
        cls.config_class = config  # type: ignore[attr-defined]
        keyword = inspect.Parameter.KEYWORD_ONLY
        cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(e.name, keyword, default=inspect.Parameter.empty if e.required else e.default, annotation=e.type)
                for e in sorted(catalogue(config), key=lambda e: not e.required)
            ]
        )
        return cls

    return decorate
