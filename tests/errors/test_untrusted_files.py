"""Files that nobody vouches for: damaged, or made to hurt. Each ends in one clear error, or in the model that was saved."""
import copy
import hashlib
import json
import os
import pickle
import random
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from x_transformers import Decoder, TransformerWrapper, load
from x_transformers.errors import CheckpointError
from x_transformers.files.contents import CONFIG, DIGEST, ENTRY, WEIGHTS, about, digest_of
from x_transformers.files.tensors import feed_tensors, lay_out, write, write_header
from x_transformers.flags import catalogue
from x_transformers.flags.plain import describe_part

ROOT = Path(__file__).parents[2]
ENOUGH = 20.        # seconds, on a busy machine: nothing here may take long


def net():
    torch.manual_seed(0)
    return TransformerWrapper(num_tokens=16, max_seq_len=8, attn_layers=Decoder(dim=16, depth=1, heads=2, attn_dim_head=8))


MODEL = net()
DATA = describe_part(MODEL)
TENSORS = MODEL.state_dict()


@pytest.fixture
def folder(tmp_path):
    """A folder that holds the model."""
    MODEL.save(tmp_path)
    return tmp_path


def forge(folder, data, tensors=TENSORS, entry=None):
    """Weights that say whatever their author wants, with a digest that is right."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = json.dumps({**about(data), 'replaces': None}) if entry is None else entry
    header = lay_out(tensors)
    digest = digest_of(header, entry)
    feed_tensors(tensors, header, digest.update)
    with open(folder / WEIGHTS, 'wb') as file:
        write_header(file, header, {'format': 'pt', ENTRY: entry, DIGEST: digest.hexdigest()})
        feed_tensors(tensors, header, file.write)
    return folder


def refusal(folder, *words, **wishes):
    """The sentence that `load` refuses the folder with; it names a file in it."""
    began = time.monotonic()
    with pytest.raises(CheckpointError) as refused:
        load(folder, **wishes)
    sentence = str(refused.value)
    assert time.monotonic() - began < ENOUGH
    assert str(folder) in sentence and '\n' not in sentence and len(sentence) < 1500
    for word in words:
        assert word in sentence, sentence
    return sentence


def stack(**flags):
    """The model's data with other flags of its stack."""
    data = copy.deepcopy(DATA)
    data['parts']['attn_layers']['flags'].update(flags)
    return data


def outer(**flags):
    data = copy.deepcopy(DATA)
    data['flags'].update(flags)
    return data


def test_the_forgery_is_good(tmp_path):
    assert torch.equal(load(forge(tmp_path, DATA)).to_logits.weight, MODEL.to_logits.weight)


# ------------------------------------------------------------------------------------------------ what a config may ask for

HUGE = {
    'width': stack(dim=10**9),
    'width with sinusoids': outer(scaled_sinu_pos_emb=True, emb_dim=10**9),
    'depth': stack(depth=10**9),
    'tied depth': stack(depth=10**9, weight_tie_layers=True),
    'depth below the bound': stack(depth=4000),
    'heads': stack(heads=10**9, alibi_pos_bias=True),
    'head width': stack(attn_dim_head=10**12),
    'vocabulary': outer(num_tokens=10**12),
    'vocabulary beyond all numbers': outer(num_tokens=10**40),
    'length': outer(max_seq_len=10**15),
    'hidden width': stack(ff_mult=1e300),
    'hidden width that is a number': stack(ff_mult=1e14),
    'output heads': outer(num_output_heads=4000),
    'output heads without end': outer(num_output_heads=10**9),
    'memory tokens': outer(num_memory_tokens=10**13),
    'cls tokens': outer(num_cls_tokens=10**9),
    'mixture': outer(mixture_of_softmax=True, mixture_of_softmax_k=10**9),
    'bias network': stack(dynamic_pos_bias=True, dynamic_pos_bias_mlp_depth=10**9),
    'bias network below the bound': stack(dynamic_pos_bias=True, dynamic_pos_bias_mlp_depth=4000),
    'buckets': stack(rel_pos_bias=True, rel_pos_num_buckets=10**12, rel_pos_max_distance=10**12),
    'shift': stack(shift_tokens=10**9),
    'streams': stack(num_residual_streams=10**9),
    'sandwich': stack(depth=10**9, sandwich_coef=10**8),
    'layers written out': stack(depth=None, custom_layers='af' * 100_000),
    'memory keys': stack(attn_num_mem_kv=10**13),
    'positions that count': stack(attn_use_cope=True, attn_cope_max_pos=10**13),
    'condition': stack(use_adaptive_rmsnorm=True, dim_condition=10**10),
    'condition network': stack(use_adaptive_rmsnorm=True, adaptive_condition_mlp=True, adaptive_condition_mlp_expansion=10**9),
    'words of vocabularies': outer(embed_num_tokens={f'name{i}': 10**9 for i in range(10_000)}),
    'encoder of neurons': {'class': 'NeoMLP', 'parts': {}, 'given': [], 'flags': {
        'dim_in': 2, 'dim_hidden': 2, 'dim_out': 2, 'dim_model': 16, 'depth': 1, 'encoder_kwargs': {'heads': 10**9, 'alibi_pos_bias': True},
    }},
    'a slope for each of many heads': stack(alibi_pos_bias=True, rel_pos_kwargs={'slopes': [0.5] * 100_000}),
}   # fmt: skip


