"""Folders of models: what is written, what is read back, in which precision, how much memory it takes, and what a kill leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper, XTransformer, load
from x_transformers.errors import CheckpointError, FlagError
from x_transformers.files import atomic, saving
from x_transformers.files.contents import CONFIG, WEIGHTS
from x_transformers.files.tensors import PIECE, opened, read_header, read_tensor, write

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


def net(**flags: Any) -> Any:
    return TransformerWrapper(**{'num_tokens': 16, 'max_seq_len': 8, 'attn_layers': decoder(), **flags})


def decoder(**flags: Any) -> Any:
    return Decoder(**{'dim': 16, 'depth': 1, 'heads': 2, 'attn_dim_head': 8, **flags})


def numbers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model: nn.Module, wanted: dict[str, torch.Tensor]) -> bool:
    found = model.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


# ------------------------------------------------------------------------------------------------ what is written


def test_the_weights_are_a_file_that_safetensors_reads(tmp_path: Path) -> None:
    model = net(tie_embedding=True)
    model.save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS]
    found = load_file(tmp_path / WEIGHTS)
    assert found.keys() == model.state_dict().keys() and same(model, found)
    with safe_open(tmp_path / WEIGHTS, 'pt') as file:
        assert json.loads(file.metadata()['x_transformers'])['model'] == json.loads((tmp_path / CONFIG).read_text())['model']


@pytest.mark.parametrize('dtype', [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64,
], ids=str)  # fmt: skip
def test_tensors_of_any_shape_and_layout_go_through_both_libraries(dtype: torch.dtype, tmp_path: Path) -> None:
    wide = torch.arange(24).reshape(4, 6).to(torch.float32).to(dtype)
    tensors = {'empty': wide[:0], 'one': wide[1, 1], 'turned': wide.t(), 'part': wide[1:3, ::2], 'odd': torch.ones(3, dtype=torch.uint8)}
    path = tmp_path / 'tensors.safetensors'
    with open(path, 'wb') as file:
        write(file, tensors, {'said': 'by us'})
    theirs = load_file(path)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / 'theirs.safetensors')
    with opened(tmp_path / 'theirs.safetensors') as (file, size):
        header = read_header(file, size, path)
        ours = {name: read_tensor(file, header, name, path) for name in header.tensors}
    for found in (theirs, ours):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
            assert torch.equal(found[name].contiguous().view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8))


def test_tensors_longer_than_a_piece_are_read_and_written_whole(tmp_path: Path) -> None:
    long = torch.randint(0, 256, (2 * PIECE + 12345,), dtype=torch.uint8)
    with open(tmp_path / 'long', 'wb') as file:
        write(file, {'long': long}, {})
    with opened(tmp_path / 'long') as (file, size):
        assert torch.equal(read_tensor(file, read_header(file, size, tmp_path), 'long', tmp_path), long)


def test_tied_numbers_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    sides = {f'{side}_{name}': value for side in ('enc', 'dec') for name, value in {'num_tokens': 9, 'max_seq_len': 8, 'depth': 1}.items()}
    model = XTransformer(dim=16, tie_token_emb=True, dec_tie_embedding=True, **sides)
    model.save(tmp_path)
    assert len(load_file(tmp_path / WEIGHTS)) == len(model.state_dict()) - 1
    twin = load(tmp_path, dtype=torch.float64)
    with torch.no_grad():
        twin.encoder.token_emb.emb.weight.zero_()
    assert not twin.decoder.net.token_emb.emb.weight.any()
    twin(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)).backward()


# ------------------------------------------------------------------------------------------------ what is read


def test_a_model_comes_back_in_its_own_precision_or_another_one(tmp_path: Path) -> None:
    model = net(scaled_sinu_pos_emb=True).to(torch.bfloat16)
    model.save(tmp_path)
    assert {p.dtype for p in load(tmp_path).parameters()} == {torch.bfloat16}
    wide = load(tmp_path, dtype=torch.float64, device='cpu')
    assert {t.dtype for t in [*wide.parameters(), *wide.buffers()]} == {torch.float64}
    assert wide.training and torch.equal(wide.to_logits.weight, model.to_logits.weight.double())


@pytest.mark.parametrize('wish, words', [
    ({'dtype': 'bfloat16'}, "dtype='bfloat16'"), ({'dtype': torch.int8}, 'dtype=torch.int8'), ({'device': 'abacus'}, "device='abacus'"),
    ({'device': 3.5}, 'device=3.5'), ({'classes': [3]}, 'classes'),
], ids=str)  # fmt: skip
def test_wishes_that_cannot_be_had_are_refused(wish: dict[str, Any], words: str, tmp_path: Path) -> None:
    net().save(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        load(tmp_path, **wish)
    assert words in str(refused.value)


def test_flags_can_be_changed_when_loading(tmp_path: Path) -> None:
    model = AutoregressiveWrapper(net(), mask_prob=0.3)
    model.save(tmp_path)
    twin = load(tmp_path, attn_flash=False, mask_prob=0.0, emb_dropout=0.5)
    assert twin.net.attn_layers.config.attn.flash is False and twin.mask_prob == 0 and twin.net.config.emb_dropout == 0.5
    assert same(twin, numbers(model))
    with pytest.raises(CheckpointError, match='flush'):
        load(tmp_path, attn_flush=False)


def test_the_class_that_loads_says_what_must_be_there(tmp_path: Path) -> None:
    net().save(tmp_path)
    assert type(TransformerWrapper.load(tmp_path)) is TransformerWrapper
    with pytest.raises(CheckpointError, match='describes a TransformerWrapper, and Encoder was asked for'):
        Encoder.load(tmp_path)


class Scored(TransformerWrapper):
    """A class of one's own."""

    def __init__(self, **flags: Any):
        super().__init__(**flags)
        self.to_score = nn.Linear(self.attn_layers.dim, 1)


