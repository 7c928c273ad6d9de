"""The least cost of an instance with a proof: bounds, choices, and a core that grows.

In: an `Instance` and a `Policy`. Out: `Answer`: the choice, and a bound that no choice goes below.
Not here: fractions, ties and messages (`passes/solve.py`).

1. Kelley's multipliers give the bound of the LP relaxation, and repair gives a choice (`dual.py`,
   `repair.py`).
2. A cutoff just above the bound leaves few items (reduced-cost fixing). If a choice within the
   cutoff exists it is found by labels, and then nothing else is better; if not, the cutoff is the
   new bound, and a wider one is tried. Each round proves something, and the last one costs most.
3. Where the labels of a round get too many, HiGHS solves what is left below the best choice.

The rounds are cheap because the LP bound is close: a choice of 36 layers out of 100 alternatives
each has 40 to 150 items within the cutoff that contains the optimum. HiGHS on all of them spends
its time there too, but on cuts. Labels need few rows; from about six on they multiply, and HiGHS
takes over. Dominance is looked for among labels, not among items: fixing leaves few of those.
"""

from __future__ import annotations

import time
from math import inf
from typing import Literal

import numpy as np
from msgspec import Struct

from surgery.solving.knapsack import core, dual, labels, repair
from surgery.solving.knapsack.dual import Bundle
from surgery.solving.knapsack.instance import Floats, Instance, Ints

_FIRST = 24
"""Items besides the least of their groups that the first round looks at."""
_FAR = 1e3
"""How much better a choice must be for the question to be asked again in units of its cost."""
_CALM = 1000
"""Labels of a round up to which the next may be twice as wide."""


class Policy(Struct, frozen=True):
    """When to stop: at a relative `gap` if `effort` labels have not proved 0, and at `deadline`.

    `effort` counts work and not time, so that the same input stops at the same place everywhere;
    `width` is how many labels there may be at a time before a round is given up. `deadline` is in
    seconds of `time.monotonic`; `presolve` is HiGHS's.
    """

    gap: float = 0.0
    effort: int = 200_000
    width: int = 131_072
    deadline: float = inf
    presolve: bool = True


class Answer(Struct, frozen=True):
    """What is known: the best choice (items, one per group) and a bound (cost).

    `optimal`: proved within the policy's gap. `bundle` holds multipliers to start a neighbour with.
    """

    status: Literal["optimal", "infeasible", "stopped"]
    chosen: Ints | None
    bound: float
    bundle: Bundle


def solve(
    instance: Instance, policy: Policy, warm: Floats | None = None, step: float = 0.0
) -> Answer:
    """The least cost; `warm` (k, m) are multipliers, `step` divides all costs if it is not 0."""
    bundle = dual.kelley(instance, warm)
    if bundle.unfit:
        return Answer("infeasible", None, bundle.bound, bundle)
    if policy.deadline <= time.monotonic():
        return Answer("stopped", None, bundle.bound, bundle)
    state = _State(instance, policy, bundle, step)
    state.offer(repair.best(instance, bundle))
    state.raise_bound(bundle.bound)
    status = state.run()
    return Answer(status, state.chosen, min(state.bound, state.cost), bundle)


