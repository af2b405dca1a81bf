"""What docs/combinations.md says of each flag: the laws that hold, and what it is refused with."""
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / 'combinations.md'
KINDS = {'D': 'decoder', 'E': 'encoder', 'B': 'encoder-decoder', 'M': 'model'}


class Refusal(NamedTuple):
    kinds: str                      # 'decoder, encoder'
    others: tuple[str, ...]         # the flags that it cannot be together with; none: it is refused alone
    reason: str


class Verdicts(NamedTuple):
    laws: dict[str, str]                            # name: sentence
    held: dict[str, dict[str, dict[str, str]]]      # flag: law: kind: 'holds', or why the law says nothing
    refused: dict[str, list[Refusal]]               # flag: refusals


def read(text: str) -> Verdicts:
    laws = dict(re.findall(r'^- \*\*(\w+)\*\*: (.+)$', text, re.MULTILINE))
    reasons = dict(re.findall(r'^(\d+)\. (.+)\.$', text, re.MULTILINE))
    held = {}
    for flag, row in re.findall(r'^\| `(\w+)` \| (.+) \|$', text, re.MULTILINE):
        cells = dict(zip(laws, row.split(' | '), strict=True))
        held[flag] = {law: dict(said(mark, reasons) for mark in cell.split()) for law, cell in cells.items()}
    return Verdicts(laws, held, refusals(text))


def said(mark: str, reasons: dict[str, str]) -> tuple[str, str]:
    """`D` holds in a decoder, `E–` is refused in an encoder, `M3` has a reason."""
    return KINDS[mark[0]], {'': 'holds', '–': 'refused'}.get(mark[1:]) or reasons[mark[1:]]


def refusals(text: str) -> dict[str, list[Refusal]]:
    """Beneath each reason stand lines such as `- decoder, encoder: `a`, `b` with `c``."""
    found, reason = defaultdict(list), ''
    for line in text.partition('## Refused')[2].splitlines():
        if line.startswith('**'):
            reason = line.strip('*')
        elif line.startswith('- '):
            kinds, _, flags = line[2:].partition(': ')
            left, _, right = (tuple(re.findall(r'`(\w+)`', part)) for part in flags.partition(' with '))
            for name in left:
                found[name].append(Refusal(kinds, right, reason))
            for name in right:
                found[name].append(Refusal(kinds, left, reason))
    return dict(found)
