"""Whole numbers behind weights: how many heads, how many steps of width an item keeps.

In: an `Instance`. Out: labels (q, n), whole numbers >= 0 per item, the coarsest first. Proves
nothing and needs no proof: whatever the labels, their total over a choice is whole, so that
"at most t" or "at least t + 1" loses no choice (`search.py` branches on that).

A library has the same alternatives in many layers, so a total of weights is one of few numbers,
and the room is not. What the LP relaxation gains by filling the room is most of the distance to
the optimum: of 36 layers of 100 alternatives, 0.6% before such a branching and none after it. A
row alone may hide its numbers: parameters are those of attention plus those of the FFN, and tell
neither. Less as many times the KV cache as attention has parameters for it, they tell the FFN's.
"""

from __future__ import annotations

import numpy as np

from surgery.solving.knapsack.instance import Floats, Instance, Ints

_LEVELS = 256
"""Finer steps than this, of one item, are no obstacle to the relaxation."""
_BLUR = 1e-4
"""Distance of weights, relative to the largest, that rounding to whole bytes explains."""
_SAMPLE = 4096
_APART = 64
"""How many items, and how far apart in their group, are compared to tell two counts apart."""
_RATIOS = 3


def labels(instance: Instance) -> Floats:
    """(q, n) The labels of the items; q may be 0."""
    rows = [_settled(row, instance.start) for row in instance.weight[instance.binding]]
    direct = [_counts(row) for row in rows]
    found = [counts for counts in direct if counts is not None]
    plain = [row for row, counts in zip(rows, direct, strict=True) if counts is None]
    for counts in tuple(found):
        for row in plain:
            for ratio in _ratios(row, counts, instance.home):
                mixed = _counts(_settled(row - ratio * counts, instance.start))
                if mixed is not None:
                    found.append(mixed)
                    break
    if not found:
        return np.zeros((0, len(instance.cost)))
    unique = np.unique(np.array(found), axis=0)
    return unique[np.argsort(unique.max(axis=1), kind="stable")]


def _settled(row: Floats, start: Ints) -> Floats:
    """Less the least of every group."""
    return row - np.repeat(np.minimum.reduceat(row, start[:-1]), np.diff(start))


def _counts(row: Floats) -> Floats | None:
    """A settled row as multiples of a common step, `None` where there is none, or too fine a one."""
    top = float(row.max())
    if top == 0:
        return None
    values = np.sort(row)
    gaps = np.diff(values)
    gaps = np.unique(gaps[gaps > _BLUR * top])
    if len(gaps) > _LEVELS:
        return None
    step = 0.0
    for gap in gaps.tolist():
        step = _common(step, gap, _BLUR * top)
    if step * _LEVELS < top:
        return None
    counts = np.rint(row / step)
    near = np.abs(row - counts * step) <= 0.1 * step
    return counts if near.all() else None


def _common(a: float, b: float, blur: float) -> float:
    """The greatest common divisor of two numbers that are known up to a blur."""
    while a > blur:
        rest = b % a
        a, b = min(rest, a - rest), a
    return b


def _ratios(row: Floats, counts: Floats, home: Ints) -> list[float]:
    """What one count most often comes to in a row: items that differ in nothing else agree."""
    row, counts, home = row[:_SAMPLE], counts[:_SAMPLE], home[:_SAMPLE]
    ratios: list[Floats] = []
    for apart in range(1, min(_APART, len(row))):
        steps = counts[apart:] - counts[:-apart]
        pairs = (home[apart:] == home[:-apart]) & (steps != 0)
        ratios.append((row[apart:] - row[:-apart])[pairs] / steps[pairs])
    found = np.concatenate([np.zeros(0), *ratios])
    if not found.size:
        return []
    blur = max(float(np.abs(found).max()), 1.0) * _BLUR
    _, first, often = np.unique(np.rint(found / blur), return_index=True, return_counts=True)
    best = np.argsort(-often, kind="stable")[:_RATIOS]
    return found[first[best]].tolist()
