"""Models in other people's trainers: each script runs, and what it says of itself holds."""
import importlib

import pytest
import torch

from x_transformers import AutoregressiveWrapper, Decoder

NEXT = [[5, 6, 7, 8, 9, 10, 11, 12]]                            # what comes after 3, 4 where numbers count


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Imports a script where the package that it shows is installed; it runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def load(name, package):
        pytest.importorskip(package)
        return importlib.import_module(f'trainers.{name}')
    return load


def written(model, *prompt):
    return model.generate(torch.tensor([prompt]), 8, temperature=0.).tolist()


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(t, theirs[name]) for name, t in ours.items())


def test_lightning_trains_and_its_checkpoint_rebuilds_the_model(script):
    trained, loaded = script('with_lightning', 'lightning').main()
    assert same(trained, loaded) and trained.hparams == loaded.hparams
    assert written(loaded.model, 3, 4) == NEXT


def test_accelerate_trains_and_what_it_unwraps_is_saved(script):
    model, losses = script('with_accelerate', 'accelerate').main()
    assert len(losses) == 120 and losses[-1] < 0.05 < losses[0]
    assert same(model, AutoregressiveWrapper.load('counting'))
    assert written(model, 3, 4) == NEXT


def test_lora_trains_beside_frozen_weights_and_merges_into_them(script, capsys):
    merged, (before, after), moved = script('lora', 'peft').main()
    assert before < 0.05 and after < 0.5 and moved < 1e-4
    assert 'trainable params: 1,024 ||' in capsys.readouterr().out
    assert not [name for name, _ in merged.named_parameters() if 'lora' in name]
    assert written(merged, 0, 3, 6) == [[9, 12, 15, 2, 5, 8, 11, 14]]


@pytest.mark.parametrize('names, flags', [
    (['to_q', 'to_v'], {}), (['to_q', 'to_v'], dict(cross_attend=True)),
    (['to_latent_kv', 'to_v'], dict(attn_use_latent_kv=True, attn_dim_latent_kv=8)),
], ids=['plain', 'cross-attention', 'latent'])
def test_lora_finds_projections_by_name(names, flags):
    peft = pytest.importorskip('peft')
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, **flags)
    adapted = peft.get_peft_model(stack, peft.LoraConfig(r=2, target_modules=names))
    attentions = stack.layer_types.count('a') + stack.layer_types.count('c')
    assert len({name.partition('.lora_A')[0] for name, _ in adapted.named_parameters() if 'lora_A' in name}) == attentions * len(names)


def test_weights_of_eight_bits_are_near_and_small(script):
    int8 = script('int8', 'torchao')
    model, light, error = int8.main()
    assert 0 < error < 0.1
    assert int8.size(light) < 0.3 * int8.size(model)
    assert written(light, 1, 2, 3) != [] and light.net.num_logits == 64


def test_an_exported_model_is_served_by_torch_alone(script):
    assert script('serve', 'torch').main() < 1e-5
