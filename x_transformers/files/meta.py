"""Models without memory: built on the meta device, within bounds that a file sets, and given their numbers afterwards."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook, register_module_parameter_registration_hook

from x_transformers.errors import CheckpointError, quoted
from x_transformers.flags.plain import Recipe, build
from x_transformers.positions.derived import Derived
from x_transformers.precision import exact

# numbers by which nothing is repeated when a model is built: tables of any length cost nothing on the meta device
FREE = (
    'max_seq_len', 'max_mem_len', 'num_tokens', 'logits_dim', 'num_classes', 'image_size', 'max_attend_past', 'attn_window', 'max_distance',
    'ignore_index', 'pad_value', 'pad_id', 'mask_id', 'steps', 'interspersed_every', 'sparse_topk', 'fold_axial_dim', 'qk_norm_scale',
    'scale_base', 'rotary_base', 'rotary_scaling', 'num_memory_tokens', 'num_mem_kv', 'max_pos', 'layers_execute_order',
)  # fmt: skip
LARGEST, SMALL = 2**20, 4096


def check_bounds(recipe: Recipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Whether what the flags count can stand in tensors of these shapes: a CheckpointError before anything is built.

    A width or a number of layers, heads or streams is a side of some tensor, or there are as many tensors.
    """
    most = max([SMALL, len(shapes), *(side for shape in shapes.values() for side in shape)])
    for each in recipe.walk():
        for name, value in each.flags.items():
            for where, number in numbers(name, value):
                if abs(number) > min(most, LARGEST) and not where.endswith(FREE):
                    raise CheckpointError(f'{name}={quoted(value)} of {each.cls.__name__} is more than its tensors can be made of')


def numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """Every whole number in a value, with the name under which it stands."""
    if isinstance(value, int):
        yield name, value
    elif isinstance(value, tuple):
        for each in value:
            yield from numbers(name, each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(name if name.endswith(FREE) else key, each)


@contextmanager
def at_most(tensors: int) -> Iterator[None]:
    """No model that is built in here may have many more parameters and modules than a file with so many tensors can fill."""
    thread, counts, limits = threading.get_ident(), [0, 0], (2 * tensors + 64, 64 * tensors + 1024)

    def counting(index: int) -> Any:
        def count(module: nn.Module, name: str, value: Any) -> None:
            if threading.get_ident() == thread:
                counts[index] += 1
                if counts[index] > limits[index]:
                    raise CheckpointError(f'the flags describe a model of many more parts than the {tensors} tensors that there are')

        return count

    hooks = (register_module_parameter_registration_hook(counting(0)), register_module_module_registration_hook(counting(1)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def build_empty(recipe: Recipe, supplied: Mapping[str, Any], tensors: int) -> nn.Module:
    """The model of a recipe, without memory for its numbers."""
    with at_most(tensors), torch.device('meta'):
        model: nn.Module = build(recipe, supplied)
    return model


def emptied(value: Any) -> Any:
    """A copy of a module without memory for its numbers; anything else as it is."""
    if not isinstance(value, nn.Module):
        return value
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to('meta'), p.requires_grad) for p in value.parameters()}
    memo |= {id(b): b.detach().to('meta') for b in value.buffers()}
    return copy.deepcopy(value, memo)


def put(model: nn.Module, name: str, tensor: Tensor, old: Any) -> Any:
    """Make a tensor the parameter or buffer of that name, in place of `old`; returns what stands there."""
    owner, _, leaf = name.rpartition('.')
    bare = isinstance(old, nn.Parameter) and not isinstance(tensor, nn.Parameter)
    new: Any = nn.Parameter(tensor, old.requires_grad) if bare else tensor
    module: Any = model
    for part in owner.split('.') if owner else ():
        module = module._modules[part]  # a name may also be that of a method
    setattr(module, leaf, new)
    return new


def make_derived_again(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Compute what follows from flags alone and stands in no file."""
    for module in model.modules():
        if isinstance(module, Derived):
            module.make_again(device, exact(dtype))
