"""A problem and labels of requirements -> how far these must give, or what giving them up buys.

In: a problem, its spec, the requirements that may give. Out: where nothing satisfies all
requirements, `Relaxed`: the least relaxation of exactly these that makes room for the others, and
the problem with the limits so moved, to be solved. Where something does, `Bought`: the optimum
without the requirement, and the limit at which it stops to bind. As data and as text. Reports
E0601 where the others conflict among themselves, E0603 where time runs out, E0201 for a label that
no requirement has.

Several requirements give by the same part of their limits: the largest relative violation is the
least there is (to a millionth of it), and the best of the plans within it is taken. One
requirement alone gives by its exact minimum, by Dinkelbach's iteration (1967) where it is a ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Sink
from surgery.figures import plain
from surgery.ir import Spec
from surgery.passes import explain, solve
from surgery.passes.constrain import Problem, label
from surgery.passes.solve import TIE, Solver
from surgery.solving.linear import ZERO, Clause, Extreme, Linear, Ratio, constant
from surgery.solving.outcome import Outcome
from surgery.views.table import table

CLOSE = Fraction(1, 10**6)


class Unsettled(Exception):
    """Time ran out before a question was answered. Does not leave this module."""


class Ask(Protocol):
    """A choice of least `goal` that keeps the rows, as active columns; `None` if there is none."""

    def __call__(self, rows: Sequence[Linear], goal: Linear) -> frozenset[int] | None:
        """The columns that are 1."""
        ...


class Soft(Struct, frozen=True):
    """One row that may give: it is violated by `t` where `row - t * scale * bottom` is 0."""

    row: Linear
    bottom: Linear
    scale: Fraction

    def eased(self, by: Fraction) -> Linear:
        """The row (<= 0) where it may be violated by so much."""
        return self.row.plus(self.bottom, -by * self.scale)

    def miss(self, active: frozenset[int]) -> Fraction:
        """By how much a choice violates it, relative to the limit."""
        return self.row.at(active) / (self.bottom.at(active) * self.scale)


class Relaxed(Struct, frozen=True):
    """What must give: `by` is relative to the limits, `problem` has rows that allow it.

    The requirements that gave are not among those of `problem`'s spec; `clauses` are theirs.
    """

    by: Fraction
    clauses: tuple[Clause, ...]
    problem: Problem


class Bought(Struct, frozen=True):
    """What a requirement costs: the objective without it, `None` if that was not settled.

    `until` is the limit from which on it does not bind, as a spec writes it; `None` where it does
    not bind as it is, or no limit can say so.
    """

    clause: Clause
    objective: Fraction | None
    until: str | None


def unknown(spec: Spec, labels: Sequence[str]) -> Diagnostic | None:
    """E0201 for the first label that no requirement has."""
    known = [label(spec, each) for each in spec.requirements]
    for name in labels:
        if name not in known:
            message = f"there is no requirement `{name}`"
            listed = f"requirements are {', '.join(known)}" if known else "the spec has none"
            helps = (Help(listed),)
            return Diagnostic(catalog.E0201, message, subject="--relax", helps=helps)
    return None


def without(problem: Problem, labels: Sequence[str], cuts: Sequence[Linear] = ()) -> Problem:
    """The problem that does not ask for these requirements, but for the rows `cuts`."""
    spec = problem.spec
    kept = [n for n, each in enumerate(spec.requirements) if label(spec, each) not in labels]
    return replace(
        problem,
        spec=replace(spec, requirements=tuple(spec.requirements[n] for n in kept)),
        clauses=tuple(
            replace(clause, requirement=kept.index(clause.requirement))
            for clause in problem.clauses
            if clause.requirement in kept
        ),
        cuts=(*problem.cuts, *cuts),
    )


def given(problem: Problem, labels: Sequence[str]) -> tuple[Clause, ...]:
    """The clauses of the requirements with these labels."""
    named = [label(problem.spec, each) for each in problem.spec.requirements]
    return tuple(c for c in problem.clauses if named[c.requirement] in labels)


# ---- the least relaxation --------------------------------------------------------------------


def least(problem: Problem, labels: Sequence[str], solver: Solver, sink: Sink) -> Relaxed | None:
    """The least relaxation of these requirements; `None` and E0601 if the others conflict."""
    clauses = given(problem, labels)
    soft = tuple(each for clause in clauses for each in _soft(clause))
    rest = without(problem, labels)
    try:
        found = _least(solver, rest.rows, soft)
    except Unsettled:
        sink.report(solve.unproven(problem, Outcome("stopped")))
        return None
    if found is None:
        why = explain.infeasible(rest, solver.minimise)
        names = " and ".join(f"`{each}`" for each in labels)
        message = f"relaxing {names} is not enough: the other requirements conflict"
        sink.report(replace(why, message=message))
        return None
    eased = tuple(each.eased(found[0]) for each in soft)
    return Relaxed(found[0], clauses, without(problem, labels, eased))


def _soft(clause: Clause) -> tuple[Soft, ...]:
    bottom = clause.value.bottom if isinstance(clause.value, Ratio) else constant(1)
    # The rows of a least or greatest value, and of `every`, count the layers that break it.
    counted = isinstance(clause.value, Extreme) or clause.unit == "exceptions"
    limit = Fraction(0) if counted else clause.limit.at(()) or Fraction(0)
    return tuple(Soft(row, bottom, abs(limit) or Fraction(1)) for row in clause.rows)


def _least(
    solver: Solver, hard: Sequence[Linear], soft: Sequence[Soft]
) -> tuple[Fraction, frozenset[int]] | None:
    """The least violation that the rows in `soft` can share, and the active columns of a choice.

    `None` if no choice keeps the rows in `hard`.
    """

    def ask(rows: Sequence[Linear], goal: Linear) -> frozenset[int] | None:
        found = solver.minimise((*hard, *rows), goal)
        if found.status == "stopped":
            raise Unsettled
        return solver.columns.active(found.chosen) if found.status == "optimal" else None

    total = constant(0)
    for each in soft:
        total = total.plus(each.row, 1 / each.scale)
    best = ask((), total)
    if best is None:
        return None
    if len(soft) == 1:
        return _alone(ask, soft[0], best)
    high, low = _worst(soft, best), ZERO
    closer = True
    while high - low > high * CLOSE:
        # Often what was found is the least already, which one question says.
        middle = high * (1 - CLOSE) if closer else (low + high) / 2
        closer = not closer
        # Any choice will do: a goal would have to be proved, too.
        found = ask([each.eased(Fraction(float(middle))) for each in soft], constant(0))
        if found is None:
            low = Fraction(float(middle))
        else:
            high, best = _worst(soft, found), found
    return high, best


def _worst(soft: Sequence[Soft], active: frozenset[int]) -> Fraction:
    return max((ZERO, *(each.miss(active) for each in soft)))


def _alone(ask: Ask, soft: Soft, best: frozenset[int]) -> tuple[Fraction, frozenset[int]]:
    """Dinkelbach: from a violation to the least one, each step a linear question."""
    high = soft.miss(best)
    while high > 0:
        found = ask((), soft.eased(high))
        if found is None or soft.miss(found) >= high:
            break
        high, best = soft.miss(found), found
    return max(ZERO, high), best


# ---- what giving one up buys -----------------------------------------------------------------


def bought(
    problem: Problem, name: str, objective: Fraction, solver: Solver, gap: float
) -> tuple[Bought, ...]:
    """What each comparison of a requirement costs the optimum, `objective`."""
    rest = without(problem, [name])
    best = solver.minimise(rest.rows, problem.goal, gap=gap)
    if best.status != "optimal":
        return tuple(Bought(clause, None, None) for clause in given(problem, [name]))
    worth = problem.objective.at(problem.columns.active(best.chosen))
    if worth == objective:
        return tuple(Bought(clause, worth, None) for clause in given(problem, [name]))
    cap = problem.goal.plus(constant(best.value + abs(best.value) * TIE), -1)
    return tuple(
        Bought(clause, worth, _until(problem, clause, (*rest.rows, cap), solver))
        for clause in given(problem, [name])
    )


def _until(problem: Problem, clause: Clause, rows: Sequence[Linear], solver: Solver) -> str | None:
    """The limit that costs nothing any more: the nearest that an optimum without it keeps."""
    soft = _soft(clause)
    try:
        nearest = _least(solver, rows, soft) if len(soft) == 1 else None
    except Unsettled:
        return None
    return _literal(clause, nearest[1]) if nearest else None


def _literal(clause: Clause, active: frozenset[int]) -> str | None:
    """The limit that a choice keeps, as a spec writes it; of counted exceptions there is none."""
    value = clause.value.at(active)
    if value is None or clause.unit == "exceptions" or isinstance(clause.value, Extreme):
        return None
    return explain.asked(clause, value)


# ---- data ------------------------------------------------------------------------------------


def relaxed_data(found: Relaxed, chosen: Sequence[int]) -> dict[str, object]:
    """For JSON: by which part of their limits all give, and what to write where."""
    active = found.problem.columns.active(chosen)
    limits = [
        {
            "label": clause.label,
            "value": plain(clause.value.at(active)),
            "write": None if clause.holds(active) else _literal(clause, active),
        }
        for clause in found.clauses
    ]
    return {"by": plain(found.by), "limits": limits}


def bought_data(found: Sequence[Bought]) -> list[dict[str, object]]:
    """For JSON: the objective without each, and the limit from which on it does not bind."""
    return [
        {"label": b.clause.label, "objective": plain(b.objective), "until": b.until} for b in found
    ]


# ---- text ------------------------------------------------------------------------------------


def relaxed_text(found: Relaxed, chosen: Sequence[int]) -> str:
    """What to write in place of the limits; `chosen` are the columns of the plan within them."""
    active = found.problem.columns.active(chosen)
    rows = [("relaxed", "asked", "possible", "to write")]
    for clause in found.clauses:
        told = clause.evidence(active)
        if clause.holds(active):
            rows.append((clause.label, f"{clause.op} {told.limit}", told.value, "as it is"))
            continue
        literal = _literal(clause, active) or ""
        rows.append((clause.label, f"{clause.op} {told.limit}", told.value, literal))
    return table(rows, "<>>>")


def bought_text(found: Sequence[Bought], problem: Problem, objective: Fraction) -> str:
    """What giving up each requirement buys; `objective` is that of the plan."""
    shown = problem.objective_text(objective)[1]
    rows = [("given up", "objective", "from", "does not bind from")]
    for each in found:
        if each.objective is None:
            rows.append((each.clause.label, "not settled", "", ""))
            continue
        value = problem.objective_text(each.objective)[1]
        rows.append((each.clause.label, value, shown, each.until or ""))
    return table(rows, "<>>>")