class _State(Struct):
    instance: Instance
    policy: Policy
    bundle: Bundle
    step: float
    prices: Floats = None  # pyright: ignore[reportAssignmentType] - set below
    chosen: Ints | None = None
    cost: float = inf
    bound: float = -inf
    spent: int = 0
    beamed: bool = False

    def __post_init__(self) -> None:
        self.prices = self.bundle.around

    def offer(self, chosen: Ints | None) -> None:
        if chosen is None or not self.instance.fits(chosen):
            return
        cost = self.instance.total(chosen)
        if cost < self.cost:
            self.chosen, self.cost = chosen, cost

    def raise_bound(self, bound: float) -> None:
        """Costs are whole multiples of the step, and so is the least of them."""
        if self.step > 0:
            whole = bound / self.step
            bound = float(np.ceil(whole - max(1e-6, 1e-12 * abs(whole)))) * self.step
        self.bound = max(self.bound, bound)

    def gap(self) -> float:
        if self.chosen is None:
            return inf
        return max(self.cost - self.bound, 0.0) / (self.cost or 1.0)

    def done(self) -> bool:
        """Optimal up to rounding, or near enough after enough work."""
        if self.chosen is not None:
            rounding = max(2 * self.instance.slack(self.cost), self.step / 2)
            if self.cost - self.bound <= rounding:
                return True
        return self.spent >= self.policy.effort and self.gap() <= self.policy.gap

    def run(self) -> Literal["optimal", "infeasible", "stopped"]:
        width = self._first_width()
        if self.policy.width == 0:
            return self._finish()
        while not self.done():
            if time.monotonic() > self.policy.deadline:
                return "stopped"
            cutoff = min(self.bound + width, self.cost - self.step)
            if self.spent >= self.policy.effort:
                # Past this nothing more need be known; the factor is against rounding.
                cutoff = min(cutoff, self.cost * (1 - self.policy.gap * (1 - 1e-6)))
            before = self.bound, self.cost
            found = self._round(cutoff)
            if found is None or before == (self.bound, self.cost):  # too many labels, or no use
                return self._finish()
            if cutoff == inf and self.chosen is None:
                return "infeasible"
            if self.chosen is None and cutoff > self._dearest():
                width = inf
                continue
            width *= 2.0 if found < _CALM else 1.4
            if found >= _CALM and not self.beamed:
                self._beam()
        return "optimal"

    def _round(self, cutoff: float) -> int | None:
        """Prove that the optimum is beyond the cutoff, or find it; labels, `None` if too many."""
        kept = dual.within(self.instance, self.prices, cutoff)
        left = self.instance.only(kept)
        if left is None:
            self._beyond(cutoff)
            return 0
        binding = left.binding
        found = labels.search(left.tight(), self.prices[:, binding], cutoff, self.policy.width)
        self.spent += found.labels
        if found.chosen is not None:
            self.offer(left.item[found.chosen])
        if not found.proved:
            self.spent = max(self.spent, self.policy.effort)
            return None
        self._beyond(cutoff)
        return found.labels

    def _beam(self) -> None:
        """A better choice by a few labels among all that is left, before rounds become dear."""
        self.beamed = True
        left = self.instance.only(dual.within(self.instance, self.prices, self.cost))
        if left is not None:
            found = labels.search(left.tight(), self.prices[:, left.binding], self.cost, 0)
            if found.chosen is not None:
                self.offer(left.item[found.chosen])

    def _beyond(self, cutoff: float) -> None:
        """No choice but the best costs as little as the cutoff."""
        if self.step > 0 and cutoff < inf:
            cutoff = (np.floor(cutoff / self.step + 1e-6) + 1) * self.step
        self.bound = max(self.bound, min(cutoff, self.cost))

    def _finish(self) -> Literal["optimal", "infeasible", "stopped"]:
        """HiGHS on the items that a choice as good as the best can contain.

        Where it is the first to find a choice it is asked again in units of its cost: HiGHS's
        tolerance is absolute.
        """
        while not self.done():
            before = self.cost
            kept = dual.within(self.instance, self.prices, before)
            left = self.instance.only(kept)
            if left is None:
                raise AssertionError("the best choice is within its own cost")
            start = None if self.chosen is None else np.searchsorted(left.item, self.chosen)
            result = core.solve(
                left, start, self.policy.gap, self.policy.deadline, self.policy.presolve
            )
            if result.status == "infeasible":
                # Said beside a choice that fits, it is no proof of anything.
                return "infeasible" if self.chosen is None else "stopped"
            if result.chosen is not None:
                self.offer(left.item[result.chosen])
            self.raise_bound(min(result.bound, self.cost))
            if result.status == "stopped" or self.cost > before / _FAR:
                return result.status
        return "optimal"

    def _first_width(self) -> float:
        """Wide enough for a few items, however far away the best choice is."""
        made = self.instance
        reduced = made.cost + self.prices[0] @ made.weight
        least = np.minimum.reduceat(reduced, made.start[:-1])
        reduced = reduced - np.repeat(least, np.diff(made.start))
        few = np.sort(reduced[reduced > 0])[:_FIRST]
        return float(few[-1]) if len(few) else self._dearest() * 1e-6

    def _dearest(self) -> float:
        return float(np.maximum.reduceat(self.instance.cost, self.instance.start[:-1]).sum())
