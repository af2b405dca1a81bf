"""One thread, as the laws run."""

import torch

torch.set_num_threads(1)
