"""What README and site say is true: their code runs, links lead somewhere, flags exist. Docstring examples run too."""
import doctest
import importlib.util
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from pages import README, ROOT, SITE

import x_transformers
from x_transformers import (
    DPO,
    Attention,
    AutoregressiveWrapper,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    CrossAttender,
    Decoder,
    Encoder,
    FeedForward,
    MultiInputTransformerWrapper,
    NeoMLP,
    NonAutoregressiveWrapper,
    PrefixDecoder,
    TransformerWrapper,
    ViTransformerWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)
from x_transformers.flags import catalogue
from x_transformers.layers import LayersConfig
from x_transformers.state import StackState

PROSE = README.prose
WRITTEN_FOR_USERS = [page for page in (README, *SITE) if page.name.removeprefix('docs/') not in (
    'architecture.md', 'benchmarks.md', 'combinations.md', 'flags.md')]
CLASSES = (
    Attention, AutoregressiveWrapper, ContinuousAutoregressiveWrapper, ContinuousTransformerWrapper, CrossAttender, Decoder, Encoder,
    FeedForward, MultiInputTransformerWrapper, PrefixDecoder, StackState, TransformerWrapper, ViTransformerWrapper, XTransformer,
    XValAutoregressiveWrapper, XValTransformerWrapper, DPO, NeoMLP,
    NonAutoregressiveWrapper, XLAutoregressiveWrapper,
)


IMPORTED_BY_NAME = ('x_transformers.parallel', 'x_transformers.interop.checkpoints', 'x_transformers.interop.huggingface')
ALONE = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='localhost', MASTER_PORT='0')     # as torchrun says it to a single process


@cache
def figures():
    """The script that draws them."""
    spec = importlib.util.spec_from_file_location('draw', ROOT / 'images' / 'draw.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules():
    walked = pkgutil.walk_packages(x_transformers.__path__, 'x_transformers.')
    names = ['x_transformers', *(found.name for found in walked)]
    return [name for name in names if '>>> ' in Path(importlib.import_module(name).__file__).read_text(encoding='utf-8')]


@pytest.mark.parametrize('block', [block for page in (README, *SITE) for block in page.blocks()], ids=str)
def test_block_runs_and_prints_what_is_shown(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                                  # blocks may write files
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    block.run()


def test_links_within_the_project_lead_somewhere():
    links = re.findall(r'\]\(([^)\s]+)\)', PROSE)
    local = {link.partition('#')[0] for link in links if not link.startswith(('http', '#'))}
    assert {link for link in local if not (ROOT / link).exists()} == set()
    anchors = {link[1:] for link in links if link.startswith('#')}
    assert anchors <= set(README.slugs)


def test_headings_can_be_told_apart():
    assert len(README.slugs) == len(set(README.slugs))


def test_every_flag_that_a_figure_shows_exists():
    stack, wrapper = ({entry.name for entry in catalogue(cls.config_class)} for cls in (Decoder, AutoregressiveWrapper))
    known = stack | {f'AutoregressiveWrapper.{name}' for name in wrapper} | {'causal'}
    assert {flag for flags in figures().SHOWS.values() for flag in flags} <= known
    assert figures().SHOWS.keys() == figures().FIGURES.keys()


def test_every_figure_is_small_and_shown_with_a_description():
    shown = {path: text for text, path in re.findall(r'!\[([^]]*)\]\((images/[^)]+)\)', PROSE)}
    drawn = {f'images/{path.name}': path for path in (ROOT / 'images').glob('*.png')}
    assert shown.keys() == drawn.keys()
    assert shown.keys() == {f'images/{name}.png' for name in figures().FIGURES}
    assert all(len(text) > 40 for text in shown.values())
    assert all(path.stat().st_size < 80_000 for path in drawn.values())


def test_figures_can_be_drawn_anew(tmp_path):
    for name in figures().FIGURES:
        figures().draw(name, tmp_path)
        assert (tmp_path / f'{name}.png').stat().st_size < 80_000


each_page = pytest.mark.parametrize('page', [README, *SITE], ids=lambda page: page.name)


@each_page
def test_make_targets_exist(page):
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE)
    assert set(re.findall(r'\bmake ([a-z-]+)', '\n'.join(re.findall(r'`[^`]+`', page.prose)))) <= set(targets)


@cache
def known_names():
    """Flags, arguments, and methods and fields of public classes; functions and arguments of what is imported by name."""
    known = {entry.name for entry in catalogue(LayersConfig)} | {'x_transformers'}
    for module in map(importlib.import_module, IMPORTED_BY_NAME):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            known |= {name, *inspect.signature(function).parameters}
    for cls in CLASSES:
        known |= {name for name in dir(cls) if not name.startswith('_')} | set(inspect.signature(cls).parameters)
        for _, method in inspect.getmembers(cls, inspect.isfunction):
            known |= set(inspect.signature(method).parameters)
    return known


@pytest.mark.parametrize('page', WRITTEN_FOR_USERS, ids=lambda page: page.name)
def test_every_name_in_the_text_exists(page):
    """Names in backticks that look like keywords are those of the library."""
    spans = re.findall(r'`([^`\n]+)`', page.prose)
    named = {name for span in spans for name in re.findall(r'\b([a-z]\w*)=', span)}
    named |= {span for span in spans if re.fullmatch(r'[a-z]+(_[a-z0-9]+)+', span)}
    assert len(named) > 30 or page is not README
    of_torch = {'fullgraph', 'dynamo', 'fully_shard', 'parallelize_module', 'find_unused_parameters'}
    assert named - known_names() - of_torch == set()


def test_links_to_papers_show_the_paper_they_lead_to():
    for text, number in re.findall(r'\[([^]]+)\]\(https://arxiv\.org/abs/([^)]+)\)', PROSE):
        assert text.endswith(number)


@pytest.mark.parametrize('name', modules())
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    torch.manual_seed(0)
    result = doctest.testmod(module, extraglobs={'torch': torch}, raise_on_error=False)
    assert result.attempted > 0
    assert result.failed == 0
