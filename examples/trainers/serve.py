"""A model as one file that torch alone can run, by torch.export: https://docs.pytorch.org/docs/stable/export.html

    python examples/trainers/serve.py

The program takes any batch and any length. Who serves it needs neither this library nor the flags of the model.
"""
import subprocess
import sys

import torch
from torch import Tensor
from torch.export import Dim

from x_transformers import Decoder, TransformerWrapper

SERVER = """
import sys, torch

program, given, out = sys.argv[1:]
serve = torch.export.load(program).module()
torch.save([serve(x=tokens) for tokens in torch.load(given)], out)
assert not any(name.startswith(('x_transformers', 'einops')) for name in sys.modules)
"""


def export(model: TransformerWrapper, path: str) -> None:
    """Write the program; the example says what the inputs are, and `sizes` which of their sides are free."""
    example = torch.zeros(2, 8, dtype=torch.long)
    sizes = {0: Dim('batch', min=1), 1: Dim('length', min=1, max=model.max_seq_len)}
    program = torch.export.export(model.eval(), (), {'x': example}, dynamic_shapes={'x': sizes})
    torch.export.save(program, path)


def served(path: str, requests: list[Tensor]) -> list[Tensor]:
    """Answers of a process that knows torch, and the file."""
    torch.save(requests, f'{path}.in')
    subprocess.run([sys.executable, '-c', SERVER, path, f'{path}.in', f'{path}.out'], check=True)
    return torch.load(f'{path}.out')


def main(path: str = 'model.pt2') -> float:
    torch.manual_seed(0)
    model = TransformerWrapper(num_tokens=64, max_seq_len=32,
                               attn_layers=Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, rotary_pos_emb=True, ff_glu=True))
    export(model, path)
    requests = [torch.randint(0, 64, size) for size in ((1, 1), (1, 20), (5, 32))]
    with torch.no_grad():
        apart = max((answer - model(tokens)).abs().max().item() for tokens, answer in zip(requests, served(path, requests)))
    print(f'{path}: logits differ by {apart:.1e} at most')
    return apart


if __name__ == '__main__':
    main()
