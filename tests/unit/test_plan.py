"""Plans: which layers there are and in which order they run. The layouts are those of 2.0.1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from x_transformers.errors import FlagError
from x_transformers.layers import LayersConfig
from x_transformers.plan import Plan, plan

ROOT = Path(__file__).parents[2]


def planned(**flags: Any) -> Plan:
    return plan(LayersConfig.of(None, (), {'dim': 8, **flags}))


@pytest.mark.parametrize(
    'flags, letters',
    [
        ({'depth': 3}, 'afafaf'),
        ({'depth': 2, 'cross_attend': True}, 'acfacf'),
        ({'depth': 2, 'cross_attend': True, 'only_cross': True}, 'cfcf'),
        ({'depth': 2, 'macaron': True}, 'faffaf'),
        ({'depth': 1, 'macaron': True, 'cross_attend': True}, 'facf'),
        ({'depth': 6, 'par_ratio': 5}, 'afffff' * 2),
        ({'depth': 12, 'par_ratio': 5}, 'affff' * 4 + 'ffff'),
        ({'depth': 4, 'par_ratio': 2}, 'aaaaffff'),
        ({'depth': 6, 'par_ratio': 4, 'cross_attend': True}, 'acf' * 4 + 'ffffff'),
        ({'depth': 6, 'par_ratio': 12}, 'a' + 'f' * 15),
        ({'depth': 6, 'sandwich_coef': 2}, 'aaafafafafff'),
        ({'depth': 2, 'sandwich_coef': 2}, 'aaff'),
        ({'custom_layers': ('a', 'a', 'f')}, 'aaf'),
        ({'custom_layers': 'fafa'}, 'fafa'),
        ({'depth': 2, 'layers_execute_order': (3, -1, 0, 0)}, 'ffaa'),
        ({'depth': 3, 'weight_tie_layers': True}, 'afafaf'),
    ],
)
def test_flags_make_the_layouts_of_the_papers(flags: dict[str, Any], letters: str) -> None:
    assert str(planned(**flags)) == letters


def test_tied_layers_are_built_once_and_run_often() -> None:
    tied = planned(depth=3, weight_tie_layers=True)
    assert tied.kinds == ('a', 'f')
    assert tied.order == (0, 1, 0, 1, 0, 1)
    assert [step.block for step in tied.steps()] == [0, 0, 1, 1, 2, 2]


def test_another_order_can_be_asked_for_at_each_call() -> None:
    made = planned(depth=2)
    assert [step.module for step in made.steps((1, -1, 1))] == [1, 3, 1]
    with pytest.raises(FlagError, match='names layer 4, but 4 layers are built'):
        made.steps((4,))


def test_one_value_is_for_all_layers_and_a_tuple_for_each() -> None:
    assert [step.shift for step in planned(depth=1, shift_tokens=2).steps()] == [2, 2]
    made = planned(depth=1, shift_tokens=(1, 0), layer_dropout=[0.0, 0.5], layers_execute_order=(1, 0, 1))
    assert [(step.shift, step.dropout) for step in made.steps()] == [(0, 0.5), (1, 0.0), (0, 0.5)]


@pytest.mark.parametrize('ratio', range(2, 13))
def test_par_layouts_put_attention_first_and_never_have_fewer_layers_than_asked(ratio: int) -> None:
    letters = str(planned(depth=6, par_ratio=ratio))
    assert len(letters) >= 12
    assert letters.count('a') == 12 // ratio
    assert 'a' not in letters[8 + ratio :]


def test_plans_need_no_torch() -> None:
    program = 'import sys, types; sys.modules["x_transformers"] = m = types.ModuleType("x_transformers"); m.__path__ = ["x_transformers"]\n'
    program += 'import x_transformers.plan; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', program], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    'flags, joined',
    [
        ({'depth': 2}, {2: 0}),
        ({'depth': 3}, {4: 0}),
        ({'depth': 4}, {4: 2, 6: 0}),
        ({'depth': 5}, {6: 2, 8: 0}),
        ({'depth': 3, 'cross_attend': True}, {6: 0}),
        ({'depth': 4, 'macaron': True}, {6: 3, 9: 0}),
        ({'depth': 2, 'macaron': True, 'cross_attend': True}, {4: 0}),
        ({'custom_layers': 'afaf'}, {2: 1, 3: 0}),
        ({'depth': 2, 'sandwich_coef': 1}, {2: 1, 3: 0}),
    ],
)
def test_unet_skips_pair_blocks_from_the_middle_outwards(flags: dict[str, Any], joined: dict[int, int]) -> None:
    skips = planned(unet_skips=True, **flags).skips
    assert {late: early for late, early in enumerate(skips) if early is not None} == joined
    assert not any(skip is not None for skip in planned(**flags).skips)


def test_parallel_blocks_open_with_their_first_layer() -> None:
    steps = plan(LayersConfig.of(None, (), {'dim': 8, 'depth': 2, 'cross_attend': True, 'parallel_block': True})).steps()
    assert [step.opens for step in steps] == [True, False, False] * 2
    repeated = plan(LayersConfig.of(None, (), {'dim': 8, 'depth': 2, 'parallel_block': True, 'layers_execute_order': (2, 3, 0, 1, 2, 3)}))
    assert [step.opens for step in repeated.steps()] == [True, False] * 3
    for order in ((0,), (1, 0), (0, 3), (0, 1, 2)):
        with pytest.raises(FlagError, match='cuts blocks apart'):
            repeated.steps(order)
