"""Every choice within a cutoff, group by group: dynamic programming over labels, with bounds.

In: an `Instance` (a small core of one), multipliers, a cutoff on the cost. Out: the cheapest choice
of cost <= the cutoff, and whether that is proved. Refuses nothing; past `limit` labels
it goes on with a few promising ones, to find a choice, and says that nothing is proved.

A label is a choice for the first groups: its cost and what it weighs. It is dropped when one of the
multipliers proves that no completion costs <= the cutoff, when it cannot fit any more, or when
another label weighs no more and costs no more.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from surgery.solving.knapsack.instance import Floats, Instance, Ints, Mask

_BEAM = 1024
"""Labels that go on when nothing can be proved any more."""
_BLOCK = 6
"""Multipliers at a time; most labels fall to the first few."""
_CROWD = 512
"""Labels from which on looking for dominated ones pays."""


class Found(Struct, frozen=True):
    """The cheapest choice that was met (positions, one per group), if there is one.

    `proved`: no choice within the cutoff is cheaper than it, or there is none where `chosen` is
    `None`. A choice that was met may cost more than the cutoff. `labels` counts the work.
    """

    chosen: Ints | None
    proved: bool
    labels: int


class _Labels(Struct):
    """Labels after some groups: costs (k,) and weights (m, k)."""

    cost: Floats
    used: Floats

    def take(self, which: Ints | Mask) -> _Labels:
        return _Labels(self.cost[which], self.used[:, which])


def search(instance: Instance, prices: Floats, cutoff: float, limit: int) -> Found:
    """The cheapest choice of cost <= `cutoff`; `prices` (b, m) are what bounds labels."""
    order, fixed = _order(instance, prices)
    ahead = _Ahead.of(instance, prices, order, cutoff)
    labels = _Labels(instance.cost[fixed].sum(keepdims=True), instance.used(fixed)[:, None])
    trail: list[tuple[Ints, Ints]] = []
    proved, count = True, 0
    for depth, group in enumerate(order.tolist()):
        items = slice(int(instance.start[group]), int(instance.start[group + 1]))
        labels, parents, taken = ahead.extended(
            labels, instance.cost[items], instance.weight[:, items], depth
        )
        count += len(labels.cost)
        if len(labels.cost) == 0:
            return Found(None, proved, count)
        if len(labels.cost) > _CROWD:
            kept = _undominated(labels)
            labels, parents, taken = labels.take(kept), parents[kept], taken[kept]
        if len(labels.cost) > max(limit, _BEAM):
            proved, limit = False, _BEAM
            kept = np.sort(np.argpartition(ahead.promise(labels, depth), limit)[:limit])
            labels, parents, taken = labels.take(kept), parents[kept], taken[kept]
        trail.append((parents, taken + items.start))
    if not order.size and not ahead.opens(labels):
        return Found(None, proved, count)
    chosen = _back(trail, int(np.argmin(labels.cost)))
    return Found(np.sort(np.concatenate([fixed, chosen])), proved, count)


class _Ahead(Struct, frozen=True):
    """What the groups not decided yet cost and weigh at least, and what is allowed.

    `prices` (b, m); `most` (b, groups + 1) is what a label may come to under each of them, `room`
    (m, groups + 1) what it may weigh, before the groups from a position on.
    """

    prices: Floats
    most: Floats
    room: Floats

    @classmethod
    def of(cls, instance: Instance, prices: Floats, order: Ints, cutoff: float) -> _Ahead:
        starts = instance.start[:-1]
        reduced = np.minimum.reduceat(instance.cost + prices @ instance.weight, starts, axis=1)
        least = np.minimum.reduceat(instance.weight, starts, axis=1)
        priced = prices @ instance.room
        slack = instance.slack(float((reduced.sum(axis=1) + priced).max()) + abs(cutoff))
        most = (cutoff + slack + priced)[:, None] - _suffix(reduced[:, order])
        return cls(prices, most, instance.room[:, None] - _suffix(least[:, order]))

    def extended(
        self, labels: _Labels, cost: Floats, weight: Floats, depth: int
    ) -> tuple[_Labels, Ints, Ints]:
        """Every label with every item, where bounds and rooms allow; parents, items beside."""
        first = self.prices[0]
        priced = labels.cost + first @ labels.used
        bound = priced + (cost + first @ weight)[:, None]
        taken, parents = np.nonzero(bound <= self.most[0, depth + 1])
        used = labels.used[:, parents] + weight[:, taken]
        made = _Labels(labels.cost[parents] + cost[taken], used)
        fits: Mask = np.all(used <= self.room[:, depth + 1, None], axis=0)
        block = _BLOCK if len(parents) > _CROWD else len(self.prices)
        for start in range(1, len(self.prices), block):
            made, parents, taken = made.take(fits), parents[fits], taken[fits]
            some = slice(start, start + block)
            under = made.cost + self.prices[some] @ made.used
            fits = np.all(under <= self.most[some, depth + 1, None], axis=0)
        return made.take(fits), parents[fits], taken[fits]

    def opens(self, labels: _Labels) -> bool:
        """Whether the only label of groups without a choice fits."""
        return bool((labels.used <= self.room).all())

    def promise(self, labels: _Labels, depth: int) -> Floats:
        """The worst of the bounds of each label, relative to the cutoff; less is better."""
        bounds = labels.cost + self.prices @ labels.used
        return (bounds - self.most[:, depth + 1, None]).max(axis=0)


def _suffix(values: Floats) -> Floats:
    """(k, n + 1) Sums of each row from every position to the end."""
    sums = np.cumsum(values[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([sums, np.zeros((len(values), 1))], axis=1)


def _undominated(labels: _Labels) -> Ints:
    """Labels for which no other of equal weights in all rows but one is as good in the rest.

    A library has the same alternatives, at the same bytes, in many layers, so that labels agree in
    all but what was measured. Comparing labels that differ in more rows was tried: it finds one in
    a hundred more.
    """
    distinct = [len(np.unique(row)) for row in labels.used]
    last = int(np.argmax(distinct)) if distinct else 0
    others = [row for number, row in enumerate(labels.used) if number != last]
    tail = labels.used[last] if distinct else labels.cost
    keys = np.lexsort((labels.cost, tail, *others))
    new = np.zeros(len(keys), dtype=np.bool_)
    new[0] = True
    for row in others:
        new[1:] |= row[keys[1:]] != row[keys[:-1]]
    # Ranks make a running minimum per class one running minimum over all: later classes lie lower.
    cost = np.empty(len(keys), dtype=np.int64)
    cost[np.argsort(labels.cost[keys], kind="stable")] = np.arange(len(keys))
    cost -= np.cumsum(new) * len(keys)
    before = np.minimum.accumulate(cost)
    kept = np.ones(len(keys), dtype=np.bool_)
    kept[1:] = cost[1:] < before[:-1]
    return np.sort(keys[kept])


def _order(instance: Instance, prices: Floats) -> tuple[Ints, Ints]:
    """Groups with a choice, those whose items differ most first, and the items of the others."""
    sizes = np.diff(instance.start)
    reduced = instance.cost + prices[0] @ instance.weight
    least = np.minimum.reduceat(reduced, instance.start[:-1])
    most = np.maximum.reduceat(reduced, instance.start[:-1])
    order = np.argsort(least - most, kind="stable")
    return order[sizes[order] > 1], instance.start[:-1][sizes == 1]


def _back(trail: list[tuple[Ints, Ints]], label: int) -> Ints:
    """The items that led to a label."""
    chosen = np.zeros(len(trail), dtype=np.int64)
    for depth in range(len(trail) - 1, -1, -1):
        parents, taken = trail[depth]
        chosen[depth] = taken[label]
        label = int(parents[label])
    return chosen
