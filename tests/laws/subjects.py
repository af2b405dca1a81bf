"""What the laws are about: a model with some flags switched on, what it is given, and outputs that laws share.

Flags can be those of a decoder, of an encoder, of both halves of an encoder-decoder, and of the model and training wrapper around a
stack. Whatever is built is asked by one call, `run(given, **beside)`, where `given` belongs to tokens, one entry each, and `beside` to
whole rows.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from law_cases import VOCABULARY, perturb
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper, XTransformer
from x_transformers.attention.attend import Attend
from x_transformers.attention.backends import Reference
from x_transformers.errors import FlagError
from x_transformers.flags import Entry, catalogue
from x_transformers.flags.__main__ import WITH_CONTEXT, joined
from x_transformers.layers import AttentionLayers
from x_transformers.state import map_tensors, tensors

DIM, LENGTH, ROWS, CONTEXT = 16, 12, 2, 5
STACK = {'dim': DIM, 'depth': 2, 'heads': 4, 'attn_dim_head': 12}
SIZE = {'num_tokens': VOCABULARY, 'max_seq_len': 24}
SECOND = slice(1, 2)
START = torch.tensor([0, 4])  # left padding of the two rows
EVERY = slice(None)
FEW = 3  # context tokens of the second row where its context is padded
SEEN = torch.arange(CONTEXT) < torch.tensor([[CONTEXT], [FEW]])
Given = dict[str, Tensor]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ids(seed: int, length: int, count: int = VOCABULARY) -> Tensor:
    return torch.randint(0, count, (ROWS, length), generator=torch.Generator().manual_seed(seed))


def flags_of(*kinds: Any) -> dict[str, Entry]:
    """Every flag with an example, by name: those are the flags that can be switched on."""
    return {e.name: e for kind in kinds for e in catalogue(kind.config_class) if e.example}


STACK_FLAGS = flags_of(Decoder)
MODEL_FLAGS = flags_of(TransformerWrapper, AutoregressiveWrapper)
TRAINING_FLAGS = flags_of(AutoregressiveWrapper)
CROSS = ('cross_', 'only_cross')  # how flags begin that concern a context


@dataclass(frozen=True)
class Case:
    """Flags that are on together in one kind of model, each as in its example."""

    kind: str  # a key of KINDS
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return f'{self.kind}: {" + ".join(self.flags) or "defaults"}'

    @cached_property
    def keywords(self) -> dict[str, Any]:
        """All that is switched on, by public names."""
        return joined([STACK_FLAGS.get(name) or MODEL_FLAGS[name] for name in self.flags], context=self.kind == 'encoder-decoder')

    @property
    def seed(self) -> int:
        return zlib.crc32(str(self).encode())

    def of(self, names: Iterable[str]) -> dict[str, Any]:
        """The keywords among `names`."""
        return {name: value for name, value in self.keywords.items() if name in names}

    @property
    def stack(self) -> dict[str, Any]:
        """Keywords of a layer stack."""
        base = {name: value for name, value in STACK.items() if not (name == 'depth' and 'custom_layers' in self.keywords)}
        return {**base, **self.of(self.keywords.keys() - MODEL_FLAGS.keys())}

    def on(self, *names: str) -> str | None:
        """The first of these flags that is on."""
        return next((name for name in names if self.keywords.get(name)), None)


def wrapped(kind: type, case: Case) -> AutoregressiveWrapper:
    """A model over tokens, around a stack of this kind, and what trains it."""
    own = case.of(MODEL_FLAGS.keys() - TRAINING_FLAGS.keys())
    net = TransformerWrapper(**{**SIZE, **own}, attn_layers=kind(**case.stack))
    return AutoregressiveWrapper(net, **case.of(TRAINING_FLAGS))


def around(case: Case) -> AutoregressiveWrapper:
    """The model around a decoder; CLS tokens must see what stands behind them."""
    return wrapped(Encoder if case.on('use_cls_token') else Decoder, case)


def both(case: Case) -> XTransformer:
    """An encoder and a decoder that looks at what it reads. Both hold the flags, those aside that only a decoder can have."""
    target = {name: value for name, value in case.stack.items() if name not in ('dim', 'cross_attend')}  # it always looks
    source = {name: without_context(name, value) for name, value in target.items() if not name.startswith(CROSS)}
    if not taken(Encoder, source):
        source = {name: value for name, value in STACK.items() if name != 'dim'}
    keywords = {'enc': {**SIZE, **source}, 'dec': {**SIZE, **target}}
    return XTransformer(dim=DIM, **{f'{side}_{name}': value for side, flags in keywords.items() for name, value in flags.items()})


def without_context(name: str, value: Any) -> Any:
    """What an encoder holds of layers that were laid out for a context."""
    return STACK_FLAGS[name].example[name] if name in WITH_CONTEXT else value  # type: ignore[index]


def taken(kind: Any, keywords: dict[str, Any]) -> bool:
    """Whether the rules of a stack allow these flags."""
    try:
        kind.config_class.of(None, (), {'dim': DIM, **keywords})
    except FlagError:
        return False
    return True


KINDS: dict[str, Callable[[Case], Any]] = {
    'decoder': partial(wrapped, Decoder),
    'encoder': partial(wrapped, Encoder),
    'encoder-decoder': both,
    'model': around,
}


def in_float64(build: Callable[[], Any]) -> Any:
    """Seeded, in evaluation mode, and with parts alive that start at zero."""
    torch.manual_seed(0)
    model = build().double().eval()
    perturb(model)
    return model


class Subject:
    """A built case. What several laws look at is computed once."""

    def __init__(self, case: Case):
        self.case = case
        self.draw = random.Random(case.seed)
        self.model = in_float64(partial(KINDS[case.kind], case))
        self.net, self.stack = self.parts(self.model)

    def parts(self, model: Any) -> tuple[Any, Any]:
        """The model over tokens that laws ask, and its layer stack."""
        net = model.decoder.net if isinstance(model, XTransformer) else model.net
        return net, net.attn_layers

    # ------------------------------------------------------------------ what kind of model it is

    @property
    def causal(self) -> bool:
        return bool(self.stack.causal)

    @property
    def pooled(self) -> bool:
        """Whether there is one output for a row."""
        return bool(self.case.on('average_pool_embed', 'use_cls_token'))

    @cached_property
    def looks(self) -> bool:
        """Whether the stack looks at a context."""
        return bool(self.stack.cross_attend)

    @cached_property
    def fused(self) -> bool:
        """Whether a fused kernel computes any attention."""
        return any(not isinstance(part.backend, Reference) for part in self.model.modules() if isinstance(part, Attend))

    # ------------------------------------------------------------------ what it is given

    @cached_property
    def given(self) -> Given:
        """What belongs to tokens: their ids, embeddings that are added to them (those have a gradient), further ids."""
        further = {name: ids(4, LENGTH, count) for name, count in self.case.keywords.get('embed_num_tokens', {}).items()}
        return {'x': ids(3, LENGTH), 'sum_embeds': drawn(2, ROWS, LENGTH, self.net.emb_dim), **further}

    def beside(self, rows: slice = EVERY) -> dict[str, Any]:
        """What belongs to rows: the context that they look at, the conditions that they follow."""
        return {name: t[rows] if isinstance(t, Tensor) else t for name, t in self._beside.items()}

    @cached_property
    def _beside(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(self.followed)
        if self.case.keywords.get('recycling'):
            found['recycle_steps'] = 2
        if isinstance(self.model, XTransformer):
            tokens, followed = self.source
            with torch.no_grad():
                return {**found, 'context': self.model.encoder(tokens, **followed)}
        if self.looks:
            found['context'] = drawn(5, ROWS, CONTEXT, self.case.keywords.get('cross_attn_dim_context', DIM))
            if self.placed:
                found['context_pos'] = torch.arange(CONTEXT) + torch.arange(ROWS)[:, None]
        return found

    @property
    def placed(self) -> bool:
        """Whether cross-attention is turned by rotary positions: its heads must be wide enough."""
        rotary = self.stack.rotary_pos_emb
        return rotary is not None and 2 * len(rotary.inv_freq) <= self.stack.config.cross_attn.dim_head

    @property
    def followed(self) -> dict[str, Tensor]:
        return {'condition': drawn(6, ROWS, self.stack.dim_condition)} if self.stack.need_condition else {}

    # ------------------------------------------------------------------ what an encoder-decoder reads

    @property
    def source(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens to read, and what the norms of the encoder follow."""
        stack = self.model.encoder.attn_layers
        return ids(7, CONTEXT), {'condition': drawn(8, ROWS, stack.dim_condition)} if stack.need_condition else {}

    # ------------------------------------------------------------------ asking

    def part(self, rows: slice = EVERY, cols: slice = EVERY) -> Given:
        """Some rows and some tokens of what is given."""
        return {name: t[rows, cols] for name, t in self.given.items()}

    def run(self, given: Given, net: Any = None, **beside: Any) -> Any:
        """One tensor of all outputs, (b, n, features) or (b, 1, features) for a row; with a state where one is asked for."""
        out = (net or self.net)(given['x'], sum_embeds=given['sum_embeds'], **further(given), **beside)
        out, state = out if beside.get('return_state') else (out, None)
        found = [t[..., None] if self.case.on('squeeze_out_last_dim') else t for t in tensors(out)]
        whole = torch.cat([t[:, None] if self.pooled else t for t in found], dim=-1)
        return (whole, state) if beside.get('return_state') else whole

    @cached_property
    def whole(self) -> Tensor:
        """Everything in one call."""
        with torch.no_grad():
            return self.run(self.given, **self.beside())

    @cached_property
    def padded(self) -> Tensor:
        """Everything in one call, the second row padded on the left."""
        with torch.no_grad():
            return self.run(self.given, seq_start_pos=START, **self.beside())

    @cached_property
    def alone(self) -> Tensor:
        """The second row by itself."""
        with torch.no_grad():
            return self.run(self.part(SECOND), **self.beside(SECOND))

    @cached_property
    def graph(self) -> tuple[Tensor, Tensor]:
        """Embeddings that have a gradient, and the outputs of everything in one call."""
        x = self.given['sum_embeds'].clone().requires_grad_()
        return x, self.run({**self.given, 'sum_embeds': x}, **self.beside())

    @cached_property
    def spare(self) -> Any:
        """The same model again, from its config and its state dict. The last law that takes it casts it."""
        return self.twin()

    def cut(self, sizes: list[int], state: Any, **beside: Any) -> Tensor:
        """Outputs of a sequence run in pieces with the state passed on."""
        outs, at = [], 0
        for n in sizes:
            out, state = self.run(self.part(EVERY, slice(at, at + n)), state=state, return_state=True, **beside)
            outs.append(out)
            at += n
        return torch.cat(outs, dim=1)

    def loss(self, model: Any, given: Given, **beside: Any) -> Tensor:
        """What training would follow: the loss of a target; of other models the mean of squares, and the wrapper's own where a flag is."""
        if isinstance(model, XTransformer):
            tokens, followed = self.source
            read = {f'src_{name}': t for name, t in followed.items()}
            return model(tokens, given['x'], mask=beside.get('context_mask'), **read, **self.followed)
        total: Tensor = self.run(given, model.net, **{**self.beside(), **beside}).square().mean()
        if self.case.on(*TRAINING_FLAGS):
            inputs = {name: t[:, :-1] for name, t in given.items()}
            total = total + model(given['x'] % self.net.num_logits, **further(inputs), **self.beside())
        return total

    def write(self, which: slice = EVERY, ragged: bool = True, cache_kv: bool = True) -> Tensor:
        """Three tokens behind prompts of 3 and 5, the second of two sources padded; what a row gets alone is not."""
        lens, prompt, alone = torch.tensor([3, 5]), ids(9, 5), which != EVERY
        prompt = prompt[which, : lens[which]] if alone else prompt
        given: dict[str, Any] = {'temperature': 0.0, 'cache_kv': cache_kv} | ({'prompt_lens': lens} if ragged and not alone else {})
        if not isinstance(self.model, XTransformer):
            return self.model.generate(prompt, 3, **given, **self.beside(which))
        tokens, followed = self.source
        given |= {f'src_{name}': t[which] for name, t in followed.items()} | {name: t[which] for name, t in self.followed.items()}
        if any(self.model.encoder.attn_layers.plan.shifts):  # its feed-forwards read neighbours: see the law `right`
            return self.model.generate(tokens[which], prompt, 3, **given)
        given |= {} if alone else {'mask': SEEN}
        return self.model.generate(tokens[which, : FEW if which == SECOND else None], prompt, 3, **given)

    @cached_property
    def written(self) -> Tensor:
        """What both rows write by state, in one batch of prompts that are ragged where they can be."""
        return self.write(ragged=not self.case.on('memory_tokens_interspersed_every'))

    def twin(self, flash: bool | None = None) -> Any:
        """The same model again, from its config and its state dict; with the reference for attention where `flash` is False."""
        twin = rebuilt(self.model, {} if flash is None else {'attn_flash': flash, 'cross_attn_flash': flash}).double().eval()
        twin.load_state_dict(self.model.state_dict(), strict=True)
        return twin


