"""The least cost of an instance with a proof: bounds, choices, and a tree of few nodes.

In: an `Instance` and a `Policy`. Out: `Answer`: the choice, and a bound that no choice goes below.
Not here: fractions, ties and messages (`passes/solve.py`).

A node is the instance under limits on a few whole totals; the one with the least bound is next.

1. Kelley's multipliers give the bound of the LP relaxation, and repair gives a choice (`dual.py`,
   `repair.py`).
2. A cutoff just above the bound leaves few items (reduced-cost fixing). If a choice within the
   cutoff exists it is found by labels, and then nothing else is better; if not, the cutoff is the
   new bound, and a wider one is tried. Each round proves something, and the last one costs most.
3. Where the labels of a round get many, the node is split in two by a total that the relaxation
   leaves between two whole numbers (`lattice.py`). Their bounds are so much closer to the best
   choices that one or two rounds end what thousands of times as many labels would.
4. Where labels get too many and nothing is left to split by, HiGHS solves what is left of a node
   below the best choice.

Labels need few rows; from about six on they multiply, and HiGHS takes over. Dominance is looked for
among labels, not among items: fixing leaves few of those.
"""

from __future__ import annotations

import time
from heapq import heappop, heappush
from math import inf
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from surgery.solving.knapsack import core, dual, labels, lattice, repair
from surgery.solving.knapsack.dual import Bundle
from surgery.solving.knapsack.instance import Floats, Instance, Ints, Mask

TIE = 1e-9
"""Costs closer than this, relative to the least, are ties."""
_FIRST = 24
"""Items besides the least of their groups that the first round looks at."""
_FAR = 1e3
"""How much better a choice must be for the question to be asked again in units of its cost."""
_CALM = 1000
"""Labels of a round up to which the next may be twice as wide."""
_SPLIT = 1000
"""What a split counts, in labels."""
_DEEP = 6
"""Limits of a node from which on it is searched before it is split again."""
_WHOLE = 0.01
"""Distance of a total from a whole number that splitting cannot use."""
_WARM = 12
"""Multipliers that a node begins with."""


class Policy(Struct, frozen=True):
    """When to stop: at a relative `gap` if `effort` labels have not proved 0, and at `deadline`.

    `effort` counts work and not time, so that the same input stops at the same place everywhere;
    `width` is how many labels there may be at a time before a round is given up, `crowd` how many
    of a round are enough for a split to cost less than the next one. Without `patience` the search
    stops where HiGHS would have to go on, or the effort is spent: what that takes has a bound.
    `deadline` is in seconds of `time.monotonic`; `presolve` is HiGHS's.
    """

    gap: float = 0.0
    effort: int = 200_000
    width: int = 131_072
    crowd: int = 4_000
    patience: bool = True
    deadline: float = inf
    presolve: bool = True


class Answer(Struct, frozen=True):
    """What is known: the best choice (items, one per group) and a bound (cost).

    `optimal`: proved within the policy's gap. `bundle` holds multipliers to start a neighbour with.
    `leaves` are the nodes at the end: every choice is in one of them.
    """

    status: Literal["optimal", "infeasible", "stopped"]
    chosen: Ints | None
    bound: float
    bundle: Bundle
    leaves: tuple[Node, ...] = ()

    def within(self, count: int, cutoff: float) -> Mask:
        """(count,) The items that a choice of cost <= `cutoff` may contain."""
        kept = np.zeros(count, dtype=np.bool_)
        for node in self.leaves:
            if node.relaxed <= cutoff:
                kept[node.instance.item[dual.within(node.instance, node.prices, cutoff)]] = True
        return kept


class Node(Struct, frozen=True):
    """An instance with limits on some totals of labels, and what is known of it.

    `bound` is proved; `relaxed` is that of the multipliers `prices`. `limits` are (row of labels,
    whether from above) of the instance's last rows, in their order. `width` is how far above the
    bound the next round looks, `last` how many labels the one before had. `done`: HiGHS has said
    all there is to say.
    """

    instance: Instance
    bundle: Bundle
    prices: Floats
    bound: float
    relaxed: float
    width: float
    limits: tuple[tuple[int, bool], ...] = ()
    last: int = 0
    done: bool = False


