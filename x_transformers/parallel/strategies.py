"""The strategies: what each does to a model, and what it refuses before it does anything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from x_transformers.errors import InputError, quoted
from x_transformers.inputs import expect_switch
from x_transformers.layers import AttentionLayers
from x_transformers.parallel.alike import Alike, left_to_chance
from x_transformers.parallel.parts import ALL, from_first, share_out
from x_transformers.parallel.tensors import check_shared, share_model
from x_transformers.running import as_it_is, recomputed

DECIDED = {'module', 'mesh', 'device_mesh', 'device_ids', 'process_group'}  # by what `parallelize` is given
GENERATES = ('generate', 'beam_search')  # methods that run a model without its forward


def parallelize(
    model: nn.Module,
    strategy: str,
    mesh: DeviceMesh | None = None,
    *,
    checkpoint: bool = False,
    precision: torch.dtype | MixedPrecisionPolicy | None = None,
    **options: Any,
) -> nn.Module:
    """The model, trained by all processes of a mesh together, which begin with the numbers of the first.

    strategy: 'ddp' (`DistributedDataParallel`: each process has a copy, and sequences of its own), 'fsdp' (`fully_shard`: each
    has a part of every layer's numbers, which are gathered while the layer runs, and sequences of its own), 'tp' (each has some
    heads and hidden features of every layer, and the same sequences). With 'ddp' and 'fsdp' gradients are means over processes.

    mesh: of one axis; for 'fsdp' also of two (copies x parts). By default all processes, on the device of the model.
    checkpoint: keep only what enters each layer, as with the flag of this name. precision ('fsdp'): a dtype for what layers compute
    with, gradients being summed in float32; or a policy. options: further keywords of `DistributedDataParallel` or `fully_shard`.

    The model is changed; use what is returned in its place, and make the optimizer after. Under 'fsdp' and 'tp' the names in its
    state dict stay as they are; `plain` takes 'ddp' off again.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f'model={quoted(model)} is not possible; expected a module')
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise InputError(f'strategy={quoted(strategy)} is not possible; expected {", ".join(map(repr, STRATEGIES))}')
    expect_switch('checkpoint', checkpoint)
    check_precision(precision, strategy)
    check_untouched(model)
    check_options(options, strategy)
    mesh = mesh_of(model, strategy, mesh)
    if strategy == 'tp':
        check_shared(model, mesh.size())
    if checkpoint:
        checkpoint_layers(model)
    from_first(model, mesh)
    chance = left_to_chance(model)
    if chance or strategy == 'tp':
        Alike(mesh, with_torch=strategy == 'tp').watch(model)
    if isinstance(precision, torch.dtype):
        precision = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
    if strategy == 'fsdp' and precision is not None:
        options = {'mp_policy': precision, **options}
    if strategy == 'ddp' and chance:
        options = {'find_unused_parameters': True, **options}
    return STRATEGIES[strategy](model, mesh, **options)


def copy_model(model: nn.Module, mesh: DeviceMesh, **options: Any) -> nn.Module:
    """A whole copy in every process; gradients are averaged while the backward pass runs."""
    return DistributedDataParallel(model, device_mesh=mesh, **options)


def shard_model(model: nn.Module, mesh: DeviceMesh, **options: Any) -> nn.Module:
    """Every layer on its own, then what stands around the layers, which is gathered once per pass.

    A number alone has no axis to be cut along (`fully_shard` refuses it): each process has it, and its gradients are averaged here.
    """
    alone = share_scalars(model, mesh)
    options = {**options, 'ignored_params': alone | options.get('ignored_params', set())} if alone else options
    policy = options.get('mp_policy', MixedPrecisionPolicy())
    for stack in stacks(model):
        for layer in stack.layers:  # what goes in is cast once, around them: positions and masks, which go with it, stay exact
            fully_shard(layer, mesh=mesh, **{**options, 'mp_policy': replace(policy, cast_forward_inputs=False)})
    fully_shard(model, mesh=mesh, **options)
    for name in GENERATES:
        if callable(getattr(model, name, None)):
            register_fsdp_forward_method(model, name)
    return model


