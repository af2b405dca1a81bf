"""Command lines: of `python -m x_transformers.flags` and of the examples. They end with status 2 and a sentence on standard error."""

from __future__ import annotations

import importlib
import io
import sys
from contextlib import redirect_stderr
from pathlib import Path

from misuses.row import Misuse

EXAMPLES = Path(__file__).parents[3] / 'examples'


def command(script: str, *arguments: str) -> None:
    """The command's last words on standard error as those of the SystemExit that its status is."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))  # the examples import one another from their own folder
    words = io.StringIO()
    try:
        with redirect_stderr(words):
            status = importlib.import_module(script).main(list(arguments))
    except SystemExit as leaving:  # argparse
        status = leaving.code
    if status == 2:
        raise SystemExit(words.getvalue().splitlines()[-1])


FLAGS = 'x_transformers.flags.__main__'
DATA = ('--data', __file__)
MISUSES: dict[str, Misuse] = {
    'flags of no name': Misuse(SystemExit, lambda: command(FLAGS, 'no_such_flag'),
        'any public class', "'no_such_flag'", 'no flag', 'leave the pattern out to see all'),
    'flags of no class': Misuse(SystemExit, lambda: command(FLAGS, '--of', 'Transformer'), '--of', "'Transformer'", 'TransformerWrapper'),
    'an option that is none': Misuse(SystemExit, lambda: command(FLAGS, '--html'), '--html', 'unrecognized', 'arguments'),
    'a page of some flags': Misuse(SystemExit, lambda: command(FLAGS, 'attn', '--markdown'),
        '--markdown', 'PATTERN', 'writes the whole page', 'leave out PATTERN and --of'),
    'no step of training': Misuse(SystemExit, lambda: command('arithmetic', '--steps', '0'), '--steps', '0 is not possible', 'at least 1'),
    'a batch in words': Misuse(SystemExit, lambda: command('arithmetic', '--batch', 'many'), '--batch', "'many'", 'whole number'),
    'patches of another size': Misuse(SystemExit, lambda: command('digits', '--patch', '3', '8'), '--patch', '3', '1, 2, 4, 8'),
    'half a step': Misuse(SystemExit, lambda: command('digits', '--steps', '0.5'), '--steps', "'0.5'", 'whole number'),
    'an empty batch': Misuse(SystemExit, lambda: command('fill_in', '--batch', '0'), '--batch', '0 is not possible', 'at least 1'),
    'a misspelt option': Misuse(SystemExit, lambda: command('fill_in', '--critics'), '--critics', 'unrecognized', 'arguments'),
    'a forecast of nothing': Misuse(SystemExit, lambda: command('forecast', '--horizon', '0'), '--horizon', '0 is not',
        'expected 1 to 120'),
    'a forecast from a season': Misuse(SystemExit, lambda: command('forecast', '--context', '3'), '--context', '3 is not',
        'expected 12 to'),
    'a weight below zero': Misuse(SystemExit, lambda: command('prefer', '--likelihood', '-1'), '--likelihood', '-1 is not', 'at least 0'),
    'letters of no length': Misuse(SystemExit, lambda: command('sort', '--length', '1'), '--length', '1 is not possible', 'at least 2'),
    'too few to be solved': Misuse(SystemExit, lambda: command('sort', '--held-out', '5'), '--held-out', '5 is not', 'at least 100'),
    'a folder without a checkpoint': Misuse(SystemExit, lambda: command('sample', 'no/such/folder'),
        'checkpoint', 'no/such/folder', 'no file named latest', 'Name the folder that a run of train_lm.py left'),
    'nothing to sample from': Misuse(SystemExit, lambda: command('sample'), 'checkpoint', 'required', 'arguments'),
    'a temperature below zero': Misuse(SystemExit, lambda: command('sample', 'a', '--temperature', '-1'),
        '--temperature', '-1 is not possible', 'at least 0'),
    'two filters': Misuse(SystemExit, lambda: command('sample', 'a', '--top-k', '1', '--top-p', '0.5'),
        '--top-p', '--top-k', 'not allowed with'),
    'a misspelt flag to train': Misuse(SystemExit, lambda: command('train_lm', *DATA, '--set', 'dept=2'),
        "'dept'", 'unknown flag', "did you mean 'depth'?"),
    'a flag without a value': Misuse(SystemExit, lambda: command('train_lm', *DATA, '--set', 'depth'),
        '--set', "'depth'", 'NAME=VALUE', 'as in ff_mult=2'),
    'a word for a depth': Misuse(SystemExit, lambda: command('train_lm', *DATA, '--set', 'depth=deep'),
        'depth', "depth='deep'", 'expected a whole number'),
    'processes that were not started': Misuse(SystemExit, lambda: command('train_lm', *DATA, '--parallel', 'fsdp'),
        '--parallel', 'fsdp', 'for several processes', 'torchrun --nproc-per-node 2'),
    'an unknown way together': Misuse(SystemExit, lambda: command('train_lm', *DATA, '--parallel', 'pp'),
        '--parallel', "'pp'", 'ddp'),
    'processes that compile': Misuse(SystemExit, lambda: command('train_lm', *DATA, '--parallel', 'ddp', '--compile'),
        '--compile', '--parallel ddp', 'cannot be combined', 'Leave one out'),
    'data that is not there': Misuse(SystemExit, lambda: command('train_lm', '--data', 'no/such/file'),
        '--data', 'no/such/file', 'cannot be read', 'Name a text file'),
}  # fmt: skip
