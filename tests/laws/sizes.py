"""Sizes so small that twelve tokens are many blocks and strips, and slide out of memory, and that products of few rows go by blocks."""

from x_transformers import ring, shortcuts
from x_transformers.attention import strips, windowed

SMALL = (
    (windowed, 'SMALLEST', 2),
    (strips, 'LEAST', 2),
    (strips, 'STRIP', 5),
    (strips, 'LEARNING', 4),
    (strips, 'ROWS', 5),
    (ring, 'SPARE', 3),
    (shortcuts, 'BLOCK', 4),
    (shortcuts, 'LEAST', 1),
    (shortcuts, 'FEWEST', 2),
    (shortcuts, 'MOST', 64),
)


def make_small() -> None:
    """For a process that does nothing but judge."""
    for module, name, size in SMALL:
        setattr(module, name, size)
