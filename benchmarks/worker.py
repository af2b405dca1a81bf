"""One contestant in a process of its own. It computes only when it is told to, so that only one computes at a time.

Lines of JSON come in and go out: {"prepare": [kind, size]} builds, {"go": true} runs once and answers how long it took.
Nothing of an opponent is shown but its numbers, and of its exceptions the type and the message.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from typing import Any


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synchronised(size: dict[str, Any]) -> None:
    import torch

    if size.get('device') == 'cuda':
        torch.cuda.synchronize()


class Worker:
    def __init__(self, module: str, threads: int):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.kinds = importlib.import_module(f'contestants.{module}').KINDS

    def prepare(self, kind: str, size: dict[str, Any]) -> dict[str, Any]:
        if kind not in self.kinds:
            raise NotImplementedError(f'it has no {kind}')
        self.size, self.work = size, None  # the one before goes first
        self.work = self.kinds[kind](size)
        return {'peak': peak()}

    def go(self, _: Any) -> dict[str, Any]:
        import torch

        cuda = self.size.get('device') == 'cuda'
        before = torch.cuda.memory_allocated() if cuda else 0
        synchronised(self.size)
        start, busy = time.perf_counter(), time.process_time()
        told = self.work()
        synchronised(self.size)
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
        held = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else peak()
        own = isinstance(told, float)  # work that measures itself
        return {'wall': told if own else wall, 'cpu': told if own else cpu, 'peak': held}


def main() -> None:
    import warnings

    warnings.filterwarnings('ignore')
    out, sys.stdout = sys.stdout, sys.stderr  # what a package prints is no answer
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        ((command, given),) = json.loads(line).items()
        try:
            answer = getattr(worker, command)(*given) if command == 'prepare' else worker.go(given)
        except Exception as error:  # no traceback: it would print the opponent's source
            answer = {'error': f'{type(error).__name__}: {str(error)[:300]}'}
        out.write(json.dumps(answer) + '\n')
        out.flush()


if __name__ == '__main__':
    main()
