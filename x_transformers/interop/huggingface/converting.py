"""`from_huggingface` and `to_huggingface`: models of the package `transformers` as models made of flags, and back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from x_transformers.errors import CheckpointError, FlagError, quoted
from x_transformers.files.fitting import listed, named_tensors
from x_transformers.files.loading import commonest, shown_error
from x_transformers.files.meta import put
from x_transformers.interop.huggingface.families import FAMILIES
from x_transformers.interop.huggingface.family import Family, differences
from x_transformers.interop.huggingface.fields import Flags, Given
from x_transformers.interop.huggingface.tensors import Tensors, convert, inverse
from x_transformers.training.autoregressive import AutoregressiveWrapper

WHERE = ('cache_dir', 'local_files_only', 'revision', 'subfolder', 'token')  # what of `from_pretrained` concerns the config too

NO_TOKENS = dict.fromkeys(('bos_token_id', 'eos_token_id', 'pad_token_id'))  # which ids are special, a model does not know


def transformers() -> Any:
    """The package, or what to do where there is none."""
    try:
        import transformers as package
    except ImportError as error:
        raise CheckpointError(
            "models of Hugging Face need the package transformers, which is not installed: pip install 'x-transformers[transformers]'"
        ) from error
    return package


# ------------------------------------------------------------------------------------------------ from theirs


def from_huggingface(source: Any, **loading: Any) -> nn.Module:
    """A model of `transformers` as a model of this library: the same outputs, and nothing of theirs inside.

    source: a name on the Hub, a folder, a model, or a config (for a new model of that shape). Other keywords belong to their
    `from_pretrained` (revision, token, dtype, config ...). Numbers keep their dtype, and a model its mode, training or evaluation.

    What a config says and flags cannot say is refused by the name of the field, before anything is loaded. Dropout where we have
    none is left out with a warning.
    """
    package = transformers()
    if isinstance(source, (str, os.PathLike)):
        if 'output_loading_info' in loading:
            raise FlagError('output_loading_info has no place to go here: what is missing is refused; leave it out')
        config = loading.pop('config', None)
        config = config if isinstance(config, package.PretrainedConfig) else read_config(package, config or source, loading)
        family, architecture = kind_of(config)
        flags_of(package, family, architecture, given_by(config))
        source = loaded(
            getattr(package, architecture),
            source,
            family,
            {'config': config, **({} if 'torch_dtype' in loading else {'dtype': 'auto'}), **loading},
        )
    elif loading:
        raise FlagError(f'{sorted(loading)[0]} says how a model is loaded, and {type(source).__name__} is there already; leave it out')
    theirs = source if isinstance(source, package.PreTrainedModel) else None
    config = source.config if theirs is not None else source
    if not isinstance(config, package.PretrainedConfig):
        raise FlagError(f'source={quoted(source)} is not possible; expected a name, a folder, or a model or config of transformers')
    family, architecture = kind_of(config, None if theirs is None else type(theirs).__name__)
    given = given_by(config, theirs)
    flags = flags_of(package, family, architecture, given)
    dropouts = ', '.join(f'{name}={given[name]!r}' for name in family.training_only if given.get(name))
    if dropouts:
        warnings.warn(f'{dropouts} of {given.kind} concerns training only and has no flag here: it is left out', stacklevel=2)
    return family.shape.build(flags) if theirs is None else converted(family, architecture, flags, given, theirs)


def read_config(package: Any, source: Any, loading: Mapping[str, Any]) -> Any:
    try:
        return package.AutoConfig.from_pretrained(source, **{key: loading[key] for key in WHERE if key in loading})
    except (OSError, ValueError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(
            f'{str(source)!r} is no folder with a model of transformers, and cannot be had from the Hub ({reason})'
        ) from error


def loaded(cls: Any, source: Any, family: Family, loading: dict[str, Any]) -> Any:
    """Their model, if all of it is there: what is missing they would draw at random."""
    try:
        model, found = cls.from_pretrained(source, output_loading_info=True, **loading)
    except Exception as error:  # a file that is absent or cut, or a keyword that their class does not take: they raise what they like
        raise CheckpointError(f'{str(source)!r} cannot be loaded as a {cls.__name__} of transformers ({shown_error(error)})') from error
    missing = family.with_body(cls.__name__, dict.fromkeys(found['missing_keys']))
    lost = tuple(sorted(name for name in missing if not name.startswith(family.left_out)))
    if lost:
        raise CheckpointError(f'{str(source)!r} does not hold all of a {cls.__name__}; missing: {listed(lost)}')
    return model


def kind_of(config: Any, architecture: str | None = None) -> tuple[Family, str]:
    """The family of a config, and the class of its model: the given one, the one that the config names, or the family's first."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise FlagError(f'model_type={config.model_type!r} is no family that is known here; expected {" or ".join(FAMILIES)}')
    found: str = architecture or next(iter(config.architectures or family.heads))
    if found not in family.heads:
        raise FlagError(f'{found} is no model of {family.name} that is known here; expected {" or ".join(family.heads)}')
    return family, found


