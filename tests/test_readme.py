"""What the README says is true: its code runs, its links lead somewhere, its flags exist. Docstring examples run too."""
import contextlib
import doctest
import importlib.util
import inspect
import io
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest
import torch

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

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')

FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PROSE = FENCE.sub('', README)
CLASSES = (
    Attention, AutoregressiveWrapper, ContinuousAutoregressiveWrapper, ContinuousTransformerWrapper, CrossAttender, Decoder, Encoder,
    FeedForward, MultiInputTransformerWrapper, PrefixDecoder, StackState, TransformerWrapper, ViTransformerWrapper, XTransformer,
    XValAutoregressiveWrapper, XValTransformerWrapper, DPO, NeoMLP,
    NonAutoregressiveWrapper, XLAutoregressiveWrapper,
)


ALONE = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='localhost', MASTER_PORT='0')     # as torchrun says it to a single process


def line_of(offset):
    return README.count('\n', 0, offset) + 1


def blocks():
    """Every Python block, named by the heading above it and its line, with the text block that shows what it prints."""
    fences = list(FENCE.finditer(README))
    for fence, after in zip(fences, [*fences[1:], None]):
        if fence[1] != 'python':
            continue
        heading = re.findall(r'^#+ (.+)$', FENCE.sub('', README[:fence.start()]), re.MULTILINE)[-1]
        shown = after[2] if after and after[1] == 'text' else None
        yield pytest.param(fence[2], line_of(fence.start()), shown, id=f'{slug(heading)}-line-{line_of(fence.start())}')


def slug(heading):
    """The anchor that a heading gets on GitHub."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


def slugs():
    return [slug(heading) for heading in re.findall(r'^#+ (.+)$', PROSE, re.MULTILINE)]


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


@pytest.mark.parametrize('code, line, shown', list(blocks()))
def test_block_runs_and_prints_what_is_shown(code, line, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)                                  # blocks may write files
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    torch.manual_seed(0)
    printed = io.StringIO()
    padded = '\n' * line + code                                  # a traceback names the line of the README
    with contextlib.redirect_stdout(printed):
        exec(compile(padded, 'README.md', 'exec'), {'__name__': 'readme'})
    if shown is not None:
        assert printed.getvalue() == shown


def test_links_within_the_project_lead_somewhere():
    links = re.findall(r'\]\(([^)\s]+)\)', PROSE)
    local = {link.partition('#')[0] for link in links if not link.startswith(('http', '#'))}
    assert {link for link in local if not (ROOT / link).exists()} == set()
    anchors = {link[1:] for link in links if link.startswith('#')}
    assert anchors <= set(slugs())


def test_headings_can_be_told_apart():
    assert len(slugs()) == len(set(slugs()))


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


def test_make_targets_exist():
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE)
    assert set(re.findall(r'\bmake ([a-z-]+)', '\n'.join(re.findall(r'`[^`]+`', PROSE)))) <= set(targets)


def test_every_name_in_the_text_exists():
    """Names in backticks that look like keywords are flags, arguments, or methods and fields of public classes."""
    known = {entry.name for entry in catalogue(LayersConfig)} | {'x_transformers'}
    for cls in CLASSES:
        known |= {name for name in dir(cls) if not name.startswith('_')} | set(inspect.signature(cls).parameters)
        for _, method in inspect.getmembers(cls, inspect.isfunction):
            known |= set(inspect.signature(method).parameters)
    spans = re.findall(r'`([^`\n]+)`', PROSE)
    named = {name for span in spans for name in re.findall(r'\b([a-z]\w*)=', span)}
    named |= {span for span in spans if re.fullmatch(r'[a-z]+(_[a-z0-9]+)+', span)}
    assert len(named) > 30
    of_torch = {'fullgraph', 'dynamo'}
    assert named - known - of_torch == set()


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
