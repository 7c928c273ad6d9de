"""Every requirement and the objective as exact rows, as far as that is possible today.

In: a checked spec, its space, the damages that are known. Out: `Rows`, and bounds on what a
linear form can come to. Damages that are not all known count as 0, and `Rows` says so. What cannot
be lowered (a metric without a cost model) is left out and not reported: this is for rules that look
before there is a plan. `passes/constrain.py` is for planning, and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from msgspec import Struct

from surgery import evaluate
from surgery.diagnostics import Stop
from surgery.ir import Measured, Space, Spec
from surgery.scoring.blind import scores_used
from surgery.solving.columns import Columns
from surgery.solving.linear import Clause, Linear
from surgery.solving.lower import Lowering


class Rows(Struct, frozen=True):
    """What a spec asks of its columns.

    `clauses` holds the comparisons of each requirement by its index in the spec, none for one that
    does not depend on the choices; a requirement that cannot be lowered is missing, of `wanted` in
    all. `goal` is what is minimised, `None` where the objective cannot be lowered. Unless
    `measured`, all damages in them are 0.
    """

    columns: Columns
    clauses: Mapping[int, tuple[Clause, ...]]
    goal: Linear | None
    wanted: int
    measured: bool

    @property
    def complete(self) -> tuple[Linear, ...] | None:
        """All rows and then the goal, or `None` if anything is missing."""
        if self.goal is None or len(self.clauses) < self.wanted:
            return None
        return (*(row for each in self.clauses.values() for c in each for row in c.rows), self.goal)


def lowered(spec: Spec, space: Space, measured: Measured | None) -> Rows:
    """The rows of `spec` over `space`; scores count only where all that are used are measured."""
    columns = Columns(space)
    context = evaluate.parent_context(spec, space.model)
    whole = measured is not None and _is_whole(spec, space, measured)
    known = measured if measured is not None and whole else nothing(spec, space)
    lowering = Lowering(columns, context, known)
    clauses: dict[int, tuple[Clause, ...]] = {}
    for index, requirement in enumerate(spec.requirements):
        try:
            clauses[index] = lowering.clauses(index, "", requirement.expr)
        except Stop:
            continue
    goal = None
    try:
        objective = lowering.linear(spec.objective.expr)
        goal = objective.times(-1) if spec.objective.sense == "maximize" else objective
    except Stop:
        pass
    return Rows(columns, clauses, goal, len(spec.requirements), whole)


def _is_whole(spec: Spec, space: Space, measured: Measured) -> bool:
    tables = [measured.damage.get(score.name, {}) for score in scores_used(spec)]
    return all(c.address in table for table in tables for c in space.candidates)


def nothing(spec: Spec, space: Space, but: str = "") -> Measured:
    """No damage at all, or damage 1 of every edit under one score."""
    zero = {c.address: 0.0 for c in space.candidates}
    one = {c.address: float(c.changed) for c in space.candidates}
    return Measured({s.name: one if s.name == but else zero for s in spec.scores}, "")


def most(linear: Linear, columns: Columns) -> Fraction:
    """No choice makes the form greater; exact where no two sites of a layer interact."""
    return -linear.times(-1).settled(columns.groups).constant


def least(linear: Linear, columns: Columns) -> Fraction:
    """No choice makes the form less; exact where no two sites of a layer interact."""
    return linear.settled(columns.groups).constant
