"""Training runs, stops, goes on exactly, and says in one sentence what is wrong with its input."""
import gzip
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import train_lm
from conftest import EXAMPLES
from lm import checkpoint
from lm.model import build, flags_of, model_config
from lm.speed import Meter
from lm.terminal import flag_pair
from safetensors.torch import load_file, save_file

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.flags import catalogue


def start(*argv):
    return subprocess.Popen([sys.executable, str(EXAMPLES / 'train_lm.py'), *map(str, argv)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, 'PYTHONUNBUFFERED': '1'})


def wait_for(process, word):
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(process.stderr.read())


def training(folder):
    return checkpoint.load_training(checkpoint.find(folder))


def test_a_run_learns_saves_draws_and_writes(small, tmp_path, capsys):
    assert train_lm.main([*small, '--steps', '40', '--lr', '0.01', '--out', str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    losses = training(tmp_path)['losses']
    assert len(losses) == 40
    assert losses[0] > losses[-1]
    assert training(tmp_path)['held_out'][-1][1] < 8
    assert 'bits per byte, on 8 windows of 16 bytes' in out
    assert re.search(r'speed +[\d,]+ tokens per second, MFU [\d.]+%: of the [\d.]+ [GT]FLOP/s that a large matrix product reaches', out)
    assert 'def ' in out
    assert 'loss=' in err
    assert 'tok/s' in err
    assert (tmp_path / 'loss.png').read_bytes().startswith(b'\x89PNG')
    assert sorted(path.name for path in checkpoint.find(tmp_path).iterdir()) == sorted(checkpoint.FILES)
    assert [path.name for path in tmp_path.glob('step-*')] == ['step-000040']


def test_a_meter_takes_the_median_step_and_the_peak_that_is_given(small):
    settings = train_lm.make_parser().parse_args([*small, '--peak-flops', '1e9'])
    model = build(model_config(dict(settings.set), settings.seq_len))
    meter = Meter.of(model, settings)
    meter.seconds = [9., 0.5, 0.5]                              # the first is slow
    assert meter.flops == 3 * model.net.flops(4, 16) == 3 * 4 * model.net.flops(1, 16)
    assert meter.mfu == meter.flops / 0.5 / 1e9
    assert str(meter) == f'128 tokens per second, MFU {meter.mfu:.1%}: of the 1 GFLOP/s of --peak-flops'


def test_a_resumed_run_has_the_curve_of_an_uninterrupted_one_to_the_bit(small, tmp_path, monkeypatch, capsys):
    small += ['--set', 'attn_dropout=0.2', 'layer_dropout=0.2', 'emb_dropout=0.1', 'mask_prob=0.1', '--accumulate', '2']
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    assert train_lm.main([*small, '--out', str(whole)]) == 0

    take_step = train_lm.take_step

    def interrupted_step(run, loss_of):
        if run.step == 4:                                       # neither a multiple of --eval-every nor of --save-every
            signal.raise_signal(signal.SIGINT)
        return take_step(run, loss_of)

    monkeypatch.setattr(train_lm, 'take_step', interrupted_step)
    assert train_lm.main([*small, '--out', str(halves)]) == 0
    assert 'Stopped at step 5 of 8' in capsys.readouterr().out
    monkeypatch.undo()
    torch.manual_seed(99)
    assert train_lm.main(['--resume', str(halves)]) == 0

    first, second = training(whole), training(halves)
    assert first['losses'] == second['losses']
    assert first['held_out'] == second['held_out']
    for name in ('model.safetensors', 'training.safetensors'):
        a, b = (load_file(checkpoint.find(folder) / name) for folder in (whole, halves))
        assert all(torch.equal(a[key], b[key]) for key in a.keys() | b.keys())


def test_accumulated_batches_equal_one_of_their_size(small, tmp_path, monkeypatch):
    batch_at = train_lm.batch_at

    def halves(text, index, seed, batch, length):               # the batches of 2 are the halves of those of 4
        if batch == 4:
            return batch_at(text, index, seed, batch, length)
        return batch_at(text, index // 2, seed, 4, length).chunk(2)[index % 2]

    monkeypatch.setattr(train_lm, 'batch_at', halves)
    train_lm.main([*small, '--out', str(tmp_path / 'one')])
    train_lm.main([*small, '--batch', '2', '--accumulate', '2', '--out', str(tmp_path / 'two')])
    one, two = (training(tmp_path / name)['losses'] for name in ('one', 'two'))
    assert one == pytest.approx(two, rel=1e-4)


def test_ctrl_c_saves_and_says_how_to_go_on(small, tmp_path):
    process = start(*small, '--steps', 100000, '--eval-every', 1, '--out', tmp_path / 'a run')
    wait_for(process, 'held out ')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert 'Traceback' not in err
    step = training(tmp_path / 'a run')['step']
    assert f'Stopped at step {step} of 100000, and saved. Go on with: python ' in out
    assert f"train_lm.py --resume '{tmp_path / 'a run'}'" in out

    assert train_lm.main(['--resume', str(tmp_path / 'a run'), '--steps', str(step + 2)]) == 0
    assert training(tmp_path / 'a run')['step'] == step + 2


def test_a_killed_run_leaves_a_complete_checkpoint(small, tmp_path):
    process = start(*small, '--steps', 100000, '--eval-every', 1, '--save-every', 1, '--out', tmp_path)
    for _ in range(3):
        wait_for(process, 'held out ')
    process.kill()
    process.communicate(timeout=60)
    step = training(tmp_path)['step']
    assert step >= 2
    assert train_lm.main(['--resume', str(tmp_path), '--steps', str(step + 1)]) == 0


def test_leftovers_of_a_kill_are_passed_over_and_swept(small, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / 'run')
    (folder / 'step-000009').mkdir()                            # killed between renaming the folder and moving `latest`
    (folder / 'step-000010.tmp').mkdir()                        # killed while writing
    assert checkpoint.find(folder).name == 'step-000008'
    assert train_lm.main(['--resume', str(folder), '--steps', '9']) == 0
    assert [path.name for path in folder.glob('step-*')] == ['step-000009']


@pytest.mark.parametrize('flags', [
    ['tie_embedding=True'],
    ['weight_tie_layers=True'],
    ['layers_execute_order=(0,1,0,1,2,3)'],
    ['rotary_pos_emb=False', 'use_rmsnorm=False', 'ff_glu=False'],
    ['attn_kv_heads=1', 'max_seq_len=32', 'mask_prob=0.1'],
])
def test_a_checkpoint_gives_back_the_model_of_any_flags(flags, small, tmp_path):
    assert train_lm.main([*small, '--steps', '2', '--set', *flags, '--out', str(tmp_path)]) == 0
    model, again = (checkpoint.load(checkpoint.find(tmp_path)) for _ in range(2))
    classes = (Decoder, TransformerWrapper, AutoregressiveWrapper)
    defaults = {entry.name: entry.default for cls in classes for entry in catalogue(cls.config_class)}
    for flag in flags:
        name, value = flag_pair(flag)
        assert {**defaults, **flags_of(model)}[name] == value
    tokens = torch.randint(256, (1, 12))
    assert torch.equal(model.eval().net(tokens), again.eval().net(tokens))

    checkpoint.save(tmp_path / 'copy', 2, model, {}, torch.optim.AdamW(model.parameters()))
    copied = checkpoint.load(checkpoint.find(tmp_path / 'copy'))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), copied.state_dict().values()))


