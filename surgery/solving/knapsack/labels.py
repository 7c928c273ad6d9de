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


class _Layer(Struct):
    """Labels after some groups: costs (k,), weights (m, k), priced costs (b, k)."""

    cost: Floats
    used: Floats
    priced: Floats

    def take(self, which: Ints | Mask) -> _Layer:
        return _Layer(self.cost[which], self.used[:, which], self.priced[:, which])


def search(instance: Instance, prices: Floats, cutoff: float, limit: int) -> Found:
    """The cheapest choice of cost <= `cutoff`; `prices` (b, m) are what bounds labels."""
    order = _order(instance, prices)
    ahead = _Ahead.of(instance, prices, order, cutoff)
    layer = _Layer(np.zeros(1), np.zeros((len(instance.room), 1)), np.zeros((len(prices), 1)))
    trail: list[tuple[Ints, Ints]] = []
    proved, labels = True, 0
    every: Ints = np.arange(len(instance.cost))
    for depth, group in enumerate(order.tolist()):
        items = every[int(instance.start[group]) : int(instance.start[group + 1])]
        layer, parents, taken = _extended(instance, prices, layer, items, ahead, depth)
        labels += len(layer.cost)
        if len(layer.cost) == 0:
            return Found(None, proved, labels)
        if len(layer.cost) > _CROWD:
            kept = _undominated(layer)
            layer, parents, taken = layer.take(kept), parents[kept], taken[kept]
        if len(layer.cost) > limit:
            proved, limit = False, min(limit, _BEAM)
            promise = (layer.priced + ahead.rest[:, depth + 1, None]).max(axis=0)
            kept = np.sort(np.argpartition(promise, limit)[:limit])
            layer, parents, taken = layer.take(kept), parents[kept], taken[kept]
        trail.append((parents, taken))
    return Found(_back(trail, order, int(np.argmin(layer.cost))), proved, labels)


class _Ahead(Struct, frozen=True):
    """What the groups not decided yet cost and weigh at least.

    `rest` (b, groups + 1) is added to a priced label for its bound; `least` (m, groups + 1).
    """

    rest: Floats
    least: Floats
    room: Floats
    cutoff: float

    @classmethod
    def of(cls, instance: Instance, prices: Floats, order: Ints, cutoff: float) -> _Ahead:
        starts = instance.start[:-1]
        reduced = np.minimum.reduceat(instance.cost + prices @ instance.weight, starts, axis=1)
        least = np.minimum.reduceat(instance.weight, starts, axis=1)
        rest = _suffix(reduced[:, order]) - (prices @ instance.room)[:, None]
        sizes = float(reduced.sum(axis=1).max() + (prices @ instance.room).max())
        slack = instance.slack(sizes + abs(cutoff))
        return cls(rest, _suffix(least[:, order]), instance.room, cutoff + slack)


def _suffix(values: Floats) -> Floats:
    """(k, n + 1) Sums of each row from every position to the end."""
    sums = np.cumsum(values[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([sums, np.zeros((len(values), 1))], axis=1)


def _extended(
    instance: Instance, prices: Floats, layer: _Layer, items: Ints, ahead: _Ahead, depth: int
) -> tuple[_Layer, Ints, Ints]:
    """Every label with every item, as far as bounds and rooms allow; parents and items beside."""
    weight = instance.weight[:, items]
    priced = instance.cost[items] + prices @ weight
    parents = np.tile(np.arange(len(layer.cost)), len(items))
    taken = np.repeat(np.arange(len(items)), len(layer.cost))
    for bundle in (slice(0, 1), slice(1, None)):
        bound = layer.priced[bundle][:, parents] + priced[bundle][:, taken]
        kept = (bound <= (ahead.cutoff - ahead.rest[bundle, depth + 1])[:, None]).all(axis=0)
        parents, taken = parents[kept], taken[kept]
    used = layer.used[:, parents] + weight[:, taken]
    kept = (used <= (ahead.room - ahead.least[:, depth + 1])[:, None]).all(axis=0)
    parents, taken = parents[kept], taken[kept]
    return (
        _Layer(
            layer.cost[parents] + instance.cost[items][taken],
            used[:, kept],
            layer.priced[:, parents] + priced[:, taken],
        ),
        parents,
        items[taken],
    )


def _undominated(layer: _Layer) -> Ints:
    """Labels for which no other of equal weights in all rows but one is as good in the rest.

    A library has the same alternatives, at the same bytes, in many layers, so that labels agree in
    all but what was measured. Rows whose weights differ everywhere leave this without effect.
    """
    distinct = [len(np.unique(row)) for row in layer.used]
    last = int(np.argmax(distinct)) if distinct else 0
    others = [row for number, row in enumerate(layer.used) if number != last]
    tail = layer.used[last] if distinct else layer.cost
    keys = np.lexsort((layer.cost, tail, *others))
    new = np.zeros(len(keys), dtype=np.bool_)
    new[0] = True
    for row in others:
        new[1:] |= row[keys[1:]] != row[keys[:-1]]
    # Ranks make a running minimum per class one running minimum over all: later classes lie lower.
    cost = np.empty(len(keys), dtype=np.int64)
    cost[np.argsort(layer.cost[keys], kind="stable")] = np.arange(len(keys))
    cost -= np.cumsum(new) * len(keys)
    before = np.minimum.accumulate(cost)
    kept = np.ones(len(keys), dtype=np.bool_)
    kept[1:] = cost[1:] < before[:-1]
    return np.sort(keys[kept])


def _order(instance: Instance, prices: Floats) -> Ints:
    """Groups whose items differ most first: bounds cut early."""
    reduced = instance.cost + prices[0] @ instance.weight
    least = np.minimum.reduceat(reduced, instance.start[:-1])
    most = np.maximum.reduceat(reduced, instance.start[:-1])
    return np.argsort(least - most, kind="stable")


def _back(trail: list[tuple[Ints, Ints]], order: Ints, label: int) -> Ints:
    """The positions that led to a label, by group."""
    chosen = np.zeros(len(order), dtype=np.int64)
    for group, (parents, taken) in zip(order[::-1], trail[::-1], strict=True):
        chosen[group] = taken[label]
        label = int(parents[label])
    return chosen
