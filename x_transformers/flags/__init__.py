"""Flags: declared once as fields of frozen dataclasses, parsed once from keywords, listed by `catalogue`.

A flag stands in the file that implements it. A config that spans several files is the join of their flags
(`class AttentionConfig(ProjectFlags, ScoreFlags, ...)`); a config inside another is a `group` reached by its
prefix (`attn_`, `ff_`). Docs, tests and command lines read the same catalogue; `python -m x_transformers.flags`
prints it. Nothing here knows torch.
"""

from x_transformers.flags.cataloguing import Entry, catalogue, is_on, lookup
from x_transformers.flags.config import Config
from x_transformers.flags.declaring import Flag, Group, Rule, Rules, flag, group
from x_transformers.flags.parsing import bind, parse
from x_transformers.flags.public import configured
from x_transformers.flags.rules import at_most_one, demands, excludes, keywords_of, pick, quote

__all__ = [
    'Config',
    'Entry',
    'Flag',
    'Group',
    'Rule',
    'Rules',
    'at_most_one',
    'bind',
    'catalogue',
    'configured',
    'demands',
    'excludes',
    'flag',
    'group',
    'is_on',
    'keywords_of',
    'lookup',
    'parse',
    'pick',
    'quote',
]
