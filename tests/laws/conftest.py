"""Laws run on one thread, as two test processes with two threads each are slower than two with one; and with blocks of
windows and spare room so small that twelve tokens are many blocks, and slide out of what is remembered.
"""

import pytest
import torch

from x_transformers import ring
from x_transformers.attention import windowed

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowed, 'SMALLEST', 2)
    monkeypatch.setattr(ring, 'SPARE', 3)
