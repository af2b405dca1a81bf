"""The site is built without a warning, and has a page for each flag and an entry for each public name."""
import re
from html import unescape

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from pages import ROOT

import x_transformers
from x_transformers.flags.__main__ import public_classes
from x_transformers.flags.listing import chapters


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The folder of the built site. Examples on the pages of flags run while they are written."""
    folder = tmp_path_factory.mktemp('site')
    config = load_config(str(ROOT / 'mkdocs.yml'), site_dir=str(folder), strict=True)
    config.plugins.on_startup(command='build', dirty=False)
    build(config)                                                # strict: a warning is raised when it ends
    return folder


def words(site, path):
    """A page as text."""
    html = (site / path / 'index.html').read_text(encoding='utf-8')
    return unescape(re.sub(r'<[^>]+>', '', re.search(r'<article.*?</article>', html, re.DOTALL)[0]))


def test_every_flag_has_a_page_that_says_what_it_does(site):
    first, *others = chapters(public_classes())
    pages = {entry.name: entry for entry in first.entries}
    pages |= {f'{chapter.cls.__name__}.{entry.name}': entry for chapter in others for entry in chapter.entries}
    assert {path.name for path in (site / 'flags').iterdir() if path.is_dir()} == pages.keys()
    for name, entry in pages.items():
        assert entry.doc.replace('`', '') in words(site, f'flags/{name}')


def test_a_page_of_a_flag_says_all_that_is_known(site):
    text = words(site, 'flags/attn_selective')
    for told in (
        '2410.02703', 'self-attention only', 'no: it rewrites the score matrix', 'dec_attn_selective', 'attn_selective=True)',
        'Selective attention', 'encoder: tokens deselect keys', 'Gradients reach every parameter that runs', 'attn_softclamp_logits',
    ):
        assert told in text
    assert 'bool | None' in words(site, 'flags/attn_flash')      # a bar, and no backslash before it


def test_a_refusal_is_told_on_both_pages(site):
    for name, other in (('sandwich_coef', 'par_ratio'), ('par_ratio', 'sandwich_coef')):
        assert f'decoder, encoder, encoder-decoder with {other}: they fill the same place' in words(site, f'flags/{name}')


def test_flags_are_shown_in_figures(site):
    drawn = {path.stem for path in (site / 'images' / 'flags').glob('*.png')}
    assert {'attn_selective', 'attn_num_mem_kv', 'unet_skips', 'ff_swish', 'only_cross'} <= drawn
    assert {'attn_dropout', 'attn_flash', 'attn_kv_heads', 'heads'}.isdisjoint(drawn)     # nothing that one could see
    for flag, figure in (('rotary_pos_emb', 'rotary'), ('attn_hard', 'normalisers'), ('only_cross', 'flags/only_cross')):
        assert f'src="../../images/{figure}.png"' in (site / 'flags' / flag / 'index.html').read_text(encoding='utf-8')


def test_page_of_all_flags_leads_to_each(site):
    html = (site / 'flags' / 'index.html').read_text(encoding='utf-8')
    linked = set(re.findall(r'<td><a href="([\w.]+)/"><code>', html))
    assert linked == {path.name for path in (site / 'flags').iterdir() if path.is_dir()}


def test_reference_has_every_public_name(site):
    found = set()
    for path in (site / 'reference').glob('*/index.html'):
        found |= set(re.findall(r'<h2 id="\w+">(\w+)', path.read_text(encoding='utf-8')))
    assert set(x_transformers.__all__) - {'__version__'} <= found


def test_chapters_of_the_readme_stand_in_the_site(site):
    assert 'Turns pairs of features' in words(site, 'recipes')
    assert 'href="../concepts/state/#decoding-by-state"' in (site / 'recipes' / 'index.html').read_text(encoding='utf-8')
    assert 'README' not in words(site, 'quickstart')
