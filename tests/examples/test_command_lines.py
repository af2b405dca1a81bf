"""Command lines that the README and the examples themselves show are understood by the scripts."""
import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [path.stem for path in sorted((ROOT / 'examples').glob('*.py'))]
SHOWN = {
    (line.partition('  #')[0].strip(), path.name)
    for path in (ROOT / 'README.md', *(ROOT / 'examples').glob('*.py'))
    for line in re.findall(r'^ *(python examples/.+)$', path.read_text(encoding='utf-8'), re.MULTILINE)
}


@pytest.mark.parametrize('line, where', sorted(SHOWN))
def test_shown_command_line_parses(line, where):
    _, script, *argv = shlex.split(line)
    importlib.import_module(Path(script).stem).make_parser().parse_args(argv)


@pytest.mark.parametrize('name', SCRIPTS)
def test_every_script_is_shown_in_its_docstring_and_linked_in_the_readme(name):
    assert any(f'examples/{name}.py' in line for line, where in SHOWN if where == f'{name}.py')
    assert f'](examples/{name}.py)' in (ROOT / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('given', ['11', '241', 'many'])
def test_a_number_out_of_bounds_is_refused(given, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module('forecast').make_parser().parse_args(['--context', given])
    assert re.search(rf'--context: (invalid whole number value: )?.?{given}', capsys.readouterr().err)
