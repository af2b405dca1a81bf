"""A stack is one graph, forwards and backwards: it compiles without a break, for every flag, and serves any batch and length.

Every decoder is compiled; a seeded part of all stacks also backwards and with open sizes, and with PAIRS=all every stack.
"""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest
import torch
import torch._dynamo
from law_cases import (
    DECODERS,
    STACKS,
    TOGETHER,
    Case,
    build_model,
    build_stack,
    context_of,
    embeddings,
    named,
    open_sizes,
    part,
    sized,
    tokens,
)
from torch import Tensor, nn

from x_transformers import Decoder, Encoder

TRAINED = part(STACKS, 32)
OPEN = part([at for at in STACKS if at[1].name not in TOGETHER], 8) + [at for at in STACKS if at[0] is Decoder and at[1].name in TOGETHER]
CLOSED = {  # why a stack cannot have open sizes
    'attn_hybrid_module': 'PyTorch unrolls a recurrent layer over the length',
    'attn_hybrid_fold_axial_dim': 'PyTorch unrolls a recurrent layer over the length',
    'a folded LSTM beside attention, wide values, shifted': 'PyTorch unrolls a recurrent layer over the length',
    'a folded convolution beside attention, latents, streams': 'the length decides how much is padded before folding',
}


def compiled(module: nn.Module, backend: Any) -> Any:
    torch.compiler.reset()
    return torch.compile(module, fullgraph=True, backend=backend)


def settled(case: Case) -> Case:
    """The case with chances of 0 and 1, since a graph draws by torch and a stack outside of it by Python."""
    return Case(case.name, {**case.stack, 'layer_dropout': (1.0, 0.0, 0.0, 1.0)}) if 'layer_dropout' in case.stack else case


def trained(stack: nn.Module, run: Any, x: Tensor, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The output, and the gradients of what goes in and of every parameter; where there is none, zero."""
    stack.zero_grad()
    torch.manual_seed(0)
    x = x.clone().requires_grad_()
    with torch._dynamo.config.patch(allow_rnn=True):  # PyTorch's own switch for a GRU beside attention
        out = run(x, **inputs)
    out.square().sum().backward()
    return [out, *(torch.zeros_like(t) if t.grad is None else t.grad.clone() for t in (x, *stack.parameters()))]


def trains_alike(kind: type, case: Case, backend: str, tolerance: float = 1e-10) -> None:
    stack, x, inputs = build_stack(kind, case).train(), embeddings(), context_of(case)
    for one, other in zip(trained(stack, compiled(stack, backend), x, inputs), trained(stack, stack, x, inputs), strict=True):
        assert (one - other).abs().max() < tolerance * max(1.0, other.abs().max().item())


class Counting:
    """A backend that runs the graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize('case', [case for case in DECODERS if (Decoder, case) not in TRAINED], ids=str)
def test_a_stack_compiles_into_one_graph_and_gives_the_same(case: Case) -> None:
    stack, x, inputs = build_stack(Decoder, case), embeddings(), context_of(case)
    with torch._dynamo.config.patch(allow_rnn=True):
        out = compiled(stack, 'eager')(x, **inputs)
    assert (out - stack(x, **inputs)).abs().max() < 1e-10


@pytest.mark.parametrize('kind, case', TRAINED, ids=named)
def test_a_stack_trains_in_one_graph_forwards_and_backwards(kind: type, case: Case) -> None:
    trains_alike(kind, settled(case), 'aot_eager')


@pytest.mark.parametrize('kind, case', [at for at in OPEN if at[1].name not in CLOSED], ids=named)
def test_one_graph_serves_any_batch_and_length(kind: type, case: Case) -> None:
    counting, stack = Counting(), build_stack(kind, case)
    run = compiled(stack, counting)
    for copies, n in ((1, 11), (2, 7), (3, 9)):
        x, inputs = sized(case, copies, n)
        if copies == 1:
            for name, t in {'x': x, **inputs}.items():
                torch._dynamo.mark_dynamic(t, open_sizes(name, t))
        assert (run(x, **inputs) - stack(x, **inputs)).abs().max() < 1e-10
    assert counting.graphs == 1


@pytest.mark.parametrize('flags', [{'rotary_pos_emb': True, 'attn_kv_heads': 2}, {'rel_pos_bias': True}], ids=str)
def test_a_model_compiles_again_once_when_batch_and_length_change(flags: dict[str, Any]) -> None:
    counting, model = Counting(), build_model(Case('', flags)).train()
    run = compiled(model, counting)
    for copies, n in ((1, 12), (2, 7), (3, 9), (4, 12)):
        ids = tokens(n).repeat(copies, 1)
        assert (run(ids) - model(ids)).abs() < 1e-10
    assert counting.graphs <= 2


HANDED_DOWN: list[dict[str, Any]] = [  # what layers hand down, and so what a layer that is left out must not
    {},
    {'resi_dual': True},
    {'residual_attn': True, 'attn_selective': True},
    {'add_value_residual': True, 'depth': 3},
    {'add_value_residual': True, 'learned_value_residual_mix': True, 'depth': 3, 'checkpoint': True},
    {'num_residual_streams': 2, 'qkv_receive_diff_residuals': True, 'unet_skips': True},
    {'cross_attend': True, 'cross_residual_attn': True, 'add_value_residual': True},
]


@pytest.mark.parametrize('flags', HANDED_DOWN, ids=str)
def test_a_graph_leaves_out_layers_as_a_stack_does(flags: dict[str, Any]) -> None:
    chances = random.Random(0)
    count = len(build_stack(Decoder, Case('', flags)).layers)
    for _ in part([0, 1], 1):
        drawn = tuple(float(chances.random() < 0.5) for _ in range(count - 1))
        trains_alike(Decoder, Case('', {**flags, 'layer_dropout': (*drawn, 0.0)}), 'aot_eager')


def test_a_graph_draws_anew_which_layers_to_leave_out() -> None:
    stack, x = build_stack(Decoder, Case('', {'layer_dropout': 0.5})).train(), embeddings()
    run = compiled(stack, 'eager')
    torch.manual_seed(0)
    drawn = torch.stack([run(x) for _ in range(64)]).flatten(1)
    assert 8 <= len({round(out.sum().item(), 9) for out in drawn}) <= 16


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='inductor needs a compiler')
@pytest.mark.parametrize('kind, flags', part([
    (Decoder, {'rotary_pos_emb': True, 'attn_kv_heads': 2, 'ff_swish': True, 'ff_glu': True, 'use_rmsnorm': True}),
    (Decoder, {'residual_attn': True, 'attn_pre_talking_heads': True, 'rel_pos_bias': True, 'checkpoint': True}),
    (Encoder, {'num_residual_streams': 2, 'alibi_pos_bias': True, 'attn_gate_values': True}),
], 1), ids=named)  # fmt: skip
def test_compiled_kernels_train_alike(kind: type, flags: dict[str, Any]) -> None:
    trains_alike(kind, Case('', flags), 'inductor', 1e-9)