def test_bfloat16_and_compile_are_switches(small, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, 'compile', lambda model: compiled.append(model) or model)
    assert train_lm.main([*small, '--bf16', '--compile', '--out', str(tmp_path)]) == 0
    assert len(compiled) == 1
    assert all(tensor.dtype == torch.float32 for tensor in load_file(checkpoint.find(tmp_path) / 'model.safetensors').values())


def test_learning_rate_warms_up_and_falls_to_zero():
    settings = train_lm.make_parser().parse_args(['--steps', '100', '--warmup', '9', '--lr', '1'])
    rates = [train_lm.learning_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] > 0.97
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[9:] == sorted(rates[9:], reverse=True)


@pytest.mark.parametrize('argv, words', [
    (['--set', 'attn_flsh=True'], "'attn_flsh' did you mean 'attn_flash'"),
    (['--set', 'tie_embeding=True'], "'tie_embeding' did you mean 'tie_embedding'"),
    (['--set', 'use_scalenorm=True'], 'use_scalenorm=True cannot be combined the script sets use_rmsnorm=True unless --set'),
    (['--set', 'num_tokens=100'], '--set num_tokens=100 bytes Leave it out'),
    (['--set', 'heads'], "--set 'heads' NAME=VALUE"),
    (['--set', 'heads={1}'], '--set heads cannot be kept in a checkpoint numbers, strings'),
    (['--set', 'max_seq_len=8'], '--seq-len 16 is longer than max_seq_len=8'),
    (['--set', 'depth=two'], "depth='two' whole number"),
    (['--steps', '0'], '--steps 0 expected at least 1'),
    (['--lr', 'nan'], '--lr nan expected at least 0'),
    (['--batch', 'many'], "--batch 'many' whole number"),
    (['--device', 'abacus'], '--device abacus cannot be used --device cpu'),
    (['--prompt', ''], '--prompt is empty'),
    (['--prompt', 'x' * 17], '--prompt 17 bytes at most 16'),
    (['--data', 'no/such/file'], '--data no/such/file cannot be read No such file'),
    (['--data', '.'], '--data . cannot be read'),
    (['--seq-len', '10000000'], '--data is too short --seq-len 10000000 needs 10000001'),
    (['--resume', 'no/such/run'], 'no/such/run holds no checkpoint latest'),
    (['--resume', '.'], '. holds no checkpoint latest'),
])
def test_wrong_arguments_are_refused(argv, words, small, tmp_path, refusal):
    sentence = refusal(train_lm.main, *small, '--out', tmp_path / 'run', *argv)
    assert all(word in sentence for word in words.split(' '))
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name, content, words', [
    ('empty.txt', b'', 'is empty'),
    ('short.txt', b'a' * 100, 'is too short 10 bytes are held out --seq-len 16 needs 17'),
    ('plain.gz', b'not compressed at all' * 100, 'is not a complete gzip file'),
    ('cut.gz', gzip.compress(os.urandom(1000))[:500], 'is not a complete gzip file'),
])
def test_wrong_texts_are_refused(name, content, words, small, tmp_path, refusal):
    (tmp_path / name).write_bytes(content)
    sentence = refusal(train_lm.main, *small, '--data', tmp_path / name)
    assert f'--data {tmp_path / name} ' in sentence
    assert all(word in sentence for word in words.split(' '))


