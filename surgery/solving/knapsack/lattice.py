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
"""Gaps between weights, relative to the widest, that rounding to whole bytes explains."""
_CLEAR = 2.0
"""How much wider than all others a gap between heaps is."""
_PARTS = 4
_OFF = 0.2
"""The gaps are multiples of the least one, or of a half, third or quarter, about this closely."""
_SAMPLE = 4096
_APART = 64
"""How many items, and how far apart in their group, are compared to tell two counts apart."""
_RATIOS = 3


def labels(instance: Instance) -> Floats:
    """(q, n) The labels of the items; q may be 0."""
    rows = list(instance.weight)
    direct = [_counts(row) for row in rows]
    found = [counts for counts in direct if counts is not None]
    plain = [row for row, counts in zip(rows, direct, strict=True) if counts is None]
    for counts in tuple(found):
        for row in plain:
            ratios = _ratios(row, counts, instance.home)
            rests = [row - ratio * counts for ratio in ratios]
            mixed = [_counts(each) for each in rests]
            mixed += [_counts(_settled(each, instance.start)) for each in rests]
            some = [each for each in mixed if each is not None]
            found += sorted(some, key=lambda each: each.max())[:1]
    if not found:
        return np.zeros((0, len(instance.cost)))
    unique = np.unique(np.array(found), axis=0)
    return unique[np.argsort(unique.max(axis=1), kind="stable")]


def _settled(row: Floats, start: Ints) -> Floats:
    """Less the least of every group."""
    return row - np.repeat(np.minimum.reduceat(row, start[:-1]), np.diff(start))


def _counts(row: Floats) -> Floats | None:
    """A row as multiples of a step, `None` where there is none, or too fine a one.

    Values lie in heaps, of exact totals or of measurements of one: the gaps between heaps are
    those that are clearly wider than all narrower ones.
    """
    if row.min() == row.max():
        return None
    order = np.argsort(row, kind="stable")
    gaps = np.diff(row[order])
    wide = np.append(np.sort(gaps)[::-1][: _LEVELS + 1], 0.0)
    wide = np.maximum(wide, _BLUR * wide[0])
    heaps = int(np.argmax(wide[:-1] / wide[1:]))
    if wide[heaps] < _CLEAR * wide[heaps + 1]:
        return None
    heap = np.zeros(len(row), dtype=np.int64)
    heap[order[1:]] = np.cumsum(gaps >= wide[heaps])
    centre = np.bincount(heap, weights=row) / np.bincount(heap)
    centre -= centre[0]
    least = float(np.diff(centre).min())
    for parts in range(1, _PARTS + 1):
        counts = np.rint(centre * parts / least)
        if (np.abs(counts - centre * parts / least) <= _OFF).all() and counts[-1] <= _LEVELS:
            return counts[heap]
    return None


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
