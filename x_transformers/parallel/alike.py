"""What processes must draw alike, and what training leaves out by chance.

Layers that are left out, passes of recycling and self-conditioning are drawn from Python's `random`: where each process drew for
itself, one would wait in a collective that another never enters. In tensor parallelism every process has the same tokens, so that
torch's numbers must be alike too. So a forward draws as the first process would: the states of its generators are sent to all.
"""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from x_transformers.layers import AttentionLayers
from x_transformers.models.body import Body
from x_transformers.training.nonautoregressive import NonAutoregressiveWrapper


def left_to_chance(model: nn.Module) -> str | None:
    """The flag by which a training step may leave parameters without a gradient, or None."""
    for part in model.modules():
        if isinstance(part, AttentionLayers) and any(part.plan.dropouts):
            return 'layer_dropout'
        if isinstance(part, Body) and part.recycling:
            return 'recycling'
        if isinstance(part, NonAutoregressiveWrapper) and part.self_cond and part.self_cond_train_prob > 0:
            return 'self_cond'
    return None


class Alike:
    """Hooks of a model, by which all processes of a mesh draw the same in a forward."""

    def __init__(self, mesh: DeviceMesh, with_torch: bool):
        self.mesh, self.with_torch = mesh, with_torch
        self.own: list[Any] = []

    def watch(self, model: nn.Module) -> None:
        model.register_forward_pre_hook(self.before)
        model.register_forward_hook(self.after, always_call=True)

    def before(self, model: nn.Module, args: Any) -> None:
        python, of_torch = random.getstate(), get_torch_states(self.mesh) if self.with_torch else []
        self.own.append((python, of_torch))
        version, numbers, _ = python
        random.setstate((version, tuple(self.sent(torch.tensor(numbers)).tolist()), None))
        set_torch_states(self.mesh, [self.sent(state) for state in of_torch])

    def after(self, model: nn.Module, args: Any, outputs: Any) -> None:
        """The first process goes on from here, the others from where they were: what they draw besides stays theirs."""
        python, of_torch = self.own.pop()
        if not self.is_first:
            random.setstate(python)
            set_torch_states(self.mesh, of_torch)

    @property
    def is_first(self) -> bool:
        return all(self.mesh.get_local_rank(axis) == 0 for axis in range(self.mesh.ndim))

    def sent(self, t: Tensor) -> Tensor:
        """`t` of the first process."""
        moved = t.to(self.mesh.device_type)
        for axis in range(self.mesh.ndim):
            group = self.mesh.get_group(axis)
            dist.broadcast(moved, dist.get_global_rank(group, 0), group=group)
        return moved.to(t.device)


def get_torch_states(mesh: DeviceMesh) -> list[Tensor]:
    """The states of torch's generators, of the CPU and of the devices of the mesh."""
    states = [torch.get_rng_state()]
    if mesh.device_type != 'cpu':
        states.append(torch.get_device_module(mesh.device_type).get_rng_state())
    return states


def set_torch_states(mesh: DeviceMesh, states: list[Tensor]) -> None:
    if states:
        torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(mesh.device_type).set_rng_state(state)
