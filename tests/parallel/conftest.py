"""One set of processes for all tests of what processes do together."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from processes import Processes  # noqa: E402


@pytest.fixture(scope='session')
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()