def given_by(config: Any, model: Any = None) -> Given:
    """What a config says, and of a model whether its embeddings are tied: configs of some do not tell."""
    values = config.to_dict()
    weight = None if model is None else getattr(model.get_output_embeddings(), 'weight', None)
    if weight is not None:
        values['tie_word_embeddings'] = weight is model.get_input_embeddings().weight
    return Given(type(config).__name__, values)


def flags_of(package: Any, family: Family, architecture: str, given: Given) -> Flags:
    return family.flags(given, architecture, getattr(package, family.config)().to_dict())


@torch.no_grad()
def converted(family: Family, architecture: str, flags: Flags, given: Given, theirs: Any) -> nn.Module:
    """A model of these flags with the numbers of theirs."""
    with without_numbers():
        model = family.shape.build(flags)
    tensors: Tensors = {name: tensor for name, tensor in named_tensors(model).items() if isinstance(tensor, nn.Parameter)}
    there = family.with_body(architecture, theirs.state_dict())
    if any(tensor.is_meta for tensor in there.values()):
        raise CheckpointError(f'numbers of this {type(theirs).__name__} are not in memory; load it without device_map, offloading or meta')
    made, used = convert(family.rows, there, tensors, family.sizes(flags, given))
    check_used(there, used, family.left_out, model)
    check_made(made, tensors, {id(tensors[name]) for name in made}, theirs)
    filled: dict[int, Any] = {}
    for name, tensor in made.items():
        new = filled.setdefault(id(tensors[name]), nn.Parameter(tensor.clone()))
        if not torch.equal(new, tensor):
            raise CheckpointError(f'{name} is tied to another tensor here, and has other numbers in this {type(theirs).__name__}')
    for name, old in tensors.items():
        put(model, name, filled[id(old)], old)
    return model.train(theirs.training)


@contextmanager
def without_numbers() -> Iterator[None]:
    """Models that are built in here have buffers as ever, and parameters that take neither memory nor time."""

    def empty(module: nn.Module, name: str, parameter: Any) -> Any:
        full = parameter is not None and not parameter.is_meta
        return nn.Parameter(parameter.detach().to('meta'), parameter.requires_grad) if full else None  # None: as it is

    hook = register_module_parameter_registration_hook(empty)
    try:
        yield
    finally:
        hook.remove()


# ------------------------------------------------------------------------------------------------ to theirs


