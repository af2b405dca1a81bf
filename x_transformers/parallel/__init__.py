"""Several processes train one model, on PyTorch's own engines; imported by name, under `torchrun`.

`parallelize` applies one of three strategies to a model that is built: whole copies (DDP), numbers shared out and gathered layer
by layer (FSDP2), or heads and hidden features shared out (tensor parallelism). Losses and gradients are those of one process.
`save_checkpoint` and `load_checkpoint` go between any of them, and any number of processes.
"""

from x_transformers.parallel.checkpoint import gather, load_checkpoint, save_checkpoint
from x_transformers.parallel.parts import part_like, whole
from x_transformers.parallel.strategies import STRATEGIES, checkpoint_layers, parallelize, plain, within

__all__ = [
    'STRATEGIES',
    'checkpoint_layers',
    'gather',
    'load_checkpoint',
    'parallelize',
    'part_like',
    'plain',
    'save_checkpoint',
    'whole',
    'within',
]
