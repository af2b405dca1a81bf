"""What a window costs as sequences grow: time and peak memory of a forward and backward pass, and their exponents.

    python benchmarks/windows.py                            # ours in blocks, ours with the window as a mask, blocks by hand
    python benchmarks/windows.py --out FILE --longest 8192  # and writes them as JSON, with the machine's facts

Every measurement is a process of its own, so that its peak is its own, in turns from the shortest sequence to the
longest. Times are of the processor (user and system), which what else the machine does moves less than the clock.
The attention by hand holds the same weights, and its outputs are checked to be equal.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers import Decoder
from x_transformers.attention import windowed

SIZE = {'dim': 256, 'heads': 8, 'dim_head': 32, 'window': 128, 'batch': 1}
LENGTHS = (1024, 2048, 4096, 8192, 16384)
DENSE_TO = 4096  # a mask of all pairs gets too large beyond


def layer(**flags: object) -> Decoder:
    """One windowed attention between norms."""
    torch.manual_seed(0)
    sizes = {'dim': SIZE['dim'], 'heads': SIZE['heads'], 'attn_dim_head': SIZE['dim_head'], 'attn_max_attend_past': SIZE['window']}
    return Decoder(depth=1, custom_layers=('a',), **sizes, **flags)


def by_hand(stack: Decoder, x: Tensor) -> Tensor:
    """The same, written for one configuration: blocks of the window's size that see their own and the block before."""
    (norms, attention, _), w = stack.layers[0], SIZE['window']
    b, n, _ = x.shape
    y = F.layer_norm(x, x.shape[-1:], norms[0].gamma + 1)
    cut = lambda t: t.view(b, n // w, w, SIZE['heads'], -1).transpose(2, 3)
    q, k, v = (cut(F.linear(y, t.weight)) for t in (attention.to_q, attention.to_k, attention.to_v))
    with_previous = lambda t: torch.cat((F.pad(t, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1], t), dim=-2).flatten(0, 1)
    i, j = torch.arange(w)[:, None], torch.arange(-w, w)
    mask = ((j <= i) & (i - j <= w)).expand(n // w, 1, w, 2 * w).clone()
    mask[0, ..., :w] = False  # nothing is before the first block
    out = F.scaled_dot_product_attention(q.flatten(0, 1), with_previous(k), with_previous(v), attn_mask=mask.repeat(b, 1, 1, 1))
    x = x + F.linear(out.view(b, n // w, SIZE['heads'], w, -1).transpose(2, 3).reshape(b, n, -1), attention.to_out.weight)
    return F.layer_norm(x, x.shape[-1:], stack.final_norm.gamma + 1)


def measure(kind: str, n: int, rounds: int) -> dict[str, float]:
    """Seconds and MiB of one kind at one length, in this process."""
    torch.set_num_threads(1)
    if kind == 'mask':
        windowed.SMALLEST = windowed.LARGEST = 1 << 30
    stack, x = layer(), torch.randn(SIZE['batch'], n, SIZE['dim'])
    run, short = (by_hand if kind == 'by hand' else Decoder.__call__), x[:, :512]
    torch.testing.assert_close(run(stack, short), stack(short), rtol=1e-4, atol=1e-5)
    run(stack, short).sum().backward()
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(rounds):
        start = time.process_time()
        run(stack, x).square().mean().backward()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {'ms': round(1000 * statistics.median(seconds), 1), 'mib': round(peak / 1024, 1)}


def exponent(lengths: list[int], values: list[float]) -> float:
    """The slope of the values over the lengths, both as logarithms."""
    xs, ys = [math.log(n) for n in lengths], [math.log(max(v, 1e-3)) for v in values]
    return round(statistics.linear_regression(xs, ys).slope, 2)


def compare(lengths: list[int], rounds: int) -> dict[str, object]:
    """Every kind at every length that it is meant for, and the exponents."""
    rows: dict[str, dict[int, dict[str, float]]] = {'blocks': {}, 'mask': {}, 'by hand': {}}
    for n in lengths:
        for kind, found in rows.items():
            if kind != 'mask' or n <= DENSE_TO:
                command = [sys.executable, __file__, '--only', kind, '--longest', str(n), '--rounds', str(rounds)]
                found[n] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                print(f'n {n:6d}  {kind:8s} {found[n]["ms"]:9.1f} ms {found[n]["mib"]:8.1f} MiB', flush=True)
    exponents = {
        kind: {what: exponent(list(found), [row[what] for row in found.values()]) for what in ('ms', 'mib')} for kind, found in rows.items()
    }
    return {'rows': rows, 'exponents': exponents}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--longest', type=int, default=LENGTHS[-1])
    parser.add_argument('--only', help='measure one kind at the longest length, and print it as JSON')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.longest, options.rounds)))
        return
    facts = {'torch': torch.__version__, 'python': platform.python_version(), 'cores': os.cpu_count(), 'threads': 1}
    results = {'machine': facts, 'size': SIZE, **compare([n for n in LENGTHS if n <= options.longest], options.rounds)}
    for kind, found in results['exponents'].items():  # type: ignore[attr-defined]
        print(f'{kind:8s} time grows with n^{found["ms"]}, memory with n^{found["mib"]}')
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
