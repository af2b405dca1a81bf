"""What is measured, and what is asked for: every row of the table in docs/benchmarks.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

LLAMA = {'rotary_pos_emb': True, 'use_rmsnorm': True, 'ff_glu': True, 'ff_swish': True, 'ff_no_bias': True, 'attn_kv_heads': 2}
OURS, OLD, PEER, HAND = 'ours', 'x-transformers', 'transformers', 'reference'
ALL = (OURS, OLD, PEER, HAND)


@dataclass(frozen=True)
class Case:
    """One thing that is run: a kind of work, and its size."""

    name: str
    kind: str
    size: dict[str, Any]
    by: tuple[str, ...] = ALL
    at: float | None = None  # the length along which a workload grows


@dataclass(frozen=True)
class Workload:
    """Cases that belong together."""

    name: str
    shows: str
    bar: str
    cases: tuple[Case, ...]
    repeats: int = 5
    memory: bool = False  # each contestant's peak too, in fresh processes
    limit: str | None = None  # 'matmul' or 'read': what the machine allows
    base: str | None = None  # the case that others are a multiple of


def sized(**numbers: Any) -> dict[str, Any]:
    return {'vocabulary': 256, 'length': 256, 'batch': 8, 'dim': 256, 'depth': 6, **numbers}


def train(name: str, **numbers: Any) -> Case:
    return Case(name, 'train', sized(**numbers))


def decode(name: str, by: tuple[str, ...] = ALL, **numbers: Any) -> Case:
    return Case(name, 'generate', sized(**{'dim': 512, 'depth': 8, 'length': 512, 'prompt': 16, 'new': 256, 'batch': 1, **numbers}), by)


def grown(new: int, prompt: int) -> Case:
    more = {'length': 2176, 'prompt': prompt, 'new': new, 'flags': {'rotary_pos_emb': True}}
    return decode(f'{new} after {prompt}', (OURS, OLD, HAND), **more)


def window(n: int, by: tuple[str, ...]) -> Case:
    size = {'dim': 256, 'depth': 1, 'batch': 1, 'length': n, 'flags': {'attn_max_attend_past': 128}}
    return Case(f'n {n}', 'stack', size, by, at=n)


def flashed(n: int) -> Case:
    size = {'dim': 256, 'depth': 1, 'batch': 1, 'length': n, 'flags': {'attn_max_attend_past': 128, 'attn_flash': True}}
    return Case(f'n {n}, attn_flash=True', 'stack', size, (OURS, OLD))


def stack(name: str, n: int, by: tuple[str, ...] = (OURS, OLD), **flags: Any) -> Case:
    return Case(name, 'stack', {'dim': 256, 'depth': 4, 'batch': 2048 // n, 'length': n, 'flags': flags}, by)


BIASES = {'none': {}, 't5': {'rel_pos_bias': True}, 'alibi': {'alibi_pos_bias': True}, 'dynamic': {'dynamic_pos_bias': True}}
PLACES = {'none': {}, 'cope': {'attn_use_cope': True}, 'forget': {'attn_data_dependent_alibi': True}}

WORKLOADS = (
    Workload('train', 'a training step, default flags', '<= 0.86 of 2.0.1, <= 1.03 of by hand', (train('defaults'),), 9, limit='matmul'),
    Workload(
        'train-llama', 'a training step, rotary, RMSNorm, SwiGLU, no bias, 2 key heads', '<= 0.92 of 2.0.1, not behind transformers',
        (train('llama', flags=LLAMA),), 9, limit='matmul',
    ),
    Workload('flags', 'a training step with every single flag', '<= 1.05 of 2.0.1 each, geometric mean <= 0.85', (), 5),
    Workload(
        'decode', 'writing 256 tokens, batch 1 and 8', '>= 1.5 and 1.4 times as fast as 2.0.1',
        (decode('batch 1'), decode('batch 8', batch=8)), 3, limit='read',
    ),
    Workload(
        'decode-llama', 'the same with the flags of train-llama', '>= 1.6 and 1.8 times as fast as 2.0.1',
        (decode('batch 1', flags=LLAMA), decode('batch 8', flags=LLAMA, batch=8)), 3, limit='read',
    ),
    Workload(
        'decode-2048', 'cost of a token behind 2,000 others against one behind 16', '<= 1.3',
        (grown(1, 16), grown(65, 16), grown(1, 1984), grown(65, 1984)), 3,
    ),
    Workload(
        'window', 'a window of 128, forward and backward, one layer',
        'time grows as n^1.1 at most; 20 times as fast as 2.0.1 at 4k, 12 times with flash at 8k',
        (*(window(n, (OURS, OLD, HAND) if n <= 4096 else (OURS, HAND)) for n in (1024, 2048, 4096, 8192, 16384)), flashed(8192)), 3,
        memory=True,
    ),
    Workload(
        'full4k', 'full attention over 4,096 tokens, no flash asked for, one layer', '<= 0.11 of the time and 0.03 of the memory of 2.0.1',
        (Case('n 4096', 'stack', {'dim': 512, 'depth': 1, 'batch': 1, 'length': 4096}, (OURS, OLD, HAND)),), 3, memory=True,
    ),
    Workload(
        'vocabulary', 'loss and gradients over 50,257 tokens, one layer, of which only the head and the norm before it learn',
        '<= 0.45 of the time and 0.15 of the memory of 2.0.1',
        (train('n 512, batch 4', vocabulary=50257, dim=512, depth=1, length=512, batch=4, only_head=True),), 2, memory=True,
    ),
    Workload(
        'translate', 'writing 64 tokens while looking at 128', '>= 1.6 times as fast as 2.0.1',
        (Case('batch 1', 'translate', sized(dim=512, length=128, depth=6, new=64, batch=1)),), 3,
    ),
    Workload(
        'segments', 'Transformer-XL training, 4 segments of 128', '<= 0.65 of 2.0.1',
        (Case('rotary', 'segments', sized(length=128, segments=4, batch=4, flags={'rotary_pos_emb': True}), (OURS, OLD, HAND)),),
    ),
    Workload(
        'vision', 'a training step on images', '<= 0.92 of 2.0.1',
        (Case('64 patches', 'vision', sized(image=64, patch=8)),), limit='matmul',
    ),
    Workload(
        'biases', 'relative biases over none', '<= 1.15 times the time of none',
        tuple(stack(f'{name}, n {n}', n, **flags) for n in (512, 2048) for name, flags in BIASES.items()), 3, memory=True, base='none',
    ),
    Workload(
        'contextual', 'CoPE and forget gates over no position', '<= 1.6 and 1.1 times the time of none',
        tuple(stack(f'{name}, n 512', 512, **flags) for name, flags in PLACES.items()), base='none',
    ),
    Workload('import', 'importing, beyond torch (processor time)', '<= 0.15 s', (Case('package', 'import', {}, (OURS, OLD)),)),
    Workload(
        'construct', 'building 12 layers of 512', '<= 1.0 of 2.0.1',
        (Case('12 layers', 'construct', {'dim': 512, 'depth': 12}, (OURS, OLD)),), 7,
    ),
    Workload(
        'train-compiled', 'the training step under torch.compile', '<= 0.95 of compiled 2.0.1',
        (train('defaults', compile=True),), limit='matmul',
    ),
    Workload(
        'decode-compiled', 'writing 256 tokens with generate(compile=True)', 'within 1.6 times what memory allows',
        (decode('batch 1', (OURS, HAND), compile=True),), 3, limit='read',
    ),
)  # fmt: skip


def operations(case: Case) -> float:
    """Multiplications and additions of a training step: three times those of its matrices and of its attention."""
    s, flags = case.size, case.size.get('flags', {})
    patches = (s['image'] // s['patch']) ** 2 if case.kind == 'vision' else s['length']
    attention = 4 * s['dim'] * patches if case.kind == 'vision' else 2 * s['dim'] * patches  # causal: half
    return 3 * s['batch'] * patches * (2 * weights(s, flags) + s['depth'] * attention)


def bytes_read(case: Case) -> float:
    """What writing one token must read: every weight, and on average half of all keys and values."""
    s, flags = case.size, case.size.get('flags', {})
    keys = 2 * flags.get('attn_kv_heads', s['dim'] // 64) * 64 * (s['prompt'] + s['new'] / 2) * s['depth'] * s['batch']
    return 4 * (weights(s, flags) + keys)


def weights(size: dict[str, Any], flags: dict[str, Any]) -> float:
    """Weights that every token meets."""
    d, inner = size['dim'], size['dim'] // 64 * 64
    kv = flags.get('attn_kv_heads', size['dim'] // 64) * 64
    layer = 2 * d * inner + 2 * d * kv + (12 if flags.get('ff_glu') else 8) * d * d
    head = 0 if 'image' in size else size['vocabulary'] * d
    return size['depth'] * layer + head


def flag_cases() -> tuple[Case, ...]:
    """A training step with every flag of the catalogue that can be said in JSON, at the size of its example or near it."""
    from x_transformers import Decoder
    from x_transformers.flags import catalogue

    cases = [Case('none', 'train', sized(depth=2, batch=2), (OURS, OLD))]
    for entry in catalogue(Decoder.config_class):
        try:
            flags = json.loads(json.dumps(entry.example))
        except TypeError:  # a module or a function
            continue
        if flags and 'context' not in entry.flag.inputs and entry.name not in ('depth', 'heads', 'dim'):
            inputs = {'condition': (flags.get('dim_condition', 256),)} if 'condition' in entry.flag.inputs else {}
            cases.append(Case(entry.name, 'train', sized(depth=2, batch=2, flags=flags, inputs=inputs), (OURS, OLD)))
    return tuple(cases)
