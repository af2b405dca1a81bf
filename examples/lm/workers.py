"""Several processes on one run, started by torchrun: who writes, which sequences are whose, and what they agree on."""
import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lm import Problem
from lm.model import twin


@dataclass(frozen=True)
class Workers:
    """The processes of a run, and which of them this one is."""
    strategy: str | None = None
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """The one that prints and writes."""
        return self.rank == 0

    @property
    def share(self) -> int:
        """Among how many processes a batch is split; in tensor parallelism each has all of it."""
        return 1 if self.strategy == 'tp' else self.count

    def rows(self, batch: Tensor) -> Tensor:
        """The sequences of this process."""
        return batch.chunk(self.share)[self.rank % self.share]

    def mean(self, value: float, device: str) -> float:
        """Of all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.item() / self.count

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, trained by all processes together."""
        if self.strategy is None:
            return model
        from x_transformers.parallel import parallelize
        return parallelize(model, self.strategy)

    def plain(self, model: Any) -> Any:
        """The model itself, with its flags."""
        return model.module if self.strategy == 'ddp' else model

    def within(self, model: Any) -> AbstractContextManager:
        """The model itself, whose parts can be called meanwhile."""
        if self.strategy is None:
            return nullcontext(model)
        from x_transformers.parallel import within
        return within(model)

    def loaded(self, t: Tensor, parameter: Any) -> Tensor:
        """Of what an optimizer remembers of a parameter, the part that this process holds."""
        if self.strategy is None:
            return t
        from x_transformers.parallel import part_like
        return part_like(t, parameter)

    def whole_model(self, model: Any) -> Any:
        """The model in the hands of the first process; nothing in those of the others. All processes call this alike."""
        if self.strategy is None:
            return model
        from x_transformers.parallel import gather
        numbers, _ = gather(model)
        if not self.first:
            return None
        made = twin(self.plain(model))
        made.load_state_dict(numbers)
        return made

    def whole(self, t: Any) -> Any:
        """The whole of a tensor of which this process holds a part. All processes call this alike."""
        if self.strategy is None:
            return t
        from x_transformers.parallel import whole
        return whole(t)


def start(settings: argparse.Namespace) -> Workers:
    """The processes that torchrun started, as a group; each on a device of its own."""
    count = dist.get_world_size() if dist.is_initialized() else int(os.environ.get('WORLD_SIZE', 1))
    if settings.parallel is None:
        if count > 1:
            raise Problem(f'{count} processes were started, and nothing says how they work together. Add --parallel ddp, fsdp or tp.')
        return Workers()
    if settings.compile:
        raise Problem(f'--compile cannot be combined with --parallel {settings.parallel}. Leave one out.')
    if not dist.is_initialized() and 'RANK' not in os.environ:
        raise Problem(f'--parallel {settings.parallel} is for several processes. Start them by: torchrun --nproc-per-node 2 '
                      f'{os.path.relpath(__file__).replace("lm/workers", "train_lm")} --parallel {settings.parallel}')
    if torch.device(settings.device).type == 'cuda':
        settings.device = f'cuda:{os.environ.get("LOCAL_RANK", 0)}'
        torch.cuda.set_device(settings.device)
    if not dist.is_initialized():
        dist.init_process_group()
    workers = Workers(settings.parallel, dist.get_rank(), dist.get_world_size())
    if settings.batch % workers.share:
        raise Problem(f'--batch {settings.batch} cannot be split among {workers.share} processes. Make it a multiple of their number.')
    return workers


def is_first() -> bool:
    """Whether this process speaks for all, also before they are a group."""
    return dist.get_rank() == 0 if dist.is_initialized() else os.environ.get('RANK', '0') == '0'


def stop() -> None:
    """Leave the group; processes that wait for one that failed are ended by torchrun."""
    if dist.is_initialized() and 'RANK' in os.environ:
        dist.destroy_process_group()
