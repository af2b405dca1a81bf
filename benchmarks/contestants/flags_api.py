"""x_transformers by its public interface: this library, and 2.0.1, whose keywords are the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from contestants.common import flags_of, ids, noise, prepared, step
from x_transformers import (
    AutoregressiveWrapper,
    Decoder,
    Encoder,
    TransformerWrapper,
    ViTransformerWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
)

Work = Callable[[], Any]


def decoder(size: dict[str, Any], kind: type = Decoder) -> Any:
    return kind(**{'dim': size['dim'], 'depth': size['depth'], 'heads': size['dim'] // 64, **flags_of(size)})


def language(size: dict[str, Any], **more: Any) -> Any:
    return TransformerWrapper(num_tokens=size['vocabulary'], max_seq_len=size['length'], attn_layers=decoder(size), **more)


def train(size: dict[str, Any]) -> Work:
    model, tokens = prepared(AutoregressiveWrapper(language(size)), size), ids(size, size['length'] + 1)
    inputs = {name: noise(size, size['batch'], *shape) for name, shape in size.get('inputs', {}).items()}
    loss = torch.compile(model) if size.get('compile') else model
    return step(model, lambda: loss(tokens, **inputs), size)


def generate(size: dict[str, Any]) -> Work:
    model, prompt = prepared(AutoregressiveWrapper(language(size)), size).eval(), ids(size, size['prompt'])
    more = {'compile': True} if size.get('compile') else {}
    return lambda: model.generate(prompt, size['new'], temperature=0.0, cache_kv=True, **more)


def stack(size: dict[str, Any]) -> Work:
    model = prepared(decoder(size), size)
    x = noise(size, size['batch'], size['length'], size['dim'])
    return step(model, lambda: model(x).square().mean(), size)


def segments(size: dict[str, Any]) -> Work:
    net = language(size, max_mem_len=size['length'])
    model, tokens = prepared(XLAutoregressiveWrapper(net), size), ids(size, size['segments'] * size['length'] + 1)
    return step(model, lambda: model(tokens), size)


def vision(size: dict[str, Any]) -> Work:
    layers = decoder(size, Encoder)
    model = ViTransformerWrapper(image_size=size['image'], patch_size=size['patch'], num_classes=1000, attn_layers=layers)
    model, images = prepared(model, size), noise(size, size['batch'], 3, size['image'], size['image'])
    return step(model, lambda: F.cross_entropy(model(images), torch.arange(size['batch'], device=images.device)), size)


def translate(size: dict[str, Any]) -> Work:
    side = {'num_tokens': size['vocabulary'], 'max_seq_len': size['length'], 'depth': size['depth'], 'heads': size['dim'] // 64}
    both = {f'{which}_{name}': value for which in ('enc', 'dec') for name, value in {**side, **flags_of(size)}.items()}
    model = prepared(XTransformer(dim=size['dim'], **both), size).eval()
    source, start = ids(size, size['length']), ids(size, 1)
    return lambda: model.generate(source, start, size['new'], temperature=0.0)


def construct(size: dict[str, Any]) -> Work:
    return lambda: decoder(size)


def imported(size: dict[str, Any]) -> Work:
    """Seconds of processor time beyond torch, in a fresh process: it is they that are returned."""
    code = 'import torch, time; a = time.process_time(); import x_transformers; print(time.process_time() - a)'
    run = lambda: subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    return lambda: float(run())


KINDS = {
    'train': train, 'generate': generate, 'stack': stack, 'segments': segments, 'vision': vision, 'translate': translate,
    'construct': construct, 'import': imported,
}
