"""The standard form: exact rows as the floating-point arrays that a solver takes.

In: columns, exact rows `body <= 0`, an exact objective to minimise. Out: `Standard`, a sparse
matrix by rows. Not here: what the rows mean (`passes/constrain.py`) or solving them
(`passes/solve.py`).

A solver's tolerance is absolute, so everything is brought to O(1) first, and exactly: the least
coefficient of every group goes to the right-hand side (one column of a group is active), which is
then rounded down to a multiple of the step that divides all coefficients. Budgets in bytes become
small whole numbers where the grid of alternatives allows it, and rounding can no longer decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import floor, inf

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from surgery.solving.columns import Columns
from surgery.solving.linear import Groups, Linear, granularity

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_MARGIN = 1e-7
"""Added to a cutoff of O(1) before a column is excluded in floating point."""


class Knapsack(Struct, frozen=True):
    """One row: sum of `weights` over the active columns <= `room`, all whole and >= 0."""

    weights: Mapping[int, int]
    room: int

    @classmethod
    def of(cls, row: Linear, groups: Groups) -> Knapsack:
        """The row `row <= 0`, exactly."""
        settled = row.settled(groups)
        if not settled.terms:
            return cls({}, 0 if settled.constant <= 0 else -1)
        step = granularity(settled)
        weights = {column: int(value / step) for column, value in settled.terms.items()}
        return cls(weights, floor(-settled.constant / step))

    def cover(self, active: Collection[int], groups: Groups) -> Linear | None:
        """A row that cuts off a choice that overfills this one, and no choice that fits.

        A cover inequality: of a set of items that is too heavy together, not all can be taken;
        nor can they be when one is exchanged for a heavier one of its group. `None` if it fits;
        a row without room for anything (`room < 0`) needs no cuts.
        """
        on = sorted((j for j in active if j in self.weights), key=lambda j: -self.weights[j])
        cover, total = list[int](), 0
        for column in on:
            cover.append(column)
            total += self.weights[column]
            if total > self.room:
                break
        else:
            return None
        home = {column: group for group in groups for column in group}
        terms = {
            column: Fraction(1)
            for item in cover
            for column in home[item]
            if self.weights.get(column, 0) >= self.weights[item]
        }
        return Linear(Fraction(1 - len(cover)), terms)


class Standard(Struct, frozen=True):
    """minimise `cost @ x` with `row_lower <= A @ x <= row_upper`, `0 <= x <= upper`.

    `A` is sparse by rows (`start`, `index`, `value`); `integer` marks the columns that are whole
    numbers (pairs follow from candidates). float64 throughout, indices int32.
    """

    cost: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    start: Ints
    index: Ints
    value: Floats
    integer: Ints

    def too_dear(self, duals: Floats, cutoff: float) -> list[int]:
        """Columns that no choice of objective <= `cutoff` can contain: reduced-cost fixing.

        `duals` (one per row) may be any numbers: those of the wrong sign count as 0, and the
        bound holds for whatever is left (weak duality), so a solver's rounding cannot make it
        wrong. `_MARGIN` is far above the rounding of the sums here.
        """
        duals = np.where(np.isinf(self.row_lower), np.minimum(duals, 0), duals)
        row_of = np.repeat(np.arange(len(duals)), np.diff(self.start))
        reduced = self.cost - np.bincount(
            self.index, self.value * duals[row_of], minlength=len(self.cost)
        )
        bound = np.sum(duals * self.row_upper) + np.sum(np.minimum(reduced, 0) * self.upper)
        return np.flatnonzero(bound + reduced > cutoff + _MARGIN).tolist()


def standard(
    columns: Columns,
    knapsacks: Sequence[Knapsack],
    objective: Linear,
    forbidden: Collection[int] = (),
) -> Standard | None:
    """The arrays of a problem, or `None` when a row has no room for anything.

    `objective` must be scaled to O(1) already. A column that overfills a row alone is fixed at
    0 along with the `forbidden` ones: exact, and it spares the solver coefficients far above 1.
    """
    if any(row.room < 0 for row in knapsacks):
        return None
    width = columns.width
    upper = np.ones(width)
    upper[list(forbidden)] = 0
    rows: list[tuple[dict[int, float], float, float]] = [
        (dict.fromkeys(group, 1.0), 1.0, 1.0) for group in columns.sites
    ]
    for grid in columns.grids.values():
        rows.extend((link, 0.0, 0.0) for link in grid.links())
    for row in knapsacks:
        upper[[j for j, weight in row.weights.items() if weight > row.room]] = 0
        scale = max(row.room, 1)
        weights = {j: w / scale for j, w in row.weights.items() if w <= row.room}
        rows.append((weights, -inf, row.room / scale))
    cost = np.zeros(width)
    for column, coefficient in objective.terms.items():
        cost[column] = float(coefficient)
    lengths = [len(terms) for terms, _, _ in rows]
    return Standard(
        cost=cost,
        upper=upper,
        row_lower=np.array([lower for _, lower, _ in rows]),
        row_upper=np.array([upper_ for _, _, upper_ in rows]),
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        index=np.array([j for terms, _, _ in rows for j in terms], dtype=np.int32),
        value=np.array([v for terms, _, _ in rows for v in terms.values()]),
        integer=(np.arange(width) < len(columns.candidates)).astype(np.int32),
    )
