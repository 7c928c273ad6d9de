"""HiGHS on what is left of an instance, for when labels multiply.

In: an `Instance`, a choice to start from. Out: a choice that fits exactly, and HiGHS's bound. HiGHS
works in floating point: a choice that breaks a row by less than the tolerance is cut off by a cover
that no choice that fits violates, and "infeasible" is believed only without presolve, too.
"""

from __future__ import annotations

import time
from math import inf
from typing import Literal

import numpy as np
from msgspec import Struct

from surgery.solving import highs
from surgery.solving.knapsack.instance import Floats, Instance, Ints


class Result(Struct, frozen=True):
    """A choice (positions, one per group) that fits, and a bound on the cost of all that do."""

    status: Literal["optimal", "infeasible", "stopped"]
    chosen: Ints | None
    bound: float


def solve(
    instance: Instance, start: Ints | None, gap: float, deadline: float, presolve: bool
) -> Result:
    """The least cost within the relative `gap`."""
    scale = float(np.maximum.reduceat(instance.cost, instance.start[:-1]).sum()) or 1.0
    if start is not None:
        scale = instance.total(start) or scale
    while True:
        model = _model(instance, scale)
        left = max(deadline - time.monotonic(), 0.0)
        answer = None
        for simplify in (True, False) if presolve else (False,):
            answer = highs.solve(model, start, gap, left, presolve=simplify)
            if answer is not None:
                break
        if answer is None:
            return Result("infeasible", None, inf)
        status = "stopped" if answer.stopped else "optimal"
        if answer.x is None:
            return Result(status, None, answer.bound * scale)
        chosen = _rounded(instance, answer.x)
        if instance.fits(chosen):
            return Result(status, chosen, answer.bound * scale)
        if answer.stopped:
            return Result(status, None, answer.bound * scale)
        instance = covered(instance, chosen)


def covered(instance: Instance, chosen: Ints) -> Instance:
    """The instance with a cover for every row that a choice breaks: no choice that fits is lost.

    Of a set of items that is too heavy together, not all can be taken; nor can they be when one is
    exchanged for a heavier one of its group.
    """
    over: Ints = np.flatnonzero(instance.used(chosen) > instance.room)
    sizes = np.diff(instance.start)
    for row in over.tolist():
        weight = instance.weight[row]
        heavy = np.argsort(-weight[chosen], kind="stable")
        count = int(np.searchsorted(np.cumsum(weight[chosen][heavy]), instance.room[row], "right"))
        least = np.full(instance.groups, inf)
        least[heavy[: count + 1]] = weight[chosen][heavy[: count + 1]]
        terms = (weight >= np.repeat(least, sizes)).astype(np.float64)
        instance = instance.with_row(terms, float(count))
    return instance


def _rounded(instance: Instance, x: Floats) -> Ints:
    """The item with the largest value of each group."""
    least = np.maximum.reduceat(x, instance.start[:-1])
    hits = np.flatnonzero(x == np.repeat(least, np.diff(instance.start)))
    return hits[np.searchsorted(hits, instance.start[:-1])]


def _model(instance: Instance, scale: float) -> highs.Model:
    """One row per group, and the instance's in units of their rooms: everything is O(1)."""
    count, rows = len(instance.cost), len(instance.room)
    upper = np.all(instance.weight <= instance.room[:, None], axis=0).astype(np.float64)
    unit = np.maximum(instance.room, 1.0)
    weight = np.where(upper > 0, instance.weight, 0.0) / unit[:, None]
    every = np.arange(count, dtype=np.int32)
    return highs.Model(
        cost=instance.cost / scale,
        upper=upper,
        row_lower=np.concatenate([np.ones(instance.groups), np.full(rows, -inf)]),
        row_upper=np.concatenate([np.ones(instance.groups), instance.room / unit]),
        start=np.concatenate([instance.start, count * np.arange(2, rows + 2)]).astype(np.int32),
        index=np.concatenate([every, *([every] * rows)]),
        value=np.concatenate([np.ones(count), weight.ravel()]),
    )
