"""What reaches layers past others, written out layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import Encoder
from x_transformers.errors import FlagError
from x_transformers.skips import ConcatCombine


def stack_of(**flags: Any) -> Encoder:
    stack = Encoder(**{'dim': 8, **flags}).double().eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.4)
    return stack


def feed_forwards(stack: Encoder, x: Tensor, injected: Tensor | float = 0.0, joined: dict[int, int] | None = None) -> Tensor:
    """A stack of feed-forwards step by step, with what is added to their inputs and the streams that join."""
    entered = []
    for at, layer in enumerate(stack.layers):
        entered.append(x)
        if at in (joined or {}):
            x = torch.cat((entered[joined[at]], x), dim=-1) @ stack.skip_combines[at].combine.weight.T
        x = x + layer.branch(layer.norms[0](x + injected))
    return stack.final_norm(x)


def test_a_skip_is_a_linear_map_of_both_streams() -> None:
    combine, streams, x = ConcatCombine(4, 1), [torch.randn(2, 3, 4) for _ in range(2)], torch.randn(2, 3, 4)
    left, right = combine.combine.weight.chunk(2, dim=1)
    torch.testing.assert_close(combine(x, streams), streams[1] @ left.T + x @ right.T)


@pytest.mark.parametrize('layers, joined', [('ff', {1: 0}), ('fff', {2: 0}), ('fffff', {3: 1, 4: 0})])
def test_streams_of_the_first_half_join_those_of_the_second(layers: str, joined: dict[int, int]) -> None:
    stack, x = stack_of(custom_layers=layers, unet_skips=True), torch.randn(2, 3, 8).double()
    torch.testing.assert_close(stack(x), feed_forwards(stack, x, joined=joined))


def test_the_input_is_added_to_what_every_branch_reads() -> None:
    stack, x = stack_of(custom_layers='fff', reinject_input=True), torch.randn(2, 3, 8).double()
    torch.testing.assert_close(stack(x), feed_forwards(stack, x, x @ stack.reinject_input_proj.weight.T))


@pytest.mark.parametrize('shape', [(2, 8), (2, 3, 8)], ids=['per row', 'per token'])
@pytest.mark.parametrize('gated', [False, True])
def test_a_condition_is_added_to_what_every_branch_reads(gated: bool, shape: tuple[int, ...]) -> None:
    stack, x, given = stack_of(custom_layers='fff', learned_reinject_input_gate=gated), torch.randn(2, 3, 8).double(), torch.randn(shape)
    added = given.double().view(2, -1, 8)
    if gated:
        added = added * (x @ stack.learned_reinject_input_gate.weight.T).sigmoid()
    torch.testing.assert_close(stack(x, in_attn_cond=given.double()), feed_forwards(stack, x, added))


def test_streams_are_fed_the_input_as_it_was_before_it_was_spread() -> None:
    """One map for all streams (2.0.1 raises): at the start every branch reads one of them, and they are the same."""
    streams = Encoder(dim=8, custom_layers='ff', num_residual_streams=2, reinject_input=True).double().eval()
    single = Encoder(dim=8, custom_layers='ff', reinject_input=True).double().eval()
    single.load_state_dict({name: t for name, t in streams.state_dict().items() if name in single.state_dict()})
    x = torch.randn(2, 3, 8).double()
    every, alone = (stack(x, return_hiddens=True)[1].layer_hiddens[-1] for stack in (streams, single))
    torch.testing.assert_close(every, alone.repeat_interleave(2, dim=0))


def test_an_order_that_comes_before_its_skip_is_refused() -> None:
    with pytest.raises(FlagError, match=r'layers_execute_order=.*unet_skips=True'):
        Encoder(dim=8, custom_layers='ffff', unet_skips=True, layers_execute_order=(2, 3))  # 2 is joined by stream 1
    stack, x = stack_of(custom_layers='ffff', unet_skips=True), torch.randn(1, 3, 8).double()
    with pytest.raises(FlagError, match='comes later'):
        stack(x, layers_execute_order=(2, 3))
    assert stack(x, layers_execute_order=(0, 1, 2, 3, 2)).isfinite().all()
