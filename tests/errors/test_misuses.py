"""Every misuse of the table is answered by one sentence, which names it, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from misuses import (
    attention_and_states,
    commands,
    every_model,
    first_mistakes,
    flags_apart,
    flags_together,
    generation,
    packing,
    parts,
    stacks,
    together,
    training,
)
from misuses.row import Misuse
from torch.utils._python_dispatch import TorchDispatchMode

TOPICS = (
    first_mistakes, flags_apart, flags_together, every_model, stacks, attention_and_states, parts, generation, training, packing,
    commands, together,
)  # fmt: skip
TABLE: dict[str, Misuse] = {f'{topic.__name__.split(".")[-1]}: {name}': row for topic in TOPICS for name, row in topic.MISUSES.items()}
PRODUCTS = ('mm', 'bmm', 'addmm', 'baddbmm', 'addbmm', 'matmul', 'linear', 'convolution', 'attention')


class NoProducts(TorchDispatchMode):
    """Any product of matrices that runs meanwhile is a fault."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.overloadpacket.__name__
        assert not any(word in PRODUCTS for word in name.split('_')), f'{name} ran before the mistake was seen'
        return op(*args, **(kwargs or {}))


@contextmanager
def nothing_computed() -> Iterator[None]:
    with NoProducts():
        yield


@pytest.mark.parametrize('name', TABLE)
def test_a_misuse_is_answered_by_one_sentence_before_anything_is_computed(name: str) -> None:
    row = TABLE[name]
    with nothing_computed(), pytest.raises(row.error) as caught:
        row.run()
    assert type(caught.value) is row.error
    message = str(caught.value)
    assert [word for word in row.words if word not in message] == [], message
    assert '\n' not in message and len(message) < 600, message


def test_a_row_names_what_was_given_and_what_is_expected() -> None:
    assert len(TABLE) >= 600 and all(row.argument and row.value and row.expectation for row in TABLE.values())
