"""The standard form: exact rows as knapsacks with whole weights.

In: exact rows `body <= 0`. Out: `Knapsack`. Not here: what the rows mean (`passes/constrain.py`),
arrays of them (`knapsack/items.py`) or solving them.

The least coefficient of every group goes to the right-hand side (one column of a group is active),
which is then rounded down to a multiple of the step that divides all coefficients. Budgets in bytes
become small whole numbers where the grid of alternatives allows it, and rounding cannot decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from math import floor

from msgspec import Struct

from surgery.solving.linear import Groups, Linear, granularity


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
