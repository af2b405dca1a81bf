"""Processes that work together in tests: started once, they are given functions to run as a group of any size."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLACES = [str(HERE), str(HERE.parent / 'laws'), str(HERE.parents[1])]
sys.path[:0] = PLACES[:2]
PATIENCE = timedelta(seconds=60)  # with a process that went wrong, which the others wait for


class Processes:
    """Up to four processes, forked from a server that has imported everything."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context('forkserver')
        self.context.set_forkserver_preload(['parallel_work'])
        before = os.environ.get('PYTHONPATH')
        os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [*PLACES, before]))  # a server does not get sys.path before Python 3.13
        ensure_running()
        del os.environ['PYTHONPATH']
        os.environ.update({} if before is None else {'PYTHONPATH': before})
        self.pipes: list[Any] = []

    def run(self, count: int, work: Callable[..., Any], *given: Any) -> list[Any]:
        """`work(rank, *given)` in `count` processes that are a group meanwhile; what each returns."""
        while len(self.pipes) < count:
            ours, theirs = self.context.Pipe()
            self.context.Process(target=serve, args=(theirs,), daemon=True).start()
            self.pipes.append(ours)
        with tempfile.TemporaryDirectory() as folder:
            for rank, pipe in enumerate(self.pipes[:count]):
                pipe.send((rank, count, f'{folder}/store', work, given))
            answers = [pipe.recv() for pipe in self.pipes[:count]]
        broken = [f'process {rank}:\n{trace}' for rank, (trace, _) in enumerate(answers) if trace]
        assert not broken, '\n'.join(broken)
        return [result for _, result in answers]

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)


def serve(pipe: Any) -> None:
    """What a process does: what it is sent, one after the other."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while (sent := pipe.recv()) is not None:
        rank, count, store, work, given = sent
        trace, result = None, None
        try:
            dist.init_process_group('gloo', store=dist.FileStore(store, count), rank=rank, world_size=count, timeout=PATIENCE)
            result = work(rank, *given)
        except Exception:
            trace = traceback.format_exc()
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        pipe.send((trace, result))


