"""A model in Lightning's Trainer: https://lightning.ai

    python examples/trainers/with_lightning.py

The module gives the trainer a loss and an optimizer. The flags are its hyperparameters, so Lightning's checkpoint rebuilds it.
Needs the extra packages of `pip install 'x-transformers[trainers]'`.
"""
import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

FLAGS = dict(dim=32, depth=2, heads=2, attn_dim_head=16, rotary_pos_emb=True, use_rmsnorm=True, ff_glu=True)


class LanguageModel(lightning.LightningModule):
    def __init__(self, num_tokens: int = 16, max_seq_len: int = 32, lr: float = 1e-2, **flags):
        super().__init__()
        self.save_hyperparameters()
        net = TransformerWrapper(num_tokens=num_tokens, max_seq_len=max_seq_len, attn_layers=Decoder(**flags))
        self.model = AutoregressiveWrapper(net)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss = self.model(batch)
        self.log('loss', loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


def counting(sequences: int, length: int = 17) -> Tensor:
    """0 1 2 ... 15 0 1 ..., each sequence from a number of its own."""
    return (torch.randint(0, 16, (sequences, 1)) + torch.arange(length)) % 16


def main(steps: int = 60, checkpoint: str = 'counting.ckpt') -> tuple[LanguageModel, LanguageModel]:
    lightning.seed_everything(0, verbose=False)
    trained = LanguageModel(**FLAGS)
    trainer = lightning.Trainer(
        max_steps=steps, accelerator='cpu', devices=1, gradient_clip_val=1., logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(trained, DataLoader(counting(8 * steps), batch_size=8))
    trainer.save_checkpoint(checkpoint)
    loaded = LanguageModel.load_from_checkpoint(checkpoint, weights_only=True)
    print('loss', trainer.callback_metrics['loss'].item())
    print(loaded.model.generate(torch.tensor([[3, 4]]), 8, temperature=0.))
    return trained, loaded


if __name__ == '__main__':
    main()
