"""One set of processes for all tests of what processes do together."""

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from processes import Processes


@pytest.fixture(scope='session')
def processes() -> Iterator[Processes]:
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        pytest.skip('processes are forked')
    started = Processes()
    yield started
    started.close()
