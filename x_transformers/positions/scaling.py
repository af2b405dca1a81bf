"""Rotary positions beyond the length that a model was trained on: how frequencies shrink, and what sines and cosines are scaled by.

Position interpolation (2306.15595); YaRN (2309.00071) and Llama 3.1 (2407.21783), which keep the frequencies that turn often
within the original length; LongRoPE (2402.13753), with a divisor for each; NTK-aware scaling that follows the length of
the sequence ("dynamic", 2309.00071, §3.3). A scaling is a dict with the `kind` and its numbers, as `KINDS` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from x_transformers.inputs import whole, within

Scaling = Mapping[str, Any]

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # what each needs, and what it may have besides
    'linear': (('factor',), ()),
    'dynamic': (('factor', 'original_length'), ()),
    'yarn': (('factor', 'original_length'), ('beta_fast', 'beta_slow', 'attention_factor', 'truncate')),
    'llama3': (('factor', 'original_length', 'low_freq_factor', 'high_freq_factor'), ()),
    'longrope': (('factor', 'original_length', 'factors'), ('attention_factor',)),
}
LEAST = {
    'factor': 1, 'original_length': 2, 'low_freq_factor': 1e-9, 'high_freq_factor': 1e-9, 'beta_fast': 1e-9, 'beta_slow': 1e-9,
    'attention_factor': 1e-9,
}  # fmt: skip
BETA_FAST, BETA_SLOW = 32.0, 1.0  # 2309.00071, §3.2: turns within the original length


def problem_of(scaling: Scaling, pairs: int, base: float) -> str | None:
    """What is wrong with a scaling for so many pairs of features, or None."""
    kind = scaling.get('kind')
    if kind not in KINDS:
        return f'expected a kind, which is {", ".join(KINDS)}.'
    needs, takes = KINDS[kind]
    strange = [key for key in scaling if key not in ('kind', *needs, *takes)]
    if strange or not all(key in scaling for key in needs):
        more = f' and takes {", ".join(takes)}' if takes else ''
        return f'{kind} needs {", ".join(needs)}{more}' + (f', not {strange[0]!r}.' if strange else '.')
    number = lambda value, least: isinstance(value, Real) and within(value, least)
    for key, least in LEAST.items():
        if key in scaling and (not number(scaling[key], least) or key == 'original_length' and whole(scaling[key]) is None):
            return f'{key} must be a {"whole " if key == "original_length" else ""}number of at least {least}.'
    if not isinstance(scaling.get('truncate', True), bool):
        return 'truncate must be True or False.'
    if kind == 'longrope':
        factors = scaling['factors']
        if not isinstance(factors, (tuple, list)) or len(factors) != pairs or not all(number(each, 1e-9) for each in factors):
            return f'factors must be {pairs} numbers above 0, one for each pair of features that is turned.'
    if kind == 'llama3' and not scaling['low_freq_factor'] < scaling['high_freq_factor']:
        return 'low_freq_factor must be below high_freq_factor.'
    if kind == 'yarn' and not scaling.get('beta_slow', BETA_SLOW) < scaling.get('beta_fast', BETA_FAST):
        return 'beta_slow must be below beta_fast.'
    if kind == 'yarn' and not base > 1:
        return 'it needs frequencies that differ, so a rotary_base above 1.'
    return None


def scaled_frequencies(inv_freq: Tensor, base: float, scaling: Scaling) -> Tensor:
    """(pairs,) of a model as it was trained -> (pairs,). Those of a dynamic scaling stay: `growth` is asked at each call."""
    kind, factor = scaling['kind'], scaling['factor']
    if kind == 'linear':
        return inv_freq / factor
    if kind == 'longrope':
        return inv_freq / torch.tensor(scaling['factors'], dtype=inv_freq.dtype)
    if kind == 'dynamic':
        return inv_freq
    kept = kept_by_yarn(len(inv_freq), base, scaling) if kind == 'yarn' else kept_by_llama(inv_freq, scaling)
    return inv_freq * (kept + (1 - kept) / factor)


def kept_by_yarn(pairs: int, base: float, scaling: Scaling) -> Tensor:
    """(pairs,) what of each frequency stays, by number of the pair (2309.00071, §3.2): all of those that turn `beta_fast` times or more
    within the original length, nothing of those that turn `beta_slow` times or less.
    """
    dim, length = 2 * pairs, scaling['original_length']
    pair_of = lambda turns: dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))
    first, last = pair_of(scaling.get('beta_fast', BETA_FAST)), pair_of(scaling.get('beta_slow', BETA_SLOW))
    if scaling.get('truncate', True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    last = first + 0.001 if first == last else last
    return 1 - ((torch.arange(pairs).float() - first) / (last - first)).clamp(0, 1)


def kept_by_llama(inv_freq: Tensor, scaling: Scaling) -> Tensor:
    """The same by the number of turns itself, from `low_freq_factor` to `high_freq_factor`."""
    low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
    turns = scaling['original_length'] * inv_freq / (2 * math.pi)
    return ((turns - low) / (high - low)).clamp(0, 1)


def attention_factor(scaling: Scaling | None) -> float:
    """What sines and cosines are scaled by, so that scores of long sequences are as sharp as they were."""
    if scaling is None or scaling['kind'] not in ('yarn', 'longrope'):
        return 1.0
    if 'attention_factor' in scaling:
        return float(scaling['attention_factor'])
    growth = math.log(scaling['factor'])
    return 0.1 * growth + 1 if scaling['kind'] == 'yarn' else math.sqrt(1 + growth / math.log(scaling['original_length']))


def growth(scaling: Scaling, lengths: Tensor, pairs: int) -> Tensor:
    """Dynamic scaling: what the frequencies of sequences of these lengths (b, n) are multiplied by, (b, n, pairs).

    The base grows by g^(d / (d - 2)), g = factor * length / original - (factor - 1), so that the lowest frequency
    shrinks by g and the highest stays.
    """
    factor, original = scaling['factor'], scaling['original_length']
    grown = factor * lengths.clamp(min=original) / original - (factor - 1)
    exponents = torch.arange(pairs, device=lengths.device, dtype=lengths.dtype) / max(pairs - 1, 1)
    return grown[..., None] ** -exponents
