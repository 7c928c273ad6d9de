"""Bounds on an instance: multipliers of its rows, the best of them by Kelley's cutting planes.

In: an `Instance`. Out: `Bundle`, multipliers with the bound that each proves, and which items no
choice within a cutoff can contain. Weak duality makes every bound valid for whatever multipliers
>= 0, so nothing here depends on how well the search for them went; it only decides how close the
bound is. Refuses nothing.

For multipliers p the bound is L(p) = sum over groups of min (cost + p @ weight) - p @ room. It is
concave and piecewise linear, and its greatest value is that of the LP relaxation. Each value of L
with its slope is a cut; the master problem, with one column per row of the instance, says where to
look next (Kelley 1960).
"""

from __future__ import annotations

from math import inf

import numpy as np
from msgspec import Struct

from surgery.solving.highs import Master
from surgery.solving.knapsack.instance import Floats, Instance, Ints, Mask

_STEPS = 100
_CLOSE = 1e-7
"""Relative distance between the best bound and what the master still hopes for."""
_BOXES = 8
_GROWTH = 32.0
_FACTORS = (0.8, 0.93, 1.07, 1.25)
_ROW_FACTORS = (0.6, 0.85, 1.15, 1.6)


class Step(Struct, frozen=True):
    """L at multipliers (m,): its value, the least item of each group, and its slope (m,)."""

    prices: Floats
    value: float
    chosen: Ints
    slope: Floats


class Bundle(Struct, frozen=True):
    """What was tried, best bound first.

    `shares` are those of the steps' choices in a point of the relaxation: their mixture keeps all
    rows. `unfit` says that the bound exceeds what any choice can cost: none fits.
    """

    steps: tuple[Step, ...]
    shares: tuple[float, ...] = ()
    unfit: bool = False

    @property
    def bound(self) -> float:
        """No choice that fits costs less."""
        return self.steps[0].value

    def mixed(self, values: Floats) -> Floats:
        """(q,) What the relaxation comes to in other rows, `values` (q, n) per item."""
        mixture = zip(self.shares, self.steps, strict=True)
        parts = [share * values[:, step.chosen].sum(axis=1) for share, step in mixture if share]
        return np.sum([np.zeros(len(values)), *parts], axis=0)

    @property
    def around(self) -> Floats:
        """(k, m) The best multipliers and some near them.

        With some groups decided already, those of a neighbour bound what is left better.
        """
        best = self.steps[0].prices
        found = [best, *(best * factor for factor in _FACTORS)]
        for row in np.flatnonzero(best):
            for factor in _ROW_FACTORS:
                other = best.copy()
                other[row] *= factor
                found.append(other)
        return np.array(found)


def lagrangian(instance: Instance, prices: Floats) -> Step:
    """The bound that multipliers (m,) prove."""
    reduced = instance.cost + prices @ instance.weight
    least = np.minimum.reduceat(reduced, instance.start[:-1])
    hits = np.flatnonzero(reduced == np.repeat(least, np.diff(instance.start)))
    chosen = hits[np.searchsorted(hits, instance.start[:-1])]
    total, priced = float(least.sum()), float(prices @ instance.room)
    value = total - priced - instance.slack(total + abs(priced))
    return Step(prices, value, chosen, instance.used(chosen) - instance.room)


def kelley(instance: Instance, warm: Floats | None = None, enough: float = inf) -> Bundle:
    """The best bound, or one above `enough`. `warm` (k, m) are multipliers to begin with."""
    rows = len(instance.room)
    dearest = float(np.maximum.reduceat(instance.cost, instance.start[:-1]).sum())
    hopeless = dearest + 2 * instance.slack(dearest)
    steps = [lagrangian(instance, np.zeros(rows))]
    if (steps[0].slope <= 0).all():  # the least items fit: nothing is better
        return Bundle((steps[0],), (1.0,))
    steps += [lagrangian(instance, prices) for prices in (() if warm is None else warm)]
    # A row's multiplier is a price per unit of weight: the whole room is worth about all damage.
    unit = np.maximum(instance.room, 1.0)
    # Without costs the bound is 0 or, along some direction, as large as one likes.
    boxes, close = (0, _CLOSE * dearest) if dearest else (_BOXES, _CLOSE)
    box = max(float(np.median(instance.cost)) * instance.groups, dearest * 1e-3) or 1.0
    master = Master(rows, box)
    for step in steps:
        master.cut(step.value, step.slope / unit, step.prices * unit)
    best = max(steps, key=lambda s: s.value)
    shares = np.zeros(0)
    for _ in range(_STEPS):
        if best.value > min(enough, hopeless):
            break
        hope, scaled, shares = master.solve()
        if hope - best.value <= max(_CLOSE * abs(best.value), 1e-3 * close):
            if boxes == _BOXES or not (scaled >= master.box).any():
                break
            boxes += 1
            master.widen(_GROWTH)
            continue
        step = lagrangian(instance, scaled / unit)
        steps.append(step)
        if step.value > best.value:
            best = step
        master.cut(step.value, step.slope / unit, scaled)
    padded = np.zeros(len(steps))
    padded[: len(shares)] = shares
    ranked = sorted(range(len(steps)), key=lambda n: -steps[n].value)
    order = tuple(steps[n] for n in ranked)
    return Bundle(order, tuple(padded[ranked].tolist()), best.value > hopeless)


def within(instance: Instance, prices: Floats, cutoff: float) -> Mask:
    """(n,) The items that a choice of cost <= `cutoff` may contain: reduced-cost fixing.

    `prices` (k, m): an item is out as soon as one of the k bounds excludes it.
    """
    kept = np.ones(len(instance.cost), dtype=np.bool_)
    sizes = np.diff(instance.start)
    for price in prices:
        reduced = instance.cost + price @ instance.weight
        least = np.minimum.reduceat(reduced, instance.start[:-1])
        total, priced = float(least.sum()), float(price @ instance.room)
        bound = total - priced - instance.slack(total + abs(priced) + abs(cutoff))
        kept &= reduced - np.repeat(least, sizes) <= cutoff - bound
    return kept
