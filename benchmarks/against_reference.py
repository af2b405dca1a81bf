"""How much being configurable costs: a training step and decoding, against the same decoder written by hand.

    python benchmarks/against_reference.py                  # prints medians, their spread and the ratio
    python benchmarks/against_reference.py --out FILE       # and writes them as JSON, with the machine's facts

Both run in one process, in turns (A B A B ...), so that what else the machine does falls on both. The hand-written
decoder holds the same weights, and its outputs are checked to be equal before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

SIZE = {'dim': 256, 'depth': 4, 'heads': 4, 'vocabulary': 256, 'length': 256, 'batch': 8, 'prompt': 64, 'new': 128}


class ByHand(nn.Module):
    """A rotary, pre-norm decoder for one configuration: no flag, no branch that is not taken."""

    def __init__(self, net: TransformerWrapper):
        super().__init__()
        self.net, self.heads = net, SIZE['heads']
        turns = net.attn_layers.rotary_pos_emb.forward_from_seq_len(SIZE['length'] + 1)[0][0, :, ::2]
        self.cos, self.sin = turns.cos(), turns.sin()
        self.size = 2 * self.cos.shape[-1]

    def turn(self, t: Tensor, at: int) -> Tensor:
        n = t.shape[-2]
        cos, sin = self.cos[at : at + n], self.sin[at : at + n]
        x, y = t[..., : self.size].unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((x * cos - y * sin, y * cos + x * sin), dim=-1).flatten(-2)
        return torch.cat((turned, t[..., self.size :]), dim=-1)

    def forward(self, tokens: Tensor, kept: list[Tensor] | None = None, at: int = 0) -> Tensor:
        x = self.net.token_emb.emb(tokens)
        b, n, _ = x.shape
        split = lambda t: t.view(b, n, self.heads, -1).transpose(1, 2)
        for i in range(SIZE['depth']):
            norms, attention, _ = self.net.attn_layers.layers[2 * i]
            y = F.layer_norm(x, x.shape[-1:], norms[0].gamma + 1)
            q, k, v = (split(F.linear(y, w.weight)) for w in (attention.to_q, attention.to_k, attention.to_v))
            q, k = self.turn(q, at), self.turn(k, at)
            if kept is not None:
                kept[i][0, ..., at : at + n, :], kept[i][1, ..., at : at + n, :] = k, v
                k, v = kept[i][..., : at + n, :]
            out = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
            x = x + F.linear(out.transpose(1, 2).reshape(b, n, -1), attention.to_out.weight)
            norms, feed_forward, _ = self.net.attn_layers.layers[2 * i + 1]
            y = F.layer_norm(x, x.shape[-1:], norms[0].gamma + 1)
            x = x + feed_forward(y)
        x = F.layer_norm(x, x.shape[-1:], self.net.attn_layers.final_norm.gamma + 1)
        return self.net.to_logits(x)

    def loss(self, tokens: Tensor) -> Tensor:
        return F.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    @torch.no_grad()
    def generate(self, prompt: Tensor, new: int) -> Tensor:
        total = prompt.shape[1] + new
        kept = [torch.empty(2, prompt.shape[0], self.heads, total, 64) for _ in range(SIZE['depth'])]
        made, x = [], self(prompt, kept)[:, -1].argmax(dim=-1, keepdim=True)
        for at in range(prompt.shape[1], total):
            made.append(x)
            if len(made) < new:
                x = self(x, kept, at)[:, -1].argmax(dim=-1, keepdim=True)
        return torch.cat(made, dim=1)


def workloads() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """name -> (ours, by hand), doing the same work."""
    torch.manual_seed(0)
    decoder = Decoder(dim=SIZE['dim'], depth=SIZE['depth'], heads=SIZE['heads'], rotary_pos_emb=True)
    net = TransformerWrapper(num_tokens=SIZE['vocabulary'], max_seq_len=SIZE['length'], attn_layers=decoder)
    model, by_hand = AutoregressiveWrapper(net), ByHand(net)
    tokens = torch.randint(0, SIZE['vocabulary'], (SIZE['batch'], SIZE['length'] + 1))
    prompt = tokens[:1, : SIZE['prompt']]
    torch.testing.assert_close(model(tokens), by_hand.loss(tokens))
    assert torch.equal(model.generate(prompt, 16, temperature=0.0), by_hand.generate(prompt, 16))
    decode = lambda: model.generate(prompt, SIZE['new'], temperature=0.0)
    return {
        'training step': (lambda: model(tokens).backward(), lambda: by_hand.loss(tokens).backward()),
        'decoding, batch 1': (decode, lambda: by_hand.generate(prompt, SIZE['new'])),
    }


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Callable[[], object], by_hand: Callable[[], object], rounds: int) -> dict[str, float]:
    """Seconds of both, in turns, and the median of the ratios of each turn."""
    timed(ours), timed(by_hand)
    pairs = [(timed(ours), timed(by_hand)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        'ours_ms': round(1000 * statistics.median(a for a, _ in pairs), 2),
        'by_hand_ms': round(1000 * statistics.median(b for _, b in pairs), 2),
        'ratio': round(statistics.median(ratios), 3),
        'ratio_low': round(ratios[len(ratios) // 4], 3),
        'ratio_high': round(ratios[3 * len(ratios) // 4], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = {'torch': torch.__version__, 'python': platform.python_version(), 'cores': os.cpu_count(), 'threads': options.threads}
    results = {'machine': facts, 'size': SIZE, 'rounds': options.rounds}
    for name, (ours, by_hand) in workloads().items():
        row = results[name] = compare(ours, by_hand, options.rounds)
        print(
            f'{name:20s} ours {row["ours_ms"]:9.2f} ms   by hand {row["by_hand_ms"]:9.2f} ms   '
            f'ratio {row["ratio"]:.3f} (middle half {row["ratio_low"]:.3f} to {row["ratio_high"]:.3f})'
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
