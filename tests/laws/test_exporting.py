"""A stack and a model export as one program for any batch and length; the common ones also to ONNX.

A seeded part of the stacks and models; with PAIRS=all every one.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from law_cases import (
    LENGTH,
    STACKS,
    Case,
    build_model,
    build_stack,
    embeddings,
    named,
    open_sizes,
    part,
    sized,
    tokens,
    wrapper_cases,
)
from test_compiling import CLOSED
from torch import Tensor, nn
from torch.export import Dim

from x_transformers import Decoder, Encoder, TransformerWrapper


def sizes_of(inputs: dict[str, Tensor]) -> dict[str, Any]:
    return {name: dict.fromkeys(open_sizes(name, t), Dim.DYNAMIC) for name, t in inputs.items()}


def exported(module: nn.Module, inputs: dict[str, Tensor], **sizes: Any) -> Any:
    return torch.export.export(module, (), inputs, dynamic_shapes={**sizes_of(inputs), **sizes})


@pytest.mark.parametrize('kind, case', part([at for at in STACKS if at[1].name not in CLOSED], 32), ids=named)
def test_a_stack_exports_with_any_batch_and_length(kind: type, case: Case) -> None:
    stack = build_stack(kind, case)
    given = []
    for copies, n in ((1, LENGTH), (2, 7)):
        x, inputs = sized(case, copies, n)
        mask = {'mask': (torch.arange(n) < torch.tensor([[n], [5]])).repeat(copies, 1)} if kind is Encoder else {}
        given.append({'x': x, **inputs, **mask})
    program = exported(stack, given[0]).module()
    assert (program(**given[1]) - stack(**given[1])).abs().max() < 1e-10


MODELS = [
    Case(str(flags), flags) for flags in ({}, {'rotary_pos_emb': True, 'attn_kv_heads': 2}, {'rel_pos_bias': True}, {'shift_tokens': 1})
]


@pytest.mark.parametrize('case', [*MODELS, *part(wrapper_cases(), 12)], ids=str)
def test_a_model_exports_with_any_batch_and_length(case: Case) -> None:
    net = build_model(case).net
    program = exported(net, {'x': tokens()}, x={0: Dim.DYNAMIC, 1: Dim.DYNAMIC}).module()
    other = tokens(7).repeat(2, 1)
    assert (program(x=other) - net(other)).abs().max() < 1e-10


COMMON = [
    (Decoder, {}),
    (Decoder, {'rotary_pos_emb': True, 'attn_kv_heads': 2, 'ff_swish': True, 'ff_glu': True}),
    (Decoder, {'rel_pos_bias': True, 'attn_onnxable': True}),
    (Encoder, {'rotary_pos_emb': True}),
]


@pytest.mark.slow
@pytest.mark.parametrize('kind, flags', COMMON, ids=named)
def test_the_common_models_run_in_onnx(kind: type, flags: dict[str, Any]) -> None:
    runtime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=32, max_seq_len=24, attn_layers=kind(dim=16, depth=2, heads=4, **flags)).eval()

    def given(copies: int, n: int) -> dict[str, Tensor]:
        mask = (torch.arange(n) < torch.tensor([[n], [4]])).repeat(copies, 1)
        return {'x': tokens(n).repeat(copies, 1), **({'mask': mask} if kind is Encoder else {})}

    first, file = given(1, LENGTH), io.BytesIO()
    any_size = {0: Dim('batch', min=1), 1: Dim('length', min=2, max=24)}
    torch.onnx.export(net, (), kwargs=first, dynamic_shapes=dict.fromkeys(first, any_size), dynamo=True, verbose=False).save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    for copies, n in ((1, LENGTH), (2, 7), (1, 24)):
        inputs = given(copies, n)
        (out,) = session.run(None, {name: t.numpy() for name, t in inputs.items()})
        assert (torch.from_numpy(out) - net(**inputs)).abs().max() < 1e-4


@pytest.mark.parametrize('exported, run', [(12, 4), (4, 12)])
def test_a_window_exports_for_lengths_on_both_sides_of_it(exported: int, run: int) -> None:
    stack = build_stack(Decoder, Case('', {'attn_max_attend_past': 6}))
    sizes = {0: Dim('batch', min=2), 1: Dim('length', min=2, max=64)}
    program = torch.export.export(stack, (embeddings(length=exported),), dynamic_shapes=({**sizes},)).module()
    x = embeddings(length=run)
    assert (program(x) - stack(x)).abs().max() < 1e-10
