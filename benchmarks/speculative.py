"""What a draft saves: calls of the model, and processor time per token, against plain decoding of the same model.

    python benchmarks/speculative.py                  # trains, prints a table
    python benchmarks/speculative.py --out FILE       # and writes it as JSON, with the machine's facts

A byte-level model and a smaller one learn Python's standard library for a short while, so that the small one guesses as drafts do,
often and not always. All ways to generate take turns in one process on one thread, and each time is the median of its turns, of the
processor, so that what else runs on the machine counts little. A copy of the model as its draft shows what one that is always right
would save in calls; nobody would pay for it in time.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.decoding.speculative import prompt_lookup

SIZES = {'model': {'dim': 192, 'depth': 8, 'heads': 6}, 'small': {'dim': 64, 'depth': 1, 'heads': 2}}
LENGTH, PROMPT, NEW = 256, 64, 128


def text() -> torch.Tensor:
    """Some megabytes of the standard library, as bytes."""
    files = sorted(Path(sysconfig.get_path('stdlib')).glob('*.py'))
    return torch.frombuffer(bytearray(b''.join(file.read_bytes() for file in files)), dtype=torch.uint8)


def batch(data: torch.Tensor, b: int, n: int, draw: torch.Generator) -> torch.Tensor:
    starts = torch.randint(len(data) - n, (b, 1), generator=draw)
    return data[starts + torch.arange(n)].long()


def build(size: str) -> AutoregressiveWrapper:
    torch.manual_seed(0)
    stack = Decoder(**SIZES[size], attn_dim_head=32, rotary_pos_emb=True, ff_glu=True)
    return AutoregressiveWrapper(TransformerWrapper(num_tokens=256, max_seq_len=LENGTH, attn_layers=stack))


def train(model: AutoregressiveWrapper, data: torch.Tensor, steps: int) -> float:
    """The loss in the end, in nats per byte."""
    draw, losses = torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = model(batch(data, 8, 65, draw))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return statistics.mean(losses[-20:])


def measured(model: AutoregressiveWrapper, ways: dict[Any, dict[str, Any]], prompts: torch.Tensor, turns: int) -> dict[Any, Any]:
    """Calls of the model and milliseconds per token of each way; the ways take turns."""
    calls, times = dict.fromkeys(ways, 0), {name: [] for name in ways}
    counted = [0]
    hook = model.net.attn_layers.register_forward_hook(lambda *_: counted.__setitem__(0, counted[0] + 1))
    run: Callable[..., Any] = lambda **way: model.generate(prompts, NEW, generator=torch.Generator().manual_seed(1), **way)
    for turn in range(turns + 1):  # the first warms up
        for name, way in ways.items():
            counted[0], start = 0, time.process_time()
            run(**way)
            if turn:
                times[name].append(time.process_time() - start)
            calls[name] = counted[0]
    hook.remove()
    return {name: {'calls per token': calls[name] / NEW, 'ms per token': 1e3 * statistics.median(times[name]) / NEW} for name in ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--steps', type=int, default=200, help='of the model; the small one gets twice as many')
    parser.add_argument('--turns', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, model, small = text(), build('model'), build('small')
    losses = {'model': train(model, data, args.steps), 'small': train(small, data, 2 * args.steps)}
    print('nats per byte after training:', {name: round(loss, 2) for name, loss in losses.items()})
    drafts = {'plain': None, 'small model': small, 'prompt lookup': prompt_lookup, 'a copy': copy.deepcopy(model)}
    results, draw = {}, torch.Generator().manual_seed(7)
    print(f'{"rows":>4} {"temperature":>11}  {"draft":<16}{"tokens":>7}{"calls per token":>17}{"ms per token":>14}{"times as fast":>15}')
    for rows in (1, 8):
        prompts = batch(data, rows, PROMPT, draw)
        for temperature in (0.0, 0.8):
            ways = {
                (name, count): {'temperature': temperature, 'draft': draft, 'draft_tokens': count or 1}
                for name, draft in drafts.items()
                for count in ((0,) if draft is None else (3, 6))
            }
            found = measured(model, ways, prompts, args.turns)
            plain = found['plain', 0]['ms per token']
            for (name, count), each in found.items():
                each['times as fast'] = plain / each['ms per token']
                results[f'{rows} rows, temperature {temperature}, {name} {count}'] = {key: round(value, 3) for key, value in each.items()}
                print(f'{rows:>4} {temperature:>11}  {name:<16}{count or "":>7}' + f'{each["calls per token"]:>17.2f}'
                      f'{each["ms per token"]:>14.2f}{each["times as fast"]:>15.2f}')  # fmt: skip
    if args.out:
        facts = {'machine': platform.platform(), 'torch': torch.__version__}
        what = {'sizes': SIZES, 'prompt': PROMPT, 'new': NEW, 'nats per byte': losses}
        args.out.write_text(json.dumps({**facts, **what, 'results': results}, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
