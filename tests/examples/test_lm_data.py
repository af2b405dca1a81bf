"""What is learned and what is held out stays the same from run to run."""
import gzip

import torch
from lm.data import batch_at, fixed_windows, read_corpus, standard_library


def test_the_standard_library_is_split_by_file():
    corpus = standard_library()
    assert len(corpus.train) > 10 * len(corpus.held_out) / 2 > 100_000
    assert 'files held out' in corpus.about
    assert corpus.fingerprint == standard_library().fingerprint


def test_a_compressed_text_equals_the_plain_one(text, tmp_path):
    packed = tmp_path / 'text.gz'
    packed.write_bytes(gzip.compress(text.read_bytes()))
    plain, unpacked = read_corpus(str(text), 16), read_corpus(str(packed), 16)
    assert plain.fingerprint == unpacked.fingerprint
    assert bytes(torch.cat((plain.train, plain.held_out)).tolist()) == text.read_bytes()


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    text = torch.arange(200, dtype=torch.uint8)
    torch.manual_seed(0)
    one = batch_at(text, 5, 0, 4, 9)
    torch.manual_seed(1)
    assert torch.equal(one, batch_at(text, 5, 0, 4, 9))
    assert not torch.equal(one, batch_at(text, 6, 0, 4, 9))
    assert not torch.equal(one, batch_at(text, 5, 1, 4, 9))
    assert torch.equal(one - one[:, :1], torch.arange(9).expand(4, 9))


def test_every_place_of_the_text_is_drawn():
    text = torch.arange(10, dtype=torch.uint8)
    assert batch_at(text, 0, 0, 500, 4).unique().tolist() == list(range(10))
    assert batch_at(text, 0, 0, 2, 10).tolist() == [list(range(10))] * 2


def test_windows_predict_no_byte_twice():
    text = torch.arange(100, dtype=torch.uint8)
    windows = fixed_windows(text, 1000, 9)
    assert windows[:, 1:].unique().numel() == windows[:, 1:].numel() == 96
    assert fixed_windows(text, 3, 9)[:, 0].tolist() == [0, 45, 90]
    assert fixed_windows(text[:9], 3, 9).tolist() == [list(range(9))]
