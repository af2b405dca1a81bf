"""Laws run at small sizes, and on one thread, as two test processes with two threads each are slower than two with one."""

import pytest
import torch
from sizes import SMALL

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, size in SMALL:
        monkeypatch.setattr(module, name, size)
