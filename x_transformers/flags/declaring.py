"""How a flag is declared: one line in a frozen dataclass, with what documentation, tests and backends want to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x_transformers.flags.config import Config

Rule = Callable[[Any, str], 'str | None']  # (config, prefix of its public names) -> what is wrong, or None
Rules = tuple[Rule, ...]


@dataclass(frozen=True)
class Flag:
    """What is known of one flag besides its type and default."""

    doc: str
    paper: str | None = None
    example: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None  # smallest keywords that switch it on
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
    reasons: Mapping[str, str] = field(default_factory=dict)  # why fields of another scope are none here, where their sentence does not say

    @property
    def decided(self) -> tuple[str, ...]:
        """Fields of the nested config that its users cannot set."""
        return (*self.shares, *self.fixes, *self.config.fixed)

    @property
    def foreign(self) -> str:
        """The scope of flags that are none here: the group that follows `attn_` is cross-attention's."""
        return 'self' if self.inherits else 'cross'


def flag(default: Any = MISSING, doc: str = '', **about: Any) -> Any:
    """Declare a flag as a dataclass field; a switch (default False) is its own example.

    In an `example`, keys are fields of the same config; those that begin with `^` are of the config around it, if any is.
    An example with modules in it is a function that makes new ones. None: there is nothing to switch.
    """
    metadata = {'flag': Flag(doc, **about)}
    if isinstance(default, (dict, list)):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(config: type[Config], prefix: str, **about: Any) -> Any:
    """Declare a nested config as a dataclass field."""
    return field(metadata={'group': Group(config, prefix, **about)})
