"""A saved model goes on with a prompt, as text, the same way for the same seed."""
import sys

import pytest
import sample
import torch
import train_lm
from lm.terminal import stream_text


class Scripted(torch.nn.Module):
    """Writes given bytes, whatever the prompt."""

    def __init__(self, content):
        super().__init__()
        self.register_parameter('weight', torch.nn.Parameter(torch.zeros(1)))
        self.content = content

    def stream(self, prompts, seq_len, **keywords):
        yield from torch.tensor([*self.content])[:seq_len]


def test_characters_appear_once_all_their_bytes_are_there():
    pieces = list(stream_text(Scripted('é→x'.encode()), b'>', 6))
    assert pieces == ['>', '', 'é', '', '', '→', 'x', '']


def test_bytes_that_are_no_text_show_as_replacements():
    assert ''.join(stream_text(Scripted(b'\xffa\xc3'), b'\xfe', 3)) == '��a�'


def test_bytes_cannot_steer_the_terminal():
    assert ''.join(stream_text(Scripted(b'\x1b[2J\a\r\n\t'), b'\x1b', 9)) == '��[2J��\n\t'


def run(capsys, *argv):
    assert sample.main([str(a) for a in argv]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize('choice', [[], ['--top-k', '5'], ['--top-p', '0.9'], ['--min-p', '0.1'], ['--temperature', '0']])
def test_the_same_seed_writes_the_same_text(choice, finished, capsys):
    texts = [run(capsys, finished, '--prompt', 'class ', '--length', 40, '--seed', seed, *choice) for seed in (1, 1, 2)]
    assert texts[0].startswith('class ')
    assert texts[0] == texts[1]
    assert (texts[0] == texts[2]) == ('--temperature' in choice)


def test_a_step_of_a_run_can_be_named(finished, capsys):
    step = next(finished.glob('step-*'))
    assert run(capsys, finished, '--seed', 1) == run(capsys, step, '--seed', 1)


def test_a_prompt_may_be_any_bytes(finished, capsys):
    assert run(capsys, finished, '--prompt', b'\xff\xfe'.decode(sys.getfilesystemencoding(), 'surrogateescape')).startswith('��')


@pytest.mark.parametrize('argv, words', [
    (['--prompt', ''], '--prompt is empty'),
    (['--prompt', 'x' * 17], '--prompt 17 bytes at most 16'),
    (['--length', '0'], '--length 0 expected at least 1'),
    (['--top-k', '5', '--top-p', '0.5'], '--top-p not allowed with --top-k'),
    (['--device', 'abacus'], '--device abacus cannot be used'),
])
def test_wrong_arguments_are_refused(argv, words, finished, refusal):
    sentence = refusal(sample.main, finished, *argv)
    assert all(word in sentence for word in words.split(' '))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path, refusal):
    assert f'{tmp_path} holds no checkpoint' in refusal(sample.main, tmp_path)


def test_absolute_positions_end(small, tmp_path, refusal, capsys):
    flags = ['--set', 'rotary_pos_emb=False', '--out', str(tmp_path), '--steps', '2', '--sample', '1000']
    assert train_lm.main([*small, *flags]) == 0                 # writes as much as there is room for
    run(capsys, tmp_path, '--prompt', 'abcd', '--length', 13)
    assert 'room for 13 bytes' in refusal(sample.main, tmp_path, '--prompt', 'abcd', '--length', 14)
