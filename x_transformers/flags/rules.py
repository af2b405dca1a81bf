"""Rules between flags: what excludes, needs or bounds what, said in public names at every level.

In the reason of a rule, `{prefix}` stands for what leads to its flags, as in 'Set {prefix}use_latent_kv=True.'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from x_transformers.errors import quoted
from x_transformers.flags.accepting import fits, in_words, union
from x_transformers.flags.cataloguing import groups, is_on, lookup
from x_transformers.flags.declaring import Rule

if TYPE_CHECKING:
    from x_transformers.flags.config import Config


def problems(config: Config, prefix: str = '') -> Iterator[str]:
    """What the rules of a config, and of those nested in it, find wrong."""
    for base in type(config).__mro__:
        for rule in base.__dict__.get('rules', ()):
            problem = rule(config, prefix)
            if problem:
                yield problem
    for name, nested in groups(type(config)).items():
        yield from problems(getattr(config, name), prefix + nested.prefix)


def quote(config: Config, prefix: str, *names: str) -> str:
    """`attn_hard=True and attn_sparse_topk=8`: flags as the user wrote them."""
    return ' and '.join(f'{prefix}{name}={quoted(lookup(config, name))}' for name in names)


def said(because: str, prefix: str) -> str:
    """The reason of a rule, with flags as the user writes them."""
    return because.replace('{prefix}', prefix)


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
            return f'{quote(config, prefix, name)} cannot be combined with {quote(config, prefix, other)}: {said(because, prefix)}'
        return None

    return rule


def demands(name: str, holds: Callable[[Any], bool], because: str) -> Rule:
    """When `name` is on, `holds(config)` must be true."""

    def rule(config: Config, prefix: str) -> str | None:
        if is_on(config, name) and not holds(config):
            return f'{quote(config, prefix, name)} is not possible here: {said(because, prefix)}'
        return None

    return rule


def keywords_of(name: str, kinds: Callable[[Any], Mapping[str, Any]], *choosers: str) -> Rule:
    """The dict `name` holds keywords of these kinds; `kinds(config)` is empty where no part takes it. `choosers` choose the part."""

    def rule(config: Config, prefix: str) -> str | None:
        taken = kinds(config)
        for key, value in getattr(config, name).items() if taken else ():
            chosen = next((f' with {quote(config, prefix, other)}' for other in choosers if is_on(config, other)), '')
            problem = f'{quote(config, prefix, name)} is not possible here{chosen}: '
            if key not in taken:
                return f'{problem}expected keywords are {", ".join(taken)}, not {key!r}. Other flags decide the rest.'
            if not any(fits(value, kind) for kind in union(taken[key])):
                return f'{problem}{key} must be {in_words(union(taken[key]))}.'
        return None

    return rule


def pick(config: Config, table: Mapping[str, Any], default: Any) -> Any:
    """The entry of the first flag of `table` that is on, or the default."""
    return next((choice for name, choice in table.items() if getattr(config, name)), default)
