"""Exact rows and an exact objective as an instance: one item per alternative of a group.

In: `Columns`, knapsacks, a settled objective. Out: `Lowered`, an `Instance` and the columns that
each of its items stands for; `None` when a row or a group has no room for anything.

Where a formula made pairs of the candidates of two sites, the pairs are the items of one group, so
that every problem of a space is a multiple-choice knapsack and nothing needs another solver.

An item that overfills a row alone is left out. Weights whose totals reach 2**53 lose their last
bits, and the room does, too: rounding down only lets more through, so bounds stay valid, and who
asks for exact answers checks them (`passes/solve.py` does).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import frexp, inf

import numpy as np
from msgspec import Struct

from surgery.solving.columns import Columns
from surgery.solving.knapsack.instance import Floats, Instance, Mask
from surgery.solving.linear import Linear
from surgery.solving.standard import Knapsack

Item = tuple[int, ...]
"""Columns that are active together: a candidate, or two with their pair."""


class Lowered(Struct, frozen=True):
    """An instance, its items as columns, and what a unit of its cost is worth.

    `step` divides every cost, 0 where that is not known exactly.
    """

    instance: Instance
    items: tuple[Item, ...]
    scale: Fraction
    step: float

    def chosen(self, items: Sequence[int]) -> tuple[int, ...]:
        """The candidate columns of chosen items, ascending."""
        return tuple(sorted(j for item in items for j in self.items[item][:2]))

    def columns(self, kept: Mask) -> frozenset[int]:
        """The columns of the items in `kept`."""
        return frozenset(j for n in np.flatnonzero(kept).tolist() for j in self.items[n])


def lowered(
    columns: Columns,
    knapsacks: Sequence[Knapsack],
    goal: Linear,
    forbidden: Collection[int] = (),
) -> Lowered | None:
    """The instance of a problem without the `forbidden` columns; `goal` must be settled."""
    if any(row.room < 0 for row in knapsacks):
        return None
    items, starts = list[Item](), [0]
    shut = set(forbidden)
    for group in _groups(columns):
        items += (item for item in group if _opens(item, shut, knapsacks))
        if len(items) == starts[-1]:
            return None
        starts.append(len(items))
    weights = [_weights(items, row, starts) for row in knapsacks]
    cost, scale = _costs(items, goal.terms)
    weight = np.array([w for w, _ in weights]).reshape(len(weights), len(items))
    room = np.array([r for _, r in weights])
    integral = all(value.denominator == 1 for value in goal.terms.values())
    instance = Instance.of(cost, weight, room, np.array(starts))
    return Lowered(instance, tuple(items), scale, float(1 / scale) if integral else 0.0)


def _groups(columns: Columns) -> Iterator[list[Item]]:
    """The items of every group: those of a site, or of two sites that interact."""
    paired = {column: grid for grid in columns.grids.values() for column in grid.first}
    seconds = {column for grid in columns.grids.values() for column in grid.second}
    for site in columns.sites:
        grid = paired.get(site[0])
        if grid is not None:
            pairs = zip(grid.pairs, grid.columns, strict=True)
            yield [(*pair, column) for pair, column in pairs]
        elif site[0] not in seconds:
            yield [(column,) for column in site]


def _opens(item: Item, shut: set[int], knapsacks: Sequence[Knapsack]) -> bool:
    """Whether an item may be taken at all."""
    if not shut.isdisjoint(item):
        return False
    return all(_weight(item, row.weights) <= row.room for row in knapsacks)


def _weight(item: Item, weights: Mapping[int, int]) -> int:
    return sum(weights.get(column, 0) for column in item)


def _weights(items: Sequence[Item], row: Knapsack, starts: Sequence[int]) -> tuple[Floats, float]:
    """The weights of one row and its room as whole floats, rounded down if they must be."""
    exact = [_weight(item, row.weights) for item in items]
    room = row.room
    total = sum(max(exact[a:b]) for a, b in pairwise(starts))
    if total <= room:
        return np.zeros(len(items)), 0.0
    lost = max(total.bit_length() - 53, 0)
    return np.array([float(w >> lost) for w in exact]), float(room >> lost)


def _costs(items: Sequence[Item], terms: Mapping[int, Fraction]) -> tuple[Floats, Fraction]:
    """Costs in units of a power of two near the largest: scaling them loses nothing."""
    largest = float(max(terms.values(), default=Fraction(1)))
    if largest in (0.0, inf):
        raise OverflowError("the objective is beyond what floats hold")
    scale = Fraction(2) ** frexp(largest)[1]
    zero = Fraction(0)
    exact = (sum((terms.get(column, zero) for column in item), zero) for item in items)
    return np.array([float(value / scale) for value in exact]), scale
