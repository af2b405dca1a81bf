"""A language model over bytes, made from flags."""
import difflib
import json
from typing import Any

from torch import nn

from lm import Problem
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.errors import FlagError
from x_transformers.flags import catalogue

BYTES = 256
DEFAULTS = dict(dim=256, depth=4, heads=4, rotary_pos_emb=True, shift_tokens=1, use_rmsnorm=True,
                ff_glu=True, ff_swish=True, ff_no_bias=True)
OWNERS = dict(decoder=Decoder, wrapper=TransformerWrapper, autoregressive=AutoregressiveWrapper)


def model_config(flags: dict[str, Any], seq_len: int) -> dict[str, dict[str, Any]]:
    """Each flag, over the defaults above, under the class that owns it: all that a checkpoint needs to rebuild the model."""
    for name in ('num_tokens', 'attn_layers', 'net'):
        if name in flags:
            raise Problem(f'--set {name}={flags[name]} is not possible: the script decides it, since the model reads bytes. Leave it out.')
    names = {entry.name: owner for owner, cls in reversed(OWNERS.items()) for entry in catalogue(cls.config_class)}
    config = dict(decoder=dict(DEFAULTS), wrapper=dict(num_tokens=BYTES, max_seq_len=seq_len), autoregressive={})
    for name, value in flags.items():
        known = [name] if name in names else difflib.get_close_matches(name, names, 1)     # its owner will say: did you mean ...
        config[names[known[0]] if known else 'decoder'][name] = value
    longest = config['wrapper']['max_seq_len']
    if isinstance(longest, int) and longest < seq_len:
        raise Problem(f'--seq-len {seq_len} is longer than --set max_seq_len={longest}. Make one fit the other.')
    try:
        return json.loads(json.dumps(config))
    except TypeError as error:
        raise Problem(f'--set {flags} cannot be kept in a checkpoint: {error}. Use numbers, strings, tuples and dicts.') from error


def build(config: dict[str, dict[str, Any]]) -> AutoregressiveWrapper:
    """The model of a `model_config`."""
    try:
        decoder = Decoder(**config['decoder'])
        return AutoregressiveWrapper(TransformerWrapper(attn_layers=decoder, **config['wrapper']), **config['autoregressive'])
    except FlagError as error:
        ours = [f'{name}={value}' for name, value in DEFAULTS.items() if f'{name}=' in str(error) and config['decoder'].get(name) == value]
        note = f' Of these the script sets {" ".join(ours)} unless --set says otherwise.' if ours else ''
        raise Problem(f'{error}{note}') from error


def flags_of(model: AutoregressiveWrapper) -> dict[str, Any]:
    """What was set of it, by the names of flags."""
    parts = (model.net.attn_layers, model.net, model)
    return {name: value for part in parts for name, value in part.config.keywords().items() if not isinstance(value, nn.Module)}


def twin(model: AutoregressiveWrapper) -> AutoregressiveWrapper:
    """A new model of the same flags."""
    net = TransformerWrapper(**{**model.net.config.keywords(), 'attn_layers': Decoder(**model.net.attn_layers.config.keywords())})
    return AutoregressiveWrapper(**{**model.config.keywords(), 'net': net})


def on_device(model: nn.Module, device: str) -> nn.Module:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise Problem(f'--device {device} cannot be used here ({reason}). Name another, such as --device cpu.') from error


def room(model: AutoregressiveWrapper, prompt: bytes) -> float:
    """How many bytes can follow the prompt; no limit where positions are relative and the window slides."""
    limit = model.net.max_seq_len
    if not prompt:
        raise Problem("--prompt '' is empty. Give at least one byte to begin with.")
    if len(prompt) > limit:
        raise Problem(f'--prompt is {len(prompt)} bytes long, and the model reads at most {limit}. Leave out its beginning.')
    return float('inf') if model.net.can_cache_kv_outside_max_seq_len else limit - len(prompt) + 1
