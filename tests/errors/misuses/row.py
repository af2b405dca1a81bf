"""What a row of the table of misuses is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Words = str | tuple[str, ...]  # what must stand in the message


class Misuse(NamedTuple):
    """One mistake, and what the answer to it must name. Where what is expected is itself the way out, `remedy` is empty."""

    error: type[BaseException]
    run: Callable[[], Any]
    argument: Words
    value: Words
    expectation: Words
    remedy: Words = ''

    @property
    def words(self) -> list[str]:
        columns = (self.argument, self.value, self.expectation, self.remedy)
        return [word for words in columns for word in ((words,) if isinstance(words, str) else words)]
