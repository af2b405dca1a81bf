"""Laws run on one thread, as two test processes with two threads each are slower than two with one; and with blocks of
windows, strips and spare room so small that twelve tokens are many blocks and strips, and slide out of memory, and with products
of few rows by blocks that small models have.
"""

import pytest
import torch

from x_transformers import ring, shortcuts
from x_transformers.attention import strips, windowed

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowed, 'SMALLEST', 2)
    monkeypatch.setattr(strips, 'LEAST', 2)
    monkeypatch.setattr(strips, 'STRIP', 5)
    monkeypatch.setattr(strips, 'LEARNING', 4)
    monkeypatch.setattr(strips, 'ROWS', 5)
    monkeypatch.setattr(ring, 'SPARE', 3)
    monkeypatch.setattr(shortcuts, 'BLOCK', 4)
    monkeypatch.setattr(shortcuts, 'LEAST', 1)
    monkeypatch.setattr(shortcuts, 'FEWEST', 2)
    monkeypatch.setattr(shortcuts, 'MOST', 64)
