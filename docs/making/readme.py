"""Chapters of the README in pages of the site.

A line `[README: Recipes](../README.md#recipes)` leads a reader of the repository to the chapter; in the site it becomes the chapter.
"""
import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'README.md').read_text(encoding='utf-8')
CHAPTERS = dict(re.findall(r'^## ([^\n]+)\n(.*?)(?=^## |\Z)', TEXT, re.MULTILINE | re.DOTALL))
LINE = re.compile(r'^\[README: (.+)\]\((?:\.\./)+README\.md#[\w-]+\)$', re.MULTILINE)
FENCE = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r'[\s-]+', '-', re.sub(r'[^\w\s-]', '', heading.lower())).strip('-')


def headings(chapter: str) -> list[str]:
    return [chapter, *re.findall(r'^#+ (.+)$', FENCE.sub('', CHAPTERS[chapter]), re.MULTILINE)]


def places() -> dict[str, str]:
    """Anchors of the README: the pages that have them now."""
    found = {}
    for path in sorted((ROOT / 'docs').rglob('*.md')):
        for chapter in LINE.findall(path.read_text(encoding='utf-8')):
            found |= {slug(heading): path.relative_to(ROOT / 'docs').as_posix() for heading in headings(chapter)}
    return found


def with_chapters(markdown: str, path: str) -> str:
    """A page with the chapters that it names; what they link to is where the site has it."""
    where, folder = places(), os.path.dirname(path)

    def anchor(link: re.Match[str]) -> str:
        page = where[link[1]]
        return f'](#{link[1]})' if page == path else f']({os.path.relpath(page, folder or ".")}#{link[1]})'

    def chapter(line: re.Match[str]) -> str:
        body = re.sub(r'\]\(#([\w-]+)\)', anchor, CHAPTERS[line[1]])
        body = re.sub(r'\]\(docs/', f']({"../" * path.count("/")}', body)
        return body.strip() if markdown.startswith(f'# {line[1]}\n') else f'## {line[1]}\n{body}'.rstrip()

    return LINE.sub(chapter, markdown)


def described(figure: str) -> str:
    """What the README says of what one sees."""
    return re.search(rf'!\[([^]]*)\]\(images/{figure}\.png\)', TEXT)[1]


def recipes_by_flag() -> dict[str, list[str]]:
    """Headings of the recipes in whose code a keyword stands."""
    found: dict[str, list[str]] = {}
    for title, section in re.findall(r'^#### ([^\n]+)\n(.*?)(?=^###|\Z)', CHAPTERS['Recipes'], re.MULTILINE | re.DOTALL):
        code = '\n'.join(FENCE.findall(section))
        for name in dict.fromkeys(re.findall(r'\b(\w+)=', code)):
            found.setdefault(name, []).append(title)
    return found
