"""How much of what a device can multiply a run makes use of: model FLOPs utilisation (PaLM, 2204.02311, appendix B)."""
import os
import time
from dataclasses import dataclass, field
from statistics import median

import torch

PREFIXES = ((1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1., ''))


@dataclass
class Meter:
    """Times steps, of which each has so many operations: `with meter: ...`."""
    flops: int                                              # of a step, forward and backward
    tokens: int                                             # of a step
    peak: float                                             # operations per second, of all devices together
    measured: bool
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, model, s) -> 'Meter':
        """For a run with these settings. The peak is what is given, or what a product of two large matrices reaches here."""
        rows, devices = s.batch * s.accumulate, int(os.environ.get('WORLD_SIZE', 1))
        peak = s.peak_flops or matmul_rate(s.device, torch.bfloat16 if s.bf16 else torch.float32)
        return cls(model.net.flops(rows, s.seq_len, backward=True), rows * s.seq_len, devices * peak, not s.peak_flops)

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds.append(time.perf_counter() - self.began)

    @property
    def mfu(self) -> float:
        return self.flops / median(self.seconds) / self.peak

    def __str__(self) -> str:
        scale, prefix = next(entry for entry in PREFIXES if self.peak >= entry[0] or entry[0] == 1)
        reaches = 'that a large matrix product reaches' if self.measured else 'of --peak-flops'
        return (f'{self.tokens / median(self.seconds):,.0f} tokens per second, MFU {self.mfu:.1%}: '
                f'of the {self.peak / scale:.3g} {prefix}FLOP/s {reaches}')


def matmul_rate(device: str, dtype: torch.dtype, times: int = 5) -> float:
    """Operations per second in a product of two square matrices, the best of a few."""
    n = 8192 if torch.device(device).type == 'cuda' else 768
    a, best = torch.randn(n, n, device=device).to(dtype), float('inf')
    for _ in range(times):
        began = time.perf_counter()
        (a @ a)[0, 0].item()                                # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * n ** 3 / best