def test_a_folder_in_use_is_not_overwritten(small, finished, refusal):
    assert f'--out {finished} holds a run already' in refusal(train_lm.main, *small, '--out', finished)


def test_a_file_is_no_folder_to_save_in(small, text, refusal):
    assert f'--out {text} cannot be written' in refusal(train_lm.main, *small, '--out', text)


@pytest.mark.parametrize('argv, words', [
    ([], 'is at step 8 --steps is 8 larger --steps'),
    (['--steps', '9', '--batch', '5'], '--batch 5 cannot be combined with --resume 4'),
    (['--steps', '9', '--set', 'dim=32'], '--set cannot be combined with --resume'),
    (['--steps', '9', '--out', 'elsewhere'], '--out cannot be combined with --resume'),
    (['--steps', '9', '--data', __file__], '--resume learned another text Name the same one with --data'),
])
def test_a_resumed_run_stays_what_it_was(argv, words, finished, refusal):
    sentence = refusal(train_lm.main, '--resume', finished, *argv)
    assert all(word in sentence for word in words.split(' '))


def edit_json(change):
    def edit(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return edit


def reshape_a_weight(path):
    tensors = load_file(path)
    name = next(iter(tensors))
    save_file({**tensors, name: torch.zeros(3)}, path)


def reshape_a_moment(path):
    save_file({**load_file(path), '0.exp_avg': torch.zeros(3)}, path)


def rename_a_weight(path):
    tensors = load_file(path)
    tensors['stranger'] = tensors.pop(next(iter(tensors)))
    save_file(tensors, path)


def of_the_stack(change):
    return edit_json(lambda c: change(c['model']['parts']['net']['parts']['attn_layers']['flags']))


DAMAGES = {
    'weights missing': ('model.safetensors', os.remove, 'does not exist'),
    'weights truncated': ('model.safetensors', lambda path: os.truncate(path, 1000), 'is damaged'),
    'weights emptied': ('model.safetensors', lambda path: os.truncate(path, 0), 'is damaged'),
    'weights of another shape': ('model.safetensors', reshape_a_weight, 'does not fit another shape is (3,)'),
    'weights of another name': ('model.safetensors', rename_a_weight, 'does not fit unexpected: stranger'),
    'config cut': ('config.json', lambda path: os.truncate(path, 40), 'is damaged'),
    'config of another size': ('config.json', of_the_stack(lambda flags: flags.update(dim=32)), 'is not the config saved with'),
    'config of a strange flag': ('config.json', of_the_stack(lambda flags: flags.update(flux=1)), 'is not the config saved with'),
    'config without a part': ('config.json', edit_json(lambda c: c.pop('model')), 'is damaged model'),
    'config of another format': ('config.json', edit_json(lambda c: c.update(format_version=99)), 'format_version=99 reads 1'),
    'config no object': ('config.json', lambda path: path.write_text('[]'), 'says nothing of a model'),
    'training lacks a part': ('training.json', edit_json(lambda c: c.pop('settings')), 'is missing or damaged settings'),
    'optimizer of another shape': ('training.safetensors', reshape_a_moment, 'does not fit model.safetensors'),
    'training missing': ('training.json', os.remove, 'is missing or damaged'),
    'training truncated': ('training.safetensors', lambda path: os.truncate(path, 1000), 'is missing or damaged'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_checkpoint_that_does_not_fit_is_refused(damage, finished, tmp_path, refusal):
    name, spoil, words = DAMAGES[damage]
    folder = shutil.copytree(finished, tmp_path / 'run')
    spoil(checkpoint.find(folder) / name)
    sentence = refusal(train_lm.main, '--resume', folder, '--steps', 9)
    assert str(folder / 'step-000008') in sentence
    assert all(word in sentence for word in words.split(' '))


def test_a_loss_that_is_no_number_stops_the_run(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(AutoregressiveWrapper, 'forward', lambda self, tokens: torch.tensor(math.nan, requires_grad=True))
    assert train_lm.main([*small, '--out', str(tmp_path)]) == 2
    assert 'the loss became nan at step 0 with --lr 0.003' in capsys.readouterr().err
