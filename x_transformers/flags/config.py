"""Config: the frozen result of parsing, and the class that flag sets and configs derive from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

from x_transformers.errors import FlagError
from x_transformers.flags.cataloguing import same, values
from x_transformers.flags.declaring import Rules
from x_transformers.flags.parsing import bind, parse
from x_transformers.flags.plain import FIELDS, describe, keywords, parse_json, place, read
from x_transformers.flags.public import CLASSES


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
        return {name: value for name, value, default in values(self) if default is MISSING or not same(value, default)}

    def to_json(self) -> str:
        """This config as text; a FlagError names the flag that no text can hold (a function, a module of one's own)."""
        return json.dumps(describe(self), indent=2)

    @classmethod
    def from_json(cls, text: str, **supplied: Any) -> Any:
        """The config that `to_json` wrote; the models in it are built anew. `load` is for files that you do not trust."""
        try:
            data = parse_json(text)
        except ValueError as error:
            raise FlagError(f'the text is no JSON of a {cls.__name__}: {error}') from error
        if not isinstance(data, dict) or 'class' in data or data.keys() - FIELDS.keys():
            raise FlagError(f'the text is no JSON of a {cls.__name__}: expected the entries flags, parts and given')
        described = read({**data, 'class': ''}, {**CLASSES, '': type(cls.__name__, (), {'config_class': cls})})
        return parse(cls, keywords(described, place(described, supplied)))
