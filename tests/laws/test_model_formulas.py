"""A model is the formula of its flags: what it makes of its inputs around its layer stack, written anew from the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from by_the_papers import unit_length, unit_variance
from test_every_model import CASES, LENGTH, Model, apart, run
from torch import Tensor

from x_transformers import ContinuousTransformerWrapper, MultiInputTransformerWrapper, XValTransformerWrapper


def embedded(case: Model, net: Any, given: tuple[Any, ...], beside: dict[str, Any]) -> Tensor:
    """Inputs to embeddings: 1706.03762, §3.4; 2310.02989; 1910.05895."""
    if case.kind is ContinuousTransformerWrapper:
        return given[0] @ net.project_in.weight.T
    if case.kind is MultiInputTransformerWrapper:
        return sum(net.embeds[f'{name}_embed'].weight[ids] for name, ids in given[0].items())
    z = net.token_emb.emb.weight[given[0]]
    z = unit_length(z) if case.flags.get('l2norm_embed') else z
    if case.kind is XValTransformerWrapper:  # a number scales the embedding of the token that stands for it
        ids, numbers = given
        return torch.where((ids == net.numerical_token_id)[..., None], z * numbers[..., None], z)
    z = z * case.flags.get('emb_scale', 1.0)  # 1706.03762, §3.4
    return z + sum(net.embeds[f'{name}_embed'].weight[ids] for name, ids in beside.get('embed_ids', {}).items())


def placed(case: Model, net: Any, width: int) -> Tensor | float:
    """Absolute positions: learned ones, or scaled sinusoids (1706.03762, §3.5, all sines first)."""
    if case.flags.get('use_abs_pos_emb') is False:
        return 0.0
    if case.flags.get('scaled_sinu_pos_emb'):
        angles = [[p / 10000 ** (2 * k / width) for k in range(width // 2)] for p in range(LENGTH)]
        return torch.tensor([[*map(math.sin, row), *map(math.cos, row)] for row in angles], dtype=torch.float64) * net.pos_emb.scale
    table = net.pos_emb.emb.weight[:LENGTH]
    return unit_length(table) if case.flags.get('l2norm_embed') else table * width**-0.5


def by_the_papers(case: Model, net: Any) -> list[Tensor]:
    given, beside = case.inputs()
    flags, z = case.flags, embedded(case, net, given, beside)
    z = z + placed(case, net, z.shape[-1])
    z = unit_variance(z) * net.post_emb_norm.gamma if flags.get('post_emb_norm') else z
    z = z @ net.project_emb.weight.T + net.project_emb.bias if 'emb_dim' in flags else z
    cls, memory, period = flags.get('num_cls_tokens', 1) * ('use_cls_token' in flags), flags.get('num_memory_tokens', 0), LENGTH
    own = lambda t: t.expand(len(z), -1, -1)
    z = torch.cat((own(net.cls_token), z), dim=1) if cls else z
    if memory:  # 2006.11527: ahead of all tokens, or of each block of them
        period = flags.get('memory_tokens_interspersed_every', z.shape[1])
        z = torch.cat([torch.cat((own(net.memory_tokens), block), dim=1) for block in z.split(period, dim=1)], dim=1)
    out = net.attn_layers(z)
    for _ in range(beside.get('recycle_steps', 1) - 1):
        out = net.attn_layers(z + out @ net.recycled_proj.weight.T)
    if memory:
        out = torch.cat([block[:, memory:] for block in out.split(period + memory, dim=1)], dim=1)
    out = out[:, :cls] if cls else out
    if flags.get('average_pool_embed'):
        out = out.mean(dim=1)
    return case.rows(read(case, net, out.squeeze(1) if cls == 1 else out))


def read(case: Model, net: Any, x: Tensor) -> Any:
    """Embeddings to outputs: 1608.05859; 1711.03953, equation 4; 1805.10829, equation 12."""
    flags = case.flags
    if case.kind is ContinuousTransformerWrapper:
        made = x @ net.project_out.weight.T
        return torch.stack((made[..., ::2], made[..., 1::2].exp())) if flags.get('probabilistic') else made
    if flags.get('return_only_embed'):
        return x
    if case.kind is MultiInputTransformerWrapper:
        return [x @ head.weight.T for head in net.to_logits.values()]
    if flags.get('logits_mlp'):  # 1810.04805's head for masked tokens
        linear, _, norm = net.logits_mlp
        x = x @ linear.weight.T + (linear.bias if flags.get('logits_mlp_bias', True) else 0.0)
        x = unit_variance(0.5 * x * (1 + torch.erf(x / math.sqrt(2)))) * norm.gamma
    tied = flags.get('tie_embedding')
    if case.kind is XValTransformerWrapper:
        linear = net.to_numerical_output[0]
        logits = x @ net.token_emb.emb.weight.T if tied else x @ net.to_logits.weight.T + net.to_logits.bias
        return [logits, (x @ linear.weight.T + linear.bias)[..., 0]]
    if 'num_output_heads' in flags:
        return [x @ head.weight.T for head in net.to_logits]
    table, added = net.token_emb.emb.weight if tied else net.to_logits.weight, net.to_logits.bias if flags.get('logits_bias') else 0.0
    if flags.get('mixture_of_softmax'):
        parts = (x @ net.to_mixture[0].weight.T).chunk(len(net.combine_mixture.weight), dim=-1)
        shares = torch.softmax(x @ net.combine_mixture.weight.T, dim=-1).unbind(dim=-1)
        return torch.log(sum(share[..., None] * torch.softmax(part @ table.T, dim=-1) for share, part in zip(shares, parts, strict=True)))
    logits = x @ table.T + added
    if bound := flags.get('logits_softclamp_value'):  # 2408.00118, §2
        logits = bound * torch.tanh(logits / bound)
    if flags.get('sigsoftmax_logits'):
        logits = logits + torch.log(torch.sigmoid(logits))
    return logits[..., 0] if flags.get('squeeze_out_last_dim') else logits


@pytest.mark.parametrize('case', CASES, ids=str)
def test_a_model_is_what_the_papers_say(case: Model) -> None:
    net, bound = case.build(), 1e-6 if 'scaled_sinu_pos_emb' in case.flags else 1e-10  # frequencies are kept in single precision
    with torch.no_grad():
        assert apart(run(case, net), by_the_papers(case, net)) < bound
