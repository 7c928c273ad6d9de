"""Choices that fit, from choices that do not: greedy repair, then better by one exchange.

In: an `Instance`, multipliers, a choice. Out: a choice that fits, or `None`. Proves nothing.

Only the items with small reduced costs are looked at: the others are in no good choice, and a step
then costs the same for 1,000 alternatives as for ten.
"""

from __future__ import annotations

import numpy as np

from surgery.solving.knapsack.dual import Bundle, Step
from surgery.solving.knapsack.instance import Floats, Instance, Ints, Mask

_EACH = 12
"""Items per group, on average, that repair may choose among."""
_STARTS = 4


def best(instance: Instance, bundle: Bundle) -> Ints | None:
    """The best choice that repair makes of the least items of the first few multipliers."""
    found: Ints | None = None
    first = bundle.steps[0]
    kept = _near(instance, first)
    near, back = instance.only(kept), np.flatnonzero(kept)
    if near is None:
        raise AssertionError("the least item of a group is always near")
    for step in bundle.steps[:_STARTS]:
        where = np.searchsorted(back, step.chosen)
        there = kept[step.chosen]
        start = np.where(there, np.where(there, where, 0), near.start[:-1])
        chosen = repaired(near, start, first.prices)
        if chosen is None:
            continue
        whole = back[chosen]
        if found is None or instance.total(whole) < instance.total(found):
            found = whole
    return found


def repaired(instance: Instance, chosen: Ints, prices: Floats) -> Ints | None:
    """Exchange items until the choice fits, dearest violations first, then until none pays."""
    chosen, home = chosen.copy(), instance.home
    priced = instance.cost + prices @ instance.weight
    used = instance.used(chosen)
    scale = np.maximum(instance.room, 1.0)[:, None]
    for _ in range(4 * instance.groups):
        over = used - instance.room
        if (over <= 0).all():
            return _exchanged(instance, chosen)
        change = instance.weight - instance.weight[:, chosen][:, home]
        before = np.maximum(over, 0)[:, None]
        relief = ((before - np.maximum(over[:, None] + change, 0)) / scale).sum(axis=0)
        helpful = relief > 0
        if not helpful.any():
            return None
        price = np.maximum(priced - priced[chosen][home], 0.0)
        rate = np.where(helpful, (price + 1e-12) / np.where(helpful, relief, 1.0), np.inf)
        item = int(np.argmin(rate))
        chosen[home[item]] = item
        used = instance.used(chosen)
    return None


def _exchanged(instance: Instance, chosen: Ints) -> Ints:
    """The choice after every single exchange that lowers the cost and still fits, best first."""
    home = instance.home
    for _ in range(4 * instance.groups):
        left = (instance.room - instance.used(chosen))[:, None]
        change = instance.weight - instance.weight[:, chosen][:, home]
        gain = instance.cost[chosen][home] - instance.cost
        gain[(change > left).any(axis=0)] = 0
        item = int(np.argmax(gain))
        if gain[item] <= 0:
            break
        chosen[home[item]] = item
    return chosen


def _near(instance: Instance, step: Step) -> Mask:
    """The items whose reduced cost is among the least, and every group's least."""
    reduced = instance.cost + step.prices @ instance.weight
    reduced = reduced - reduced[step.chosen][instance.home]
    count = min(_EACH * instance.groups, len(reduced) - 1)
    return reduced <= np.partition(reduced, count)[count]
