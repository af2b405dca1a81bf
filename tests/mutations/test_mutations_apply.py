"""Every mutation can still be made: its text stands once in its file, and what it makes of the file is other Python. `make mutations`
runs the laws against each."""

from __future__ import annotations

import ast

import pytest
from mutation_table import MUTATIONS, ROOT, Mutation, broken


@pytest.mark.parametrize('mutation', MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_still_applies(mutation: Mutation) -> None:
    source = (ROOT / 'x_transformers' / mutation.file).read_text(encoding='utf-8')
    made = compile(broken(mutation, ROOT / 'x_transformers'), mutation.file, 'exec', ast.PyCF_ONLY_AST)
    assert ast.dump(made) != ast.dump(ast.parse(source))
    assert (ROOT / 'tests/laws' / mutation.laws).exists()


def test_every_mutation_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 40
