"""Processes together have the loss and the gradients of one alone, whatever the strategy, for the flags of every model."""

from __future__ import annotations

import pytest
from law_cases import part
from parallel_cases import STACKS, WHOLE_MODELS, all_train_alike
from parallel_work import chances_alike, copies_of_parts, decodes_alike, inputs_by_head, narrows, recomputes, refusals, steps_alike
from processes import Processes

STRATEGIES = ('ddp', 'fsdp', 'tp')
each = pytest.mark.parametrize('strategy', STRATEGIES)

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


@each
def test_processes_train_as_one_would(strategy: str, processes: Processes) -> None:
    names = [*REPRESENTATIVE, *part(sorted({*STACKS, *WHOLE_MODELS} - {*REPRESENTATIVE}), 12)]
    told = processes.run(2, all_train_alike, names, strategy, 2)
    refused = {name: said for name, said in told[0].items() if said.startswith('refused')}
    assert {name: said for name, said in told[0].items() if name not in refused} == {}
    assert strategy == 'tp' or not refused
    assert [said for said in refused.values() if not any(f'{flag}=' in said or f'{flag} ' in said for flag in NOT_BY_HEADS)] == []


@each
@pytest.mark.parametrize('count', [2, 3])
def test_steps_norms_and_names_are_those_of_one(strategy: str, count: int, processes: Processes) -> None:
    assert processes.run(count, steps_alike, strategy, count) == [[]] * count


def test_four_processes_share_out_four_heads_of_one_key_head(processes: Processes) -> None:
    names = ['Decoder attn_one_kv_head', 'Decoder attn_gate_value_heads', 'Encoder alibi_pos_bias', 'Decoder ff_glu']
    assert processes.run(4, all_train_alike, names, 'tp', 4)[0] == {}


def test_what_is_given_by_head_is_shared_out(processes: Processes) -> None:
    assert processes.run(2, inputs_by_head) == [''] * 2
    assert processes.run(3, inputs_by_head) == [''] * 3


def test_copies_of_parts_train_as_one(processes: Processes) -> None:
    assert processes.run(4, copies_of_parts) == [''] * 4


@each
def test_layers_of_a_built_model_are_computed_again_by_a_switch(strategy: str, processes: Processes) -> None:
    assert processes.run(2, recomputes, strategy, 2) == [''] * 2


@each
def test_processes_leave_out_the_same_layers(strategy: str, processes: Processes) -> None:
    assert processes.run(2, chances_alike, strategy, 2) == [''] * 2


@each
def test_processes_decode_as_one_would(strategy: str, processes: Processes) -> None:
    assert processes.run(2, decodes_alike, strategy) == [''] * 2


def test_layers_compute_in_bfloat16_with_numbers_in_single_precision(processes: Processes) -> None:
    assert processes.run(2, narrows) == [[]] * 2


def test_what_cannot_be_is_refused_before_anything_is_done(processes: Processes) -> None:
    assert processes.run(2, refusals) == [[]] * 2
