"""The reference: signatures and docstrings of what is public."""
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from x_transformers.flags.listing import spelt
from x_transformers.flags.page import paper_link

# Pages of the reference: title, what it is about, and the names, by module
CHAPTERS: dict[str, tuple[str, str, dict[str, tuple[str, ...]]]] = {
    'reference/stacks.md': ('Layer stacks and parts', 'Layers without embeddings or head, on (b, n, dim).', {
        'x_transformers.layers': ('AttentionLayers',),
        'x_transformers': (
            'Encoder', 'Decoder', 'PrefixDecoder', 'CrossAttender', 'Attention', 'FeedForward', 'RMSNorm', 'AdaptiveRMSNorm',
        ),
    }),
    'reference/models.md': ('Models', 'Stacks with what they read and what they put out.', {
        'x_transformers': (
            'TransformerWrapper', 'ContinuousTransformerWrapper', 'XValTransformerWrapper', 'MultiInputTransformerWrapper',
            'ViTransformerWrapper', 'XTransformer', 'NeoMLP',
        ),
        'x_transformers.counting.table': ('Summary', 'Row'),
    }),
    'reference/training.md': ('Training and generation', 'Losses around models, with the generation that belongs to each.', {
        'x_transformers': (
            'AutoregressiveWrapper', 'XLAutoregressiveWrapper', 'NonAutoregressiveWrapper', 'ContinuousAutoregressiveWrapper',
            'XValAutoregressiveWrapper', 'DPO',
        ),
        'x_transformers.training.packing': ('pack', 'ids_from_lengths', 'ids_from_cu_seqlens'),
    }),
    'reference/generation.md': ('Generation', 'What `generate` and its kin take besides prompts.', {
        'x_transformers.decoding.processors': (
            'RepetitionPenalty', 'PresencePenalty', 'FrequencyPenalty', 'NoRepeatNgrams', 'MinLength', 'LogitBias',
        ),
        'x_transformers.decoding.speculative': ('prompt_lookup',),
        'x_transformers.decoding.sampling': ('top_k', 'top_p', 'top_a', 'min_p'),
    }),
    'reference/state.md': ('State', 'What flows between calls.', {
        'x_transformers.state': ('StackState',),
        'x_transformers.layers': ('LayerIntermediates',),
    }),
    'reference/files.md': ('Files and other libraries', 'Folders, state dicts of other releases, models of transformers.', {
        'x_transformers': ('load',),
        'x_transformers.interop.checkpoints': ('from_later',),
        'x_transformers.interop.huggingface': ('from_huggingface', 'to_huggingface'),
    }),
    'reference/parallel.md': ('Several processes', 'One model in several processes, and checkpoints between any number of them.', {
        'x_transformers.parallel': (
            'parallelize', 'checkpoint_layers', 'plain', 'whole', 'within', 'gather', 'save_checkpoint', 'load_checkpoint', 'part_like',
        ),
    }),
    'reference/flags.md': ('Flags and errors', 'How flags are declared and listed, and what a user can get wrong.', {
        'x_transformers.flags': ('flag', 'group', 'catalogue', 'lookup', 'is_on', 'at_most_one', 'excludes', 'demands'),
        'x_transformers.errors': ('FlagError', 'BackendError', 'InputError', 'DecodeError', 'CheckpointError'),
        'x_transformers.inputs': ('check_values',),
    }),
}
# What one calls on them; the other methods are verbs of the forward pass, for who reads the code
CALLED = (
    'forward', 'encode', 'margin', 'generate', 'stream', 'beam_search', 'empty_state', 'summary', 'flops',
    'clone', 'detach', 'keep', 'reorder', 'rewind', 'to',
    'save', 'load', 'load_weights', 'save_pretrained', 'from_pretrained', 'push_to_hub',
)
CALLED_TOO = {'AutoregressiveWrapper': ('remember',)}
WIDEST = 100


class Shown(str):
    """An annotation or default as it is written, without quotes."""

    __repr__ = str.__str__


