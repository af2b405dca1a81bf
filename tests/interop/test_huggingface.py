"""What `from_huggingface` and `to_huggingface` take, hand on and refuse; what holds for every family stands in test_families.py."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import pytest
import torch
import transformers
from family_cases import CASES, GROUPED, SIZES, first, ids, rope
from hub_configs import CONFIGS
from safetensors.torch import save_file

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper, load
from x_transformers.errors import CheckpointError, FlagError
from x_transformers.flags import catalogue
from x_transformers.interop.huggingface import from_huggingface, to_huggingface
from x_transformers.interop.huggingface.converting import flags_of, given_by, kind_of

pytestmark = pytest.mark.filterwarnings('ignore:.*concerns training only')


def llama(**fields: Any) -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**GROUPED, **fields})).eval()


@pytest.mark.parametrize('act', ['gelu_pytorch_tanh', 'swish'])
def test_an_activation_of_a_head_goes_by_all_its_names(act: str) -> None:
    torch.manual_seed(0)
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**{**SIZES, 'hidden_act': act})).eval()
    ours = from_huggingface(theirs)(ids(), embed_ids={'type': torch.zeros_like(ids())})
    torch.testing.assert_close(ours, theirs(ids()).logits, rtol=0, atol=1e-4)


def test_numbers_keep_their_dtype_and_a_model_its_mode() -> None:
    theirs = llama().bfloat16().train()
    ours = from_huggingface(theirs)
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16} and ours.training
    back = to_huggingface(ours)
    assert {p.dtype for p in back.parameters()} == {torch.bfloat16} and back.training


def test_a_folder_is_read_as_theirs(tmp_path: Any) -> None:
    theirs = llama().bfloat16()
    theirs.save_pretrained(tmp_path)
    ours: Any = from_huggingface(tmp_path)
    assert torch.equal(ours(ids()), from_huggingface(theirs)(ids())) and ours.token_emb.emb.weight.dtype == torch.bfloat16
    assert from_huggingface(str(tmp_path), dtype=torch.float32).token_emb.emb.weight.dtype == torch.float32


def test_a_folder_that_lacks_a_tensor_is_refused(tmp_path: Any) -> None:
    theirs = llama()
    theirs.save_pretrained(tmp_path)
    kept = {name: tensor for name, tensor in theirs.state_dict().items() if name != 'model.layers.1.mlp.up_proj.weight'}
    save_file(kept, tmp_path / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(CheckpointError, match=r'does not hold all of a LlamaForCausalLM; missing: model\.layers\.1\.mlp\.up_proj\.weight'):
        from_huggingface(tmp_path)


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_as_they_stand_on_the_hub_are_not_refused(name: str, tmp_path: Any) -> None:
    (tmp_path / 'config.json').write_text(json.dumps(CONFIGS[name]), encoding='utf-8')
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    family, architecture = kind_of(config)
    flags = flags_of(transformers, family, architecture, given_by(config))
    assert architecture == CONFIGS[name]['architectures'][0] and flags['dim'] == config.hidden_size


def test_what_cannot_be_loaded_is_refused(tmp_path: Any) -> None:
    llama().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r'cannot be loaded as a LlamaForCausalLM .*nonsense'):
        from_huggingface(tmp_path, nonsense=1)
    with pytest.raises(FlagError, match='output_loading_info has no place'):
        from_huggingface(tmp_path, output_loading_info=True)
    older: Any = from_huggingface(tmp_path, torch_dtype=torch.bfloat16, config=str(tmp_path))
    assert older.token_emb.emb.weight.dtype == torch.bfloat16
    (tmp_path / 'model.safetensors').write_bytes(b'123')
    with pytest.raises(CheckpointError, match='cannot be loaded as a LlamaForCausalLM of transformers'):
        from_huggingface(tmp_path)
    (tmp_path / 'model.safetensors').unlink()
    with pytest.raises(CheckpointError, match='cannot be loaded as a LlamaForCausalLM of transformers'):
        from_huggingface(tmp_path)


def test_two_tensors_that_are_one_here_must_agree() -> None:
    theirs = CASES['t5'].made()
    theirs.encoder.embed_tokens.weight = torch.nn.Parameter(torch.randn_like(theirs.shared.weight))
    with pytest.raises(
        CheckpointError, match=r'encoder\.embed_tokens\.weight would be encoder\.token_emb\.emb\.weight, and so would another'
    ):
        from_huggingface(theirs)


def test_what_was_made_of_theirs_is_saved_as_ours(tmp_path: Any) -> None:
    ours: Any = from_huggingface(llama(tie_word_embeddings=True, **rope('yarn', factor=4.0, original_max_position_embeddings=16)))
    ours.save(tmp_path)
    assert torch.equal(load(tmp_path).eval()(ids()), ours(ids()))


def test_changing_ours_leaves_theirs_alone() -> None:
    theirs = llama()
    before = theirs.model.norm.weight.clone()
    with torch.no_grad():
        for parameter in from_huggingface(theirs).parameters():
            parameter.zero_()
    assert torch.equal(theirs.model.norm.weight, before)


LLAMA: dict[str, Any] = dict(
    dim=16, depth=2, heads=4, attn_dim_head=4, use_rmsnorm=True, norm_eps=1e-5, norm_add_unit_offset=False, rotary_pos_emb=True,
    rotary_emb_dim=4, rotary_half_split=True, ff_glu=True, ff_swish=True, ff_no_bias=True, ff_glu_no_bias=True,
)  # fmt: skip


def test_the_first_family_that_fits_is_taken_and_fields_are_handed_on() -> None:
    net = TransformerWrapper(num_tokens=48, max_seq_len=64, attn_layers=Decoder(**LLAMA)).eval()
    theirs = to_huggingface(AutoregressiveWrapper(net), eos_token_id=3)
    assert theirs.config.model_type == 'llama' and theirs.config.eos_token_id == 3
    torch.testing.assert_close(theirs(ids()).logits, net(ids()), rtol=0, atol=1e-4)


@torch.no_grad()
def test_no_flag_is_lost_on_the_way_to_theirs() -> None:
    """Every example of the catalogue, in a Llama of ours: refused by its name, or the outputs are the same."""
    own = {entry.name for entry in catalogue(TransformerWrapper.config_class)}
    expressed = set()
    for entry in (*catalogue(Decoder.config_class), *catalogue(TransformerWrapper.config_class)):
        flags = {'num_tokens': 48, 'max_seq_len': 64, **LLAMA, **(entry.example or {})}
        try:
            stack = Decoder(**{name: value for name, value in flags.items() if name not in own})
            net = TransformerWrapper(**{name: value for name, value in flags.items() if name in own}, attn_layers=stack).eval()
        except FlagError:
            continue  # with that of a Llama it is refused
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
        try:
            theirs = to_huggingface(net, 'llama')
        except FlagError as error:
            assert any(name in str(error) for name in entry.example or {}), f'{entry.example}: {error}'
            continue
        torch.testing.assert_close(
            first(theirs(ids())), net(ids()), rtol=0, atol=1e-4, msg=lambda text, entry=entry: f'{entry.name}: {text}'
        )
        expressed.add(entry.name)
    assert {'attn_kv_heads', 'ff_mult', 'tie_embedding', 'rotary_scaling', 'return_only_embed'} <= expressed


def test_dropout_that_has_no_place_here_is_said() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.2)
    with pytest.warns(UserWarning, match=r'resid_pdrop=0\.2 of GPT2Config concerns training only'):
        from_huggingface(config)
    config.resid_pdrop = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        from_huggingface(config)


# ------------------------------------------------------------------------------------------------ refusals


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'transformers', None)
    for convert in (from_huggingface, to_huggingface):
        with pytest.raises(CheckpointError, match=r"pip install 'x-transformers\[transformers\]'"):
            convert('gpt2')


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {  # the class of a config, what it says: what is named
    'an activation': ('LlamaConfig', {'hidden_act': 'tanh'}, "hidden_act='tanh' of LlamaConfig .* expected 'gelu' or"),
    'a scaling': ('LlamaConfig', rope('proportional', factor=2.0), "rope_parameters.rope_type='proportional' .* expected 'default' or"),
    'a number of a scaling': (
        'LlamaConfig',
        rope('linear', factor=2.0, bend=3.0),
        'rope_parameters.bend=3.0 .* nothing but rope_theta, factor',
    ),
    'a share of features': ('LlamaConfig', rope(partial_rotary_factor=0.5), 'rope_parameters.partial_rotary_factor=0.5 .* expected 1.0'),
    'two lists for two lengths': (
        'Phi3Config',
        {**rope('longrope', short_factor=[1.0, 1.0], long_factor=[2.0, 2.0]), 'original_max_position_embeddings': 16},
        r'rope_parameters.short_factor=\[1.0, 1.0\] .* the values of long_factor',
    ),
    'shards': ('LlamaConfig', {'pretraining_tp': 2}, 'pretraining_tp=2 .* expected 1'),
    'scales by layer': ('GPT2Config', {'scale_attn_by_inverse_layer_idx': True}, 'scale_attn_by_inverse_layer_idx=True .* expected False'),
    'a decoder of BERT': ('BertConfig', {'is_decoder': True}, 'is_decoder=True of BertConfig'),
    'an activation of a head': (
        'ModernBertConfig',
        {'classifier_activation': 'tanh', 'architectures': ['ModernBertForMaskedLM']},
        "classifier_activation='tanh' of ModernBertConfig .* expected 'gelu', as in feed-forwards",
    ),
    'an activation that is not the derived one': (
        'T5Config',
        {'dense_act_fn': 'silu'},
        "dense_act_fn='silu' of T5Config .* expected 'relu', as feed_forward_proj='relu' has it",
    ),
    'both directions': ('GemmaConfig', {'use_bidirectional_attention': True}, 'use_bidirectional_attention=True .* expected None or False'),
    'an unknown field': ('MistralConfig', {'novelty': 7}, 'novelty=7 of MistralConfig .* expected no field of that name'),
    'a kind of layer': ('Qwen2Config', {'layer_types': ['full_attention', 'chunked_attention']}, "layer_types='chunked_attention'"),
    'another family': ('FalconConfig', {}, "model_type='falcon' is no family .* expected gpt2 or"),
}

OF_CLASS: dict[str, dict[str, Any]] = {'GPT2Config': {}, 'FalconConfig': {}, 'T5Config': {}, 'ModernBertConfig': SIZES, 'BertConfig': SIZES}


@pytest.mark.parametrize('name', REFUSED)
def test_what_flags_cannot_say_is_refused_by_name(name: str) -> None:
    kind, fields, said = REFUSED[name]
    config = getattr(transformers, kind)(**{**OF_CLASS.get(kind, GROUPED), **fields})
    with pytest.raises(FlagError, match=said):
        from_huggingface(config)


def test_other_sources_are_refused(tmp_path: Any) -> None:
    with pytest.raises(FlagError, match='source=7 is not possible; expected a name'):
        from_huggingface(7)
    with pytest.raises(FlagError, match='dtype says how a model is loaded'):
        from_huggingface(llama(), dtype=torch.float32)
    with pytest.raises(
        FlagError, match=r'LlamaForSequenceClassification is no model of llama that is known here; expected LlamaForCausalLM or'
    ):
        from_huggingface(transformers.LlamaForSequenceClassification(llama().config))
    with pytest.raises(CheckpointError, match='is no folder with a model of transformers, and cannot be had from the Hub'):
        from_huggingface(tmp_path)


def test_a_tensor_without_a_place_is_refused() -> None:
    theirs = llama()
    theirs.model.layers[0].mlp.extra = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r'no place in TransformerWrapper for model\.layers\.0\.mlp\.extra\.bias'):
        from_huggingface(theirs)


NOT_SAID: dict[str, tuple[Any, dict[str, Any], str | None, str]] = {  # a stack, its flags, a family or any: what is named
    'a flag of ours': (Decoder, {'attn_head_scale': True}, None, 'attn_head_scale is True and would be False'),
    'memories': (Decoder, {'attn_num_mem_kv': 2}, None, 'attn_num_mem_kv is 2 and would be 0'),
    'another encoder': (Encoder, {'macaron': True}, None, 'macaron is True and would be False'),
    'windows by layer': (Decoder, {'attn_max_attend_past': (None, 3)}, 'mistral', r'attn_max_attend_past is \(None, 3\) and would be'),
    'bases by layer': (Decoder, {'rotary_pos_emb': True, 'rotary_base': (10.0, 20.0)}, 'phi3', r'rotary_base is \(10.0, 20.0\) and would'),
    'heads that are no share': (Decoder, {'heads': 3}, 'gpt2', 'attn_dim_head is 8 and would be 5'),
}


@pytest.mark.parametrize('name', NOT_SAID)
def test_what_no_config_can_say_is_refused_by_name(name: str) -> None:
    stack, flags, family, said = NOT_SAID[name]
    flags = {'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8, **flags}
    with pytest.raises(FlagError, match=said):
        to_huggingface(TransformerWrapper(num_tokens=8, max_seq_len=8, attn_layers=stack(**flags)), family)


def test_families_that_do_not_exist_and_models_of_another_shape_are_refused() -> None:
    with pytest.raises(FlagError, match="family='lama' is not known here; expected gpt2 or llama"):
        to_huggingface(from_huggingface(llama()), 'lama')
    with pytest.raises(FlagError, match='no model of llama says what this one does: it is a Linear'):
        to_huggingface(torch.nn.Linear(2, 2), 'llama')


@pytest.mark.parametrize('said', [{'rope_theta': 5.0}, {'tie_word_embeddings': True}, {'dtype': torch.bfloat16}], ids=str)
def test_a_field_of_their_config_that_would_not_count_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(FlagError, match=next(iter(said))):
        to_huggingface(from_huggingface(llama()), 'llama', **said)


def test_a_family_is_a_name() -> None:
    with pytest.raises(FlagError, match="family=\\['llama'\\] is not known here"):
        to_huggingface(from_huggingface(llama()), ['llama'])  # type: ignore[arg-type]


def test_a_head_without_weights_is_refused() -> None:
    theirs = llama()
    theirs.lm_head = torch.nn.Identity()
    with pytest.raises(CheckpointError, match=r'nothing in LlamaForCausalLM for to_logits\.weight'):
        from_huggingface(theirs)
