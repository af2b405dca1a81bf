"""Public classes and the configs they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from x_transformers.flags.cataloguing import catalogue

if TYPE_CHECKING:
    from x_transformers.flags.config import Config


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
