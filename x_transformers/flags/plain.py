"""Configs as plain data: what JSON holds, and back, without running anything that a file says.

A class of the library is its name, its flags, the parts that are classes of the library too, and the names of flags that
cannot be written (functions, modules of one's own) and are given again by the reader:

    {"class": "TransformerWrapper", "flags": {"num_tokens": 256, "max_seq_len": 64}, "given": [],
     "parts": {"attn_layers": {"class": "Decoder", "flags": {"dim": 32, "depth": 1}, "given": [], "parts": {}}}}
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from x_transformers.errors import FlagError, quoted
from x_transformers.flags.accepting import settled
from x_transformers.flags.cataloguing import catalogue
from x_transformers.flags.public import CLASSES

if TYPE_CHECKING:
    from x_transformers.flags.config import Config

FIELDS = {'class': str, 'flags': dict, 'parts': dict, 'given': list}
DEEPEST = 16  # parts within parts: a wrapper, a model, a stack; more is no model


# ------------------------------------------------------------------------------------------------ to data


def describe(config: Config, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The flags, parts and left-out names of a config, or a FlagError that names the flag which is no data."""
    flags, parts, given = {}, {}, []
    for name, value in config.keywords().items():
        if name in leave_out:
            given.append(name)
        elif isinstance(getattr(type(value), 'config_class', None), type):
            parts[name] = describe_part(value, leave_out)
        else:
            flags[name] = plain(name, value)
    return {'flags': flags, 'parts': parts, 'given': given}


def describe_part(module: Any, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The same of a module that was made of flags, with the name of its class."""
    if CLASSES.get(type(module).__name__, type(module)) is not type(module):
        raise FlagError(f'{type(module).__qualname__} of {type(module).__module__} has the name of a class of the library; rename it')
    return {'class': type(module).__name__, **describe(module.config, leave_out)}


def plain(name: str, value: Any, whole: Any = None) -> Any:
    """A value as JSON holds it (tuples are lists there); `whole`: what it is a part of, for the error."""
    whole = value if whole is None else whole
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, (tuple, list)):
        return [plain(name, each, whole) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(name, each, whole) for key, each in value.items()}
    raise FlagError(
        f'{name}={quoted(whole)} cannot be written as data: only finite numbers, strings, None, and tuples and dicts of them can. Leave it '
        f'out, save(folder, leave_out=[{name!r}]), and give it again when you load, load(folder, {name}=...).'
    )


# ------------------------------------------------------------------------------------------------ from data


@dataclass(frozen=True)
class Recipe:
    """A class of the library, and what it is built from."""

    cls: Any
    flags: dict[str, Any]
    parts: dict[str, Recipe]
    given: tuple[str, ...]

    def walk(self) -> Iterator[Recipe]:
        """This one and all its parts."""
        yield self
        for part in self.parts.values():
            yield from part.walk()


def parse_json(text: str) -> Any:
    """What a JSON text holds; a ValueError for names given twice, NaN, numbers that are none, and nesting without end."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise ValueError(f'the name {quoted(name)} stands there twice')
        return found

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f'{text} is not a finite number')
        return value

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=number, parse_float=number)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def read(data: Any, classes: Mapping[str, Any] = CLASSES, depth: int = 0) -> Recipe:
    """Check that data describes a class of the library (or one of `classes`), and what it takes; build nothing."""
    if depth > DEEPEST:
        raise FlagError(f'parts within parts, more than {DEEPEST} deep, describe no model')
    if not isinstance(data, dict) or set(data) != set(FIELDS):
        names = sorted(map(str, data)) if isinstance(data, dict) else data
        raise FlagError(f'expected the entries {", ".join(FIELDS)} of a model, found {quoted(names)}')
    for name, kind in FIELDS.items():
        if not isinstance(data[name], kind):
            raise FlagError(f'{name}={quoted(data[name])} is not possible: expected a {kind.__name__}')
    if data['class'] not in classes:
        raise FlagError(
            f'class={quoted(data["class"])} is no class of the library. A class of your own is loaded by its own method, '
            'YourClass.load(folder), or named, load(folder, classes=[YourClass]).'
        )
    if not all(isinstance(name, str) for name in data['given']):
        raise FlagError(f'given={quoted(data["given"])} is not possible: expected names of flags')
    parts = {name: read(part, classes, depth + 1) for name, part in data['parts'].items()}
    twice = sorted(parts.keys() & data['flags'].keys() | {*data['given']} & (parts.keys() | data['flags'].keys()))
    if twice:
        raise FlagError(f'{quoted(twice[0])} stands there twice, as a flag, a part or a name to be given')
    return Recipe(classes[data['class']], settled(data['flags']), parts, tuple(data['given']))


def place(recipe: Recipe, supplied: Mapping[str, Any]) -> Callable[[Recipe], dict[str, Any]]:
    """Where the flags that the reader supplies belong: where they were left out, otherwise in the one class that has them."""
    places: dict[int, dict[str, Any]] = {}
    every = list(recipe.walk())
    for name, value in supplied.items():
        takers = [each for each in every if name in each.given]
        takers = takers or [each for each in every if name in {entry.name for entry in catalogue(each.cls.config_class)}]
        if not takers:
            raise FlagError(f'{name!r} is no flag of {" or ".join(sorted({each.cls.__name__ for each in every}))}; leave it out')
        if len(takers) > 1 and not all(name in each.given for each in takers):
            raise FlagError(f'{name!r} is a flag of {" and of ".join(each.cls.__name__ for each in takers)}; build them yourself')
        for each in takers:
            places.setdefault(id(each), {})[name] = value
    for each in every:
        for name in each.given:
            if name not in places.get(id(each), {}):
                raise FlagError(f'{name} was left out when {each.cls.__name__} was saved; give it, as in load(folder, {name}=...)')
    return lambda each: places.get(id(each), {})


def keywords(recipe: Recipe, supplied: Callable[[Recipe], dict[str, Any]]) -> dict[str, Any]:
    """The keywords that rebuild what a recipe describes; its parts are built."""
    extra = supplied(recipe)
    parts = {name: part.cls(**keywords(part, supplied)) for name, part in recipe.parts.items() if name not in extra}
    return {**recipe.flags, **parts, **extra}


def build(recipe: Recipe, supplied: Mapping[str, Any] | None = None) -> Any:
    """The module that a recipe describes."""
    return recipe.cls(**keywords(recipe, place(recipe, supplied or {})))
