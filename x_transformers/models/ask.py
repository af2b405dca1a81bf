"""What a model is asked in one call: everything that comes with its tokens, and what shall come back.

The inputs are declared once, for all models. Each model names those that 2.0.1 took by position, in their order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from x_transformers.cache import latest
from x_transformers.errors import InputError
from x_transformers.inputs import expect_switch, refuse_unknown
from x_transformers.layers import LayerIntermediates
from x_transformers.state import StackState


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One call; b batch, n tokens (with `state` the new ones), e width of embeddings, d of the stack."""

    return_embeddings: bool = False  # what enters the head, instead of what leaves it
    return_logits_and_embeddings: bool = False  # both
    return_intermediates: bool = False  # with LayerIntermediates
    return_logit_entropies: bool = False  # with LayerIntermediates that hold them
    mask: Tensor | None = None  # (b, n) bool: False at padding
    return_mems: bool = False  # with what the next segment takes as `mems`
    return_attn: bool = False  # with the attention maps of all layers
    mems: Sequence[Tensor | None] | None = None  # Transformer-XL memories, one (b, m, d) per self-attention
    mem_masks: Sequence[Tensor | None] | None = None  # one (b, m) bool per self-attention
    recycle_steps: int | None = None  # passes through the stack, with recycling=True
    pos: Tensor | None = None  # positions, long (n,) or (b, n); or a float position embedding of your own (n, e) or (b, n, e)
    prepend_embeds: Tensor | None = None  # (b, p, e) ahead of the tokens; they stay in the output
    prepend_mask: Tensor | None = None  # (b, p) bool
    embed_ids: Mapping[str, Tensor] | None = None  # (b, n) ids for each of embed_num_tokens
    sum_embeds: Tensor | None = None  # added to the embeddings
    return_attn_z_loss: bool = False  # with LayerIntermediates that hold the z-loss
    attn_z_loss_weight: float | None = None  # that of the model where left out
    seq_start_pos: Tensor | None = None  # (b,) tokens of left padding
    cache: LayerIntermediates | None = None  # of an earlier call; the input is the whole sequence so far, or its new tokens
    token_emb_kwargs: Mapping[str, Any] | None = None
    to_logits_kwargs: Mapping[str, Any] | None = None
    input_not_include_cache: bool = False  # with `cache`: the input is new tokens, however many
    document_ids: Tensor | None = None  # (b, n) packed rows: the document of each token, negative for padding
    state: StackState | None = None  # of an earlier call; the input is new tokens
    return_state: bool = False  # with the state that a later call goes on from
    stack: Mapping[str, Any] = field(default_factory=dict)  # everything else: inputs of the layer stack

    @property
    def first(self) -> bool:
        """Whether nothing came before."""
        return self.state is None or self.state.length == 0

    @property
    def seen(self) -> int:
        """Tokens that came before."""
        return 0 if self.state is None or self.first else self.state.seen

    @property
    def with_intermediates(self) -> bool:
        return self.return_intermediates or self.return_logit_entropies or self.return_attn_z_loss

    def of_latest(self, n: int, new: int) -> Ask:
        """What belongs to the last `new` of `n` tokens."""
        cut: Callable[..., Any] = lambda t, axis: latest(t, n, new, axis)
        stack = dict(self.stack)
        for name in BY_TOKEN:
            if stack.get(name) is not None and stack[name].ndim == 3:
                stack[name] = cut(stack[name], -2)
        if 'self_attn_kv_mask' in stack:
            stack['self_attn_kv_mask'] = cut(stack['self_attn_kv_mask'], -1)
        return replace(
            self,
            mask=cut(self.mask, -1),
            pos=cut(self.pos, -2 if self.pos is not None and self.pos.is_floating_point() else -1),
            sum_embeds=cut(self.sum_embeds, -2),
            embed_ids={name: cut(ids, -1) for name, ids in (self.embed_ids or {}).items()},
            stack=stack,
        )


BY_TOKEN = ('condition', 'in_attn_cond')  # (b, d) for a whole row, or (b, n, d) by token
NAMES = tuple(f.name for f in fields(Ask) if f.name != 'stack')
SWITCHES = {f.name for f in fields(Ask) if f.default is False}


def asks(*order: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of `forward(self, <inputs>, ask)`: called with the inputs, then those of `Ask` by position in this order or by
    keyword, and those of the layer stack by keyword. `help()` shows them all."""

    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        inputs = tuple(inspect.signature(forward).parameters)[1:-1]

        @wraps(forward)
        def asking(self: Any, *args: Any, **keywords: Any) -> Any:
            given = bound((*inputs, *order), args, keywords)
            missing = [name for name in inputs if name not in given]
            if missing:
                raise InputError(f'{missing[0]} is missing: {type(self).__name__} takes {" and ".join(inputs)}')
            taken = [given.pop(name) for name in inputs]
            own = {name: given.pop(name) for name in NAMES if name in given}
            for name in SWITCHES & own.keys():
                expect_switch(name, own[name])
            if given and not torch.compiler.is_compiling():
                check_names(given, self, [name for name in NAMES if name not in self._foreign])
            return forward(self, *taken, Ask(**own, stack=given))

        positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        defaults = {f.name: f.default for f in fields(Ask)}
        asking.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
            inspect.Parameter('self', positional),
            *(inspect.Parameter(name, positional) for name in inputs),
            *(inspect.Parameter(name, positional, default=defaults[name]) for name in order),
            *(inspect.Parameter(name, keyword, default=defaults[name]) for name in NAMES if name not in order),
            inspect.Parameter('stack_inputs', inspect.Parameter.VAR_KEYWORD),
        ])  # fmt: skip
        return asking

    return decorate


def bound(names: tuple[str, ...], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Positional arguments under their names, joined with keywords."""
    if len(args) > len(names):
        raise InputError(f'{len(args)} inputs were given by position, expected at most {len(names)}: {", ".join(names)}; use keywords')
    by_position = dict(zip(names, args, strict=False))
    twice = sorted(by_position.keys() & keywords.keys())
    if twice:
        raise InputError(f'{twice[0]} was given both by position and by keyword; give it once')
    return {**by_position, **keywords}


def check_names(given: Mapping[str, Any], model: Any, own: Sequence[str]) -> None:
    """Whether the layer stack takes every input that the model does not; `own` are those of the model."""
    known = stack_inputs(type(model.attn_layers))
    for name in given:
        if name not in known:
            refuse_unknown(name, [*own, *known], type(model).__name__, known)


def stack_inputs(kind: type) -> list[str]:
    """Names of the inputs of a layer stack, those of its parents included, that a model passes on."""
    found: dict[str, None] = {}
    for base in kind.__mro__:
        if 'forward' in base.__dict__:
            parameters = inspect.signature(base.__dict__['forward']).parameters.values()
            found |= {p.name: None for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return [name for name in found if name not in ('self', 'x', 'return_hiddens', 'return_maps', 'input', *NAMES)]
