"""Weights of eight bits, by torchao: https://github.com/pytorch/ao

    python examples/trainers/int8.py

Every linear layer keeps its weights as int8 with a scale per row, and multiplies in the precision of its input. What is not a
linear layer (embeddings, norms) stays as it is.
Needs the extra packages of `pip install 'x-transformers[trainers]'`.
"""
import copy
import io

import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper


def size(model: nn.Module) -> int:
    """Bytes of a checkpoint."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()


def main() -> tuple[AutoregressiveWrapper, AutoregressiveWrapper, float]:
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=64, max_seq_len=64,
                             attn_layers=Decoder(dim=128, depth=2, heads=2, rotary_pos_emb=True, ff_glu=True))
    model = AutoregressiveWrapper(net).eval()

    light = copy.deepcopy(model)
    quantize_(light, Int8WeightOnlyConfig())

    tokens = torch.randint(0, 64, (2, 32))
    with torch.no_grad():
        error = (light.net(tokens) - model.net(tokens)).abs().max().item() / model.net(tokens).std().item()
    print(f'{size(model):,} bytes became {size(light):,}; logits moved by {error:.1%} of their spread at most')
    print(light.generate(tokens[:, :4], 8, temperature=0.))
    return model, light, error


if __name__ == '__main__':
    main()