def solve(
    instance: Instance,
    policy: Policy,
    warm: Floats | None = None,
    step: float = 0.0,
    offset: float = 0.0,
) -> Answer:
    """The least cost; `warm` (k, m) are multipliers, `step` divides all costs if it is not 0.

    Costs plus `offset` are what ties are relative to (`Answer.within`).
    """
    bundle = dual.kelley(instance, warm)
    if bundle.unfit:
        return Answer("infeasible", None, bundle.bound, bundle)
    state = _State(instance, policy, step, offset)
    state.push(_node(instance, bundle, state.whole(bundle.bound), ()))
    if policy.deadline <= time.monotonic():
        return Answer("stopped", None, bundle.bound, bundle)
    state.offer(repair.best(instance, bundle))
    status = state.run()
    leaves = tuple(node for _, _, node in sorted(state.open, key=lambda entry: entry[:2]))
    return Answer(status, state.chosen, min(state.bound, state.cost), bundle, leaves)


def _node(
    instance: Instance, bundle: Bundle, bound: float, limits: tuple[tuple[int, bool], ...]
) -> Node:
    """Its first round looks at a few items, however far away the best choice is."""
    prices = bundle.around
    reduced = instance.cost + prices[0] @ instance.weight
    least = np.minimum.reduceat(reduced, instance.start[:-1])
    reduced = reduced - np.repeat(least, np.diff(instance.start))
    few = np.sort(reduced[reduced > 0])[:_FIRST]
    width = float(few[-1]) if len(few) else _dearest(instance) * 1e-6
    return Node(instance, bundle, prices, bound, bundle.bound, width, limits)