@torch.no_grad()
def to_huggingface(model: Any, family: str | None = None, **fields: Any) -> Any:
    """A model of this library as one of `transformers`, to be saved, shared and served there: the same outputs.

    family: such as 'llama'; by default the first that can express the model. Other keywords are fields of its config that say nothing
    about outputs, such as `eos_token_id`. What flags say and no config can say is refused by the name of the flag.
    """
    package = transformers()
    model = model.net if isinstance(model, AutoregressiveWrapper) else model
    if family is not None and not (isinstance(family, str) and family in FAMILIES):
        raise FlagError(f'family={quoted(family)} is not known here; expected {" or ".join(FAMILIES)}')
    found, architecture, flags, config = expressed(package, [FAMILIES[family]] if family else [*FAMILIES.values()], model, fields)
    theirs = getattr(package, architecture)(config).to(commonest(model))
    tensors = found.with_body(architecture, theirs.state_dict(keep_vars=True))
    given = {name: tensor.detach() for name, tensor in named_tensors(model).items() if isinstance(tensor, nn.Parameter)}
    made, used = convert(inverse(found.rows), given, tensors, found.sizes(flags, given_by(config)))
    check_used(given, used, (), theirs)
    left_out = {id(tensor) for name, tensor in tensors.items() if name.startswith(found.left_out)}
    check_made(made, tensors, left_out | {id(tensors[name]) for name in made}, model)
    for name, tensor in made.items():
        tensors[name].copy_(tensor)
    return theirs.train(model.training)


def expressed(package: Any, families: list[Family], model: Any, more: Flags) -> tuple[Family, str, Flags, Any]:
    """The first family that can say what the flags of a model say: it, the class of its model, the flags, and its config."""
    closest: tuple[float, str] = (float('inf'), f'it is a {type(model).__name__}, of another shape than theirs')
    for family in families:
        flags = family.shape.flags_of(model)
        for architecture in family.heads if flags is not None else ():
            assert flags is not None
            try:
                config = config_of(package, family, flags, more)
                apart = differences(family.shape, flags, flags_of(package, family, architecture, given_by(config)))
            except Exception as error:  # the checks of their configs raise what they like
                closest = min(closest, (len(flags), f'{architecture} comes closest, and does not take what it says: {shown_error(error)}'))
                continue
            if not apart:
                config.architectures = [architecture]
                return family, architecture, flags, config
            said = '; '.join(f'{name} is {quoted(ours)} and would be {quoted(its)}' for name, (ours, its) in apart.items())
            closest = min(closest, (len(apart), f'{architecture} comes closest, where {said}'))
    raise FlagError(f'no model of {" or ".join(family.name for family in families)} says what this one does: {closest[1]}')


def config_of(package: Any, family: Family, flags: Flags, more: Flags) -> Any:
    """The config of a family that says these flags, as far as it can."""
    fields = family.fields_of(flags)
    config = getattr(package, family.config)(**{**NO_TOKENS, **fields, **more})
    if 'tie_word_embeddings' in fields:
        config.tie_word_embeddings = fields['tie_word_embeddings']  # that of T5 has it otherwise, whatever it is given
    check_kept(config, more)
    return config


def check_kept(config: Any, more: Flags) -> None:
    """What a caller says of the config is in it: some of their classes drop what other fields say already."""
    if 'dtype' in more or 'torch_dtype' in more:
        raise FlagError('dtype follows the numbers of the model; convert the model that is made by its .to(dtype)')
    for name, value in more.items():
        if not hasattr(config, name) or getattr(config, name) != value:
            raise FlagError(f'{name}={quoted(value)} is not what the model says, or not said by a field of this name; leave it out')


# ------------------------------------------------------------------------------------------------ nothing is lost, nothing is made up


def check_used(given: Tensors, used: set[str], left_out: tuple[str, ...], target: nn.Module) -> None:
    """A tensor that nothing was made of is another name of one that was used, or known to be of no use."""
    known = {given[name].data_ptr() for name in used}
    lost = [name for name, tensor in given.items() if name not in used and tensor.data_ptr() not in known and not name.startswith(left_out)]
    if lost:
        raise CheckpointError(f'there is no place in {type(target).__name__} for {listed(tuple(sorted(lost)))}')


def check_made(made: Tensors, wanted: Mapping[str, Tensor], filled: set[int], source: nn.Module) -> None:
    """Every tensor is there, under one of its names, and fits."""
    missing = [name for name, tensor in wanted.items() if id(tensor) not in filled]
    if missing:
        raise CheckpointError(f'there is nothing in {type(source).__name__} for {listed(tuple(sorted(missing)))}')
    for name, tensor in made.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(f'{name} would be {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}: the config says otherwise')
