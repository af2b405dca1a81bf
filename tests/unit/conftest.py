"""Units run on one thread, as the laws do."""

import torch

torch.set_num_threads(1)
