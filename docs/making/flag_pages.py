"""A page for every flag, made of its declaration, of what it answers when it is built, and of docs/combinations.md."""
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import readme
import verdicts
from torch import nn

import x_transformers
from x_transformers.errors import FlagError
from x_transformers.flags.__main__ import SMALL, public_classes, why_not_decode
from x_transformers.flags.cataloguing import Entry, catalogue
from x_transformers.flags.listing import Chapter, chapters, default_of, joined, source, spelt, type_of
from x_transformers.flags.page import grid, obstacles_of, paper_link, why_not_fused

FEW = 6     # recipes; a flag that is in more of them is in all

# What a class needs besides the example of a flag, as code
STACK = 'Decoder(dim=16, depth=2)'
TOKENS = f'TransformerWrapper(num_tokens=32, max_seq_len=24, attn_layers={STACK})'
VECTORS = f'ContinuousTransformerWrapper(dim_in=4, dim_out=4, max_seq_len=24, attn_layers={STACK})'
NUMBERS = f'XValTransformerWrapper(num_tokens=32, numerical_token_id=3, max_seq_len=24, attn_layers={STACK})'
NEEDED: dict[str, dict[str, str]] = {
    'AttentionLayers': {name: repr(value) for name, value in SMALL.items()},
    'Attention': {'dim': '16'},
    'AutoregressiveWrapper': {'net': TOKENS},
    'ContinuousAutoregressiveWrapper': {'net': VECTORS},
    'ContinuousTransformerWrapper': {'max_seq_len': '24', 'attn_layers': STACK},
    'DPO': {'model': TOKENS},
    'FeedForward': {'dim': '16'},
    'MultiInputTransformerWrapper': {'num_tokens': "{'note': 32, 'length': 8}", 'max_seq_len': '24', 'attn_layers': STACK},
    'NeoMLP': {'dim_in': '5', 'dim_hidden': '7', 'dim_out': '3', 'dim_model': '16', 'depth': '2'},
    'NonAutoregressiveWrapper': {'net': TOKENS.replace('Decoder', 'Encoder'), 'mask_id': '31'},
    'TransformerWrapper': {'num_tokens': '32', 'max_seq_len': '24', 'attn_layers': STACK},
    'ViTransformerWrapper': {'image_size': '8', 'patch_size': '4', 'attn_layers': STACK.replace('Decoder', 'Encoder')},
    'XLAutoregressiveWrapper': {'net': TOKENS.replace('max_seq_len=24', 'max_seq_len=24, max_mem_len=24')},
    'XTransformer': {
        'dim': '16', 'enc_num_tokens': '32', 'enc_max_seq_len': '24', 'enc_depth': '1', 'dec_num_tokens': '32', 'dec_max_seq_len': '24',
        'dec_depth': '1',
    },
    'XValAutoregressiveWrapper': {'net': NUMBERS},
    'XValTransformerWrapper': {'num_tokens': '32', 'numerical_token_id': '3', 'max_seq_len': '24', 'attn_layers': STACK},
}


class Place(NamedTuple):
    """Where a flag stands in the catalogue."""

    entry: Entry
    chapter: Chapter

    @property
    def page(self) -> str:
        """Its address: the flags of a layer stack by their name, others beneath their class, which tells equal names apart."""
        return self.entry.name if self.first else f'{self.chapter.cls.__name__}.{self.entry.name}'

    @property
    def key(self) -> tuple[type, str]:
        return self.entry.declared, self.entry.field

    @property
    def first(self) -> bool:
        return self.chapter.cls.__name__ == 'AttentionLayers'


def names_by_flag() -> dict[tuple[type, str], dict[str, list[str]]]:
    """Of each flag, as (who declares it, its field): the names that it has, and the classes that take it under each."""
    found: dict[tuple[type, str], dict[str, list[str]]] = {}
    for cls in public_classes():
        for entry in catalogue(cls.config_class):
            found.setdefault((entry.declared, entry.field), {}).setdefault(entry.name, []).append(cls.__name__)
    return found


def places() -> list[Place]:
    return [Place(entry, chapter) for chapter in chapters(public_classes()) for entry in chapter.entries]


