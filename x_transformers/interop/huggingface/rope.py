"""Rotary positions and windows as configs of `transformers` say them: for all layers, or for each kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x_transformers.interop.huggingface.fields import Field, Flags, Given, same

# the fields of each kind of scaling: theirs, ours
SCALINGS: dict[str, dict[str, str]] = {
    'linear': {'factor': 'factor'},
    'dynamic': {'factor': 'factor'},
    'yarn': {
        'factor': 'factor',
        'original_max_position_embeddings': 'original_length',
        'beta_fast': 'beta_fast',
        'beta_slow': 'beta_slow',
        'attention_factor': 'attention_factor',
    },
    'llama3': {
        'factor': 'factor',
        'low_freq_factor': 'low_freq_factor',
        'high_freq_factor': 'high_freq_factor',
        'original_max_position_embeddings': 'original_length',
    },
}
LOCAL, GLOBAL = 'sliding_attention', 'full_attention'


def rotary(partial: bool = False) -> Field:
    """`rope_parameters`: base, scaling, and where `partial` the share of a head's features that are turned."""

    def flags_of(given: Given) -> Flags:
        said = dict(given['rope_parameters'])
        share = said.pop('partial_rotary_factor', 1.0) if partial else 1.0
        return {
            'rotary_pos_emb': True,
            'rotary_half_split': True,
            'rotary_emb_dim': int(head_width(given) * share),
            'rotary_base': float(said.pop('rope_theta')),
            'rotary_scaling': scaling_of(given, said),
        }

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        share = {'partial_rotary_factor': flags['rotary_emb_dim'] / flags['attn_dim_head']} if partial and flags['rotary_emb_dim'] else {}
        return {'rope_parameters': {'rope_theta': flags['rotary_base'], **share, **said_of(flags['rotary_scaling'])}}

    return Field(('rope_parameters',), flags_of, fields_of)


def scaling_of(given: Given, said: dict[str, Any]) -> Flags | None:
    """What is left of the parameters as `rotary_scaling`."""
    kind = said.pop('rope_type', 'default')
    if kind == 'default':
        fields: dict[str, str] = {}
    elif kind in SCALINGS:
        fields = SCALINGS[kind]
    else:
        raise given.refuse('rope_parameters.rope_type', kind, ' or '.join(map(repr, ('default', *SCALINGS))))
    unknown = [name for name, value in said.items() if name not in fields and value is not None]
    if unknown:
        raise given.refuse(f'rope_parameters.{unknown[0]}', said[unknown[0]], f'only {", ".join(fields) or "rope_theta"} with {kind!r}')
    if not fields:
        return None
    scaling = {'kind': kind, **{ours: said[theirs] for theirs, ours in fields.items() if said.get(theirs) is not None}}
    return {**scaling, 'original_length': given['max_position_embeddings']} if kind == 'dynamic' else scaling


def said_of(scaling: Mapping[str, Any] | None) -> Flags:
    if scaling is None:
        return {'rope_type': 'default'}
    theirs = {ours: theirs for theirs, ours in SCALINGS.get(scaling['kind'], {}).items()}
    return {'rope_type': scaling['kind'], **{theirs[name]: value for name, value in scaling.items() if name in theirs}}


def head_width(given: Given) -> int:
    """Features of a head."""
    return given.get('head_dim') or given['hidden_size'] // given['num_attention_heads']


def window() -> Field:
    """One window for all layers. Theirs counts the token itself, ours how far it sees back."""
    return same('sliding_window', 'attn_max_attend_past', to=lambda width: width - 1, back=lambda reach: reach + 1)


def windows(*also: str) -> Field:
    """A window in some layers, as `layer_types` says; `also`: fields that say the same and are not asked."""

    def flags_of(given: Given) -> Flags:
        kinds = given['layer_types']
        unknown = sorted({*kinds} - {LOCAL, GLOBAL})
        if unknown:
            raise given.refuse('layer_types', unknown[0], f'{LOCAL!r} or {GLOBAL!r}')
        reach = given['sliding_window'] - 1 if LOCAL in kinds else None
        reaches = tuple(reach if kind == LOCAL else None for kind in kinds)
        return {'attn_max_attend_past': reaches[0] if len({*reaches}) == 1 else reaches}

    def fields_of(flags: Mapping[str, Any]) -> Flags:
        reach = flags['attn_max_attend_past']
        reaches = reach if isinstance(reach, tuple) else (reach,) * flags['depth']
        widths = [each + 1 for each in reaches if each is not None]
        kinds = [GLOBAL if each is None else LOCAL for each in reaches]
        return {'layer_types': kinds, **({'sliding_window': widths[0]} if widths else {})}

    return Field(('layer_types', 'sliding_window', *also), flags_of, fields_of)
