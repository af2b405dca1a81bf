"""Rotary positions and windows as configs of `transformers` say them: for all layers, or for each kind of layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from x_transformers.flags.accepting import settled
from x_transformers.interop.huggingface.fields import Field, Flags, Given, same

LENGTH = 'original_max_position_embeddings'
# the fields of each kind of scaling: theirs, ours
SCALINGS: dict[str, dict[str, str]] = {
    'linear': {'factor': 'factor'},
    'dynamic': {'factor': 'factor'},
    'yarn': {name: name for name in ('factor', 'beta_fast', 'beta_slow', 'attention_factor', 'truncate')} | {LENGTH: 'original_length'},
    'llama3': {name: name for name in ('factor', 'low_freq_factor', 'high_freq_factor')} | {LENGTH: 'original_length'},
    'longrope': {'factor': 'factor', 'attention_factor': 'attention_factor', LENGTH: 'original_length', 'short_factor': 'factors'},
}
LOCAL, GLOBAL = 'sliding_attention', 'full_attention'


def rotary(partial: bool = False) -> Field:
    """`rope_parameters`: base, scaling, and where `partial` the share of a head's features that are turned."""

    def flags_of(given: Given) -> Flags:
        said = dict(given['rope_parameters'])
        share = said.pop('partial_rotary_factor', None) or 1.0
        if share != 1 and not partial:
            raise given.refuse('rope_parameters.partial_rotary_factor', share, '1.0, as usual')
        turned = {'rotary_pos_emb': True, 'rotary_half_split': True, 'rotary_emb_dim': int(head_width(given) * share)}
        return {**turned, 'rotary_base': float(said.pop('rope_theta')), 'rotary_scaling': scaling_of(given, said)}

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        if isinstance(flags['rotary_base'], tuple) or isinstance(flags['rotary_scaling'], tuple):
            return {}  # for one layer and another there is no word
        share = {'partial_rotary_factor': turned_width(flags) / flags['attn_dim_head']} if partial else {}
        return {'rope_parameters': {'rope_theta': flags['rotary_base'], **share, **said_of(flags['rotary_scaling'])}}

    return Field(('rope_parameters',), flags_of, fields_of)