def test_a_class_of_ones_own_is_loaded_by_those_who_name_it(tmp_path: Path) -> None:
    model = AutoregressiveWrapper(Scored(num_tokens=16, max_seq_len=8, attn_layers=Encoder(dim=16, depth=1)))
    model.save(tmp_path / 'wrapped')
    model.net.save(tmp_path / 'bare')
    for refused in (tmp_path / 'wrapped', tmp_path / 'bare'):
        with pytest.raises(CheckpointError, match="class='Scored' is no class of the library"):
            load(refused)
    assert same(Scored.load(tmp_path / 'bare'), numbers(model.net))
    assert type(load(tmp_path / 'wrapped', classes=[Scored]).net) is Scored


def test_a_class_of_ones_own_that_takes_no_flags_is_not_saved(tmp_path: Path) -> None:
    class Fixed(TransformerWrapper):
        def __init__(self) -> None:
            super().__init__(num_tokens=16, max_seq_len=8, attn_layers=decoder())

    with pytest.raises(CheckpointError, match=r'Fixed cannot be built from its flags .*, __init__\(self, \*\*flags\)'):
        Fixed().save(tmp_path)

    class Decoder(TransformerWrapper):  # a name that files know for something else
        pass

    with pytest.raises(FlagError, match='has the name of a class of the library; rename it'):
        Decoder(num_tokens=16, max_seq_len=8, attn_layers=decoder()).save(tmp_path)
    assert not any(tmp_path.iterdir())


def test_parts_of_ones_own_are_given_again_and_filled(tmp_path: Path) -> None:
    made = lambda: {'token_emb': nn.Embedding(16, 16), 'to_logits': nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 5))}
    model = net(**made(), attn_layers=decoder(depth=2, attn_hybrid_module=nn.GRU(16, 16, batch_first=True)))
    out = ['token_emb', 'to_logits', 'attn_hybrid_module']
    before = numbers(model)
    with pytest.raises(FlagError, match=r'attn_hybrid_module=GRU.* leave_out='):
        model.save(tmp_path)
    with pytest.raises(FlagError, match=r"leave_out=\['to_logit'\] names no flag"):
        model.save(tmp_path, leave_out=[*out, 'to_logit'])
    model.save(tmp_path, leave_out=out)
    assert same(model, before)
    twin = load(tmp_path, dtype=torch.float64, **made(), attn_hybrid_module=nn.GRU(16, 16, batch_first=True)).eval()
    x = torch.randint(0, 16, (2, 8))
    assert torch.equal(twin(x), model.double().eval()(x))
    with pytest.raises(CheckpointError, match='to_logits was left out when TransformerWrapper was saved; give it'):
        load(tmp_path, token_emb=nn.Embedding(16, 16))


