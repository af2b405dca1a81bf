"""Which part of a parameter a process holds, and how the model computes with it.

A parameter that is shared out is a DTensor: optimizers, norms of gradients and checkpoints see the whole of it. Where the model
reads it, it is a plain tensor, so that no line of the model knows: its module gets a class with a property of the same name.
What stands between the shares is two collectives, one forth and one back (Megatron-LM, 1909.08053).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import Placement, _StridedShard


def copied(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """`x` as it enters what is shared out: as it is, but each process has a part of its gradient, and back goes their sum."""
    if not x.requires_grad:
        return x
    return DTensor.from_local(x, mesh, [Replicate()], run_check=False).to_local(grad_placements=[Partial()])


def summed(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """The sum of what each process has made."""
    return DTensor.from_local(x, mesh, [Partial()], run_check=False).redistribute(placements=[Replicate()]).to_local()


@dataclass(frozen=True)
class Part:
    """What of a parameter a process holds: one of as many equal parts along the axis `dim`, or all of it.

    The axis may be several runs that are shared out alike, `runs`: value and gate of a GLU, or the query heads of a key head,
    which stand as far apart as there are key heads.
    """

    dim: int | None = None  # None: all of it
    runs: int = 1
    meets: bool = False  # all of it, which meets shares: each process has a part of its gradient
    once: bool = False  # and it is added to a sum of all processes, where it must count once

    @property
    def placement(self) -> Placement:
        if self.dim is None:
            return Replicate()
        return Shard(self.dim) if self.runs == 1 else _StridedShard(self.dim, split_factor=self.runs)

    def cut(self, t: Tensor, mesh: DeviceMesh) -> Tensor:
        """The part of `t` that this process holds."""
        if self.dim is None:
            return t
        dim = self.dim % t.ndim
        own = t.unflatten(dim, (self.runs, -1)).chunk(mesh.size(), dim + 1)[mesh.get_local_rank()]
        return own.flatten(dim, dim + 1).contiguous()

    def read(self, parameter: Any) -> Tensor:
        """The parameter as the model computes with it."""
        if not isinstance(parameter, DTensor):  # handed in by torch.func
            return parameter
        own, mesh = parameter.to_local(), parameter.device_mesh
        own = copied(own, mesh) if self.meets else own
        return own / mesh.size() if self.once else own


ALL = Part()
MET = Part(meets=True)
ADDED = Part(meets=True, once=True)


def share_out(module: nn.Module, parts: dict[str, Part], mesh: DeviceMesh) -> None:
    """Hold of the named parameters of this very module only their part."""
    for name, part in parts.items():
        p: Any = module._parameters[name]
        placements = [part.placement] * mesh.ndim
        made = DTensor.from_local(part.cut(p.detach(), mesh), mesh, placements, run_check=False, shape=p.shape, stride=p.stride())
        module._parameters[name] = nn.Parameter(made, requires_grad=p.requires_grad)
    if parts:
        module._parts = dict(parts)  # type: ignore[assignment]
        kind: Any = type(module)
        module.__class__ = reading(kind, tuple(parts))


@cache
def reading(kind: Any, names: tuple[str, ...]) -> type:
    """The same class, which computes with the parts of these parameters that its process holds."""

    def reader(name: str) -> property:
        return property(lambda module: module._parts[name].read(module._parameters[name]))

    about = {'__doc__': kind.__doc__, '__module__': kind.__module__, '__qualname__': kind.__qualname__}
    return type(kind.__name__, (kind,), {**about, **{name: reader(name) for name in names}})


def whole(t: Any) -> Any:
    """All of a tensor of which processes hold parts; they all call this alike."""
    return t.full_tensor() if isinstance(t, DTensor) else t


def part_like(t: Tensor, parameter: Any) -> Tensor:
    """Of a whole tensor the part that goes with what this process holds of a parameter of the same shape."""
    if not isinstance(parameter, DTensor):
        return t
    placements, mesh = parameter.placements, parameter.device_mesh
    if isinstance(placements[0], _StridedShard) and mesh.ndim == 1:
        own = Part(placements[0].dim, int(placements[0].split_factor)).cut(t.to(parameter.device), mesh)
        return DTensor.from_local(own, mesh, placements, run_check=False, shape=t.shape, stride=t.stride())
    return distribute_tensor(t.to(parameter.device), mesh, placements)


def from_first(model: nn.Module, mesh: DeviceMesh) -> None:
    """Every process goes on with the numbers of the first."""
    for axis in range(mesh.ndim):
        group = mesh.get_group(axis)
        for t in (*model.parameters(), *model.buffers()):
            if not t.is_meta:
                dist.broadcast(t.detach(), dist.get_global_rank(group, 0), group=group)