def pages() -> Iterator[tuple[str, str]]:
    """(path, markdown) of every chapter."""
    for path, (title, about, modules) in CHAPTERS.items():
        parts = [f'# {title}', about]
        seen: set[Any] = set()
        for module, names in modules.items():
            for name in names:
                found = getattr(import_module(module), name)
                parts += [f'## {name}', f'```python\nfrom {module} import {name}\n```']
                parts += of_class(found, seen) if inspect.isclass(found) else [signature(found, name), prose(inspect.getdoc(found))]
        yield path, '\n\n'.join(filter(None, parts)) + '\n'


def of_class(cls: type, seen: set[Any]) -> Iterator[str]:
    """A class with its methods; one that stands on the page already, at a class it inherits from, is not shown again."""
    bases = [base.__name__ for base in cls.__mro__[1:] if base.__module__.startswith('x_transformers') and base in seen]
    seen.add(cls)
    if bases:
        yield f'A kind of [{bases[0]}](#{bases[0].lower()}).'
    yield prose(inspect.getdoc(cls))
    if hasattr(cls, 'config_class'):
        yield f'Keywords: [its flags](../flags.md), or `python -m x_transformers.flags --of {cls.__name__}`.'
    elif not issubclass(cls, Exception):
        yield signature(cls, cls.__name__)
    for name in (*CALLED, *CALLED_TOO.get(cls.__name__, ())):
        function = getattr(getattr(cls, name, None), '__func__', getattr(cls, name, None))
        if inspect.isfunction(function) and function.__module__.startswith('x_transformers') and function not in seen:
            seen.add(function)
            yield f'### {cls.__name__}.{name}'
            yield signature(getattr(cls, name), name)
            yield prose(inspect.getdoc(function))


def signature(function: Any, name: str) -> str:
    """As code; one parameter a line where it is long."""
    found = inspect.signature(function)
    given = (p for p in found.parameters.values() if p.name != 'self')
    parameters = [p.replace(annotation=shown(p.annotation), default=default(p.default)) for p in given]
    returns = '' if found.return_annotation is found.empty else f' -> {shown(found.return_annotation)}'
    spread = list(stars(parameters))
    line = f'{name}({", ".join(spread)}){returns}'
    if len(line) > WIDEST:
        line = '\n'.join([f'{name}(', *(f'    {parameter},' for parameter in spread), f'){returns}'])
    return f'```python\n{line}\n```'


def stars(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Parameters one by one, with the mark between those by position and those by keyword."""
    before = None
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (parameter.kind, parameter.VAR_POSITIONAL):
            yield '*'
        yield str(parameter)
        before = parameter.kind


def shown(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    return Shown(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def default(value: Any) -> Any:
    """A function by its name; an object that only marks that nothing was given is `...`."""
    if value is inspect.Parameter.empty:
        return value
    return Shown('...' if ' object at 0x' in repr(value) else spelt(value))


# ---------------------------------------------------------------------- docstrings

EXAMPLE = re.compile(r'(?:^>>> .*\n?)(?:^(?!$).*\n?)*', re.MULTILINE)


def prose(doc: str | None) -> str:
    """A docstring as Markdown: examples in fences, and no mark that Markdown would read."""
    text, last = [], 0
    for found in EXAMPLE.finditer(doc or ''):
        text += [plain(doc[last : found.start()]), f'\n```pycon\n{found[0].rstrip()}\n```\n']
        last = found.end()
    return ''.join([*text, plain((doc or '')[last:])])


def plain(text: str) -> str:
    paragraphs = (listed(paragraph) for paragraph in text.split('\n\n'))
    parts = re.split(r'(`[^`\n]+`)', '\n\n'.join(paragraphs))
    escaped = ''.join(part if part.startswith('`') else re.sub(r'([*_<\[\]])', r'\\\1', part) for part in parts)
    return re.sub(r'\b(\d{4}\.\d{4,5})\b', lambda paper: paper_link(paper[1]), escaped)


def listed(paragraph: str) -> str:
    """Lines `name: what it is`, where a paragraph is made of them, as a list."""
    named = re.compile(r'^(\w+(?:, \w+)*): ', re.MULTILINE)
    several = named.match(paragraph) and len(named.findall(paragraph)) > 1
    return named.sub(lambda line: f'- `{line[1]}`: ', paragraph) if several else paragraph