def test_strict_loading_lists_what_does_not_fit_and_partial_loading_leaves_it_new(tmp_path: Path) -> None:
    model = net()
    model.save(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        load(tmp_path, num_tokens=17, tie_embedding=True)
    words = str(refused.value)
    assert 'unexpected: to_logits.weight' in words and 'of another shape: token_emb.emb.weight is (16, 16), the model has (17, 16)' in words
    with pytest.warns(UserWarning, match=r'taken in part .* unexpected: to_logits.weight; of another shape: token_emb'):
        twin = load(tmp_path, strict=False, num_tokens=17, tie_embedding=True, dtype=torch.float64)
    assert twin.token_emb.emb.weight.shape == (17, 16) and twin.token_emb.emb.weight.std() > 0
    assert {p.dtype for p in twin.parameters()} == {torch.float64}
    assert torch.equal(twin.attn_layers.layers[0][1].to_q.weight, model.attn_layers.layers[0][1].to_q.weight.double())
    with pytest.raises(CheckpointError, match='more is missing from the file than there is'):
        load(tmp_path, strict=False, depth=8)


def test_weights_go_into_a_model_that_is_there(tmp_path: Path) -> None:
    model, other = net(), net().to(torch.bfloat16)
    model.save(tmp_path)
    assert other.load_weights(tmp_path) and torch.equal(other.to_logits.weight, model.to_logits.weight.bfloat16())
    larger, before = net(num_tokens=20), None
    before = numbers(larger)
    with pytest.raises(CheckpointError, match=r'does not fit TransformerWrapper; of another shape: to_logits.weight'):
        larger.load_weights(tmp_path / WEIGHTS)
    assert same(larger, before)
    fit = larger.load_weights(tmp_path, strict=False)
    assert [text.split()[0] for text in fit.reshaped] == ['to_logits.weight', 'token_emb.emb.weight'] and not fit.missing
    assert torch.equal(larger.pos_emb.emb.weight, model.pos_emb.emb.weight)


def test_a_file_of_numbers_alone_fills_a_model_and_a_config_beside_it_describes_one(tmp_path: Path) -> None:
    model = net()
    model.save(tmp_path)
    save_file(model.state_dict(), tmp_path / WEIGHTS)
    assert same(load(tmp_path), numbers(model))
    os.remove(tmp_path / CONFIG)
    with pytest.raises(CheckpointError, match=r'says nothing of its model, .* model.load_weights\(folder\)'):
        load(tmp_path)
    twin = net()
    assert twin.load_weights(tmp_path) and same(twin, numbers(model))


def test_a_config_that_was_edited_is_not_passed_over(tmp_path: Path) -> None:
    net().save(tmp_path)
    path = tmp_path / CONFIG
    path.write_text(path.read_text().replace('"max_seq_len": 8', '"max_seq_len": 9'))
    with pytest.raises(CheckpointError, match=r'config.json is not the config that .* was saved with'):
        load(tmp_path)
    path.unlink()
    assert load(tmp_path).max_seq_len == 8


# ------------------------------------------------------------------------------------------------ what is not written


def test_what_its_flags_no_longer_describe_is_not_saved(tmp_path: Path) -> None:
    model = net()
    model.to_logits = nn.Linear(16, 20, bias=False)
    with pytest.raises(CheckpointError, match=r'no longer what its flags say.*to_logits.weight is'):
        model.save(tmp_path)
    wrapper = AutoregressiveWrapper(net())
    wrapper.net = net(attn_layers=decoder(rotary_pos_emb=True))
    with pytest.raises(CheckpointError, match='net of AutoregressiveWrapper was replaced'):
        wrapper.save(tmp_path)
    with pytest.raises(FlagError, match='part of a larger model'):
        Decoder(dim=16, depth=1, residual_attn=True).layers[0][1].save(tmp_path)
    with torch.device('meta'):
        empty = net()
    with pytest.raises(CheckpointError, match='on the meta device'):
        empty.save(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(CheckpointError, match='cannot be written'):
        net().save(tmp_path / 'file')
    (tmp_path / 'folder' / WEIGHTS).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r'model.safetensors is a folder'):
        net().save(tmp_path / 'folder')


# ------------------------------------------------------------------------------------------------ whole or not at all


class Full:
    """A disk on which only so many bytes are left."""

    def __init__(self, file: Any, room: list[int]):
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        self.room[0] -= len(data)
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)  # type: ignore[no-any-return]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = net(), net(num_tokens=17)
    old.save(tmp_path)
    whole, plainly = sum(path.stat().st_size for path in tmp_path.iterdir()), atomic.prepare
    for left in (0, 7, 300, 3000, whole // 2, whole - 400, whole - 1):
        room = [left]
        monkeypatch.setattr(saving, 'prepare', lambda path, fill, room=room: plainly(path, lambda file: fill(Full(file, room))))
        with pytest.raises(CheckpointError, match=r'cannot be written .No space left'):
            new.save(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS]
        assert same(load(tmp_path), numbers(old))


def test_a_kill_before_and_after_every_step_leaves_one_of_both_models(tmp_path: Path) -> None:
    """A child saves, and is killed by itself at the k-th call that reaches the disk, for every k."""
    code = textwrap.dedent("""
        import os, shutil, signal, sys
        sys.path.insert(0, sys.argv[2])
        from test_files import net
        from x_transformers.files import saving
        new = net(num_tokens=17)

        def counted(fn, count):
            def call(*args, **kwargs):
                count[0] -= 1
                if count[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return fn(*args, **kwargs)
            return call

        for at in range(1, 60):
            shutil.copytree(sys.argv[1] + '/old', sys.argv[1] + f'/{at}')
            child = os.fork()
            if child == 0:
                count = [at]
                os.fsync, os.replace, os.open = counted(os.fsync, count), counted(os.replace, count), counted(os.open, count)
                saving.feed_tensors = counted(saving.feed_tensors, count)
                new.save(sys.argv[1] + f'/{at}')
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status == 0:
                break
        print(at)
    """)
    torch.manual_seed(0)
    old = net()
    old.save(tmp_path / 'old')
    child = [sys.executable, '-c', code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(child, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    last = int(done.stdout)
    assert 8 < last < 59
    sizes = [load(tmp_path / str(at)).num_tokens for at in range(1, last + 1)]
    assert sizes[0] == 16 and sizes[-1] == 17 and sizes == sorted(sizes)
    between = [at for at in range(1, last) if sizes[at - 1] == 17 and '"num_tokens": 16' in (tmp_path / str(at) / CONFIG).read_text()]
    assert between  # killed between the two names: the weights say what they are
    for at in between[:2]:  # and the next save mends it
        net(num_tokens=19).save(tmp_path / str(at))
        assert load(tmp_path / str(at)).num_tokens == 19
    assert same(load(tmp_path / '1'), numbers(old))


def test_a_kill_at_any_moment_leaves_one_of_both_models(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys, itertools, torch
        sys.path.insert(0, sys.argv[2])
        from test_files import net
        models = [net(num_tokens=size, max_seq_len=4096) for size in (32, 33)]
        print('ready', flush=True)
        for k in itertools.count():
            models[k % 2].save(sys.argv[1])
    """)
    net(num_tokens=32, max_seq_len=4096).save(tmp_path)
    for k in range(2):
        argv = [sys.executable, '-c', code, str(tmp_path), str(Path(__file__).parent)]
        child = subprocess.Popen(argv, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == 'ready\n'
        time.sleep(0.2 + 0.037 * k)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert load(tmp_path).num_tokens in (32, 33)


def test_readers_see_one_model_or_the_other_while_it_is_written(tmp_path: Path) -> None:
    models = [net(num_tokens=size) for size in (32, 33)]
    models[0].save(tmp_path)
    stop = threading.Event()

    def keep_saving() -> None:
        k = 0
        while not stop.is_set():
            models[k % 2].save(tmp_path)
            k += 1

    writer = threading.Thread(target=keep_saving)
    writer.start()
    try:
        for _ in range(20):
            twin = load(tmp_path)
            assert same(twin, numbers(models[twin.num_tokens - 32]))
    finally:
        stop.set()
        writer.join()


def test_what_killed_processes_left_long_ago_is_swept(tmp_path: Path) -> None:
    stale, fresh = tmp_path / f'.{WEIGHTS}.0{atomic.UNFINISHED}', tmp_path / f'.{WEIGHTS}.1{atomic.UNFINISHED}'
    for path in (stale, fresh):
        path.write_bytes(b'half')
    os.utime(stale, (0, 0))
    net().save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([CONFIG, WEIGHTS, fresh.name])


# ------------------------------------------------------------------------------------------------ memory, imports, the Hub


def run(code: str, *argv: str) -> str:
    command = [sys.executable, '-c', textwrap.dedent(code), *argv]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(sys.platform != 'linux', reason='reads how much memory a process took at most from Linux')
def test_loading_and_saving_take_the_memory_of_one_model(tmp_path: Path) -> None:
    """Numbers go from the file to their place, and back, piece by piece."""
    size, took = map(float, run("""
        import resource, sys
        from x_transformers import Decoder, TransformerWrapper
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        net = lambda tokens, depth: TransformerWrapper(num_tokens=tokens, max_seq_len=64, attn_layers=Decoder(dim=512, depth=depth))
        net(16, 1).save(sys.argv[1] + '/small')
        model = net(20_000, 2)
        before = peak()
        model.save(sys.argv[1])
        print(sum(p.numel() * 4 for p in model.parameters()) / 2**20, peak() - before)
    """, str(tmp_path)).split())  # fmt: skip
    assert size > 100 and took < 0.25 * size
    took = float(run("""
        import resource, sys
        from x_transformers import load
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        load(sys.argv[1] + '/small')
        before = peak()
        model = load(sys.argv[1])
        print(peak() - before)
    """, str(tmp_path)))  # fmt: skip
    assert took < 1.25 * size


def test_nothing_of_it_is_imported_with_the_library() -> None:
    out = run("""
        import sys, x_transformers
        print([name for name in sys.modules if name.startswith('x_transformers.files') or name in ('safetensors', 'huggingface_hub')])
    """)
    assert out.strip() == '[]'


def test_saving_and_loading_need_no_package_beside_the_core_ones(tmp_path: Path) -> None:
    out = run("""
        import sys
        for name in ('safetensors', 'huggingface_hub', 'numpy'):
            sys.modules[name] = None
        from x_transformers import Encoder, load
        from x_transformers.errors import CheckpointError
        Encoder(dim=16, depth=1).save(sys.argv[1])
        print(type(load(sys.argv[1])).__name__)
        try:
            Encoder.from_pretrained('someone/something')
        except CheckpointError as error:
            print(error)
    """, str(tmp_path))  # fmt: skip
    assert out.startswith('Encoder\n') and "pip install 'x-transformers[hub]'" in out


def test_the_names_of_the_hub_save_load_and_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip('huggingface_hub')
    model, calls = net(), []
    assert model.save_pretrained(tmp_path / 'model') is None
    twin = TransformerWrapper.from_pretrained(tmp_path / 'model', dtype=torch.float64)
    assert not twin.training and torch.equal(twin.to_logits.weight, model.to_logits.weight.double())

    class Api:
        def __init__(self, token: Any = None):
            calls.append(('api', token))

        def create_repo(self, **given: Any) -> Any:
            calls.append(('create_repo', given))
            return type('Url', (), {'repo_id': f'someone/{given["repo_id"]}'})

        def create_branch(self, **given: Any) -> None:
            calls.append(('create_branch', given))

        def upload_folder(self, **given: Any) -> str:
            calls.append(('upload_folder', {**given, 'there': sorted(os.listdir(given.pop('folder_path')))}))
            return 'uploaded'

    monkeypatch.setattr(hub, 'HfApi', Api)
    assert model.push_to_hub('mine', private=True, branch='b', token='t', commit_message='m') == 'uploaded'
    assert calls[0] == ('api', 't') and calls[1][1] == {'repo_id': 'mine', 'private': True, 'exist_ok': True}
    last = calls[-1][1]
    assert last['repo_id'] == 'someone/mine' and last['revision'] == 'b' and last['commit_message'] == 'm'
    assert last['there'] == [CONFIG, WEIGHTS] == last['allow_patterns']
    assert model.save_pretrained(tmp_path / 'model', push_to_hub=True) == 'uploaded' and calls[-1][1]['repo_id'] == 'someone/model'
    with pytest.raises(CheckpointError, match='push_to_hub takes no colour'):
        model.push_to_hub('mine', colour='red')

    monkeypatch.setattr(hub, 'snapshot_download', lambda repo_id, **given: calls.append((repo_id, given)) or str(tmp_path / 'model'))
    assert same(TransformerWrapper.from_pretrained('someone/mine', revision='b'), numbers(model))
    assert calls[-1] == ('someone/mine', {'allow_patterns': [CONFIG, WEIGHTS], 'revision': 'b'})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="'someone/nothing' is no folder here, and cannot be had"):
        TransformerWrapper.from_pretrained('someone/nothing', local_files_only=True, cache_dir=tmp_path / 'cache')
