"""The page on architecture names only files and things that exist."""

from __future__ import annotations

import builtins
import importlib
import re
from pathlib import Path

import pytest

import x_transformers
from x_transformers.plan import KINDS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'x_transformers'
PAGE = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
QUOTED = sorted(set(re.findall(r'`([^`\n]+)`', PAGE)))
FILES = [word for word in QUOTED if re.fullmatch(r'[\w/]+\.py|[\w/]+/', word)]
PAIRS = re.findall(r'`([\w.]+)`[^`|\n]{0,24}\(`([\w/]+\.py)`', PAGE.replace('\n', ' '))  # `name` ... (`file.py`
MODULES = [path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.') for path in sorted(PACKAGE.rglob('*.py'))]
KNOWN = {name for module in MODULES for name in vars(importlib.import_module(module.removesuffix('.__init__')))}


def place(word: str) -> list[Path]:
    """Files that a name may mean: from the root, from the package, or by the last part alone."""
    exact = [base / word for base in (ROOT, PACKAGE) if (base / word).exists()]
    return exact or [path for path in PACKAGE.rglob('*.py') if path.name == word]


def test_the_page_names_something() -> None:
    assert len(FILES) > 20
    assert len(PAIRS) > 8


@pytest.mark.parametrize('word', FILES)
def test_every_file_that_is_named_exists(word: str) -> None:
    assert place(word)


@pytest.mark.parametrize('name, file', PAIRS)
def test_a_name_beside_a_file_is_found_in_that_file(name: str, file: str) -> None:
    found = place(file)
    assert found
    assert any(re.search(rf'\b{re.escape(name.split(".")[-1])}\b', path.read_text(encoding='utf-8')) for path in found)


@pytest.mark.parametrize('name', [word for word in QUOTED if re.fullmatch(r'[A-Z][a-z]\w+', word)])
def test_every_class_that_is_named_exists(name: str) -> None:
    assert name in KNOWN or hasattr(x_transformers, name) or hasattr(builtins, name)


def test_the_old_import_paths_are_named() -> None:
    assert {'x_transformers.py', 'attend.py', 'autoregressive_wrapper.py'} <= {Path(word).name for word in FILES}


def test_layers_are_written_as_the_letters_that_exist() -> None:
    assert set(re.findall(r"BRANCHES\['(\w+)'\]", PAGE)) <= set(KINDS)
