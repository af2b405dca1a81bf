"""Forward passes that compute nothing, and the matrix products that they would have computed.

Tensors are torch's fake ones: shape, kind and place, and no numbers. So the layers run as they would, on whatever device they are,
in a time that does not depend on sizes, and what is counted is what they do: the blocks of a sliding window, strips of a bias
without the keys ahead of them, keys and values of fewer heads.

A product of (n, d) and (d, m) is 2 n d m operations; the rest of a layer (norms, activations, softmax) is not counted, as is the
custom. A fused attention counts all pairs of queries and keys that it is given, those too that a causal mask hides from it.
Kernels that hold a recurrent module whole, such as that of an LSTM, are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop

from x_transformers.inputs import check_values
from x_transformers.toolbox import evaluating

# torch knows the formula of attention, but not that this kernel is one
FORMULAS = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop}


@contextmanager
def imagined(model: nn.Module) -> Iterator[None]:
    """In here a forward pass of `model` computes nothing: in evaluation mode, without gradients, on tensors without numbers."""
    with evaluating(model), torch.no_grad(), check_values(False), FakeTensorMode(allow_non_fake_inputs=True):
        yield


class Products(TorchDispatchMode):
    """Counts the operations of matrix products, each for the innermost of the named parts that is running."""

    def __init__(self, parts: Mapping[str, nn.Module]):
        super().__init__()
        self.parts = parts
        self.running = ['']  # outside of all of them
        self.flops: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()

    def __enter__(self) -> Any:
        self.hooks = ExitStack()
        for name, part in self.parts.items():
            for module in part.modules():  # some parts are not called as a whole, such as a bias that layers ask for
                self.hooks.enter_context(module.register_forward_pre_hook(lambda module, _, name=name: self.begin(name, module)))
                self.hooks.enter_context(module.register_forward_hook(lambda *_: self.end()))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.hooks.close()

    def begin(self, name: str, module: nn.Module) -> None:
        self.running.append(name)
        self.runs[name] += module is self.parts[name]

    def end(self) -> None:
        self.running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.flops[self.running[-1]] += formula(*args, **(kwargs or {}), out_val=out)
        return out
