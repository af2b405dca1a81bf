"""Fine-tuning a few numbers beside the weights, by PEFT's LoRA (2106.09685): https://huggingface.co/docs/peft

    python examples/trainers/lora.py

The projections are linear layers with the names of their role, so LoRA finds them: `to_q`, `to_k`, `to_v`, `to_out`, in
every attention. The base model is frozen, its adapters learn, and merging adds them to the weights.
Needs the extra packages of `pip install 'x-transformers[trainers]'`.
"""
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper


def counting(step: int, sequences: int = 16, length: int = 17) -> Tensor:
    """Each number is the one before it plus `step`, modulo 16."""
    return (torch.randint(0, 16, (sequences, 1)) + step * torch.arange(length)) % 16


def train(model, step: int, steps: int, lr: float) -> float:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        loss = model(counting(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def main(steps: int = 80) -> tuple[AutoregressiveWrapper, list[float], float]:
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=16, max_seq_len=32,
                             attn_layers=Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, rotary_pos_emb=True))
    base = AutoregressiveWrapper(net)
    before = train(base, step=1, steps=steps, lr=1e-2)          # it learns to count by one ...

    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=['to_q', 'to_v']))
    adapted.print_trainable_parameters()
    after = train(adapted, step=3, steps=steps, lr=3e-2)        # ... and its adapters by three

    tokens = counting(step=3)
    beside = adapted.net(tokens)
    merged = adapted.merge_and_unload()                         # the model as it was built, with other weights
    moved = (merged.net(tokens) - beside).abs().max().item()
    print(f'loss {before:.3f}, then {after:.3f}; merging moved logits by {moved:.0e}')
    print(merged.generate(torch.tensor([[0, 3, 6]]), 8, temperature=0.))
    return merged, [before, after], moved


if __name__ == '__main__':
    main()
