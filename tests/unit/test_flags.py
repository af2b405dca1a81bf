"""Flags: routing by prefix, inheritance, rules under public names, and what the catalogue says. No torch is needed."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar

import pytest

from x_transformers import Decoder, Encoder
from x_transformers.errors import FlagError
from x_transformers.flags import (
    Config,
    Rules,
    at_most_one,
    catalogue,
    demands,
    excludes,
    flag,
    group,
    is_on,
    lookup,
    parse,
    pick,
    quote,
)


@dataclass(frozen=True, kw_only=True)
class Leaf(Config):
    dim: int = flag(doc='Width.', at_least=1)
    fast: bool = flag(False, 'Be fast.', paper='1234.56789')
    slow: bool = flag(False, 'Be slow.')
    amount: int | None = flag(None, 'How much.', example={'amount': 3, '^wide': True}, at_least=0)
    only_self: bool = flag(False, 'For the first leaf.', scope='self')
    only_cross: bool = flag(False, 'For the second leaf.', scope='cross')
    kind: str = flag('plain', 'What kind.')
    part: list | None = flag(None, 'A part.', example=lambda: {'part': [], '^wide': True})

    rules: ClassVar[Rules] = (at_most_one('fast', 'slow'),)


@dataclass(frozen=True, kw_only=True)
class Root(Config):
    dim: int = flag(doc='Width.', at_least=1)
    wide: bool = flag(False, 'Be wide.')
    leaf_size: float = flag(1.0, 'A field of the root whose name begins like the group.')
    sizes: int | tuple[int, ...] = flag(0, 'One or many.', at_least=0)
    options: dict = flag({}, 'More.')

    leaf: Leaf = group(Leaf, 'leaf_', shares=('dim',))
    other: Leaf = group(Leaf, 'leaf_other_', inherits='leaf', shares=('dim',), fixes={'kind': 'fixed'})

    rules: ClassVar[Rules] = (
        excludes('wide', 'leaf_fast', 'wide is slow.'),
        demands('leaf_amount', lambda c: c.leaf.amount < c.dim, 'there is not so much.'),
    )
    positional = ('dim', 'wide')


def made(**keywords: Any) -> Root:
    return parse(Root, {'dim': 8, **keywords})


def test_a_keyword_goes_to_the_field_of_its_name_first() -> None:
    assert made(leaf_size=2.0).leaf_size == 2.0


def test_a_prefix_leads_into_a_group_and_the_longest_prefix_wins() -> None:
    cfg = made(leaf_amount=2, leaf_other_amount=3)
    assert (cfg.leaf.amount, cfg.other.amount) == (2, 3)


def test_a_group_starts_from_what_its_sibling_was_given() -> None:
    assert made(leaf_fast=True).other.fast
    assert not made(leaf_fast=True, leaf_other_fast=False).other.fast
    assert not made(leaf_other_fast=True).leaf.fast


def test_what_concerns_one_sibling_alone_is_not_inherited_and_not_taken_by_the_other() -> None:
    assert made(leaf_only_self=True).leaf.only_self
    assert not made(leaf_only_self=True).other.only_self
    with pytest.raises(FlagError, match="'leaf_other_only_self' concerns self-attention only"):
        made(leaf_other_only_self=True)
    with pytest.raises(FlagError, match="'leaf_only_cross' concerns cross-attention only"):
        made(leaf_only_cross=True)
    assert made(leaf_only_cross=False, leaf_other_only_self=False) == made()


def test_shared_and_fixed_fields_follow_the_place_and_cannot_be_set() -> None:
    cfg = made()
    assert (cfg.leaf.dim, cfg.other.dim, cfg.leaf.kind, cfg.other.kind) == (8, 8, 'plain', 'fixed')
    for name in ('leaf_dim', 'leaf_other_dim', 'leaf_other_kind'):
        with pytest.raises(FlagError, match=f"'{name}' cannot be set"):
            made(**{name: 3})


def test_what_the_place_decides_is_not_inherited_either() -> None:
    cfg = made(leaf_kind='bent')
    assert (cfg.leaf.kind, cfg.other.kind) == ('bent', 'fixed')
    assert cfg.keywords() == {'dim': 8, 'leaf_kind': 'bent'}


@dataclass(frozen=True, kw_only=True)
class FixedRoot(Root):
    fixed = ('wide',)


@dataclass(frozen=True, kw_only=True)
class Pair(Config):
    dim: int = flag(doc='Width.')
    left: Root = group(FixedRoot, 'left_', shares=('dim',))
    right: Root = group(Root, 'right_', inherits='left', shares=('dim',))


def test_groups_may_nest() -> None:
    cfg = parse(Pair, {'dim': 8, 'left_leaf_amount': 2, 'left_leaf_other_only_cross': True, 'right_leaf_other_slow': True})
    assert (cfg.left.leaf.amount, cfg.left.other.amount, cfg.right.other.amount) == (2, 2, 2)
    assert cfg.left.other.only_cross and cfg.right.other.slow
    assert parse(Pair, cfg.keywords()) == cfg
    assert lookup(cfg, 'left_leaf_other_only_cross') and is_on(cfg, 'right_leaf_other_slow')
    with pytest.raises(FlagError, match='left_leaf_fast=True and left_leaf_slow=True cannot be combined'):
        parse(Pair, {'dim': 8, 'left_leaf_fast': True, 'left_leaf_slow': True})


def test_the_catalogue_of_nested_groups_lists_what_can_be_set_and_nothing_else() -> None:
    names = {entry.name for entry in catalogue(Pair)}
    assert {'left_leaf_other_only_cross', 'right_leaf_other_only_cross', 'left_leaf_only_self', 'right_wide'} <= names
    assert not {'left_wide', 'left_dim', 'left_leaf_dim', 'left_leaf_only_cross'} & names
    for entry in catalogue(Pair):
        assert entry.prefix + entry.field == entry.name
    with pytest.raises(FlagError, match="'left_wide' cannot be set: FixedRoot decides it"):
        parse(Pair, {'dim': 8, 'left_wide': True})


@pytest.mark.parametrize('wrong, near', [('wid', 'wide'), ('leaf_fsat', 'leaf_fast'), ('leaf_other_amont', 'leaf_other_amount')])
def test_a_misspelt_flag_is_met_with_the_nearest_public_name(wrong: str, near: str) -> None:
    with pytest.raises(FlagError, match=f"unknown flag '{wrong}'; did you mean '{near}'"):
        made(**{wrong: True})


def test_a_forgotten_or_superfluous_prefix_is_met_with_the_name_without_fault() -> None:
    with pytest.raises(FlagError, match="unknown flag 'slow'; did you mean 'leaf_slow' or 'leaf_other_slow'"):
        made(slow=True)
    with pytest.raises(FlagError, match="unknown flag 'leaf_other_slow'; did you mean 'slow'"):
        parse(Leaf, {'dim': 8, 'leaf_other_slow': True})


def test_an_unlike_name_is_met_with_where_the_list_is() -> None:
    with pytest.raises(FlagError, match=r"unknown flag 'qqqq'\. `x_transformers.flags.catalogue\(Root\)`"):
        made(qqqq=1)


def test_rules_speak_in_public_names_at_every_level() -> None:
    with pytest.raises(FlagError, match='leaf_fast=True and leaf_slow=True cannot be combined'):
        made(leaf_fast=True, leaf_slow=True)
    with pytest.raises(FlagError, match='leaf_other_fast=True and leaf_other_slow=True cannot be combined'):
        made(leaf_other_fast=True, leaf_other_slow=True)
    with pytest.raises(FlagError, match='wide=True cannot be combined with leaf_fast=True: wide is slow'):
        made(wide=True, leaf_fast=True)
    with pytest.raises(FlagError, match='leaf_amount=9 is not possible here: there is not so much'):
        made(leaf_amount=9)


@pytest.mark.parametrize(
    'keywords, words',
    [
        ({'wide': 2}, 'wide=2 is not possible: expected True or False'),
        ({'wide': 'yes'}, "wide='yes' is not possible: expected True or False"),
        ({'dim': 2.5}, 'dim=2.5 is not possible: expected a whole number'),
        ({'dim': 0}, 'dim=0 is too small: expected at least 1'),
        ({'sizes': (1, -1)}, r'sizes=\(1, -1\) is too small'),
        ({'sizes': (1, 'a')}, r"sizes=\(1, 'a'\) is not possible"),
        ({'leaf_size': None}, 'leaf_size=None is not possible: expected a number'),
        ({'options': 3}, 'options=3 is not possible: expected dict'),
        ({'leaf_kind': 3}, 'leaf_kind=3 is not possible: expected a string'),
    ],
)
def test_a_value_of_another_kind_is_quoted(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(FlagError, match=words):
        made(**keywords)


def test_values_are_brought_into_one_form() -> None:
    assert made(wide=1).wide is True
    assert made(sizes=[1, 2]).sizes == (1, 2)


def test_lookup_and_is_on_take_public_names() -> None:
    cfg = made(leaf_amount=2, leaf_other_slow=True, leaf_size=3)
    assert (lookup(cfg, 'leaf_amount'), lookup(cfg, 'leaf_other_slow'), lookup(cfg, 'leaf_size')) == (2, True, 3)
    assert is_on(cfg, 'leaf_amount') and is_on(cfg, 'leaf_other_slow') and not is_on(cfg, 'leaf_slow') and not is_on(cfg, 'wide')
    assert quote(cfg, '', 'leaf_amount', 'wide') == 'leaf_amount=2 and wide=False'
    with pytest.raises(KeyError):
        lookup(cfg, 'nothing')


@pytest.mark.parametrize(
    'keywords',
    [{}, {'wide': True}, {'leaf_fast': True}, {'leaf_fast': True, 'leaf_other_fast': False}, {'leaf_other_amount': 4, 'sizes': (1, 2)},
     {'leaf_only_self': True, 'options': {'a': 1}}],
)  # fmt: skip
def test_the_keywords_of_a_config_rebuild_it_and_are_no_more_than_needed(keywords: dict[str, Any]) -> None:
    cfg = made(**keywords)
    assert cfg.keywords() == {'dim': 8, **keywords}
    assert parse(Root, cfg.keywords()) == cfg


def test_a_config_is_frozen_and_its_mutable_defaults_are_its_own() -> None:
    cfg = made()
    with pytest.raises(FrozenInstanceError):
        cfg.wide = True  # type: ignore[misc]
    assert made().options is not made().options


def test_the_catalogue_lists_public_names_with_their_examples() -> None:
    entries = {entry.name: entry for entry in catalogue(Root)}
    assert {'dim', 'wide', 'leaf_fast', 'leaf_other_fast', 'leaf_only_self', 'leaf_other_only_cross'} <= set(entries)
    assert not {'leaf_dim', 'leaf_other_kind', 'leaf_only_cross', 'leaf_other_only_self'} & set(entries)
    assert entries['leaf_fast'].example == {'leaf_fast': True}
    assert entries['leaf_amount'].example == {'leaf_amount': 3, 'wide': True}
    assert {e.name: e for e in catalogue(Leaf)}['amount'].example == {'amount': 3}
    assert {e.name: e for e in catalogue(Pair)}['right_leaf_amount'].example == {'right_leaf_amount': 3, 'right_wide': True}
    assert entries['dim'].required and not entries['wide'].required
    assert entries['leaf_fast'].paper == '1234.56789'
    assert entries['leaf_other_fast'].declared is Leaf and entries['wide'].declared is Root


def test_an_example_with_parts_in_it_makes_new_ones() -> None:
    entry = next(entry for entry in catalogue(Root) if entry.name == 'leaf_other_part')
    assert entry.example == {'leaf_other_part': [], 'wide': True}
    assert entry.example['leaf_other_part'] is not entry.example['leaf_other_part']


def test_positional_arguments_are_named_by_their_order() -> None:
    assert Root.of(8, (True,), {}).wide
    with pytest.raises(FlagError, match="'wide' was given both by position and by keyword"):
        Root.of(8, (True,), {'wide': True})
    with pytest.raises(FlagError, match='at most 2 positional arguments'):
        Root.of(8, (True, 1.0), {})


def test_a_ready_config_is_taken_as_it_is() -> None:
    cfg = made()
    assert Root.of(cfg, (), {}) is cfg
    with pytest.raises(FlagError, match='ready Root takes no further arguments'):
        Root.of(cfg, (), {'wide': True})


def test_pick_takes_the_first_flag_of_a_table_that_is_on() -> None:
    table = {'fast': 'f', 'slow': 's'}
    assert pick(made(leaf_slow=True).leaf, table, default='none') == 's'
    assert pick(made().leaf, table, default='none') == 'none'


@pytest.mark.parametrize('stack', [Encoder, Decoder])
def test_the_signature_of_a_class_is_its_catalogue(stack: type) -> None:
    parameters = inspect.signature(stack).parameters
    assert sorted(parameters) == sorted(entry.name for entry in catalogue(stack.config_class))  # type: ignore[attr-defined]
    assert next(iter(parameters)) == 'dim'  # what is required comes first
    assert parameters['dim'].default is inspect.Parameter.empty
    assert parameters['attn_flash'].default is None
    assert 'causal' not in parameters


def test_every_flag_of_a_stack_says_what_it_does_in_a_sentence() -> None:
    for entry in catalogue(Decoder.config_class):
        assert entry.doc.endswith('.') and len(entry.doc) < 120, entry.name