def rebuilt(model: Any, more: dict[str, Any]) -> Any:
    """A model from the configs of another."""
    if isinstance(model, XTransformer):
        of = lambda side, taken: {f'{side}_{name}': value for name, value in taken.items()}
        enc = {name: value for name, value in more.items() if not name.startswith(CROSS)}
        return XTransformer(**{**model.config.keywords(), **of('enc', enc), **of('dec', more)})
    net = model.net.config.keywords()
    stack = net['attn_layers']
    more = {name: value for name, value in more.items() if stack.cross_attend or not name.startswith(CROSS)}
    net['attn_layers'] = type(stack)(**{**stack.config.keywords(), **more})
    return AutoregressiveWrapper(**{**model.config.keywords(), 'net': TransformerWrapper(**net)})


def further(given: Given) -> dict[str, Any]:
    """Ids of further embeddings, as a model takes them."""
    found = {name: t for name, t in given.items() if name not in ('x', 'sum_embeds')}
    return {'embed_ids': found} if found else {}


def cast(t: Any, dtype: torch.dtype) -> Any:
    """Every float in it in another precision."""
    return map_tensors(lambda each: each.to(dtype) if each.is_floating_point() else each, t)


def parameters_that_run(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training reaches: layers that `layers_execute_order` leaves out do not run."""
    silent: set[int] = set()
    for stack in (part for part in model.modules() if isinstance(part, AttentionLayers)):
        idle = [layer for at, layer in enumerate(stack.layers) if at not in stack.plan.order]
        silent |= {id(p) for layer in idle for p in layer.parameters()}
    return {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in silent}
