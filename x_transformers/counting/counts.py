"""The counts themselves: parameters are added up, products and states are those of imagined forward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from x_transformers.attention import Attention
from x_transformers.countable import Countable
from x_transformers.counting.products import Products, imagined
from x_transformers.counting.table import Row, Summary
from x_transformers.errors import InputError, quoted
from x_transformers.feedforward import FeedForward
from x_transformers.inputs import expect_switch, whole
from x_transformers.plan import KINDS
from x_transformers.ring import WindowKeys
from x_transformers.state import Beside, Tail, tensors

USUAL = 1024  # tokens, of what takes any number of them
MOST = 2**24  # tokens and rows: shapes beyond are none


def flops(model: Any, batch: int, n: int | None, backward: bool, inputs: Mapping[str, Any]) -> int:
    """Operations in the matrix products of a forward pass, or with the backward pass."""
    expect_switch('backward', backward)
    if not 1 <= (whole(batch) or 0) <= MOST:
        raise InputError(f'batch={quoted(batch)} is not possible; expected the number of rows, from 1 to {MOST:,}')
    return passed(model, batch, length(model, n), inputs, {}).flops.total() * (3 if backward else 1)


def summary(model: Any, n: int | None, inputs: Mapping[str, Any]) -> Summary:
    """Every part of the model that holds, computes or remembers anything."""
    n, parts = length(model, n), dict(parts_of(model))
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    seen, states, kinds = passed(model, 1, n, inputs, modules), growth(model), kinds_of(model)
    rows, counted = [], set[int]()
    for name, part in {**parts, '': nn.Identity()}.items():
        own = [p for p in (part.parameters() if isinstance(part, nn.Module) else [part]) if id(p) not in counted]
        counted |= {id(p) for p in own}
        size, (state, most) = sum(p.numel() for p in own), states.get(id(part), (0, None))
        if size or state or seen.flops[name]:
            kind = kinds.get(id(part), '') if name else 'between the parts'
            rows.append(Row(name, kind, shape_of(part), size, seen.runs[name], seen.flops[name], state, most))
    return Summary(type(model).__name__, n, tuple(rows))


def length(model: Countable, n: int | None) -> int:
    """How many tokens are counted."""
    own = model._length
    if n is None:
        return own or USUAL
    if not 1 <= (whole(n) or 0) <= MOST:
        raise InputError(
            f'n={quoted(n)} is not possible; expected the number of tokens, from 1 to {MOST:,}, or None for as many as the model takes'
        )
    if not model._takes_length and n != own:
        raise InputError(f'n={n} is not possible: {type(model).__name__} was built for {own} tokens; leave n out')
    return n


def passed(model: Any, batch: int, n: int, inputs: Mapping[str, Any], parts: Mapping[str, nn.Module]) -> Products:
    """What was counted in a forward pass that computed nothing."""
    with imagined(model):
        given, beside = model._example(batch, n)
        with Products(parts) as seen:
            model(*given, **{**beside, **inputs})
    return seen


# ---------------------------------------------------------------------- parts


def parts_of(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules that are a row each, by path, and parameters that belong to none of them; everything is in one, and once."""
    layers = {id(layer) for part in model.modules() if isinstance(part, Countable) for layer in part._layers or ()}
    seen = set[int]()

    def walk(path: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
        for name, parameter in module.named_parameters(path, recurse=False):
            yield name, parameter
        for name, child in module.named_children():
            below = f'{path}.{name}' if path else name
            opened = type(child) is nn.ModuleList or any(isinstance(part, Countable) for part in child.modules())
            if id(child) in seen:
                continue
            seen.add(id(child))
            if opened and id(child) not in layers:
                yield from walk(below, child)
            else:
                yield below, child

    return walk('', model)


def kinds_of(model: nn.Module) -> dict[int, str]:
    """What the layers of every stack are."""
    stacks: list[Any] = [part for part in model.modules() if isinstance(part, Countable) and part._layers is not None]
    return {id(layer): KINDS[kind] for stack in stacks for kind, layer in zip(stack.plan.kinds, stack.layers)}


def shape_of(part: Any) -> str:
    """What tells a part from others of its kind."""
    modules = list(part.modules()) if isinstance(part, nn.Module) else []
    for module in modules:
        if isinstance(module, Attention):
            cfg, kv = module.config, '' if module.kv_heads == module.heads else f', kv {module.kv_heads}'
            window = '' if cfg.max_attend_past is None else f', window {cfg.max_attend_past}'
            return f'{module.heads} x {cfg.dim_head}{kv}{window}'
        if isinstance(module, FeedForward):
            cfg = module.config
            return f'{cfg.dim} -> {int(cfg.dim * cfg.mult)} -> {cfg.dim_out or cfg.dim}'
    weights = list(part.parameters()) if modules else [part]
    return ' x '.join(map(str, max(weights, key=Tensor.numel).shape)) if weights else ''


# ---------------------------------------------------------------------- states


def growth(model: Any) -> dict[int, tuple[int, int | None]]:
    """By layer: the bytes that a token adds to its state, and how many these come to at most."""
    stack = model._remembers
    if stack is None:
        return {}
    grown, most = Counter[int](), dict[int, int]()
    with imagined(stack):
        first, second = (remembered(stack, n) for n in (1, 2))
    for step, before, after in zip(stack.plan.steps(), first, second):
        layer = id(stack.layers[step.module])
        added = sum(t.nbytes for t in tensors(after)) - sum(t.nbytes for t in tensors(before))
        grown[layer] += added
        tokens = most_tokens(after)
        if tokens is not None:
            most[layer] = most.get(layer, 0) + added * tokens
    return {layer: (added, most.get(layer)) for layer, added in grown.items()}


def remembered(stack: Any, n: int) -> tuple[Any, ...]:
    """The state of every executed layer after so many tokens of one row."""
    (x,), _ = stack._example(1, n)
    state = stack(x, **stack._beside(1, 1), return_state=True)[1]
    layers: tuple[Any, ...] = state.layers
    return layers


def most_tokens(state: Any) -> int | None:
    """Of how many tokens a layer remembers keys at most."""
    while isinstance(state, (Tail, Beside)):
        state = state.inner
    return state.most if isinstance(state, WindowKeys) else None
