"""Pages in Markdown as tests read them: prose, headings, and Python blocks that run."""
import contextlib
import io
import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
HEADING = re.compile(r'^#+ (.+)$', re.MULTILINE)


class Block(NamedTuple):
    """A Python block, and the text block behind it, which shows what it prints."""

    page: str
    heading: str
    line: int
    code: str
    shown: str | None

    def __str__(self):
        return f'{self.page}-{slug(self.heading)}-line-{self.line}'

    def run(self):
        """It runs alone, and prints what is shown."""
        torch.manual_seed(0)
        printed = io.StringIO()
        padded = '\n' * self.line + self.code                    # a traceback names the line of the page
        with contextlib.redirect_stdout(printed):
            exec(compile(padded, self.page, 'exec'), {'__name__': 'page'})
        if self.shown is not None:
            assert printed.getvalue() == self.shown


class Page:
    def __init__(self, path):
        self.name = path
        self.text = (ROOT / path).read_text(encoding='utf-8')

    @cached_property
    def prose(self):
        return FENCE.sub('', self.text)

    @cached_property
    def slugs(self):
        return [slug(heading) for heading in HEADING.findall(self.prose)]

    def blocks(self):
        """Every Python block, with the heading above it."""
        fences = list(FENCE.finditer(self.text))
        for fence, after in zip(fences, [*fences[1:], None]):
            if fence[1] == 'python':
                heading = HEADING.findall(FENCE.sub('', self.text[:fence.start()]))[-1]
                line = self.text.count('\n', 0, fence.start()) + 1
                yield Block(self.name, heading, line, fence[2], after[2] if after and after[1] == 'text' else None)


def slug(heading):
    """The anchor that a heading gets on GitHub."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


README = Page('README.md')
SITE = [Page(path.relative_to(ROOT).as_posix()) for path in sorted((ROOT / 'docs').rglob('*.md'))]
