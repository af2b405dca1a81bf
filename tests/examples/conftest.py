"""The examples are scripts: they import one another from their own folder. Runs here take a second."""
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / 'examples'
sys.path.insert(0, str(EXAMPLES))

SMALL = ['--set', 'dim=16', 'depth=2', 'heads=2', 'attn_dim_head=16', '--seq-len', '16', '--batch', '4', '--steps', '8', '--warmup', '2',
         '--eval-every', '3', '--eval-windows', '8', '--save-every', '4', '--sample', '20', '--device', 'cpu']


@pytest.fixture(scope='session')
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp('text') / 'text.py'
    path.write_bytes((EXAMPLES / 'train_lm.py').read_bytes())
    return path


@pytest.fixture
def small(text):
    """Arguments of a small run."""
    return [*SMALL, '--data', str(text)]


@pytest.fixture(scope='session')
def finished(text, tmp_path_factory):
    """The folder of a finished small run; not to be changed."""
    import train_lm
    folder = tmp_path_factory.mktemp('finished')
    assert train_lm.main([*SMALL, '--data', str(text), '--out', str(folder)]) == 0
    return folder


@pytest.fixture
def refusal(capsys):
    """Call a script's main; it must refuse in one sentence, having computed nothing."""
    def refuse(main, *argv):
        capsys.readouterr()
        try:
            status = main([str(a) for a in argv])
        except SystemExit as leaving:                           # argparse
            status = leaving.code
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ''
        lines = [line for line in err.splitlines() if not line.startswith('usage: ')]
        assert len(lines) == 1
        return lines[0]
    return refuse
