"""What mkdocs calls: pages written from the code join those written by hand, and links lead to where things stand in the site."""
import re
import sys
from pathlib import Path

import api_pages
import flag_pages
import readme
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'images'))
import compare  # noqa: E402
import draw  # noqa: E402


def on_config(config):
    next(part for part in config.nav if 'Reference' in part)['Reference'] = list(api_pages.CHAPTERS)
    return config


def on_files(files, config):
    made = {f'images/{path.name}': path.read_bytes() for path in sorted((ROOT / 'images').glob('*.png'))}
    shown = {flag: f'![{readme.described(name)}](../images/{name}.png)' for name, flags in draw.SHOWS.items() for flag in flags}
    for place in flag_pages.places():
        drawn = compare.compared(place.entry) if place.first and place.page not in shown else None
        if drawn is not None:
            made[f'images/flags/{place.page}.png'], caption = drawn
            shown[place.page] = f'![{caption}](../images/flags/{place.page}.png)\n\n{caption}'
    made.update(flag_pages.pages(shown))
    made.update(api_pages.pages())
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    path = page.file.src_uri
    if path == 'flags.md':
        markdown = flags_linked(markdown)
    markdown = readme.with_chapters(markdown, path)
    markdown = re.sub(r'\]\((?:\.\./)*images/', f']({"../" * path.count("/")}images/', markdown)
    markdown = re.sub(r'\[[^]\n]+\]\((?:\.\./)*([\w/]+\.py)\)', r'`\1`', markdown)        # files that are no part of the site
    # a table of Python-Markdown needs no backslash before a bar in code, and would show it
    return re.sub(r'`[^`\n]+`', lambda code: code[0].replace('\\|', '|'), markdown)


def flags_linked(markdown):
    """The page of all flags with links to the page of each."""
    lines, before = [], ''
    for line in markdown.splitlines():
        if line.startswith('## '):
            before = '' if line == '## AttentionLayers' else f'{line[3:]}.'
        lines.append(re.sub(r'^\| `(\w+)` \|', rf'| [`\1`](flags/{before}\1.md) |', line))
    return '\n'.join(lines)