def turned_width(flags: Mapping[str, Any]) -> int:
    """Features of a head that are turned."""
    width: int = flags['rotary_emb_dim'] or max(flags['attn_dim_head'] // 2, 2)
    return width


def layered_rotary(window: str = 'attn_max_attend_past') -> Field:
    """`rope_parameters` for each kind of layer, those with the flag `window` and those without."""

    def flags_of(given: Given) -> Flags:
        said = {kind: dict(given['rope_parameters'][kind]) for kind in sorted({*given['layer_types']})}
        bases = {kind: float(values.pop('rope_theta')) for kind, values in said.items()}
        scalings = {kind: scaling_of(given, values) for kind, values in said.items()}
        return {
            'rotary_pos_emb': True,
            'rotary_half_split': True,
            'rotary_emb_dim': head_width(given),
            'rotary_base': uniform(tuple(bases[kind] for kind in given['layer_types'])),
            'rotary_scaling': uniform(tuple(scalings[kind] for kind in given['layer_types'])),
        }

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        base, scaling = by_layer(flags, 'rotary_base'), by_layer(flags, 'rotary_scaling')
        said: dict[str, Flags] = {kind: {'rope_theta': base[at], **said_of(scaling[at])} for at, kind in enumerate(kinds_of(flags, window))}
        usual = next(iter(said.values()))  # for a kind of layer that there is not
        return {'rope_parameters': {GLOBAL: usual, LOCAL: usual, **said}}

    return Field(('rope_parameters',), flags_of, fields_of)


def uniform(values: tuple[Any, ...]) -> Any:
    """One value for all layers, where they agree."""
    return values[0] if all(value == values[0] for value in values) else values


def by_layer(flags: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """The value that each self-attention has."""
    value = flags[name]
    return value if isinstance(value, tuple) else (value,) * flags['depth']


def scaling_of(given: Given, said: dict[str, Any]) -> Flags | None:
    """What is left of the parameters as `rotary_scaling`."""
    said.pop('type', None)  # its older name
    kind = said.pop('rope_type', 'default')
    if kind not in ('default', *SCALINGS):
        raise given.refuse('rope_parameters.rope_type', kind, ' or '.join(map(repr, ('default', *SCALINGS))))
    if kind == 'yarn':
        sharpen(said)
    if kind == 'longrope' and said.pop('long_factor') != said['short_factor']:
        raise given.refuse(
            'rope_parameters.short_factor',
            said['short_factor'],
            'the values of long_factor: the length of a sequence would decide between them, and turn what is remembered of it anew. Give '
            'a config= in which one of them stands for both',
        )
    if kind in ('yarn', 'longrope') and said.get('factor') is None:
        said['factor'] = given['max_position_embeddings'] / said[LENGTH]
    fields = SCALINGS.get(kind, {})
    unknown = next((name for name, value in said.items() if name not in fields and value is not None), None)
    if unknown:
        raise given.refuse(f'rope_parameters.{unknown}', said[unknown], f'nothing but {", ".join(("rope_theta", *fields))} with {kind!r}')
    if kind == 'default':
        return None
    scaling = {'kind': kind, **{ours: settled(said[theirs]) for theirs, ours in fields.items() if said.get(theirs) is not None}}
    return {**scaling, 'original_length': given['max_position_embeddings']} if kind == 'dynamic' else scaling


def sharpen(said: dict[str, Any]) -> None:
    """YaRN's attention factor, where two numbers are given instead of it."""
    numerator, denominator = said.pop('mscale', None), said.pop('mscale_all_dim', None)
    if numerator and denominator and said.get('attention_factor') is None:
        grown = [0.1 * scale * math.log(max(said['factor'], 1)) + 1 for scale in (numerator, denominator)]
        said['attention_factor'] = grown[0] / grown[1]


def said_of(scaling: Mapping[str, Any] | None) -> Flags:
    """`rotary_scaling` as parameters."""
    if scaling is None:
        return {'rope_type': 'default'}
    said = {theirs: scaling[ours] for theirs, ours in SCALINGS[scaling['kind']].items() if ours in scaling}
    if scaling['kind'] == 'longrope':
        said['short_factor'] = said['long_factor'] = list(scaling['factors'])
    return {'rope_type': scaling['kind'], **said}


def head_width(given: Given) -> int:
    """Features of a head."""
    return given.get('head_dim') or given['hidden_size'] // given['num_attention_heads']


# their windows count the token that looks, ours how far it sees back; for one layer and another there is no word
before: Callable[[Any], Any] = lambda width: width - 1
counted: Callable[[Any], Any] = lambda reach: None if isinstance(reach, tuple) else reach + 1


def window() -> Field:
    """One window for all layers."""
    return same('sliding_window', 'attn_max_attend_past', to=before, back=counted, optional=True)


def windows(
    *also: str,
    switch: str | None = None,
    field: str = 'sliding_window',
    flag: str = 'attn_max_attend_past',
    to: Callable[[int], int] = before,
    back: Callable[[int], int] = counted,
) -> Field:
    """A window in some layers, as `layer_types` says.

    also: fields that say the same and are not asked. switch: the field without which there are no windows.
    """

    def flags_of(given: Given) -> Flags:
        kinds = given['layer_types']
        unknown = sorted({*kinds} - {LOCAL, GLOBAL})
        if unknown:
            raise given.refuse('layer_types', unknown[0], f'{LOCAL!r} or {GLOBAL!r}')
        if LOCAL in kinds and given[field] is None:
            raise given.refuse(field, None, f'a width, for there are layers of {LOCAL!r}')
        reach = to(given[field]) if LOCAL in kinds else None
        return {flag: uniform(tuple(reach if kind == LOCAL else None for kind in kinds))}

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        widths = [back(reach) for reach in by_layer(flags, flag) if reach is not None]
        said = {'layer_types': kinds_of(flags, flag), **({} if switch is None else {switch: bool(widths)})}
        return {**said, field: widths[0]} if widths else said

    return Field(('layer_types', field, *also, *([] if switch is None else [switch])), flags_of, fields_of)


def kinds_of(flags: Mapping[str, Any], flag: str) -> list[str]:
    """What `layer_types` calls layers with and without a window."""
    return [GLOBAL if reach is None else LOCAL for reach in by_layer(flags, flag)]
