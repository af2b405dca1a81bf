"""What a model is to those that train it and decode with it: whose forward it has, what it puts out, and which inputs it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.errors import InputError
from x_transformers.inputs import expect_switch, refuse_unknown
from x_transformers.models.ask import NAMES, SWITCHES, stack_inputs
from x_transformers.models.body import Body
from x_transformers.models.checks import check_kind

STEPPING = ('state', 'cache', 'input_not_include_cache')  # how a model goes on from earlier tokens


def unwrapped(net: Any) -> Any:
    """The model that torch.compile wrapped, or the model itself."""
    return getattr(net, '_orig_mod', net)


def has_own_forward(net: nn.Module) -> bool:
    """Whether more than our forward makes the outputs: that of a subclass, one put on the model, or hooks that may edit them."""
    model = unwrapped(net)
    definer = next(kind for kind in type(model).__mro__ if 'forward' in vars(kind))
    ours = definer.__module__.split('.')[0] == __name__.split('.')[0]
    return not ours or is_watched(model) or has_hooks(net)


def is_watched(module: nn.Module) -> bool:
    """Whether something that a user put on it may see or edit what it puts out."""
    return has_hooks(module) or 'forward' in vars(module)


def has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def logits_of(outputs: Any, b: int, n: int | None = None) -> Tensor:
    """Logits (b, n, v) of what a model returned, alone or ahead of what else it shows; with no `n`, of any length."""
    logits = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 2 else outputs
    if isinstance(logits, Tensor) and logits.ndim == 3 and logits.shape[0] == b and n in (None, logits.shape[1]):
        return logits
    got = f'shape {tuple(logits.shape)}' if isinstance(logits, Tensor) else f'a {type(logits).__name__}'
    raise InputError(
        f'the model puts out {got}, expected logits ({b}, {"n" if n is None else n}, num_tokens) for every token; build it with one '
        'head, without pooling, CLS tokens and squeeze_out_last_dim'
    )


def why_no_logits(net: nn.Module) -> str | None:
    """What keeps a model of ours from logits for every token, by how it is built; others show it by what they return."""
    model = unwrapped(net)
    if torch.compiler.is_compiling() or not isinstance(model, Body) or has_own_forward(net):
        return None
    reasons = {
        'return_only_embed=True leaves the model without a head': not model._has_head,
        'num_output_heads gives the model several heads': getattr(model, 'has_multiple_heads', False),
        'average_pool_embed=True makes one output of a sequence': model.average_pool_embed,
        'use_cls_token=True makes outputs of CLS tokens alone': model._cls_tokens,
        'squeeze_out_last_dim=True takes the axis of its single logit': getattr(model, 'squeeze_out_last_dim', False)
        and model.num_logits == 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def check_outputs(net: nn.Module, who: str) -> None:
    """A model must put out logits for every token."""
    if reason := why_no_logits(net):
        raise InputError(f'{who} needs one output for every token, but {reason}; build the model without that flag')


def check_generator(net: Any) -> None:
    """A model that generates must also be able to read every token that it can choose."""
    check_outputs(net, 'generation')
    made, read = getattr(net, 'num_logits', None), getattr(net, 'num_tokens', None)
    if isinstance(made, int) and isinstance(read, int) and made > read and not has_own_forward(net):
        raise InputError(f'the model makes logits of {made} tokens (logits_dim) and can read {read} (num_tokens), so it cannot generate')


def check_given(given: Mapping[str, Any], net: nn.Module, taker: Callable[..., Any], who: str) -> None:
    """What goes on to the model must be inputs that it takes, and must not change what it returns.

    A name that is unknown is compared with those of the function that took it too.
    """
    if torch.compiler.is_compiling():
        return
    for name, value in given.items():
        if name in SWITCHES:
            expect_switch(name, value)
        if name in SWITCHES and name.startswith('return_') and value:
            raise InputError(f'{name}=True changes what the model returns, which {who} reads; leave it out and call the model for that')
        if name in STEPPING and value is not None and value is not False:
            raise InputError(f'{name} cannot be given to {who}, which runs the model on whole sequences; call the model for that')
        if name == 'document_ids' and value is not None:
            raise InputError(
                f'document_ids cannot be given to {who}: packed rows train by AutoregressiveWrapper alone; give one sequence per row'
            )
        if value is not None:
            check_kind(name, value)
    model = unwrapped(net)
    unknown = [name for name in given if name not in NAMES]
    if unknown and isinstance(model, Body) and not has_own_forward(net):
        own = [name for name, p in inspect.signature(taker).parameters.items() if p.kind != p.VAR_KEYWORD and name != 'self']
        known = stack_inputs(type(model.attn_layers))
        for name in unknown:
            if name not in known:
                refuse_unknown(name, [*own, *NAMES, *known], who, own)
