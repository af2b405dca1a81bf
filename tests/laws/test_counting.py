"""A summary counts what the built model holds, what its forward pass multiplies, and what decoding remembers.

Every flag of a decoder; of flags together, encoders and models a seeded part, with PAIRS=all every one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from law_cases import BATCH, DECODERS, LENGTH, STACKS, Case, build_stack, context_of, embeddings, in_pieces, named, part
from subjects import STACK_FLAGS
from test_every_model import CASES, Model
from test_every_model import LENGTH as MODEL_LENGTH
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from x_transformers import Decoder, Encoder, NeoMLP, ViTransformerWrapper, XTransformer
from x_transformers.counting.table import Summary
from x_transformers.state import StackState, map_tensors, tensors

# torch's counter has the formula of attention for every fused kernel but that of CPUs
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION = {CPU_ATTENTION: lambda q, k, v, *args, out_shape=None, **kwargs: sdpa_flop_count(q, k, v)}


def by_torch(model: nn.Module, *given: Any, **beside: Any) -> int:
    """What torch counts while the model computes."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        model(*given, **beside)
    return counter.get_total_flops()


def held(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def held_by(state: StackState) -> int:
    """Bytes that the layers remember."""
    return sum(t.nbytes for t in tensors(state.layers))


def rows_add_up(summary: Summary, model: nn.Module) -> bool:
    """Every parameter is in one row, and rows are there for a reason."""
    assert len({row.name for row in summary.rows}) == len(summary.rows)
    assert all(row.parameters or row.flops or row.state for row in summary.rows)
    return summary.parameters == held(model)


SINGLE = [(Decoder, case) for case in DECODERS if case.name in STACK_FLAGS]
FURTHER = part([at for at in STACKS if at not in SINGLE], 12)
WINDOWS = {'attn_max_attend_past', 'attn_window'}  # the state that they let go of, the next test follows to its end


@pytest.mark.parametrize('kind, case', [*SINGLE, *FURTHER], ids=named)
def test_a_stack_holds_multiplies_and_remembers_what_is_counted(kind: Any, case: Case) -> None:
    stack, x, beside = build_stack(kind, case), embeddings()[:1], context_of(case, slice(1))
    counted = stack.summary(LENGTH, **beside)
    assert rows_add_up(counted, stack)
    assert counted.flops == by_torch(stack, x, **beside)
    if stack.why_not_decode:
        assert counted.state == 0
        return
    with torch.no_grad():
        first, second, last = map(held_by, in_pieces(stack, x, (1, 1, LENGTH - 2), **beside)[1])
    assert second - first == counted.state
    kept = first - counted.state  # memory keys, shifted tails, the keys of a context
    assert last - kept <= counted.state_of(LENGTH)
    assert WINDOWS & {*case.stack} or last - kept == counted.state_of(LENGTH)


@pytest.mark.parametrize('most', [2, 5])
@pytest.mark.parametrize('flag', sorted(WINDOWS))
def test_a_window_grows_to_the_bytes_that_are_counted(flag: str, most: int) -> None:
    stack = build_stack(Decoder, Case('', {flag: most}))
    with torch.no_grad():
        states = in_pieces(stack, torch.randn(1, 40, stack.dim).double(), (1,) * 40)[1]
    assert max(map(held_by, states)) == stack.summary().state_of(40) == stack.summary().state_of(10**9) < 40 * stack.summary().state


@pytest.mark.parametrize('case', part(CASES, 20), ids=str)
def test_a_model_holds_and_multiplies_what_is_counted(case: Model) -> None:
    net = case.build()
    given, beside = map_tensors(lambda t: t[:1], case.inputs())
    counted = net.summary(MODEL_LENGTH, **({'recycle_steps': 2} if net.recycling else {}))
    assert rows_add_up(counted, net)
    assert counted.flops == by_torch(net, *given, **beside)


@pytest.mark.parametrize('flags', [{}, {'attn_kv_heads': 2, 'alibi_pos_bias': True}, {'attn_max_attend_past': 3}], ids=str)
def test_rows_of_a_batch_are_counted(flags: dict[str, Any]) -> None:
    stack = build_stack(Decoder, Case('', flags))
    assert stack.flops(BATCH, LENGTH) == by_torch(stack, embeddings()) == BATCH * stack.summary(LENGTH).flops
    assert stack.flops(BATCH, LENGTH, backward=True) == 3 * stack.flops(BATCH, LENGTH)


LAYERS = {'dim': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8}
SIDE = {'num_tokens': 9, 'max_seq_len': 8, **{name: value for name, value in LAYERS.items() if name != 'dim'}}
SIDES = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in SIDE.items()}
IDS = torch.zeros(2, 9).long()
OTHERS: list[tuple[Any, tuple[Any, ...]]] = [
    (lambda: XTransformer(dim=16, tie_token_emb=True, **SIDES), (IDS[:, 1:], IDS)),
    (lambda: ViTransformerWrapper(image_size=(16, 24), patch_size=8, attn_layers=Encoder(**LAYERS)), (torch.zeros(2, 3, 16, 24),)),
    (lambda: NeoMLP(dim_in=3, dim_hidden=4, dim_out=2, dim_model=16, depth=1), (torch.zeros(2, 3),)),
]


@pytest.mark.parametrize('build, given', OTHERS, ids=['translation', 'vision', 'neurons'])
def test_other_models_hold_and_multiply_what_is_counted(build: Any, given: tuple[Any, ...]) -> None:
    model = build().eval()
    assert model.flops(2) == by_torch(model, *given)
    assert rows_add_up(model.summary(), model)


def test_of_a_translation_the_decoder_remembers() -> None:
    model = XTransformer(dim=16, **SIDES)
    assert model.summary().state == model.decoder.net.summary().state > 0
