"""From keywords to a frozen config: each goes to the field of its name, or by the longest prefix into a group."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from x_transformers.errors import FlagError
from x_transformers.flags.accepting import checked
from x_transformers.flags.cataloguing import by_prefix, catalogue, groups, own_flags, same
from x_transformers.flags.declaring import Group
from x_transformers.flags.rules import problems

if TYPE_CHECKING:
    from x_transformers.flags.config import Config


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
    for problem in problems(parsed):
        raise FlagError(problem)
    return parsed


def _build(config: type[Config], keywords: dict[str, Any], prefix: str, given: Mapping[str, Any], root: type[Config]) -> Config:
    own = own_flags(config)
    values: dict[str, Any] = dict(given)
    routed: dict[str, dict[str, Any]] = {name: {} for name in groups(config)}
    for key, value in keywords.items():
        if key in own:
            if key in given or key in config.fixed:
                who = config.__name__.removesuffix('Config') if key in config.fixed else 'what is around it'
                raise FlagError(f'{prefix + key!r} cannot be set: {who} decides it. Leave it out.')
            values[key] = checked(prefix + key, value, own[key])
            continue
        found = next(((name, nested) for name, nested in by_prefix(config) if key.startswith(nested.prefix)), None)
        if found is None:
            raise _unknown(prefix + key, root)
        name, nested = found
        routed[name][key[len(nested.prefix) :]] = value
    for name, entry in own.items():
        if entry.required and name not in values:
            raise FlagError(f'{prefix + name!r} is required: {entry.doc}')
    complete = {**{name: entry.default for name, entry in own.items()}, **values}
    parts = {name: _nested(nested, routed, name, prefix, complete, root) for name, nested in groups(config).items()}
    return config(**values, **parts)


def _nested(
    nested: Group, routed: Mapping[str, dict[str, Any]], name: str, prefix: str, parent: Mapping[str, Any], root: type[Config]
) -> Config:
    given = {**{shared: parent[shared] for shared in nested.shares}, **nested.fixes}
    about = own_flags(nested.config)
    for key, value in routed[name].items():
        if key in about and about[key].flag.scope == nested.foreign and not same(value, about[key].default):
            raise FlagError(
                f'{prefix + nested.prefix + key!r} concerns {nested.foreign}-attention only: {nested.reasons.get(key, about[key].doc)}'
            )
    inherited = routed[nested.inherits] if nested.inherits else {}
    inherited = {key: value for key, value in inherited.items() if key not in nested.decided}
    inherited = {key: value for key, value in inherited.items() if key not in about or about[key].flag.scope is None}
    return _build(nested.config, {**inherited, **routed[name]}, prefix + nested.prefix, given, root)


def _unknown(name: str, root: type[Config]) -> FlagError:
    names = [entry.name for entry in catalogue(root)]
    inside = [entry.name for entry in catalogue(root) if entry.field == name]  # its prefix was left out
    outside = [bare for prefix in _prefixes(root) if (bare := name.removeprefix(prefix)) in names]  # a prefix too many
    near = inside or outside[:1] or difflib.get_close_matches(name, names, 1, cutoff=0.75)
    hint = f'; did you mean {_either(near)}?' if near else f'. `x_transformers.flags.catalogue({root.__name__})` lists them.'
    return FlagError(f'unknown flag {name!r}{hint}')


def _prefixes(config: type[Config]) -> Iterator[str]:
    """The prefixes that lead to `config` where other configs nest it."""
    everything = config.__mro__[-2]  # Config, from which all derive
    pending = [everything]
    while pending:
        other = pending.pop()
        yield from (nested.prefix for nested in groups(other).values() if issubclass(config, nested.config))
        pending += other.__subclasses__()


def _either(names: list[str]) -> str:
    """`'a', 'b' or 'c'`."""
    *others, last = map(repr, names)
    return f'{", ".join(others)} or {last}' if others else last
