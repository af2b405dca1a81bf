"""A hunt for holes in the laws: `python tests/mutations/hunt.py [COUNT] [SEED]` makes small random changes and runs laws against each.

A comparison is turned round or off by one, a number grows by one, `min` becomes `max`, `not` is dropped, `+` becomes `-`. What survives
is either the same function in other words, or a hole: a new law, and then perhaps a row of mutation_table.py.
"""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path

from mutation_table import ROOT, Mutation
from run import checked

FOLDERS = ('attention', 'decoding', 'positions', 'state.py')
COMPARISONS = {'<': '<=', '<=': '<', '>': '>=', '>=': '>', '==': '!=', '!=': '=='}
TYPES = {ast.Lt: '<', ast.LtE: '<=', ast.Gt: '>', ast.GtE: '>=', ast.Eq: '==', ast.NotEq: '!='}
LAWS = 'test_choices.py test_formulas.py test_training_wrappers.py test_decoding.py test_padding.py'
FEW = ('memory', 'latents', 'selective', 'hybrid')  # the cases in which most of a state is alive
IN_PIECES = ('pieces_equal_the_whole', 'rewound', 'forgets', 'test_left_padding')
CHOSEN = ' or '.join((
    'test_choices', 'papers_say', 'papers_take', 'whole_window', f'(({" or ".join(IN_PIECES)}) and ({" or ".join(FEW)}))',
))


def changes(source: str) -> list[tuple[int, int, str]]:
    """(begin, end, new text) of every small change inside functions, in characters."""
    lines, found = source.splitlines(keepends=True), []
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    at = lambda line, column: starts[line - 1] + len(lines[line - 1].encode()[:column].decode())
    span = lambda node: (at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset))
    bodies = [function for function in ast.walk(ast.parse(source)) if isinstance(function, ast.FunctionDef)]
    bodies = [function for function in bodies if not function.name.startswith('naive')]
    for node in {id(node): node for function in bodies for part in function.body for node in ast.walk(part)}.values():
        if isinstance(node, (ast.Raise, ast.JoinedStr)):
            continue
        if isinstance(node, ast.Compare) and type(node.ops[0]) in TYPES:
            begin, end, sign = span(node.left)[1], span(node.comparators[0])[0], TYPES[type(node.ops[0])]
            found.append((begin, end, source[begin:end].replace(sign, COMPARISONS[sign])))
        elif isinstance(node, ast.Constant) and type(node.value) is int and node.value in (0, 1, 2):
            found.append((*span(node), str(node.value + 1)))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            found.append((span(node)[0], span(node.operand)[0], ''))
        elif isinstance(node, ast.Name) and node.id in ('min', 'max'):
            found.append((*span(node), 'max' if node.id == 'min' else 'min'))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
            begin, end = span(node.left)[1], span(node.right)[0]
            old, new = ('+', '-') if isinstance(node.op, ast.Add) else ('-', '+')
            found.append((begin, end, source[begin:end].replace(old, new)))
    return sorted(found)


def files() -> list[Path]:
    package = ROOT / 'x_transformers'
    every = [path for name in FOLDERS for path in ([package / name] if name.endswith('.py') else sorted((package / name).glob('*.py')))]
    return [path for path in every if path.stem not in ('checks', 'naive', 'config', 'flags', '__init__')]


def drawn(count: int, seed: int) -> list[Mutation]:
    """Random mutations, each as its whole line, that stands once in its file."""
    draw, made = random.Random(seed), []
    while len(made) < count:
        path = draw.choice(files())
        source = path.read_text(encoding='utf-8')
        begin, end, new = draw.choice(changes(source) or [(0, 0, '')])
        first, last = source.rfind('\n', 0, begin) + 1, source.find('\n', end)
        text, file = source[first:last], str(path.relative_to(ROOT / 'x_transformers'))
        broken = source[first:begin] + new + source[end:last]
        if source.count(text) == 1 and text != broken and 'raise' not in text and "f'" not in text:
            made.append(Mutation(f'{text.strip()}  ->  {broken.strip()}', file, LAWS, CHOSEN, text, broken))
    return made


if __name__ == '__main__':
    count, seed = ([int(argument) for argument in sys.argv[1:]] + [30, 0][len(sys.argv) - 1 :])[:2]
    print(f'{sum(result.law == "" for result in checked(drawn(count, seed)))} of {count} survive')
