"""A multiple-choice knapsack as arrays: one item of every group, whole weights, rooms per row.

In: costs, weights and rooms. Out: `Instance`, which every step of this package takes and which
can be restricted to some of its items (`Instance.only`). Not here: exact fractions
(`solving/linear.py`) or where items come from (`solving/knapsack/lower.py`).

Weights are whole numbers kept in float64, and their totals stay below 2**53, so every sum and
comparison of them is exact. Costs are any floats >= 0; what is proved with them carries a margin
for rounding (`Instance.slack`).
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

WHOLE = float(2**53)
"""Whole numbers below this are exact in float64."""
_ROUNDING = 64 * np.finfo(np.float64).eps


class Instance(Struct, frozen=True):
    """Minimise `cost` over one item per group such that `weight` adds up to at most `room`.

    `cost` (n,) and `weight` (m, n) are those of the items, group after group; `room` (m,); `start`
    (groups + 1,) says where each group begins. `item` (n,) numbers the items of the instance that
    this one was restricted from.
    """

    cost: Floats
    weight: Floats
    room: Floats
    start: Ints
    item: Ints

    @classmethod
    def of(cls, cost: Floats, weight: Floats, room: Floats, start: Ints) -> Instance:
        """An instance from whole weights; the least weight of each group goes to the room.

        `ValueError` for weights that are not whole, or whose totals float64 cannot hold.
        """
        least = np.minimum.reduceat(weight, start[:-1], axis=1)
        weight = weight - np.repeat(least, np.diff(start), axis=1)
        room = room - least.sum(axis=1)
        most = np.maximum.reduceat(weight, start[:-1], axis=1).sum(axis=1)
        if (most >= WHOLE).any() or (weight != np.floor(weight)).any():
            raise ValueError("weights must be whole and their totals below 2**53")
        return cls(cost, weight, np.floor(room), start, np.arange(len(cost)))

    @property
    def groups(self) -> int:
        """How many groups there are; one item of each is chosen."""
        return len(self.start) - 1

    @property
    def home(self) -> Ints:
        """(n,) The group of every item."""
        return np.repeat(np.arange(self.groups), np.diff(self.start))

    def only(self, kept: Mask) -> Instance | None:
        """The instance of the items in `kept`, `None` if a group has none left."""
        counts = np.add.reduceat(kept, self.start[:-1], dtype=np.int64)
        if (counts == 0).any():
            return None
        start = np.concatenate([[0], np.cumsum(counts)])
        return Instance(self.cost[kept], self.weight[:, kept], self.room, start, self.item[kept])

    def tight(self) -> Instance:
        """The same without the rows that are not `binding`."""
        binding = self.binding
        if binding.all():
            return self
        return Instance(self.cost, self.weight[binding], self.room[binding], self.start, self.item)

    @property
    def binding(self) -> Mask:
        """(m,) The rows that some choice breaks."""
        most = np.maximum.reduceat(self.weight, self.start[:-1], axis=1).sum(axis=1)
        return most > self.room

    def with_row(self, weight: Floats, room: float) -> Instance:
        """The same with one more row."""
        weights = np.concatenate([self.weight, weight[None]])
        return Instance(self.cost, weights, np.append(self.room, room), self.start, self.item)

    def without_row(self, row: int) -> Instance:
        """The same without one of its rows."""
        weights = np.delete(self.weight, row, axis=0)
        return Instance(self.cost, weights, np.delete(self.room, row), self.start, self.item)

    def used(self, chosen: Ints) -> Floats:
        """(m,) What the chosen items, one position per group, weigh."""
        return self.weight[:, chosen].sum(axis=1)

    def fits(self, chosen: Ints) -> bool:
        """Whether the chosen items keep every row, exactly."""
        return bool((self.used(chosen) <= self.room).all())

    def total(self, chosen: Ints) -> float:
        """The cost of the chosen items."""
        return float(self.cost[chosen].sum())

    def slack(self, size: float) -> float:
        """What rounding can add to a sum of the costs and priced weights of a choice.

        `size` bounds the terms' total. The error of a pairwise or running sum of n terms is at
        most n * eps times their total; the constant leaves room for the products.
        """
        return _ROUNDING * (self.groups + len(self.room)) * size
