"""Two rows of two documents and padding each, and how what they are given is cut into what the documents are given alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IDS = torch.tensor([[5] * 4 + [2] * 6 + [-1] * 2, [7] * 6 + [-1] * 2 + [3] * 4])
OF_CONTEXT = torch.tensor([[5] * 2 + [2] * 3, [7] * 3 + [3] * 2])
PLACES = {4: (0, 8), 6: (4, 0)}  # where the document of so many tokens begins in each row
OF_SIZE = {4: (2, (0, 3)), 6: (3, (2, 0))}  # how many tokens of the context are its own, and where they begin


def document(t: Tensor, size: int) -> Tensor:
    """(2, n, ...) -> (2, size, ...): of each row, the document of so many tokens."""
    return torch.stack([t[row, at : at + size] for row, at in enumerate(PLACES[size])])


def context_of_document(t: Tensor, size: int) -> Tensor:
    """(2, c, ...) -> (2, own, ...): of each row, the context of that document."""
    count, places = OF_SIZE[size]
    return torch.stack([t[row, at : at + count] for row, at in enumerate(places)])


def beside_document(inputs: dict[str, Any], size: int) -> dict[str, Any]:
    """What goes with the rows, as it goes with that document: what is one for a row is one for its documents."""
    cut = lambda name, t: context_of_document(t, size) if name.startswith('context') else document(t, size)
    by_token = lambda name, t: isinstance(t, Tensor) and (name.startswith('context') or t.ndim == 3)
    return {name: cut(name, t) if by_token(name, t) else t for name, t in inputs.items()}


def beside_rows(inputs: dict[str, Any]) -> dict[str, Any]:
    """What goes with packed rows besides that: whose the tokens are, and those of the context."""
    return {**inputs, 'document_ids': IDS, **({'context_document_ids': OF_CONTEXT} if 'context' in inputs else {})}
