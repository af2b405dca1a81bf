"""What cannot be asked of several processes, as one process is told that has no group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from misuses.row import Misuse
from x_transformers import Decoder
from x_transformers.errors import CheckpointError, InputError
from x_transformers.parallel import load_checkpoint, parallelize, save_checkpoint

HERE = Path(__file__).parent


def stack() -> Decoder:
    return Decoder(dim=16, depth=1, heads=2)


def asked(strategy: Any = 'fsdp', **wishes: Any) -> nn.Module:
    return parallelize(stack(), strategy, **wishes)


MISUSES: dict[str, Misuse] = {
    'no group of processes': Misuse(InputError, lambda: asked('ddp'), 'parallelize', 'no process group', 'among processes',
        'torch.distributed.init_process_group()'),
    'an unknown strategy': Misuse(InputError, lambda: asked('deepspeed'), 'strategy', "'deepspeed'", "'ddp', 'fsdp', 'tp'"),
    'a strategy by number': Misuse(InputError, lambda: asked(2), 'strategy', '2 is not possible', "'ddp', 'fsdp', 'tp'"),
    'a function to parallelize': Misuse(InputError, lambda: parallelize(len, 'ddp'), 'model', '<built-in function len>',  # type: ignore[arg-type]
        'expected a module'),
    'nothing to train': Misuse(InputError, lambda: parallelize(stack().requires_grad_(False), 'tp'), 'Decoder', 'no parameter to train',
        'nothing to parallelize'),
    'a precision in words': Misuse(InputError, lambda: asked(precision='bf16'), 'precision', "'bf16'", 'floating-point dtype'),
    'a precision of whole numbers': Misuse(InputError, lambda: asked(precision=torch.int8), 'precision', 'torch.int8',
        'floating-point dtype'),
    'a precision of copies': Misuse(InputError, lambda: asked('ddp', precision=torch.bfloat16), 'precision', 'torch.bfloat16',
        "strategy='fsdp'", 'torch.autocast'),
    'checkpoints in words': Misuse(InputError, lambda: asked(checkpoint='yes'), 'checkpoint', "'yes'", 'True or False'),
    "a keyword of another's": Misuse(InputError, lambda: asked(bucket_cap_mb=1), 'bucket_cap_mb', "strategy='fsdp'", 'fully_shard',
        'leave it out'),
    'a folder of nobody': Misuse(CheckpointError, lambda: load_checkpoint('no/such/folder', stack()), 'no/such/folder', '.metadata',
        'no complete checkpoint', 'a folder that save_checkpoint wrote'),
    'a folder that is there': Misuse(CheckpointError, lambda: save_checkpoint(HERE, stack()), str(HERE), 'there already',
        'not written over', 'name a new folder'),
    'a number for a folder': Misuse(InputError, lambda: load_checkpoint(3, stack()), 'folder', '3', 'expected a path'),  # type: ignore[arg-type]
    'a state dict to save': Misuse(InputError, lambda: save_checkpoint('new', {}), 'model', '{}', 'expected a module'),  # type: ignore[arg-type]
    'a rate for an optimizer': Misuse(InputError, lambda: load_checkpoint('new', stack(), 0.1), 'optimizer', '0.1',  # type: ignore[arg-type]
        'torch.optim.Optimizer'),
    'a step to keep': Misuse(InputError, lambda: save_checkpoint('new', stack(), extra=3), 'extra', '3', 'expected a dict'),  # type: ignore[arg-type]
    'a tensor to keep': Misuse(InputError, lambda: save_checkpoint('new', stack(), extra={'x': torch.ones(1)}), 'extra',
        'Tensor is not JSON serializable', 'expected numbers, texts'),
}  # fmt: skip