@pytest.mark.parametrize('name', HUGE)
def test_sizes_that_no_memory_holds_are_refused_before_it_is_asked_for(name, tmp_path):
    refusal(forge(tmp_path, HUGE[name]), WEIGHTS)


def test_none_of_them_takes_memory(tmp_path):
    """In a process of its own, with little more memory than the library takes; partial loading included."""
    for name, data in HUGE.items():
        forge(tmp_path / name.replace(' ', '-'), data)
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from x_transformers import Encoder, load
        from x_transformers.errors import CheckpointError
        Encoder(dim=16, depth=1).save(sys.argv[1] + '/warm'); load(sys.argv[1] + '/warm')
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        before = peak()
        for folder in Path(sys.argv[1]).iterdir():
            for strict in (True, False):
                try:
                    load(folder, strict=strict)
                    assert folder.name == 'warm', folder
                except CheckpointError:
                    pass
        print(peak() - before)
    """)
    command = [sys.executable, '-W', 'ignore', '-c', code, str(tmp_path)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 150


def with_entry(**changes):
    data = copy.deepcopy(DATA)
    data.update(changes)
    return data


STRANGE = {
    'unknown flag': (stack(attn_flsh=True), "did you mean 'attn_flash'"),
    'a flag of another class': (outer(depth=3), 'depth'),
    'unknown class': (with_entry(**{'class': 'Transformer'}), "class='Transformer' is no class of the library"),
    'a class to execute': (with_entry(**{'class': 'os.system'}), "class='os.system' is no class"),
    'a path for a class': (with_entry(**{'class': '../../etc/passwd'}), 'is no class'),
    'a class that is no text': (with_entry(**{'class': ['Decoder']}), 'expected a str'),
    'flags in a list': (with_entry(flags=[]), 'expected a dict'),
    'parts that are text': (with_entry(parts='Decoder'), 'expected a dict'),
    'a part that is a number': (with_entry(parts={'attn_layers': 3}), 'found 3'),
    'given numbers': (with_entry(given=[1]), 'expected names of flags'),
    'given flags': (stack() | {'given': ['num_tokens']}, 'stands there twice'),
    'another entry': (with_entry(code='print()'), 'expected the entries'),
    'a part as a flag': (outer(attn_layers={'class': 'Decoder'}), 'twice'),
    'a wrong part': (with_entry(parts={'attn_layers': {**DATA['parts']['attn_layers'], 'class': 'FeedForward'}}), 'unknown flag'),
    'no part': (with_entry(parts={}), "'attn_layers' is required"),
    'text for a number': (stack(dim='16'), 'a whole number'),
    'a number for a switch': (stack(rotary_pos_emb=16), 'True or False'),
    'a negative width': (stack(dim=-16), 'too small'),
    'null for a width': (stack(dim=None), 'a whole number'),
    'text for a module': (outer(token_emb='os.system'), 'token_emb'),
    'text for a function': (stack(attn_custom_attn_fn='os.system'), 'a function'),
    'a dict for a function': (stack(attn_custom_attn_fn={'module': 'os', 'name': 'system'}), 'a function'),
    'flags that clash': (stack(attn_hard=True, attn_sparse_topk=8), 'same place'),
    'names with dots': (outer(embed_num_tokens={'../x': 3}), 'no dot'),
    'a name with control characters': (stack(**{'\x1b[2J\n': 1}), '\\x1b[2J\\n'),
    'a division by zero': (stack(rotary_pos_emb=True, rotary_emb_dim=2, rotary_base_rescale_factor=1e308), ''),
    'a model of another shape': (stack(dim=32), 'of another shape'),
    'a model of more layers': (stack(depth=2), 'missing: attn_layers.layers.2'),
    'a model of other parts': (stack(use_rmsnorm=True), 'missing'),
    'a model in itself': (with_entry(parts={'attn_layers': DATA}), 'attn_layers'),
    'no model': ([], 'found []'),
    'a null': (None, 'found None'),
}


@pytest.mark.parametrize('name', STRANGE)
def test_strange_configs_are_refused(name, tmp_path):
    data, words = STRANGE[name]
    refusal(forge(tmp_path, data), WEIGHTS, words)


def deep(levels):
    data = copy.deepcopy(DATA)
    for _ in range(levels):
        data = {'class': 'AutoregressiveWrapper', 'flags': {}, 'parts': {'net': data}, 'given': []}
    return data


TEXTS = {
    'empty': ('', 'no JSON'),
    'cut': (json.dumps(about(DATA))[:-40], 'no JSON'),
    'a list': ('[]', 'says nothing of a model'),
    'a number': ('3', 'says nothing of a model'),
    'nested brackets': ('[' * 200_000, 'nested too deeply'),
    'nested dicts': ('{"format_version":' * 50_000 + '1' + '}' * 50_000, 'nested too deeply'),
    'nested wrappers': (json.dumps(about(deep(60))), 'deep'),
    'names twice': ('{"format_version": 1, "format_version": 1}', 'twice'),
    'not a number': (json.dumps(about(DATA)).replace('16', 'NaN', 1), 'finite'),
    'endless': (json.dumps(about(DATA)).replace('16', '1e999', 1), 'finite'),
    'infinity': (json.dumps(about(DATA)).replace('16', '-Infinity', 1), 'finite'),
    'a number of many digits': (json.dumps(about(DATA)).replace('16', '9' * 5000, 1), ''),
    'no version': (json.dumps({'model': DATA}), 'no format_version'),
    'another version': (json.dumps({**about(DATA), 'format_version': 2, 'library_version': '9.9'}), "version '9.9'"),
    'a version that is text': (json.dumps({**about(DATA), 'format_version': '1'}), "format_version='1'"),
    'no model': (json.dumps({'format_version': 1}), 'no entry "model"'),
}


@pytest.mark.parametrize('name', TEXTS)
def test_texts_that_are_no_config_are_refused_in_both_files(name, tmp_path):
    text, words = TEXTS[name]
    refusal(forge(tmp_path / 'weights', None, entry=text), WEIGHTS, words)
    (tmp_path / 'beside').mkdir()
    with open(tmp_path / 'beside' / WEIGHTS, 'wb') as file:
        write(file, TENSORS, {})
    (tmp_path / 'beside' / CONFIG).write_text(text)
    refusal(tmp_path / 'beside', CONFIG, words)


@pytest.mark.parametrize('content', [b'\xff\xfe{}', b' ' * (2**20 + 1), b'\x80\x04N.'], ids=['no text', 'too long', 'a pickle'])
def test_bytes_that_are_no_config_are_refused(content, folder):
    (folder / CONFIG).write_bytes(content)
    refusal(folder, CONFIG)


# ------------------------------------------------------------------------------------------------ what stands under a name


def linked(path, target):
    path.unlink()
    path.symlink_to(target)


def replaced(make):
    def act(path):
        path.unlink()
        make(path)
    return act


PLACES = {
    'a folder': (replaced(os.mkdir), 'is no plain file'),
    'a pipe': (replaced(os.mkfifo), 'is no plain file'),
    'a link to zeros without end': (lambda path: linked(path, '/dev/zero'), 'is no plain file'),
    'a link to a file of another kind': (lambda path: linked(path, __file__), 'is damaged'),
    'a link to nowhere': (lambda path: linked(path, '/nowhere'), 'does not exist'),
    'a link to itself': (lambda path: linked(path, path), 'cannot be read'),
}


@pytest.mark.skipif(os.name == 'nt', reason='pipes and links are those of POSIX')
@pytest.mark.parametrize('name', PLACES)
def test_names_that_lead_elsewhere_are_refused(name, folder):
    act, words = PLACES[name]
    act(folder / WEIGHTS)
    refusal(folder, WEIGHTS, words)


@pytest.mark.skipif(os.name == 'nt', reason='pipes and links are those of POSIX')
@pytest.mark.parametrize('name', ['a folder', 'a pipe', 'a link to zeros without end', 'a link to a file of another kind'])
def test_so_are_those_of_the_config(name, folder):
    PLACES[name][0](folder / CONFIG)
    refusal(folder, CONFIG)


def test_a_linked_file_is_read_and_saving_does_not_write_through_the_link(folder, tmp_path_factory):
    """Caches of the Hub are links; a link must not make a save change a file elsewhere."""
    blob = tmp_path_factory.mktemp('blobs') / 'blob'
    os.replace(folder / WEIGHTS, blob)
    (folder / WEIGHTS).symlink_to(blob)
    before = blob.read_bytes()
    assert torch.equal(load(folder).to_logits.weight, MODEL.to_logits.weight)
    TransformerWrapper(num_tokens=17, max_seq_len=8, attn_layers=Decoder(dim=16, depth=1)).save(folder)
    assert blob.read_bytes() == before and not (folder / WEIGHTS).is_symlink() and load(folder).num_tokens == 17


@pytest.mark.parametrize('path', ['nothing', 'nothing/at/all', 'file', 'file/in/it', 'with\0null'])
def test_what_is_no_folder_is_refused(path, tmp_path):
    (tmp_path / 'file').write_text('')
    refusal(tmp_path / path, 'is no folder')


def test_an_empty_folder_is_refused(tmp_path):
    refusal(tmp_path, WEIGHTS, 'does not exist')


# ------------------------------------------------------------------------------------------------ what a header may say


def file_of(header, data, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, 'little') + raw + data


def tensor(start, end, shape=(2,), dtype='F32', **more):
    return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [start, end], **more}


HEADERS = {
    'empty': (b'', 'a header of 0 bytes'),
    'shorter than its length': (b'\x08\0\0', 'does not fit'),
    'a length beyond the file': (file_of({}, b'', 10**6), 'does not fit'),
    'a length beyond all files': (file_of({}, b'', 2**64 - 1), 'does not fit'),
    'no text': (file_of(b'\xff\xff', b''), 'no JSON'),
    'no JSON': (file_of(b'{"a": }', b''), 'no JSON'),
    'no object': (file_of([], b''), 'no JSON object'),
    'a name twice': (file_of(b'{"a": 1, "a": 2}', b''), 'twice'),
    'many names, one twice': (
        file_of(b'{' + b','.join(b'"%d":0' % i for i in [*range(100_000), 99_999]) + b'}', b''), "'99999' stands there twice",
    ),
    'nested without end': (file_of(b'[' * 100_000, b''), 'nested too deeply'),
    'metadata that is a list': (file_of({'__metadata__': []}, b''), 'no dict of texts'),
    'metadata with numbers': (file_of({'__metadata__': {'a': 1}}, b''), 'no dict of texts'),
    'an entry that is a list': (file_of({'a': []}, b''), 'not described by'),
    'an entry with more': (file_of({'a': tensor(0, 8, code='x')}, bytes(8)), 'not described by'),
    'unknown dtype': (file_of({'a': tensor(0, 8, dtype='O')}, bytes(8)), "has dtype 'O'"),
    'a dtype that is a list': (file_of({'a': tensor(0, 8, dtype=['F32'])}, bytes(8)), 'has dtype'),
    'a negative shape': (file_of({'a': tensor(0, 8, (-2,))}, bytes(8)), 'has shape'),
    'a shape of fractions': (file_of({'a': tensor(0, 8, (2.,))}, bytes(8)), 'has shape'),
    'a shape of truths': (file_of({'a': tensor(0, 4, (True,))}, bytes(4)), 'has shape'),
    'a shape beyond all memory': (file_of({'a': tensor(0, 8, (2**40, 2**40))}, bytes(8)), 'does not have 8 bytes'),
    'a shape of many sides': (file_of({'a': tensor(0, 8, (1,) * 100)}, bytes(8)), 'has shape'),
    'a shape with a zero that hides a huge side': (file_of({'a': tensor(0, 0, (0, 2**62))}, b''), ''),
    'places of fractions': (file_of({'a': tensor(0., 8.)}, bytes(8)), 'has data_offsets'),
    'places backwards': (file_of({'a': tensor(8, 0)}, bytes(8)), 'does not have -8 bytes'),
    'negative places': (file_of({'a': tensor(-8, 0)}, bytes(8)), 'has data_offsets'),
    'places beyond the file': (file_of({'a': tensor(0, 8)}, bytes(4)), 'speaks of 8 bytes of numbers, and there are 4'),
    'overlapping places': (file_of({'a': tensor(0, 8), 'b': tensor(4, 12)}, bytes(12)), 'begins at byte 4'),
    'the same places': (file_of({'a': tensor(0, 8), 'b': tensor(0, 8)}, bytes(8)), 'begins at byte 0'),
    'a hole': (file_of({'a': tensor(0, 8), 'b': tensor(12, 20)}, bytes(20)), 'begins at byte 12'),
    'bytes that nobody owns': (file_of({'a': tensor(0, 8)}, bytes(80)), 'speaks of 8 bytes'),
    'nothing': (file_of({}, b''), ''),
    'a pickle': (pickle.dumps({'a': 1}), 'does not fit'),
    'a zip': (b'PK\x03\x04' + bytes(100), 'does not fit'),
}


@pytest.mark.parametrize('name', HEADERS)
def test_headers_that_lie_are_refused(name, tmp_path):
    content, words = HEADERS[name]
    (tmp_path / CONFIG).write_text(json.dumps(about(DATA)))
    (tmp_path / WEIGHTS).write_bytes(content)
    refusal(tmp_path, words)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        net().load_weights(tmp_path)


class Payload:
    """What a pickle runs when it is opened."""

    def __reduce__(self):
        return os.mkdir, (os.environ['PAYLOAD'],)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv('PAYLOAD', str(tmp_path / 'executed'))
    (tmp_path / CONFIG).write_text(json.dumps(about(DATA)))
    for write_it in (lambda path: path.write_bytes(pickle.dumps(Payload())), lambda path: torch.save({'a': Payload()}, path)):
        write_it(tmp_path / WEIGHTS)
        refusal(tmp_path)
        write_it(tmp_path / 'pytorch_model.bin')        # nobody looks there
        refusal(tmp_path)
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('change, words', [
    (lambda t: {**t, 'stranger': torch.zeros(3)}, 'unexpected: stranger'),
    (lambda t: {name: value for name, value in t.items() if name != 'to_logits.weight'}, 'missing: to_logits.weight'),
    (lambda t: {**t, 'to_logits.weight': t['to_logits.weight'].t()[:8]}, 'of another shape: to_logits.weight is (8, 16)'),
    (lambda t: {**t, 'to_logits.weight': t['to_logits.weight'].int()}, 'of another dtype: to_logits.weight is I32'),
    (lambda t: {**t, **{f'stranger{i}\x1b[2J': torch.zeros(1) for i in range(20)}}, 'and 12 more'),
], ids=['one more', 'one less', 'another shape', 'another dtype', 'many more'])
def test_tensors_that_are_not_those_of_the_config_are_listed(change, words, tmp_path):
    sentence = refusal(forge(tmp_path, DATA, change(TENSORS)), WEIGHTS, words)
    assert '\x1b' not in sentence


def test_numbers_of_another_precision_are_taken_as_they_are(tmp_path):
    forge(tmp_path, DATA, {name: value.half() for name, value in TENSORS.items()})
    assert {p.dtype for p in load(tmp_path).parameters()} == {torch.float16}


def test_a_digest_that_is_wrong_or_missing_is_found_and_can_be_passed_over(folder):
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-5] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    refusal(folder, WEIGHTS, 'its digest is not that of what it holds')
    model = net()
    with pytest.raises(CheckpointError, match='its digest'):
        model.load_weights(folder)
    assert all(torch.equal(value, TENSORS[name]) for name, value in model.state_dict().items())
    assert not torch.equal(torch.cat([p.flatten() for p in load(folder, verify=False).parameters()]),
                           torch.cat([p.flatten() for p in MODEL.parameters()]))


# ------------------------------------------------------------------------------------------------ fuzz


def spoilt(raw, rng):
    """A file with a few bytes changed, cut, put in, or moved."""
    raw, header = bytearray(raw), 8 + int.from_bytes(raw[:8], 'little')
    where = lambda: rng.randrange(min(header, len(raw)) if rng.random() < 0.7 else len(raw))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, how = where(), rng.randrange(6)
        if how == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            raw[at] = rng.choice(b'0123456789"{}[],:-.eNtf \\\0\xff')
        elif how == 2:
            del raw[at:at + rng.choice((1, 2, 8, 4096))]
        elif how == 3:
            raw[at:at] = rng.choice((b'0', b'9', b'"', b',', b'{', bytes(8)))
        elif how == 4:
            del raw[at:]
        else:
            other = where()
            raw[at:at + 4], raw[other:other + 4] = raw[other:other + 4], raw[at:at + 4]
        if len(raw) < 16:
            break
    return bytes(raw)


def test_spoilt_files_are_refused_or_hold_the_model(folder, tmp_path_factory):
    rng, outcomes = random.Random(0), {'refused': 0, 'right': 0}
    originals = {name: (folder / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    for _ in range(400):
        name = WEIGHTS if rng.random() < 0.75 else CONFIG
        content = spoilt(originals[name], rng) if name == WEIGHTS else spoilt(bytes(8) + originals[name], rng)[8:]
        (folder / name).write_bytes(content)
        try:
            model = load(folder)
            outcomes['right'] += 1
            assert all(torch.equal(value, TENSORS[key]) for key, value in model.state_dict().items())
            assert describe_part(model) == DATA
        except CheckpointError as error:
            outcomes['refused'] += 1
            assert str(folder) in str(error)
        (folder / name).write_bytes(originals[name])
    assert outcomes['refused'] > 300


VALUES = (None, True, False, 0, 1, -1, 2, 3, 7, 16, 17, 1000, 10**6, 10**9, 10**18, 10**30, 0.0, -0.5, 1e-300, 1e300, '', 'a', 'af',
          '../x', [], [0], [1, 2], ['a'], {}, {'a': 1}, {'class': 'Decoder'})


def shapes(tensors):
    return {name: value.shape for name, value in tensors.items()}


def mutated(data, rng, names):
    """A config in which a few flags have strange values, or strange names."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        part = rng.choice([data, data['parts'].get('attn_layers', data)])
        if not isinstance(part, dict):
            continue
        flags = part['flags']
        how = rng.randrange(10)
        if how < 7:
            flags[rng.choice(names.get(part['class'], ['dim']))] = rng.choice(VALUES)
        elif how == 7 and flags:
            del flags[rng.choice(sorted(flags))]
        elif how == 8:
            part['class'] = rng.choice(('Encoder', 'Decoder', 'DPO', 'NeoMLP', 'Attend', 'FeedForward', 'XTransformer', 'PrefixDecoder'))
        else:
            part['given'] = [rng.choice(names['Decoder'])]
    return data


def test_strange_configs_are_refused_or_describe_the_same_tensors(tmp_path):
    names = {cls.__name__: [e.name for e in catalogue(cls.config_class)] for cls in (Decoder, TransformerWrapper)}
    rng, refused, began = random.Random(1), 0, time.monotonic()
    for _ in range(400):
        forge(tmp_path, mutated(DATA, rng, names))
        try:
            model = load(tmp_path)
            assert shapes(model.state_dict()) == shapes(TENSORS)
        except CheckpointError as error:
            refused += 1
            assert str(tmp_path) in str(error)
    assert 100 < refused < 400 and time.monotonic() - began < 10 * ENOUGH


def test_the_digest_covers_names_and_flags(folder):
    """Two tensors of one shape that change names are found."""
    raw = (folder / WEIGHTS).read_bytes()
    swapped = raw.replace(b'to_k.weight', b'to_?.weight').replace(b'to_q.weight', b'to_k.weight').replace(b'to_?.weight', b'to_q.weight')
    assert swapped != raw and hashlib.sha256(swapped).digest() != hashlib.sha256(raw).digest()
    (folder / WEIGHTS).write_bytes(swapped)
    refusal(folder, 'its digest')
