"""What asking for a least value comes to, and how `passes/explain.py` asks without a solver.

In: nothing. Out: `Proof`, `Outcome` and the `Minimise` protocol that `passes.solve.Solver`
implements.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, Protocol

from msgspec import Struct

from surgery.solving.linear import Linear


class Proof(Struct, frozen=True):
    """What of a proof is asked for: distance 0 to the bound where `exact`, in `seconds` at most.

    With `accept_gap`, the best answer in time is taken, however far from its bound.
    """

    exact: bool = False
    seconds: float | None = None
    accept_gap: bool = False


class Outcome(Struct, frozen=True):
    """The answer to one question: least value of a form among the choices that keep all rows.

    `chosen` (candidate columns, ascending) and `value` (exact) are empty and 0 when there is no
    choice; `bound` is what the solver proved that no choice goes below, `gap` their distance
    relative to the larger of the value and what there was to gain. `near` are the columns that a
    choice no worse than this one (within a tie) may contain. `prices` are the best multipliers of
    the rows, to begin a neighbouring question with.
    """

    status: Literal["optimal", "infeasible", "stopped"]
    chosen: tuple[int, ...] = ()
    value: Fraction = Fraction(0)
    bound: Fraction = Fraction(0)
    gap: float = 0.0
    near: frozenset[int] = frozenset()
    prices: tuple[float, ...] = ()


class Minimise(Protocol):
    """Asks for the least value of `goal` subject to `rows`, each <= 0."""

    def __call__(self, rows: Sequence[Linear], goal: Linear) -> Outcome:
        """The answer, exact unless `stopped`."""
        ...
