"""What `checkpoint=True` saves and costs: peak memory and time of a training step, kept and computed again.

    python benchmarks/checkpointing.py                  # prints a table
    python benchmarks/checkpointing.py --out FILE       # and writes it as JSON, with the machine's facts

Each measurement is a process of its own, whose peak memory is the kernel's count (`ru_maxrss`) less what it was after a
step of 16 tokens. Gradients of both are compared by a checksum.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from x_transformers import Decoder

SIZE = {'dim': 256, 'depth': 8, 'heads': 4, 'batch': 2, 'length': 1024}
FLAGS = {
    'defaults': {},
    'reference attention': {'attn_flash': False},
    'four residual streams': {'num_residual_streams': 4},
    'residual attention': {'residual_attn': True},
}


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(flags: dict[str, object], again: bool, steps: int) -> dict[str, float]:
    torch.manual_seed(0)
    stack = Decoder(dim=SIZE['dim'], depth=SIZE['depth'], heads=SIZE['heads'], checkpoint=again, **flags)
    x = torch.randn(SIZE['batch'], SIZE['length'], SIZE['dim'])
    stack(x[:1, :16]).square().mean().backward()  # loads what the first step loads
    for p in stack.parameters():
        p.grad = torch.zeros_like(p)
    before, times = peak(), []
    for _ in range(steps):
        start = time.perf_counter()
        stack(x).square().mean().backward()
        times.append(time.perf_counter() - start)
    norm = sum(float(p.grad.double().square().sum()) for p in stack.parameters() if p.grad is not None) ** 0.5
    return {'MiB': round(peak() - before, 1), 'seconds': round(statistics.median(times), 3), 'gradient': norm}


def in_a_process(name: str, again: bool, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, '--steps', str(steps), '--one', name, *(['--again'] if again else [])]
    returning = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'}  # freed memory goes back at once, so that the peak is of what is held
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=returning).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--steps', type=int, default=3)
    parser.add_argument('--one', choices=FLAGS, help='measure one stack in this process')
    parser.add_argument('--again', action='store_true')
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(FLAGS[args.one], args.again, args.steps)))
        return
    results = {}
    print(f'{"":24}{"MiB kept":>12}{"again":>10}{"ratio":>8}{"s kept":>10}{"again":>10}')
    for name in FLAGS:
        kept, again = (in_a_process(name, on, args.steps) for on in (False, True))
        assert abs(kept['gradient'] - again['gradient']) <= 1e-5 * kept['gradient'], 'the gradients differ'
        results[name] = {'flags': FLAGS[name], 'kept': kept, 'again': again, 'memory ratio': round(again['MiB'] / kept['MiB'], 3)}
        ratio = results[name]['memory ratio']
        print(f'{name:24}{kept["MiB"]:12.0f}{again["MiB"]:10.0f}{ratio:8.2f}{kept["seconds"]:10.2f}{again["seconds"]:10.2f}')
    if args.out:
        versions = {'python': platform.python_version(), 'torch': torch.__version__}
        machine = {**versions, 'cores': os.cpu_count(), 'threads': torch.get_num_threads()}
        args.out.write_text(json.dumps({'size': SIZE, 'machine': machine, 'results': results}, indent=1) + '\n')


if __name__ == '__main__':
    main()