def share_scalars(model: nn.Module, mesh: DeviceMesh) -> set[nn.Parameter]:
    """Hold parameters without an axis as a whole, with gradients that are means over processes."""
    found: set[nn.Parameter] = set()
    for part in model.modules():
        names = {name: ALL for name, p in part._parameters.items() if p is not None and p.ndim == 0}
        if names:
            share_out(part, names, mesh)
            found |= {p for name, p in part._parameters.items() if name in names and p is not None}

    def average(parameter: Any) -> None:
        own = parameter.grad.to_local()
        for axis in range(mesh.ndim):
            dist.all_reduce(own, group=mesh.get_group(axis))
        own.div_(mesh.size())

    for parameter in found:
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(average)
    return found


STRATEGIES: dict[str, Callable[..., nn.Module]] = {'ddp': copy_model, 'fsdp': shard_model, 'tp': share_model}


def checkpoint_layers(model: nn.Module, on: bool = True) -> nn.Module:
    """Keep only what enters each layer of every stack, and compute layers again in the backward pass, as with `checkpoint=True`."""
    for stack in stacks(model):
        stack.run_layer = recomputed if on else as_it_is
        stack.config = replace(stack.config, checkpoint=on)
    return model


def stacks(model: nn.Module) -> list[AttentionLayers]:
    return [part for part in model.modules() if isinstance(part, AttentionLayers)]


def plain(model: nn.Module) -> Any:
    """The model that `parallelize` was given, with its own attributes and names."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextmanager
def within(model: nn.Module) -> Iterator[Any]:
    """The plain model, whose parts can be called meanwhile: `with within(model) as plain: plain.net(x)`.

    What stands around the layers of a sharded model is otherwise there only while its own forward runs. All processes must call alike.
    """
    if not isinstance(model, FSDPModule):
        yield plain(model)
        return
    model.unshard()
    try:
        yield model
    finally:
        model.reshard()


# ------------------------------------------------------------------------------------------------ checks


def check_precision(precision: Any, strategy: str) -> None:
    if precision is None:
        return
    floating = isinstance(precision, torch.dtype) and precision.is_floating_point
    if not floating and not isinstance(precision, MixedPrecisionPolicy):
        raise InputError(f'precision={quoted(precision)} is not possible; expected a floating-point dtype or a MixedPrecisionPolicy')
    if strategy != 'fsdp':
        raise InputError(
            f"precision={quoted(precision)} belongs to strategy='fsdp'; with strategy={strategy!r} run the forward under torch.autocast"
        )


def check_options(options: dict[str, Any], strategy: str) -> None:
    """Further keywords are those of what does the work, but for what is decided here."""
    worker: Any = {'ddp': DistributedDataParallel, 'fsdp': fully_shard}.get(strategy)
    known = set() if worker is None else {*inspect.signature(worker).parameters} - DECIDED
    for name in options:
        if name not in known:
            takes = f'those of {worker.__name__}' if worker else 'none'
            raise InputError(f'{name} is no keyword of strategy={strategy!r}, which takes {takes}; leave it out')


def check_untouched(model: nn.Module) -> None:
    """A model is shared out once, while it has parameters of its own."""
    if isinstance(model, DistributedDataParallel) or any(isinstance(p, DTensor) for p in model.parameters()):
        raise InputError(f'this {type(model).__name__} is parallel already; build a new one, and choose one strategy for it')
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(f'this {type(model).__name__} has no parameter to train, so there is nothing to parallelize')


def mesh_of(model: nn.Module, strategy: str, mesh: Any) -> DeviceMesh:
    """The processes that share the model."""
    if not dist.is_available() or not dist.is_initialized():
        raise InputError(
            'there is no process group: parallelize works among processes; start them by torchrun, and call '
            'torch.distributed.init_process_group() first'
        )
    if mesh is None:
        return init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    if not isinstance(mesh, DeviceMesh):
        raise InputError(f'mesh={quoted(mesh)} is not possible; expected a DeviceMesh, as init_device_mesh makes it')
    axes = (1, 2) if strategy == 'fsdp' else (1,)
    if mesh.ndim not in axes:
        raise InputError(
            f'mesh has {mesh.ndim} axes, and strategy={strategy!r} takes {" or ".join(map(str, axes))}; choose one of it by its '
            "name, as in mesh['dp']"
        )
    return mesh
