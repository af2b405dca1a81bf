"""A stack is one graph: it compiles without a break, for every flag, and a second length needs no new code path."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from law_cases import DECODERS, TOGETHER, Case, build_model, build_stack, context_of, embeddings, so_far, tokens
from torch.export import Dim

from x_transformers import Decoder


def compiles(case: Case, lengths: tuple[int, ...]) -> None:
    """One graph for each new kind of shape, and the numbers of the stack itself."""
    torch.compiler.reset()
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    compiled = torch.compile(stack, fullgraph=True, backend='eager')
    for n in lengths:
        part = so_far(inputs, n)
        with torch._dynamo.config.patch(allow_rnn=True):  # PyTorch's own switch for a GRU beside attention
            out = compiled(x[:, :n], **part)
        assert (out - stack(x[:, :n], **part)).abs().max() < 1e-10


@pytest.mark.parametrize('case', DECODERS, ids=str)
def test_a_stack_compiles_into_one_graph_and_gives_the_same(case: Case) -> None:
    compiles(case, (12,))


@pytest.mark.parametrize('case', [case for case in DECODERS if case.name in TOGETHER], ids=str)
def test_graphs_of_many_flags_serve_other_lengths(case: Case) -> None:
    """The second length makes a graph for any length, which is traced for long: combinations stand for their flags."""
    compiles(case, (12, 7, 9))


@pytest.mark.parametrize('flags', [{}, {'rotary_pos_emb': True, 'attn_kv_heads': 2}, {'rel_pos_bias': True}, {'shift_tokens': 1}], ids=str)
def test_a_model_exports_with_any_batch_and_length(flags: dict[str, object]) -> None:
    net = build_model(Case('', flags)).net
    sizes = {0: Dim('batch', min=2), 1: Dim('length', min=2, max=16)}
    program = torch.export.export(net, (tokens(),), dynamic_shapes=({**sizes},)).module()
    other = tokens(7).repeat(2, 1)
    assert (program(other) - net(other)).abs().max() < 1e-10
