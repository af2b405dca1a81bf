"""Processes together have the loss and the gradients of one alone, whatever the strategy, for the flags of every model."""

from __future__ import annotations

import multiprocessing

import pytest
from law_cases import part
from parallel_cases import STACKS, WHOLE_MODELS, all_train_alike, more_axes, steps_and_norms, told_to_copies
from processes import Processes

pytestmark = pytest.mark.skipif('forkserver' not in multiprocessing.get_all_start_methods(), reason='processes are forked')

REPRESENTATIVE = [  # what could go wrong in ways of its own
    'Decoder grouped heads, ALiBi, memory keys',
    'Decoder one key head, T5 bias, zero key, window',
    'Decoder grouped heads, dynamic bias, qk norm',
    'Decoder gates, shifted, memory keys',
    'Decoder shared values of contexts and tokens',
    'Decoder shifts of their own, repeated',
    'Decoder ff_glu_mult_bias',
    'Decoder resi_dual',
    'Decoder num_residual_streams',
    'Decoder checkpoint',
    'Encoder attn_data_dependent_alibi',
    'tokens: tie_embedding',
    'tokens: mask_prob',
    'tokens: loss_chunk_size',
    'XLAutoregressiveWrapper defaults',
    'NonAutoregressiveWrapper self_cond',
    'DPO defaults',
    'TransformerWrapper recycling',
    'encoder, decoder',
]
NOT_BY_HEADS = {  # flags that tensor parallelism refuses by name, wherever they stand
    'talking_heads', 'rotate_num_heads', 'latent_rope_subheads', 'selective', 'custom_attn_fn', 'hybrid_module', 'post_act_ln',
    'add_attn_z_loss',
}  # fmt: skip


@pytest.mark.parametrize('strategy', ['ddp', 'fsdp', 'tp'])
def test_processes_train_as_one_would(strategy: str, processes: Processes) -> None:
    names = [*REPRESENTATIVE, *part(sorted({*STACKS, *WHOLE_MODELS} - {*REPRESENTATIVE}), 12)]
    told = processes.run(2, all_train_alike, names, strategy, 2)
    refused = {name: said for name, said in told[0].items() if said.startswith('refused')}
    assert {name: said for name, said in told[0].items() if name not in refused} == {}
    assert strategy == 'tp' or not refused
    assert [said for said in refused.values() if not any(f'{flag}=' in said or f'{flag} ' in said for flag in NOT_BY_HEADS)] == []
