"""Results as tables: for the terminal, and for docs/benchmarks.md."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

CLOCKS = {'wall': '', 'cpu': 'Processor time, since others used the machine.'}
BEGIN, END = '<!-- results: written by benchmarks/run.py -->', '<!-- end of results -->'


def number(x: float) -> str:
    return f'{x:.0f}' if x >= 100 else f'{x:.1f}' if x >= 10 else f'{x:.2f}'


def measured(what: str, x: float | None) -> str:
    return '–' if x is None else f'{x:.0%}' if what == 'of_limit' else number(x)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def show(found: dict[str, Any]) -> str:
    """One workload: a heading, a line of what is asked for, a table, and what follows from all its rows."""
    rows, labels = found['rows'], found['labels']
    names = [name for name in labels if any(name in row['ms'] for row in rows)]
    others = [name for name in names if any(name in row['ratio'] for row in rows)]
    head = ['', *(f'{labels[name]}, ms' for name in names), *(f'ours / {labels[name]} (middle half)' for name in others)]
    more = {'of_limit': 'of what the machine allows', 'mib': 'MiB'}
    extra = [(what, name) for what in more for name in names if any(name in row.get(what, {}) for row in rows)]
    head += [f'{labels[name]}, {more[what]}' for what, name in extra]
    lines = []
    for row in rows:
        spread = lambda r: '' if r is None else f'**{r[0]:.2f}** ({r[1]:.2f} to {r[2]:.2f})'
        cells = [row['case'], *(number(row['ms'][name]) if name in row['ms'] else '–' for name in names)]
        cells += [spread(row['ratio'].get(name)) for name in others]
        cells += [measured(what, row.get(what, {}).get(name)) for what, name in extra]
        lines.append(cells)
    title = [f'### {found["workload"]}: {found["shows"]}', '', f'Asked for: {found["bar"]}. {CLOCKS[found["clock"]]}'.rstrip(), '']
    return '\n'.join([*title, table(head, lines), '', *summary(found), ''])


def summary(found: dict[str, Any]) -> list[str]:
    """Sentences about all rows together."""
    rows, labels, said = found['rows'], found['labels'], []
    for what, name in (('ms', 'time'), ('mib', 'memory')):
        grows = found['exponents'].get(what)
        if grows:
            each = ', '.join(f'n^{slope:.2f} ({labels[who]})' for who, slope in sorted(grows.items()))
            said.append(f'{name.capitalize()} grows as {each}.')
    if found['workload'] == 'flags':
        said += of_flags(rows, labels)
    if found['base']:
        said += over_base(rows, found['base'], labels)
    if found['workload'] == 'decode-2048':
        said += late_over_early(rows, labels)
    refused = {f'{labels[who]} with {row["case"]}: {why}' for row in rows for who, why in row['errors'].items()}
    return [*said, *(['Not measured: ' + '; '.join(sorted(refused)) + '.'] if refused and found['workload'] != 'flags' else [])]


def of_flags(rows: list[dict[str, Any]], labels: dict[str, str]) -> list[str]:
    """The mean over flags, and those that are slower."""
    ratios = {row['case']: row['ratio']['x-transformers'][0] for row in rows if 'x-transformers' in row['ratio']}
    if not ratios:
        return []
    slow = [f'`{name}` ({ratio:.2f})' for name, ratio in sorted(ratios.items(), key=lambda item: -item[1]) if ratio > 1.05]
    missing = [f'`{row["case"]}`' for row in rows if row['errors']]
    return [
        f'Geometric mean over {len(ratios)} flags: **{statistics.geometric_mean(ratios.values()):.3f}**. '
        f'Above 1.05: {", ".join(slow) or "none"}. Not in both: {", ".join(missing) or "none"}.'
    ]


def over_base(rows: list[dict[str, Any]], base: str, labels: dict[str, str]) -> list[str]:
    """Each case as a multiple of the one without it, at the same length."""
    by_case, said = {row['case']: row for row in rows}, []
    for row in rows:
        name, length = row['case'].split(', ')
        none = by_case.get(f'{base}, {length}')
        if none is not None and name != base:
            parts = [f'{labels[who]} {ms / none["ms"][who]:.2f}' for who, ms in row['ms'].items() if who in none['ms']]
            said.append(f'{row["case"]} over {base}: {", ".join(parts)}.')
    return [' '.join(said)] if said else []


def late_over_early(rows: list[dict[str, Any]], labels: dict[str, str]) -> list[str]:
    """What 64 tokens cost behind many others over what they cost behind few: prefill and the first token are taken off."""
    ms, said = {row['case']: row['ms'] for row in rows}, []
    for who in rows[0]['ms']:
        early, late = (ms[f'65 after {n}'][who] - ms[f'1 after {n}'][who] for n in (16, 1984))
        said.append(f'{labels[who]} {number(early / 64)} to {number(late / 64)} ms, {late / early:.2f} times')
    return ['A token, from first to last: ' + '; '.join(said) + '.']


def write_page(page: Path, results: Path, order: list[str]) -> None:
    """The tables of all results between the two marks of the page."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob('*.json'))]
    found = sorted((f for f in found if 'workload' in f), key=lambda f: (order.index(f['workload']), str(f['machine'])))
    text = page.read_text()
    before, rest = text.split(BEGIN)
    facts = {json.dumps({k: v for k, v in f['machine'].items() if k not in ('matmul_gflops', 'read_gb_s')}): f['machine'] for f in found}
    told = [', '.join(f'{name} {value}' for name, value in machine.items()) for machine in facts.values()]
    body = '\n'.join([*(f'Measured with {line}.\n' for line in told), *map(show, found)])
    page.write_text(f'{before}{BEGIN}\n\n{body}\n{END}{rest.split(END)[1]}')
