"""What holds the project together: one version, declared dependencies, imports that go one way, files that can be read."""
import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import x_transformers
from x_transformers.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'x_transformers'
PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))

# From the ground up: a module may import from its own row and from those above it in this list.
# A name covers the module, or the folder and all that is in it.
ROWS = (
    ('version', 'errors', 'flags'),
    ('plan',),
    ('branch', 'cache', 'call', 'documents', 'inputs', 'precision', 'shortcuts', 'state', 'toolbox'),
    ('context', 'files', 'joining', 'layerscale', 'norms', 'positions', 'residuals', 'ring', 'running', 'shift', 'skips', 'storable'),
    ('attention', 'countable', 'counting', 'feedforward', 'mixers'),
    ('checks', 'entry', 'layer', 'layers', 'layers_config', 'rebuilding'),
    ('models',),
    ('decoding', 'training'),
    ('interop', 'lab', 'parallel'),
    # the public names, and the import paths of 2.0.1
    ('__init__', 'x_transformers', 'attend', 'autoregressive_wrapper', 'nonautoregressive_wrapper', 'xl_autoregressive_wrapper',
     'continuous', 'xval', 'multi_input', 'neo_mlp', 'dpo', 'belief_state_wrapper', 'entropy_based_tokenizer'),
)
WITHOUT_TORCH = ('errors', 'flags', 'plan')

MOST_LINES = 400
LONGER = {}             # 'models/transformer.py': 'why it reads better in one piece'

IMPORT_SECONDS = 0.3    # beyond torch


class Import(NamedTuple):
    name: str           # absolute and dotted; of `from a import b` it is a.b when that is a module of ours, else a
    line: int
    at_import: bool     # False inside a function


def module_name(path):
    """'x_transformers.attention' for attention/__init__.py, 'x_transformers.__init__' for the package's own."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' and len(parts) > 2 else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}
TREES = {name: ast.parse(path.read_text(encoding='utf-8'), str(path)) for name, path in FILES.items()}

each_module = pytest.mark.parametrize('name', FILES)


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ('TYPE_CHECKING', 'typing.TYPE_CHECKING')


def ours(name):
    return 'x_transformers.__init__' if name == 'x_transformers' else name


def imports(name):
    """All imports of a module that happen when it runs; those for type checkers alone do not."""
    package = FILES[name].relative_to(ROOT).parent.parts

    def walk(node, at_import):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(ours(alias.name), node.lineno, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            source = '.'.join((*base, *filter(None, [node.module])))
            for alias in node.names:
                inner = f'{source}.{alias.name}'
                yield Import(inner if inner in FILES else ours(source), node.lineno, at_import)
        else:
            inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
            for child in children:
                yield from walk(child, inside)

    return list(walk(TREES[name], True))


def row(name):
    if name.endswith('.__main__'):                               # a command stands above all that it shows
        return len(ROWS) - 1
    top = name.split('.')[1]
    found = [i for i, names in enumerate(ROWS) if top in names]
    assert found, f'{name} is in no row: say in ROWS where it belongs'
    return found[0]


def third_party(name, at_import=None):
    tops = {i.name.split('.')[0] for i in imports(name) if at_import is None or i.at_import == at_import}
    return tops - set(sys.stdlib_module_names) - {'x_transformers'}


def declared(extra=None):
    project = PYPROJECT['project']
    lines = project['optional-dependencies'][extra] if extra else project['dependencies']
    return {Requirement(line).name for line in lines}


# version, metadata


def test_version_is_written_once():
    assigned = [
        name for name, tree in TREES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == '__version__' for target in node.targets)
    ]
    assert assigned == ['x_transformers.version']
    assert PYPROJECT['project']['dynamic'] == ['version']
    assert ROOT / PYPROJECT['tool']['hatch']['version']['path'] == FILES['x_transformers.version']


def test_version_is_what_the_package_and_its_metadata_say():
    assert str(Version(__version__)) == __version__ == x_transformers.__version__
    try:
        installed = importlib.metadata.version('x-transformers')
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('the package is on the path, not installed')
    assert installed == __version__


def test_changelog_has_a_section_for_this_version():
    headings = re.findall(r'^## .*$', (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), re.MULTILINE)
    assert any(__version__ in heading for heading in headings)


def test_package_is_marked_as_typed():
    assert (PACKAGE / 'py.typed').is_file()


# dependencies


@each_module
def test_dependencies_are_declared(name):
    assert third_party(name, at_import=True) <= declared()
    optional = declared('examples') | declared('hub') | declared('transformers')
    assert third_party(name, at_import=False) <= declared() | optional, 'inside functions extras may be imported too'


def test_declared_dependencies_are_used():
    assert declared() <= set().union(*map(third_party, FILES))


def test_every_declared_package_is_pinned():
    lines = (line.split('#')[0].strip() for line in (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines())
    pins = [Requirement(line) for line in lines if line]
    assert all(str(pin.specifier).startswith('==') for pin in pins)
    wanted = declared().union(*map(declared, PYPROJECT['project']['optional-dependencies']))
    assert wanted - {'tomli'} <= {pin.name for pin in pins}      # tomli is for Python 3.10 alone


# imports


@each_module
def test_imports_go_one_way(name):
    upward = [
        f'line {i.line}: {i.name}' for i in imports(name)
        if i.name.startswith('x_transformers.') and row(i.name) > row(name)
    ]
    assert not upward, f'{name} imports from above itself'


def test_flags_errors_and_plan_need_no_torch():
    reached, pending = set(), [f'x_transformers.{name}' for name in WITHOUT_TORCH]
    while pending:
        name = pending.pop()
        reached.add(name)
        assert 'torch' not in third_party(name), f'{name} imports torch'
        pending += {i.name for i in imports(name) if i.name in FILES} - reached


def test_import_costs_little_beyond_torch():
    code = """if True:
        import sys, time, torch
        before, start = set(sys.modules), time.process_time()
        import x_transformers
        print(time.process_time() - start, *set(sys.modules) - before)
    """
    best = float('inf')
    for _ in range(15):                                          # the processor's time, yet what runs beside it takes its caches
        done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, *brought = done.stdout.split()
        assert not {'einx', 'torch._dynamo'} & set(brought), 'import these inside the functions that use them'
        best = min(best, float(seconds))
        if best <= IMPORT_SECONDS:
            break
    assert best <= IMPORT_SECONDS


# files


@each_module
def test_module_says_what_it_is(name):
    assert ast.get_docstring(TREES[name])


@each_module
def test_module_prints_nothing(name):
    prints = [n.lineno for n in ast.walk(TREES[name]) if isinstance(n, ast.Call) and ast.unparse(n.func) == 'print']
    assert not prints, f'lines {prints}: log with loguru, or return it'


def test_files_are_short_enough_to_read():
    lengths = {path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding='utf-8').splitlines()) for path in FILES.values()}
    long = {path: lines for path, lines in lengths.items() if lines > MOST_LINES}
    assert {path: lines for path, lines in long.items() if path not in LONGER} == {}
    assert set(LONGER) <= set(long), 'these are short again: take them off the list'
