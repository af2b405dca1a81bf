"""Public classes and the configs they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from x_transformers.flags.cataloguing import catalogue

if TYPE_CHECKING:
    from x_transformers.flags.config import Config


class Signature:
    """The flags as keywords, for `help()`; made when they are looked at, since importing must be quick."""

    def __init__(self, config: type[Config]):
        self.config = config

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
        entries = sorted(catalogue(self.config), key=lambda e: not e.required)
        parameters = [inspect.Parameter(e.name, keyword, default=empty if e.required else e.default, annotation=e.type) for e in entries]
        return inspect.Signature(parameters)


def configured(config: type[Config]) -> Callable[[type], type]:
    """Class decorator: the public class takes the flags of `config`, and `help()` shows them."""

    def decorate(cls: type) -> type:
        cls.config_class = config  # type: ignore[attr-defined]
        cls.__signature__ = Signature(config)  # type: ignore[attr-defined]
        return cls

    return decorate
