"""Small models, states and inputs that the tables of misuses share: the misuses themselves compute nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from x_transformers import (
    DPO,
    Attention,
    AutoregressiveWrapper,
    Decoder,
    Encoder,
    NeoMLP,
    NonAutoregressiveWrapper,
    PrefixDecoder,
    TransformerWrapper,
    XLAutoregressiveWrapper,
)
from x_transformers.attend import Attend

torch.set_num_threads(1)


def decoder(**flags: Any) -> Decoder:
    return Decoder(**{'dim': 16, 'heads': 4, 'attn_dim_head': 8, 'depth': 1, **flags})


def encoder(**flags: Any) -> Encoder:
    return Encoder(dim=16, heads=4, attn_dim_head=8, depth=1, **flags)


def wrapper(**flags: Any) -> TransformerWrapper:
    return TransformerWrapper(**{'num_tokens': 11, 'max_seq_len': 8, 'attn_layers': decoder(), **flags}).eval()


def ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


class Forgetful(nn.Sequential):
    carries_state = True  # and nothing to begin with


# models and states that rows share: the rows themselves compute nothing
STACK, CROSS, SHIFTED, ENCODER = decoder(), decoder(cross_attend=True), decoder(shift_tokens=1), encoder()
ROTARY, DEEP = decoder(rotary_pos_emb=True), decoder(depth=2)
CONDITIONED, REINJECTED = decoder(use_adaptive_rmsnorm=True, dim_condition=6), decoder(reinject_input=True)
BUCKETS = decoder(rel_pos_bias=True)
CROSS_ROTARY, WIDE_HEADS = decoder(cross_attend=True, rotary_pos_emb=True), decoder(heads=2, attn_dim_head=16)
LATENT = decoder(attn_use_latent_kv=True, attn_dim_latent_kv=4)
PREFIX = PrefixDecoder(dim=16, depth=1, heads=4, attn_dim_head=8)
ATTENTION, ATTEND = Attention(16, heads=4, dim_head=8), Attend()
Q = torch.zeros(2, 4, 3, 8)
NET, HEADLESS = wrapper(), wrapper(return_only_embed=True)
MODEL = AutoregressiveWrapper(NET)
ROTARY_MODEL, OTHER = AutoregressiveWrapper(wrapper(attn_layers=ROTARY)), wrapper(num_tokens=7)
CRITIC = {'self_token_critic': True}
MASKED, CRITICAL = (NonAutoregressiveWrapper(wrapper(attn_layers=ENCODER), mask_id=10, **flags) for flags in ({}, CRITIC))
XL, PREFERENCE = XLAutoregressiveWrapper(wrapper(max_mem_len=8)), DPO(wrapper())
NEO = NeoMLP(dim_in=3, dim_hidden=2, dim_out=1, dim_model=16, depth=1)
X, ALLOWED = torch.zeros(2, 4, 16), torch.ones(4, 4, dtype=torch.bool)
with torch.no_grad():
    _, STATE = STACK(X, return_state=True)
    _, SHIFT_STATE = SHIFTED(X, return_state=True)
    _, CONDITIONED_STATE = CONDITIONED(X, condition=torch.zeros(2, 6), return_state=True)
    _, FULL_STATE = NET(ids(2, 8), return_state=True)
    _, WIDE_STATE = WIDE_HEADS(X, return_state=True)
    _, WIDE_CACHE = WIDE_HEADS(X, return_hiddens=True)
    _, CACHE = STACK(X, return_hiddens=True)
    _, ENCODED = ENCODER(X, return_hiddens=True)

ANGLES = ROTARY.rotary_pos_emb.forward_from_seq_len(3)
