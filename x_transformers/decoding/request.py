"""What a generation is asked for: every argument is declared once, for all methods that take it.

A method names its arguments, first those that 2.0.1 took by position, in their order; `help()` shows them with their sentences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from x_transformers.decoding.prefix import Prefix
from x_transformers.decoding.sampling import top_k

T = TypeVar('T')


def argument(doc: str, default: Any = MISSING) -> Any:
    return field(default=default, metadata={'doc': doc})


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `generate`, `stream` and `beam_search`."""

    prompts: Tensor = argument('ids (t,), (b, t) or (..., t)')
    seq_len: int = argument('how many tokens to make at most')
    eos_token: int | None = argument('ends a row; `pad_value` stands behind it', None)
    temperature: float = argument('0 takes the most probable token', 1.0)
    prompt_lens: Tensor | None = argument('(b,) lengths of ragged prompts, which are padded on the right', None)
    seq_start_pos: Tensor | None = argument('(b,) padding in front of ragged prompts, in place of prompt_lens', None)
    filter_logits_fn: str | Callable[..., Tensor] = argument(
        "'top_k', 'top_p', 'top_a', 'min_p', or a function of logits: what may be sampled", top_k
    )
    filter_kwargs: dict[str, Any] | None = argument('keywords of the filter', None)
    restrict_to_max_seq_len: bool = argument('False: the earliest tokens are never forgotten', True)
    amateur_model: Any = argument('a model, or several, to decode against (2210.15097)', None)
    contrastive_decode_kwargs: Any = argument('alpha and beta of the contrast, or of each', None)
    cache_kv: bool = argument('False: the whole window is run for every token', True)
    generator: torch.Generator | None = argument('what is sampled with; None: that of torch', None)
    compile: bool = argument(
        'compile the step from token to token: two graphs, whatever the length; it pays from some hundred tokens', False
    )
    prefill_chunk: int | None = argument('run the prompt in chunks of so many tokens, which bounds the memory that a long one takes', None)
    logits_processors: Sequence[Callable[..., Tensor]] | None = argument(
        'functions (tokens so far (b, t), logits (b, v)) -> logits, ahead of the filter; `decoding.processors` has some', None
    )
    stopping_criteria: Sequence[Callable[..., Any]] | None = argument(
        'functions (tokens so far (b, t)) -> bool, or (b,) bool: rows that end with their latest token', None
    )
    num_return_sequences: int | None = argument(
        'sequences for each prompt, on an axis of their own (..., r, k); the prompt is read once', None
    )
    draft: Any = argument(
        'a smaller model, or a function (tokens so far (b, t), count) -> ids (b, count), whose proposals the model checks together: the '
        'same rows with temperature 0, otherwise the same distribution, in fewer calls (2211.17192)',
        None,
    )
    draft_tokens: int = argument('how many tokens are proposed at a time', 4)
    prefix: Prefix | None = argument('what `remember` returned of tokens that stand ahead of all prompts; they are not read again', None)
    num_beams: int = argument('how many continuations are followed at a time', 4)
    length_penalty: float = argument('0: scores are log-probabilities; 1: their mean per token; above, longer ones are favoured', 1.0)
    inputs: Mapping[str, Any] = argument('go to the model, such as `mask` (b, t) of the prompts and `context`')

    @property
    def switches(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ('restrict_to_max_seq_len', 'cache_kv', 'compile')}


DECLARED = {f.name: f for f in fields(Request)}


def requests(order: Sequence[str], others: Sequence[str]) -> Callable[[Callable[[Any, Request], T]], Callable[..., T]]:
    """Decorator of `method(self, request)`: called with arguments in this order, others by keyword, and inputs of the model."""

    def decorate(method: Callable[[Any, Request], T]) -> Callable[..., T]:
        kind, declared = inspect.Parameter, [DECLARED[name] for name in (*order, *others)]

        def parameter(f: Field[Any]) -> inspect.Parameter:
            how = kind.POSITIONAL_OR_KEYWORD if f.name in order else kind.KEYWORD_ONLY
            return kind(f.name, how, default=kind.empty if f.default is MISSING else f.default, annotation=f.type)

        ends = kind('self', kind.POSITIONAL_OR_KEYWORD), kind('inputs', kind.VAR_KEYWORD, annotation='Any')
        listed = [ends[0], *map(parameter, declared), ends[1]]
        signature = inspect.Signature(listed, return_annotation=method.__annotations__['return'])

        @wraps(method)
        def asking(*args: Any, **keywords: Any) -> T:
            given = signature.bind(*args, **keywords).arguments
            return method(given.pop('self'), Request(**{'inputs': {}, **given}))

        lines = [f'{f.name}: {f.metadata["doc"]}' for f in (*declared, DECLARED['inputs'])]
        asking.__doc__ = '\n'.join((inspect.cleandoc(method.__doc__ or ''), '', *lines))
        asking.__signature__ = signature  # type: ignore[attr-defined]
        return asking

    return decorate


SHARED = ('seq_start_pos', 'logits_processors', 'prefix')
SAMPLING = (
    (
        'prompts', 'seq_len', 'eos_token', 'temperature', 'prompt_lens', 'filter_logits_fn', 'restrict_to_max_seq_len', 'amateur_model',
        'filter_kwargs', 'contrastive_decode_kwargs', 'cache_kv', 'generator', 'compile', 'prefill_chunk',
    ),
    ('stopping_criteria', 'num_return_sequences', 'draft', 'draft_tokens', *SHARED),
)  # fmt: skip
SEARCHING = (
    (
        'prompts', 'seq_len', 'num_beams', 'eos_token', 'length_penalty', 'num_return_sequences', 'prompt_lens',
        'restrict_to_max_seq_len', 'cache_kv', 'compile', 'prefill_chunk',
    ),
    SHARED,
)  # fmt: skip
