"""Laws run on one thread: two test processes with two threads each are slower than two with one."""

import torch

torch.set_num_threads(1)
