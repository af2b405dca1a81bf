"""Questions about the numbers in tensors are asked where they are free, or on request; never in a compiled or exported graph."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from fuzzing import LEFT_OUT, parts

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.errors import InputError
from x_transformers.inputs import askable, check_values

STRANGE = torch.tensor([[1, 2, 99, 3]])


def model() -> TransformerWrapper:
    return TransformerWrapper(num_tokens=11, max_seq_len=8, attn_layers=Decoder(dim=16, depth=1, heads=2, rotary_pos_emb=True))


def test_on_the_cpu_numbers_are_asked_for_unless_told_otherwise() -> None:
    here, nowhere = torch.zeros(1), torch.zeros(1, device='meta')
    assert askable(here) and not askable(nowhere)
    with check_values(False):
        assert not askable(here)
        with check_values():
            assert askable(here) and not askable(nowhere)
        assert not askable(here)
    assert askable(here)


def test_an_error_meanwhile_leaves_the_switch_as_it_was() -> None:
    with pytest.raises(InputError, match='token id 99'), check_values():
        model()(STRANGE)
    with pytest.raises(KeyError), check_values(False):
        raise KeyError
    assert askable(torch.zeros(1))


@pytest.mark.parametrize('value, expected', [('0', 'False'), ('1', 'True'), ('', 'True')])
def test_a_variable_says_it_for_a_whole_run(value: str, expected: str) -> None:
    code = 'import torch; from x_transformers.inputs import askable; print(askable(torch.zeros(1)))'
    variables = {**os.environ, 'X_TRANSFORMERS_CHECK_VALUES': value}
    done = subprocess.run([sys.executable, '-c', code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs an accelerator')
def test_on_an_accelerator_numbers_are_asked_for_on_request() -> None:
    net = model().cuda()
    with pytest.raises(InputError, match='token id 99'), check_values():
        net(STRANGE.cuda())
    with pytest.raises(InputError, match='token id 99'), check_values():
        AutoregressiveWrapper(net)(STRANGE.cuda())
    with pytest.raises(InputError, match='x is on cpu, but the parameters are on cuda'):
        net(STRANGE % 11)


def test_no_check_breaks_a_graph() -> None:
    net, ids = model().eval(), torch.randint(0, 11, (2, 6))
    with check_values(), torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend='eager')
        assert torch.equal(compiled(ids), net(ids))
        loss = AutoregressiveWrapper(net)
        assert torch.equal(torch.compile(loss, fullgraph=True, backend='eager')(ids), loss(ids))
        exported = torch.export.export(net, (ids,)).module()
        torch.testing.assert_close(exported(ids), net(ids))


@pytest.mark.parametrize('name', [name for name in parts() if not name.startswith('dropout')])  # which draws, for each row its own
def test_checks_of_parts_stay_out_of_graphs(name: str) -> None:
    fn, keywords = parts()[name]
    given: dict[str, Any] = {key: value for key, value in keywords.items() if value is not LEFT_OUT}
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(fn, fullgraph=True, backend='eager')(**given), fn(**given))
