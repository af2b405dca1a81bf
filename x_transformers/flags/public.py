"""Public classes and the configs they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from x_transformers.flags.cataloguing import Entry, catalogue

if TYPE_CHECKING:
    from x_transformers.flags.config import Config

CLASSES: dict[str, Any] = {}  # the library's own, by name: what a file may ask for


class Signature:
    """The signature of a public class: its flags, listed when somebody looks, which costs importing nothing."""

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        if instance is not None:
            raise AttributeError('__signature__')  # calling an instance is another matter
        by_position, entries = owner.config_class.positional, {entry.name: entry for entry in catalogue(owner.config_class)}
        by_keyword = sorted((name for name in entries if name not in by_position), key=lambda name: not entries[name].required)
        positional = [parameter(entries[name], inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in by_position if name in entries]
        return inspect.Signature([*positional, *(parameter(entries[name], inspect.Parameter.KEYWORD_ONLY) for name in by_keyword)])


def parameter(entry: Entry, kind: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if entry.required else entry.default
    return inspect.Parameter(entry.name, kind, default=default, annotation=entry.type)


def configured(config: type[Config]) -> Callable[[type], type]:
    """Class decorator: the public class takes the flags of `config`, and `help()` shows them. Ours can be named by files."""

    def decorate(cls: type) -> type:
        cls.config_class = config  # type: ignore[attr-defined]
        cls.__signature__ = Signature()  # type: ignore[attr-defined]
        if cls.__module__.startswith('x_transformers.'):
            CLASSES[cls.__name__] = cls
        return cls

    return decorate
