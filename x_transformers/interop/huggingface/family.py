"""What a family of foreign models is: a table of fields, a table of tensors, and the model of ours that they describe."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import cached_property
from typing import Any, TypeVar

from torch import nn

from x_transformers.flags import catalogue
from x_transformers.interop.huggingface.fields import Field, Flags, Given, check_known, key_heads
from x_transformers.interop.huggingface.rope import turned_width
from x_transformers.interop.huggingface.tensors import Row, Sizes
from x_transformers.layers import Decoder, Encoder
from x_transformers.models.transformer import TransformerWrapper
from x_transformers.models.vision import ViTransformerWrapper
from x_transformers.norms import LAYER_NORM_EPS
from x_transformers.training.encoder_decoder import XTransformer

OF_THE_HEAD = ('logits_softclamp_value', 'tie_embedding')
HOW_IT_RUNS = ('attn_flash', 'cross_attn_flash', 'checkpoint', 'attn_z_loss_weight')  # the same numbers, made otherwise


@dataclass(frozen=True)
class Shape:
    """A model of ours, and the stack in it, from flags under their public names (no two of which are the same)."""

    model: Any
    stack: Any = None  # None: the model takes the flags of its stacks itself

    @cached_property
    def defaults(self) -> Flags:
        """Every flag that has a default, with it."""
        configs = [cls.config_class for cls in (self.model, self.stack) if cls]
        return {entry.name: entry.default for config in configs for entry in catalogue(config) if entry.default is not MISSING}

    def full(self, flags: Mapping[str, Any]) -> Mapping[str, Any]:
        return ChainMap(dict(flags), self.defaults)

    def build(self, flags: Flags) -> nn.Module:
        if self.stack is None:
            return self.model(**flags)
        own = {entry.name for entry in catalogue(self.model.config_class)}
        stack = self.stack(**{name: value for name, value in flags.items() if name not in own})
        return self.model(attn_layers=stack, **{name: value for name, value in flags.items() if name in own})

    def flags_of(self, model: Any) -> Flags | None:
        """The flags of a model, or None where it is another."""
        if type(model) is not self.model or self.stack and type(model.attn_layers) is not self.stack:
            return None
        flags: Flags = dict(model.config.keywords())
        stack = flags.pop('attn_layers', None)
        return flags if stack is None else {**flags, **stack.config.keywords()}


DECODER, ENCODER = Shape(TransformerWrapper, Decoder), Shape(TransformerWrapper, Encoder)
VISION, ENCODER_DECODER = Shape(ViTransformerWrapper, Encoder), Shape(XTransformer)

T = TypeVar('T')
Head = Callable[[Given], Flags]
LOGITS: Head = lambda given: {}
BIASED_LOGITS: Head = lambda given: {'logits_bias': True}
NO_HEAD: Head = lambda given: {'return_only_embed': True}


@dataclass(frozen=True)
class Family:
    """Foreign models of one `model_type`, and how they are said in flags and tensors of ours."""

    name: str  # its model_type
    config: str  # the class of its config
    shape: Shape
    heads: Mapping[str, Head]  # the classes of its models, and the flags of what stands on the body
    body: str  # what the names of the body's tensors begin with, where there is a head
    fields: tuple[Field, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()  # tensors of theirs that say nothing about our outputs, by how their names begin
    more_sizes: Callable[[Given], Sizes] = lambda given: {}

    def flags(self, given: Given, architecture: str, usual: Mapping[str, Any]) -> Flags:
        """What a config says, or a FlagError that names the field which cannot be said."""
        check_known(self.fields, given, usual)
        flags: Flags = {}
        for field in self.fields:
            flags.update(field.flags(given))
        flags.update(self.heads[architecture](given))
        if flags.get('return_only_embed'):
            flags = {name: value for name, value in flags.items() if name not in OF_THE_HEAD}
        return flags

    @property
    def training_only(self) -> tuple[str, ...]:
        """Fields that have no flag here, and do not count but in training."""
        return tuple(name for field in self.fields for name in field.training)

    def fields_of(self, flags: Flags) -> Flags:
        """The fields of a config that says these flags, as far as it can say them."""
        full, found = self.shape.full(flags), {}
        for field in self.fields:
            found.update(field.fields(full))
        return found

    def sizes(self, flags: Flags, given: Given) -> Sizes:
        """The letters of the table of tensors, and what else its steps ask for."""
        full = self.shape.full(flags)
        side = '' if 'heads' in full else 'enc_'
        h, d = full[f'{side}heads'], full[f'{side}attn_dim_head']
        g = key_heads(full) if not side else h
        return {'e': full['dim'], 'h': h, 'g': g, 'r': h // g, 'd': d, **self.more_sizes(given)}

    def headless(self, architecture: str) -> bool:
        return self.heads[architecture] is NO_HEAD

    def with_body(self, architecture: str, tensors: Mapping[str, T]) -> dict[str, T]:
        """Tensors by the names that they have where there is a head; bodies alone leave out how they begin."""
        return {(self.body if self.headless(architecture) else '') + name: tensor for name, tensor in tensors.items()}


# what flags mean, where several values mean the same
MEANINGS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    'attn_kv_heads': key_heads,
    'attn_one_kv_head': lambda full: None,
    'norm_eps': lambda full: full['norm_eps'] or (None if full['use_rmsnorm'] else LAYER_NORM_EPS),
    'ff_mult': lambda full: int(full['dim'] * full['ff_mult']),
    'rotary_emb_dim': turned_width,
}


def differences(shape: Shape, ours: Flags, made: Flags) -> dict[str, tuple[Any, Any]]:
    """Flags that mean something else in one than in the other, with both values."""
    one, other = shape.full(ours), shape.full(made)
    meaning = lambda full, name: MEANINGS[name](full) if name in MEANINGS and shape.stack else full[name]
    names = sorted({*ours, *made} - {*HOW_IT_RUNS})
    return {name: (one[name], other[name]) for name in names if meaning(one, name) != meaning(other, name)}
