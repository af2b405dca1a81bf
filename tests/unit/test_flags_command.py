"""`python -m x_transformers.flags` and docs/flags.md: the catalogue, for readers."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

import x_transformers
from x_transformers import Attention, Decoder, FeedForward, TransformerWrapper
from x_transformers.flags import catalogue
from x_transformers.flags.__main__ import flags_page, main, public_classes, why_not_decode
from x_transformers.flags.accepting import in_code
from x_transformers.flags.listing import chapters, matches, spelt
from x_transformers.flags.page import page
from x_transformers.layers import AttentionLayers

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'flags.md'
HEAD = 2  # lines above the first chapter


def listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str, width: int = 120) -> str:
    monkeypatch.setenv('COLUMNS', str(width))
    assert main(arguments) == 0
    return capsys.readouterr().out


def names(printed: str) -> set[str]:
    """The words that begin lines, of which flags are one each."""
    return set(re.findall(r'^(\w+)(?= |$)', printed, re.MULTILINE))


# the command


def test_a_row_tells_name_type_default_sentence_paper_and_example(capsys: Any, monkeypatch: Any) -> None:
    printed = listed(capsys, monkeypatch, 'alibi_num_heads')
    lines = [' '.join(line.split()) for line in printed.splitlines()]
    at = lines.index('alibi_num_heads int | None None Heads that feel ALiBi; all by default.')
    assert lines[at + 1 : at + 3] == ['arXiv 2108.12409', 'alibi_pos_bias=True, alibi_num_heads=2']
    assert 'How attention knows where tokens stand: x_transformers/positions/flags.py' in lines
    assert 'AttentionLayers (CrossAttender, Decoder, Encoder, PrefixDecoder)' in lines


def test_flags_together_work_or_are_refused_for_a_reason(capsys: Any, monkeypatch: Any) -> None:
    assert listed(capsys, monkeypatch, '--pair', 'attn_flash', 'mask_prob') == 'Decoder: works\nEncoder: works\n'
    decoder, encoder = listed(capsys, monkeypatch, '--pair', 'attn_hard', 'attn_selective', 'use_cls_token').splitlines()
    assert decoder.startswith('Decoder: use_cls_token=True is not possible here: ')
    assert encoder.startswith('Encoder: attn_selective=True is not possible here: ')
    with pytest.raises(SystemExit):
        main(['--pair', 'attn_flsh'])
    assert "'attn_flsh' is no flag that can be switched on" in capsys.readouterr().err


def test_a_pattern_is_a_part_of_a_name_or_a_shell_pattern(capsys: Any, monkeypatch: Any) -> None:
    rotary = {e.name for e in catalogue(Decoder.config_class) if 'rotary' in e.name}
    assert rotary <= names(listed(capsys, monkeypatch, 'rotary'))
    found = names(listed(capsys, monkeypatch, 'ff_*'))
    assert {'ff_glu', 'ff_mult'} <= found and not {'attn_flash', 'depth', 'ff'} & found
    assert matches('attn_flash', 'attn_*') and not matches('cross_attn_flash', 'attn_*') and matches('cross_attn_flash', 'attn_')


def test_a_flag_with_several_names_is_shown_once_and_its_other_places_are_named(capsys: Any, monkeypatch: Any) -> None:
    printed = listed(capsys, monkeypatch, 'qk_norm_groups')
    assert len(re.findall(r'^\w*qk_norm_groups ', printed, re.MULTILINE)) == 1
    assert 'cross_attn_X follows attn_X' in printed
    assert '  qk_norm_groups: as attn_qk_norm_groups above.' in printed
    assert {'cross_attn_qk_norm_groups'} <= names(listed(capsys, monkeypatch, 'cross_attn_*'))


@pytest.mark.parametrize('cls', public_classes(), ids=lambda cls: cls.__name__)
def test_the_flags_of_one_class_are_listed_under_the_names_it_takes(cls: Any, capsys: Any, monkeypatch: Any) -> None:
    printed = names(listed(capsys, monkeypatch, '--of', cls.__name__))
    followers = ('cross_attn_', 'enc_cross_attn_', 'dec_')  # named in one line where they follow others
    assert {e.name for e in catalogue(cls.config_class) if not e.name.startswith(followers)} <= printed


def test_every_public_class_with_flags_is_there_and_the_layer_stack_comes_first() -> None:
    flagged = {cls for name in x_transformers.__all__ if hasattr(cls := getattr(x_transformers, name), 'config_class')}
    assert public_classes()[0] is AttentionLayers
    assert set(public_classes()) == {AttentionLayers, *flagged} >= {Decoder, Attention, FeedForward, TransformerWrapper}


def test_every_flag_of_every_public_class_stands_once_in_the_whole_list() -> None:
    shown = [(entry.declared, entry.field) for chapter in chapters(public_classes()) for entry in chapter.entries]
    assert len(shown) == len(set(shown))
    taken = {(entry.declared, entry.field) for cls in public_classes() for entry in catalogue(cls.config_class)}
    assert set(shown) == taken


@pytest.mark.parametrize('width', [50, 80, 120, 200])
def test_the_table_fits_the_terminal(width: int, capsys: Any, monkeypatch: Any) -> None:
    printed = listed(capsys, monkeypatch, width=width)
    assert max(map(len, printed.splitlines())) <= width
    assert {e.name for e in catalogue(Decoder.config_class) if not e.name.startswith('cross_attn_')} <= names(printed)


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['qqqq'], "no flag of any public class matches 'qqqq'; leave the pattern out to see all\n"),
        (['rotary', '--of', 'FeedForward'], "no flag of FeedForward matches 'rotary'; leave the pattern out to see all\n"),
    ],
)
def test_a_pattern_that_nothing_matches_is_answered_by_one_sentence_and_status_2(
    arguments: list[str], sentence: str, capsys: Any
) -> None:
    assert main(arguments) == 2
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ('', sentence)


@pytest.mark.parametrize(
    'arguments, words', [(['--of', 'Decode'], "invalid choice: 'Decode'"), (['--markdown', 'rotary'], 'leave out PATTERN and --of')]
)
def test_a_class_that_does_not_exist_and_a_part_of_the_page_are_refused(arguments: list[str], words: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_leaves_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does, but before the first line: no race
    with os.fdopen(writing, 'wb') as closed:
        done = subprocess.run([sys.executable, '-m', 'x_transformers.flags'], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, '')


# the page


def test_the_page_is_what_the_declarations_say_today() -> None:
    assert PAGE.read_text(encoding='utf-8') == flags_page(), 'docs/flags.md is stale: write it anew with `make docs`'


def test_the_command_writes_the_page(capsys: Any, monkeypatch: Any) -> None:
    assert listed(capsys, monkeypatch, '--markdown') == flags_page()


def test_every_row_of_the_page_has_the_columns_of_its_table() -> None:
    rows = [line for line in flags_page().splitlines() if line.startswith('|')]
    assert {len(re.split(r'(?<!\\)\|', row)) for row in rows} == {7, 9}  # with what stands left and right of the table


def test_the_page_says_what_no_fused_kernel_takes_and_why() -> None:
    written = flags_page()
    taken = dict(re.findall(r'^\| `(\w+)` .* \| (yes|no) \| (?:yes|no) \|$', written, re.MULTILINE))
    for entry in catalogue(AttentionLayers.config_class):
        if entry.flag.unfusable and entry.name in taken:
            assert taken[entry.name] == 'no', entry.name
            assert entry.flag.unfusable in written
    assert taken['attn_sparse_topk_straight_through'] == 'no'  # its example needs a flag that is not fused
    assert (taken['rotary_pos_emb'], taken['attn_qk_norm']) == ('yes', 'yes')


def test_the_page_says_what_does_not_decode_and_why() -> None:
    entries = {entry.name: entry for entry in catalogue(AttentionLayers.config_class)}
    assert why_not_decode(entries['alibi_pos_bias']) is None and why_not_decode(entries['custom_layers']) is None
    written = page(chapters([AttentionLayers]), lambda entry: 'it is round.' if entry.name in ('macaron', 'par_ratio') else None)
    assert re.search(r'^\| `macaron` .* \| yes \| no \|$', written, re.MULTILINE)
    assert re.search(r'^\| `depth` .* \| yes \| yes \|$', written, re.MULTILINE)
    assert '\nDoes not decode: `par_ratio` and `macaron`; it is round.\n' in written


def test_every_flag_set_says_in_a_sentence_what_it_is_about() -> None:
    for declared in {entry.declared for cls in public_classes() for entry in catalogue(cls.config_class)}:
        line = (inspect.getdoc(declared) or '').partition('\n')[0]
        assert line.endswith('.') and len(line) < 120, f'{declared.__name__} needs a docstring: it is a heading of docs/flags.md'


def test_files_that_the_page_names_exist() -> None:
    linked = re.findall(r'\]\(\.\./([^)]+)\)', flags_page())
    assert len(linked) > 10 and all((ROOT / file).is_file() for file in linked)


# spelling


@pytest.mark.parametrize(
    'kind, words',
    [
        (bool, 'bool'),
        (int | None, 'int | None'),
        (tuple[float, ...], 'tuple[float, ...]'),
        (float | tuple[int, ...], 'float | tuple[int, ...]'),
        (Callable | None, 'Callable | None'),
        (nn.Module, 'Module'),
        (Literal['a', 3], "Literal['a', 3]"),
        (dict, 'dict'),
        (Any, 'Any'),
    ],
)
def test_types_are_spelt_as_they_are_declared(kind: Any, words: str) -> None:
    assert in_code(kind) == words


@pytest.mark.parametrize(
    'value, words',
    [(torch.sigmoid, 'sigmoid'), (nn.GRU, 'GRU'), ('a', "'a'"), (0.5, '0.5'), (nn.Sequential(nn.ReLU()), 'Sequential( (0): ReLU() )')],
)
def test_values_are_spelt_on_one_line_and_without_addresses(value: Any, words: str) -> None:
    assert spelt(value) == words


def test_a_required_flag_has_no_default_to_show() -> None:
    assert '\n| `dim` | `int` | required | Width of the tokens. |' in page(chapters([FeedForward]), lambda entry: None)