class _State(Struct):
    """The nodes, by their bounds, and the best choice so far."""

    instance: Instance
    policy: Policy
    step: float
    offset: float
    open: list[tuple[float, int, Node]] = []
    made: int = 0
    labels: Floats | None = None
    chosen: Ints | None = None
    cost: float = inf
    spent: int = 0

    @property
    def bound(self) -> float:
        """No choice costs less."""
        return self.open[0][0]

    def push(self, node: Node) -> None:
        self.made += 1
        heappush(self.open, (node.bound, self.made, node))

    def offer(self, chosen: Ints | None) -> None:
        """Take a choice if it is better than the best; `chosen` are items of the whole."""
        if chosen is None or not self.instance.fits(chosen):
            return
        cost = self.instance.total(chosen)
        if cost < self.cost:
            self.chosen, self.cost = chosen, cost

    def whole(self, bound: float) -> float:
        """Costs are whole multiples of the step, and so is the least of them."""
        if self.step == 0 or not -inf < bound < inf:
            return bound
        whole = bound / self.step
        return float(np.ceil(whole - max(1e-6, 1e-12 * abs(whole)))) * self.step

    def beyond(self, cutoff: float) -> float:
        """The bound when no choice but the best costs as little as the cutoff."""
        if self.step > 0 and cutoff < inf:
            cutoff = (np.floor(cutoff / self.step + 1e-6) + 1) * self.step
        return min(cutoff, self.cost)

    def proved(self) -> bool:
        """Optimal up to rounding, or near enough after enough work."""
        if self.chosen is None:
            return False
        apart = max(self.cost - self.bound, 0.0)
        if apart <= max(2 * self.instance.slack(self.cost), self.step / 2):
            return True
        return self.spent >= self.policy.effort and apart <= self.policy.gap * self.cost

    def cutoff(self) -> float:
        """What a choice must cost to matter; the factor is against rounding."""
        if self.spent < self.policy.effort:
            return self.cost - self.step
        return min(self.cost - self.step, self.cost * (1 - self.policy.gap * (1 - 1e-6)))

    def reach(self) -> float:
        """What a choice may cost to be as good as the best: no item of one is lost."""
        return self.cost + 2 * TIE * (self.cost + abs(self.offset))

    def tired(self) -> bool:
        """Whether all was done that was allowed."""
        return not self.policy.patience and self.spent >= self.policy.effort

    def run(self) -> Literal["optimal", "infeasible", "stopped"]:
        while not self.proved():
            if self.bound == inf:
                return "infeasible"
            if time.monotonic() > self.policy.deadline or self.tired():
                return "stopped"
            _, _, node = heappop(self.open)
            if node.done:
                self.push(node)
                return "optimal"
            if node.last >= self.policy.crowd and self.split(node):
                continue
            if self.policy.width and self.round(node):
                continue
            if not self.policy.patience:
                self.push(node)
                return "stopped"
            if self.finish(node) == "stopped":
                return "stopped"
        return "optimal"

    # ---- one node ----------------------------------------------------------------------------

    def split(self, node: Node) -> bool:
        """Two nodes for one, where the relaxation has a total between two whole numbers."""
        left = node.instance.only(dual.within(node.instance, node.prices, self.reach()))
        if left is None:
            self.push(replace(node, bound=self.cost))
            return True
        if self.labels is None:  # this is the root: no other node has more items
            found = lattice.labels(left)
            self.labels = np.zeros((len(found), len(self.instance.cost)))
            self.labels[:, left.item] = found
        totals = node.bundle.mixed(self.labels[:, node.instance.item])
        uneven = np.flatnonzero(np.abs(totals - np.rint(totals)) > _WHOLE)
        if not uneven.size:
            return False
        row = int(uneven[0])  # the coarsest
        values, total = self.labels[row, left.item], float(np.floor(totals[row]))
        most = float(values.max())
        self.push(self.child(node, left, (row, True), values, total))
        rest = most * left.groups - total - 1
        self.push(self.child(node, left, (row, False), most - values, rest))
        return True

    def child(
        self, node: Node, left: Instance, limit: tuple[int, bool], weight: Floats, room: float
    ) -> Node:
        """The node, of the items `left`, with one more row; an old one of the same kind goes."""
        steps, limits = node.bundle.steps[:_WARM], [*node.limits, limit]
        warm = np.array([np.append(step.prices, 0.0) for step in steps])
        made = left.with_row(weight, room)
        if limit in node.limits:
            row = len(self.instance.room) + limits.index(limit)
            made, warm = made.without_row(row), np.delete(warm, row, axis=1)
            limits.remove(limit)
        self.spent += _SPLIT
        bundle = dual.kelley(made, warm, self.cutoff())
        bound = inf if bundle.unfit else max(node.bound, self.whole(bundle.bound))
        made = _node(made, bundle, bound, tuple(limits))
        return replace(made, last=node.last) if len(limits) < _DEEP else made

    def round(self, node: Node) -> bool:
        """Prove that the node's best is beyond a cutoff, or find it; false if it takes too much."""
        cutoff = min(node.bound + node.width, self.cutoff())
        left = node.instance.only(dual.within(node.instance, node.prices, cutoff))
        if left is None:
            count = 0
        else:
            binding = left.binding
            found = labels.search(left.tight(), node.prices[:, binding], cutoff, self.policy.width)
            count = found.labels
            self.spent += count
            if found.chosen is not None:
                self.offer(left.item[found.chosen])
            if not found.proved:
                self.spent = max(self.spent, self.policy.effort)
                return False
        bound = max(node.bound, self.beyond(cutoff))
        if bound == node.bound and cutoff < inf and bound < self.cost:
            return False  # no use: rounding
        width = node.width * (2.0 if count < _CALM else 1.4)
        if self.chosen is None and cutoff > _dearest(node.instance):
            width = inf
        self.push(replace(node, bound=bound, width=width, last=count))
        return True

    def finish(self, node: Node) -> Literal["optimal", "stopped"]:
        """HiGHS on the items of a node that a choice as good as the best can contain.

        Where it is the first to find a choice it is asked again in units of its cost: HiGHS's
        tolerance is absolute.
        """
        policy = self.policy
        while True:
            before = self.cost
            left = node.instance.only(dual.within(node.instance, node.prices, before))
            if left is None:
                self.push(replace(node, bound=self.beyond(before), done=True))
                return "optimal"
            start = None
            if self.chosen is not None and np.isin(self.chosen, left.item).all():
                start = np.searchsorted(left.item, self.chosen)
                start = start if left.fits(start) else None
            result = core.solve(left, start, policy.gap, policy.deadline, policy.presolve)
            if result.chosen is not None:
                self.offer(left.item[result.chosen])
            bound = max(node.bound, self.whole(min(result.bound, self.cost)))
            if result.status == "infeasible" and start is None:
                bound = self.cost
            if result.status != "optimal" or self.cost > before / _FAR:
                self.push(replace(node, bound=bound, done=True))
                # Said beside a choice that fits, "infeasible" is no proof of anything.
                lost = result.status == "infeasible" and start is not None
                return "stopped" if lost or result.status == "stopped" else "optimal"


def _dearest(instance: Instance) -> float:
    return float(np.maximum.reduceat(instance.cost, instance.start[:-1]).sum())
