"""From embeddings to logits, and what is measured on logits and attention scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from x_transformers.errors import InputError, quoted
from x_transformers.inputs import expect, expect_numbers, expect_optional, expect_place, within
from x_transformers.positions.embeddings import TokenEmbedding
from x_transformers.precision import no_autocast, single
from x_transformers.shortcuts import eager, linear


class TiedLogits(nn.Module):
    """Logits by the table of a model's token embedding (1608.05859). It holds no weight, and a copied model's asks the copy."""

    def __init__(self, model: nn.Module, bias: bool = False):
        super().__init__()
        self.of = (model,)  # in a tuple: no part of this module, and found again by copies
        self.bias = nn.Parameter(torch.zeros(len(self.table))) if bias else None

    @property
    def table(self) -> Tensor:
        """(v, d): a vector for each token."""
        return self.of[0].token_emb.emb.weight  # type: ignore[union-attr, return-value]

    def forward(self, x: Tensor) -> Tensor:
        product = F.linear if torch.is_grad_enabled() or not eager() else linear
        return product(x, self.table, self.bias)


class Named(nn.ModuleDict):
    """A ModuleDict in which a name may also be that of a method (`type`, `keys`)."""

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self._modules.update(modules)

    def __setitem__(self, name: str, module: nn.Module) -> None:
        self._modules[name] = module


def count_logits(head: nn.Module | None) -> int | None:
    """How many tokens a head tells apart, as it is now; None where it is your own, or there is none."""
    if isinstance(head, nn.ModuleList):
        return count_logits(head[0])
    if isinstance(head, TiedLogits):
        return len(head.table)
    return head.out_features if isinstance(head, nn.Linear) else None


def count_ids(embed: nn.Module) -> int | None:
    """How many ids an embedding has vectors for, as it is now; None where it is your own."""
    table = embed.emb if isinstance(embed, TokenEmbedding) else embed
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def sigsoftmax(logits: Tensor) -> Tensor:
    """Logits whose softmax is the sigsoftmax (1805.10829): exp(x) sigmoid(x), normalised."""
    return logits + F.logsigmoid(logits)


def mix(logits: Tensor, weights: Tensor) -> Tensor:
    """Log-probabilities (..., v) of a mixture of softmaxes (1711.03953): logits (..., k, v) with scores (..., k) of the parts."""
    with no_autocast(logits):
        prob = single(logits)
        share = weights.to(prob.dtype).softmax(dim=-1)
        return (share[..., None] * prob.softmax(dim=-1)).sum(dim=-2).clamp(min=1e-20).log()


def calc_z_loss(pre_softmax_attns: Sequence[Tensor], mask: Tensor | None = None, weight: float = 1.0) -> Tensor:
    """Mean square of each head's log-sum-exp of scores, summed over layers before squaring and over heads (2202.08906).

    pre_softmax_attns: (b, h, i, j) per layer. mask (b, i): the queries that count.
    """
    if not isinstance(pre_softmax_attns, (list, tuple)) or not pre_softmax_attns:
        raise InputError(f'pre_softmax_attns={quoted(pre_softmax_attns)} is not possible; expected a list of scores (b, h, i, j)')
    queries = tuple(getattr(pre_softmax_attns[0], 'shape', ()))[:3]  # of all layers; each may look at keys of its own
    for scores in pre_softmax_attns:
        expect('pre_softmax_attns', scores, (*queries, *(None,) * (4 - len(queries))), 'float', 'scores are (b, h, i, j)')
    expect_optional('mask', mask, (scores.shape[0], scores.shape[2]), 'bool', 'it says which queries count')
    expect_place({'mask': mask}, scores, 'pre_softmax_attns')
    if not (isinstance(weight, Tensor) and weight.numel() == 1 or within(weight, -1e18, 1e18)):
        raise InputError(f'attn_z_loss_weight={quoted(weight)} is not possible; expected a number')
    weight = weight if isinstance(weight, Tensor) else float(weight)
    total = torch.stack([scores.logsumexp(dim=-1) for scores in pre_softmax_attns]).sum(dim=0)  # b h i
    loss = total.square().sum(dim=1)
    if mask is None:
        return loss.mean() * weight
    return loss.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1e-5) * weight


def calc_entropy(t: Tensor, is_prob: bool = False) -> Tensor:
    """Entropy in nats over the last axis of logits, or of probabilities."""
    expect_numbers('t', t)
    prob = single(t) if is_prob else single(t).softmax(dim=-1)
    return -(prob * prob.clamp(min=1e-20).log()).sum(dim=-1).to(t.dtype)
