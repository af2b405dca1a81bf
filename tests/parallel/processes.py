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
PATIENCE = timedelta(seconds=300)  # with a process that went wrong, which the others wait for


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
        self.started: list[Any] = []  # (process, pipe)

    def run(self, count: int, work: Callable[..., Any], *given: Any) -> list[Any]:
        """`work(rank, *given)` in `count` processes that are a group meanwhile; what each returns."""
        self.started = [one for one in self.started if one[0].is_alive()]
        while len(self.started) < count:
            self.started.append(self.start())
        with tempfile.TemporaryDirectory() as folder:
            for rank, (_, pipe) in enumerate(self.started[:count]):
                pipe.send((rank, count, f'{folder}/store', work, given))
            answers = [answer_of(process, pipe) for process, pipe in self.started[:count]]
        broken = [f'process {rank}:\n{trace}' for rank, (trace, _) in enumerate(answers) if trace]
        assert not broken, '\n'.join(broken)
        return [result for _, result in answers]

    def start(self) -> tuple[Any, Any]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def close(self) -> None:
        for process, pipe in self.started:
            if process.is_alive():
                pipe.send(None)


def answer_of(process: Any, pipe: Any) -> tuple[str | None, Any]:
    """What a process sends back: its error, and its result."""
    try:
        return pipe.recv()
    except EOFError:
        process.join(10)
        return f'it ended with status {process.exitcode}', None


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


