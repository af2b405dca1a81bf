"""A training loop of one's own on any number of devices, by Accelerate: https://huggingface.co/docs/accelerate

    python examples/trainers/with_accelerate.py
    accelerate launch examples/trainers/with_accelerate.py       # by several processes, as `accelerate config` was answered

Accelerate wraps the model and takes over its device, precision and gradient accumulation; the loop stays as it is.
Needs the extra packages of `pip install 'x-transformers[trainers]'`.
"""
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper


def counting(sequences: int, length: int = 17) -> Tensor:
    """0 1 2 ... 15 0 1 ..., each sequence from a number of its own."""
    return (torch.randint(0, 16, (sequences, 1)) + torch.arange(length)) % 16


def main(steps: int = 60, folder: str = 'counting', accumulate: int = 2) -> tuple[AutoregressiveWrapper, list[float]]:
    torch.manual_seed(0)
    net = TransformerWrapper(num_tokens=16, max_seq_len=32,
                             attn_layers=Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, rotary_pos_emb=True))
    model = AutoregressiveWrapper(net)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = DataLoader(counting(8 * steps * accumulate), batch_size=8)

    accelerator = Accelerator(gradient_accumulation_steps=accumulate)
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    losses = []
    for batch in batches:
        with accelerator.accumulate(model):
            loss = model(batch)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())

    trained = accelerator.unwrap_model(model)
    if accelerator.is_main_process:
        trained.save(folder)                                    # AutoregressiveWrapper.load(folder) reads it
    accelerator.print('loss', losses[-1])
    accelerator.print(trained.generate(torch.tensor([[3, 4]], device=accelerator.device), 8, temperature=0.))
    return trained, losses


if __name__ == '__main__':
    main()