def pages(figures: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(path, markdown); `figures` are pictures by the flags that they show."""
    told, recipes, found = verdicts.read(verdicts.PAGE.read_text(encoding='utf-8')), readme.recipes_by_flag(), places()
    names, obstacles = names_by_flag(), obstacles_of(found[0].chapter)
    pages_by_name: dict[str, str] = {}
    for place in found:
        for name in names[place.key]:
            pages_by_name.setdefault(name, place.page)
    for place in found:
        entry, name = place.entry, place.page
        parts = [f'# `{name}`', entry.doc, facts(place, names[place.key], obstacles)]
        code = example(place)
        if code:
            parts += ['## Example', f'```python\n{code}\n```']
        if code and 0 < len(recipes.get(entry.name, ())) <= FEW:
            links = (f'[{title}](../recipes.md#{readme.slug(title)})' for title in recipes[entry.name])
            parts.append(f'In the recipes: {" · ".join(links)}.')
        if name in figures:
            parts += ['## Figure', figures[name]]
        if pages_by_name[entry.name] == name:           # where several are called so, what was judged is the first
            parts += refused(told.refused.get(entry.name, []), pages_by_name)
            parts += laws(told, entry.name)
        near = [each for each in found if each.entry.declared is entry.declared and each is not place and each.chapter is place.chapter]
        if near:
            parts += ['## Next to it', ' · '.join(f'[`{each.entry.name}`]({each.page}.md)' for each in near)]
        yield f'flags/{name}.md', '\n\n'.join(parts) + '\n'


def facts(place: Place, names: dict[str, list[str]], obstacles: dict[str, str]) -> str:
    entry, flag = place.entry, place.entry.flag
    called: dict[str, list[str]] = {}
    for name, classes in names.items():
        called.setdefault('' if classes == names[entry.name] else f' of {", ".join(classes)}', []).append(name)
    bounds = (('at least', flag.at_least), ('at most', flag.at_most))
    rows = {
        'of': ', '.join(names[entry.name]),
        'type': f'`{type_of(entry)}`',
        'default': 'required' if entry.required else f'`{default_of(entry)}`',
        'bounds': ', '.join(f'{word} {bound:g}' for word, bound in bounds if bound is not None),
        'paper': paper_link(entry.paper) if entry.paper else '',
        'by layer': 'a tuple gives each layer its own value' if flag.per_layer else '',
        'concerns': f'{flag.scope}-attention only' if flag.scope else '',
        'forward takes': joined(flag.inputs) if flag.inputs else '',
        'also called': '; '.join(joined(others) + of for of, each in called.items() if (others := [n for n in each if n != entry.name])),
        'declared in': f'`{source(entry.declared)}`',
    }
    if place.first:
        rows['fused kernels'] = answer(why_not_fused(entry, obstacles))
        rows['decodes'] = answer(why_not_decode(entry))
    return grid(('', ''), [(name, text) for name, text in rows.items() if text])


def answer(why_not: str | None) -> str:
    return f'no: {why_not}' if why_not else 'yes'


def example(place: Place) -> str | None:
    """Code that builds the class with the flag on; None where there is nothing to switch. What is shown has been run."""
    entry, cls = place.entry, place.chapter.cls.__name__
    if not entry.example:
        return None
    keywords = NEEDED[cls] | {name: in_code(value) for name, value in entry.example.items()}
    if 'custom_layers' in keywords:
        del keywords['depth']
    name = 'Decoder' if place.first and entry.name != 'causal' else cls
    call = f'{name}({", ".join(f"{key}={value}" for key, value in keywords.items())})'
    for written in (call, call.replace('Decoder(', 'Encoder(')):
        code = with_imports('stack' if place.first else 'model', written)
        try:
            exec(code, {})
        except FlagError as error:
            refusal = error
        else:
            return code
    raise refusal


def in_code(value: Any) -> str:
    if isinstance(value, nn.Module):
        return f'nn.{value!r}'
    return f'torch.{value.__name__}' if inspect.isroutine(value) else spelt(value)


def with_imports(variable: str, call: str) -> str:
    names = sorted(set(re.findall(r'\b([A-Z]\w+)\(', call)) & set(x_transformers.__all__))
    lines = ['import torch'] * ('torch.' in call) + ['from torch import nn'] * ('nn.' in call)
    lines += [f'from x_transformers import {", ".join(names)}'] if names else ['from x_transformers.layers import AttentionLayers']
    return '\n'.join([*lines, '', f'{variable} = {call}'])


def refused(refusals: list[verdicts.Refusal], pages: dict[str, str]) -> list[str]:
    if not refusals:
        return []
    link = lambda name: f'[`{name}`]({pages[name]}.md)'
    lines = []
    for kinds, others, reason in sorted(refusals, key=lambda refusal: (bool(refusal.others), refusal.reason)):
        together = f' with {", ".join(map(link, others))}' if others else ''
        lines.append(f'- {kinds}{together}: {reason}')
    return ['## What it refuses', '\n'.join(lines)]


def laws(told: verdicts.Verdicts, name: str) -> list[str]:
    """What each law says of the flag in each kind of model."""
    held = told.held.get(name, {})
    kinds = list(next(iter(held.values()), ()))
    rows = [(told.laws[law], *(by_kind[kind] for kind in kinds)) for law, by_kind in held.items()]
    return ['## What the laws say', grid(('law', *kinds), rows)] if rows else []
