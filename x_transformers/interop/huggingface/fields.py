"""The config of a foreign model and our flags, both ways: what each field of theirs is in ours, as data.

A family lists `Field`s. Read one way they make flags of a config, read the other way they make the config of flags. A field that
no entry of the list claims must have the value that its config class gives it; anything else is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from x_transformers.errors import FlagError, quoted
from x_transformers.flags.accepting import settled

Flags = dict[str, Any]

# what says nothing about the function from inputs to outputs
WITHOUT_EFFECT = (
    '_attn_implementation', '_attn_implementation_internal', '_commit_hash', '_name_or_path', 'architectures', 'attn_implementation',
    'auto_map', 'begin_suppress_tokens', 'bos_token_id', 'cache_implementation', 'chunk_size_feed_forward', 'cls_token_id',
    'decoder_start_token_id', 'dtype', 'eos_token_id', 'finetuning_task', 'gradient_checkpointing', 'id2label', 'initializer_factor',
    'initializer_range', 'is_encoder_decoder', 'label2id', 'model_type', 'output_attentions', 'output_hidden_states', 'pad_token_id',
    'prefix', 'problem_type', 'return_dict', 'sep_token_id', 'task_specific_params', 'tokenizer_class', 'torch_dtype', 'torchscript',
    'transformers_version', 'unk_token_id', 'use_cache',
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """The config of a foreign model, as plain values."""

    kind: str  # the name of its class
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        value = self.values.get(name)
        return default if value is None else value

    def refuse(self, name: str, value: Any, expected: str) -> FlagError:
        return FlagError(f'{name}={quoted(value)} of {self.kind} cannot be expressed by flags of this library; expected {expected}')


@dataclass(frozen=True)
class Field:
    """Some fields of a foreign config, and the flags that say the same."""

    names: tuple[str, ...]
    flags: Callable[[Given], Flags]
    fields: Callable[[Mapping[str, Any]], Flags]  # from flags, with all defaults filled in
    training: tuple[str, ...] = ()  # those of them that only training asks


def same(
    theirs: str, ours: str, to: Callable[[Any], Any] | None = None, back: Callable[[Any], Any] | None = None, optional: bool = False
) -> Field:
    """One field is one flag; `to` makes the value of theirs ours, `back` the other way round. optional: None is a value of theirs too."""
    through = lambda fn, value: value if fn is None or value is None else fn(value)

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        value = through(back, flags[ours])
        return {} if value is None and not optional else {theirs: value}

    return Field((theirs,), lambda given: {ours: settled(through(to, given[theirs]))}, fields_of)


def one_of(theirs: str, choices: Mapping[Any, Flags]) -> Field:
    """Each value of a field stands for some flags; those of the other values are off."""
    steered = {name for flags in choices.values() for name in flags}

    def flags_of(given: Given) -> Flags:
        value = given[theirs]
        if value not in choices:
            raise given.refuse(theirs, value, ' or '.join(map(repr, choices)))
        return dict(choices[value])

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        on = {name: flags[name] for name in steered if flags[name]}
        found = [value for value, wanted in choices.items() if wanted == on]
        return {theirs: found[0]} if found else {}  # flags that are no choice come back otherwise, and are refused by their names

    return Field((theirs,), flags_of, fields_of)


def only(theirs: str, *values: Any) -> Field:
    """A field that must have one of these values, as it has by itself."""

    def flags_of(given: Given) -> Flags:
        if given.get(theirs) not in values:
            raise given.refuse(theirs, given[theirs], ' or '.join(map(repr, values)))
        return {}

    return Field((theirs,), flags_of, lambda flags: {})


def always(**flags: Any) -> Field:
    """Flags that every model of a family has."""
    return Field((), lambda given: flags, lambda _: {})


def following(**flags: Callable[[Given], Any]) -> Field:
    """Flags that follow from fields which others say."""
    return Field((), lambda given: {name: value(given) for name, value in flags.items()}, lambda _: {})


def nothing(*names: str) -> Field:
    """Fields that say nothing about the function from inputs to outputs."""
    return Field(names, lambda given: {}, lambda flags: {})


def training_only(*names: str) -> Field:
    """Dropout in places where we have none: outputs are the same without it, training is not, so it is left out with a warning."""
    return Field(names, lambda given: {}, lambda flags: dict.fromkeys(names, 0.0), training=names)


def width(theirs: str, prefix: str = '', default: int = 4) -> Field:
    """The hidden width of feed-forwards, which is a multiple of `dim` here. None: so many times `dim`."""

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        return {theirs: int(flags['dim'] * flags[f'{prefix}ff_mult'])}

    def flags_of(dim: int, hidden: int | None) -> Flags:
        mult = (hidden or default * dim) / dim
        while hidden and int(dim * mult) < hidden:  # rounded down
            mult = math.nextafter(mult, math.inf)
        return {f'{prefix}ff_mult': mult}

    return Field((theirs,), lambda given: flags_of(dim_of(given), given[theirs]), fields_of)


def key_heads(flags: Mapping[str, Any]) -> int:
    """Key heads, whichever flag says how many."""
    count: int = 1 if flags['attn_one_kv_head'] else flags['attn_kv_heads'] or flags['heads']
    return count


def dim_of(given: Given) -> int:
    """Width of the stream, under the names that it has."""
    return next(given.values[name] for name in ('hidden_size', 'd_model', 'n_embd') if name in given.values)


ACTIVATIONS: dict[str, Flags] = {
    'gelu': {},
    'gelu_new': {'ff_gelu_tanh': True},
    'gelu_pytorch_tanh': {'ff_gelu_tanh': True},
    'silu': {'ff_swish': True},
    'swish': {'ff_swish': True},
    'relu': {'ff_relu': True},
}
ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    'gelu': nn.GELU,
    'gelu_new': partial(nn.GELU, 'tanh'),
    'gelu_pytorch_tanh': partial(nn.GELU, 'tanh'),
    'silu': nn.SiLU,
    'swish': nn.SiLU,
    'relu': nn.ReLU,
}


def activation_module(given: Given, name: str) -> nn.Module:
    """The activation that a field names, as a module."""
    if given[name] not in ACTIVATION_MODULES:
        raise given.refuse(name, given[name], ' or '.join(map(repr, ACTIVATION_MODULES)))
    return ACTIVATION_MODULES[given[name]]()


def check_known(fields: tuple[Field, ...], given: Given, usual: Mapping[str, Any]) -> None:
    """Whether what no entry claims is as usual, or a switch that their class does not know either and that is off."""
    claimed = {name for field in fields for name in field.names} | set(WITHOUT_EFFECT)
    for name, value in given.values.items():
        strange = value != usual[name] if name in usual else value is not None and value is not False
        if strange and name not in claimed:
            raise given.refuse(name, value, f'{usual[name]!r}, as usual' if name in usual else 'no field of that name')
