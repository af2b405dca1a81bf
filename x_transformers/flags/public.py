"""Public classes and the configs they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from x_transformers.flags.cataloguing import catalogue

if TYPE_CHECKING:
    from x_transformers.flags.config import Config


class Signature:
    """The signature of a public class: its flags, listed when somebody looks, which costs importing nothing."""

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        if instance is not None:
            raise AttributeError('__signature__')  # calling an instance is another matter
        keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
        entries = sorted(catalogue(owner.config_class), key=lambda entry: not entry.required)
        return inspect.Signature(
            [inspect.Parameter(e.name, keyword, default=empty if e.required else e.default, annotation=e.type) for e in entries]
        )


def configured(config: type[Config]) -> Callable[[type], type]:
    """Class decorator: the public class takes the flags of `config`, and `help()` shows them."""

    def decorate(cls: type) -> type:
        cls.config_class = config  # type: ignore[attr-defined]
        cls.__signature__ = Signature()  # type: ignore[attr-defined]
        return cls

    return decorate
