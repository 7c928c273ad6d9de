"""The problem -> a proven optimum, verified in exact arithmetic.

In: `Problem`. Out: `Solution` (chosen candidates, exact objective, the solver's bound), and what
a plan states about it. Reports E0601 with a minimal conflict (`explain.py`) when no architecture
satisfies the requirements, E0603 when time ran out before the proof, E0604 when the recomputed
costs disagree. Not here: rows (`constrain.py`) and arrays (`solving/standard.py`).

HiGHS works in floating point with absolute tolerances, so its answers are candidates for truth:

* gaps are 0 and the objective is rescaled, first by its largest coefficient, then by what the
  incumbent leaves to gain, until damages of 1e-5 beside damages of 5 are told apart;
* a choice that breaks a row by less than the tolerance is cut off by a cover inequality that no
  feasible choice violates, and the problem solved again;
* "infeasible" is believed only when it holds with presolve off, too;
* what is left is judged by `evaluate.py`, which shares no code with the rows.

Ties are broken in the same exact way, by fixing the objective at its optimum within 1e-9: fewest
edits first, then the least sum of squared column indices. Squares, because the plain sum cannot
tell the same edit in layer 3 from that in layer 5. One thread, fixed seed: same input, same plan.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from fractions import Fraction
from importlib.metadata import version
from math import inf, isfinite
from typing import Literal

import highspy  # noqa: TID251 - this module drives the solver
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, evaluate, plan
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.expr import Expr
from surgery.facts import Context
from surgery.ir import Candidate, Plan
from surgery.passes import explain
from surgery.passes.constrain import Problem
from surgery.solving.columns import Columns
from surgery.solving.linear import ZERO, Linear, constant
from surgery.solving.outcome import Outcome
from surgery.solving.standard import Floats, Knapsack, Standard, standard
from surgery.units import significant

SEED = 0
TIE = Fraction(1, 10**9)
"""Objectives closer than this, relative to the optimum, are ties."""
TOLERANCE = 1e-9
"""Of the solver, absolute on rows and objectives of O(1)."""
_SHRINK = 16
"""How much smaller than the scale a gain must be before the question is asked at its scale."""
_REPORT = "report this with the spec: it is a bug of surgery or its solver, not of the spec"
_PROOF = 1e-6
"""Largest distance between bound and value, relative to the scale, that floats explain."""


class Solution(Struct, frozen=True):
    """A proven choice: one candidate per site in canonical order, and how good it is.

    `objective` is exact, in the user's sense and unit; `bound` is the best value that the solver
    could not exclude, and `gap` their relative distance. `ties_broken` counts the sites where a
    tie-breaking rule overruled the first optimum.
    """

    chosen: tuple[Candidate, ...]
    objective: Fraction
    bound: Fraction
    gap: float
    status: Literal["optimal"]
    ties_broken: int
    seed: int


def run(problem: Problem, sink: Sink, time_limit: float | None = None) -> Solution | None:
    """Solve to proven optimality; `time_limit` in seconds is for the whole question.

    Reports E0601, E0603 or E0604 and returns `None` when there is no proven answer.
    """
    solver = Solver(problem.columns, time_limit)
    best = solver.minimise(problem.rows, problem.goal)
    if best.status == "infeasible":
        sink.report(explain.infeasible(problem, solver.minimise))
        return None
    if best.status == "stopped":
        sink.report(_unproven(problem, best))
        return None
    chosen = _least_tie(problem, solver, best)
    if (wrong := verify(problem, chosen, best)) is not None:
        sink.report(wrong)
        return None
    sign = -1 if problem.spec.objective.sense == "maximize" else 1
    return Solution(
        chosen=problem.candidates(chosen),
        objective=problem.objective.at(problem.columns.active(chosen)),
        bound=sign * best.bound,
        gap=best.gap,
        status="optimal",
        ties_broken=len(set(chosen) - set(best.chosen)),
        seed=SEED,
    )


def record(problem: Problem, solution: Solution) -> Plan:
    """The plan of a solution, with what was proved and re-verified about it."""
    index = {c.address: column for column, c in enumerate(problem.columns.candidates)}
    gap = significant(solution.gap) if solution.gap > TOLERANCE else "0"
    return plan.build(
        problem.spec,
        problem.columns.space,
        problem.measured,
        solution.chosen,
        solver=(("status", solution.status), ("gap", gap), ("seed", str(solution.seed))),
        objective=problem.objective_text(solution.objective),
        requirements=problem.evidence([index[c.address] for c in solution.chosen]),
        toolchain=f"surgery-{version('surgery')} highs-{highspy.Highs().version()}",
    )


def _least_tie(problem: Problem, solver: Solver, best: Outcome) -> tuple[int, ...]:
    """Among the optima: fewest edits, then least sum of squared column indices."""
    cap = best.value + abs(best.value) * TIE
    candidates = problem.columns.candidates
    edits = Linear(ZERO, {j: Fraction(1) for j, c in enumerate(candidates) if c.changed})
    squares = Linear(ZERO, {j: Fraction(j * j) for j in range(1, len(candidates))})
    rows = (*problem.rows, problem.goal.plus(constant(cap), -1))
    dear = solver.too_dear(problem.rows, problem.goal, cap)
    fewest = solver.minimise(rows, edits, dear)
    if fewest.status != "optimal":
        return best.chosen
    first = solver.minimise((*rows, edits.plus(constant(fewest.value), -1)), squares, dear)
    return first.chosen if first.status == "optimal" else fewest.chosen


# ---- asking the solver -----------------------------------------------------------------------


class Solver(Struct):
    """Answers questions about one set of columns exactly; `limit` seconds for all of them.

    `presolve` says whether HiGHS may simplify first; the answer does not depend on it.
    """

    columns: Columns
    limit: float | None = None
    presolve: bool = True
    _deadline: float = 0.0

    def __post_init__(self) -> None:
        self._deadline = inf if self.limit is None else time.monotonic() + self.limit

    def too_dear(self, rows: Sequence[Linear], goal: Linear, cap: Fraction) -> list[int]:
        """Columns in no choice that keeps the rows with `goal <= cap`, as the LP proves.

        Near the optimum that is nearly all of them, which makes every later question easy.
        """
        groups = self.columns.groups
        goal = goal.settled(groups)
        scale = max(goal.terms.values(), default=Fraction(1))
        knapsacks = [Knapsack.of(row, groups) for row in rows]
        form = standard(self.columns, knapsacks, goal.times(1 / scale))
        if form is None:
            return []
        highs = self._load(replace(form, integer=np.zeros_like(form.integer)), presolve=True)
        highs.run()
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return []
        duals = np.array(highs.getSolution().row_dual)
        return form.too_dear(duals, float((cap - goal.constant) / scale))

    def minimise(
        self, rows: Sequence[Linear], goal: Linear, excluded: Collection[int] = ()
    ) -> Outcome:
        """The least value of `goal` over the choices that keep every row, exactly.

        Columns that are `excluded` are not chosen.
        """
        groups = self.columns.groups
        goal = goal.settled(groups)
        knapsacks = [Knapsack.of(row, groups) for row in rows]
        scale = max(goal.terms.values(), default=Fraction(1))
        forbidden = set(excluded)
        while True:
            form = standard(self.columns, knapsacks, goal.times(1 / scale), forbidden)
            answer = None if form is None else self._ask(form)
            if answer is None:
                return Outcome("infeasible")
            bound = _exact(answer.bound) * scale + goal.constant
            if answer.x is None:
                return Outcome("stopped", bound=bound, gap=inf)
            chosen = self._rounded(answer.x)
            active = self.columns.active(chosen)
            covers = [k.cover(active, groups) for k in knapsacks]
            cuts = [Knapsack.of(cover, groups) for cover in covers if cover is not None]
            if cuts and not answer.stopped:
                knapsacks += cuts
                continue
            value = goal.at(active)
            gain = value - goal.constant
            if 0 < gain < scale / _SHRINK and not answer.stopped:
                forbidden |= {j for j, coefficient in goal.terms.items() if coefficient > gain}
                scale = gain
                continue
            gap = float(max(value - bound, ZERO) / max(abs(value), scale))
            status = "stopped" if answer.stopped else "optimal"
            return Outcome(status, chosen, value, bound, gap)

    def _rounded(self, x: Floats) -> tuple[int, ...]:
        return tuple(site[int(np.argmax(x[list(site)]))] for site in self.columns.sites)

    def _ask(self, form: Standard) -> _Answer | None:
        """HiGHS's answer; infeasible (`None`) is asked twice, because presolve can be wrong."""
        for presolve in (True, False) if self.presolve else (False,):
            answer = self._once(form, presolve)
            if answer is not None:
                return answer
        return None

    def _once(self, form: Standard, presolve: bool) -> _Answer | None:
        highs = self._load(form, presolve)
        highs.run()
        status, info = highs.getModelStatus(), highs.getInfo()
        statuses = highspy.HighsModelStatus
        if status in (statuses.kInfeasible, statuses.kUnboundedOrInfeasible):
            return None
        stopped = status == statuses.kTimeLimit
        if not stopped and status != statuses.kOptimal:
            raise RuntimeError(f"HiGHS ended with {highs.modelStatusToString(status)}")
        feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        x = np.array(highs.getSolution().col_value) if feasible else None
        return _Answer(x, info.mip_dual_bound, stopped)

    def _load(self, form: Standard, presolve: bool) -> highspy.Highs:
        highs = highspy.Highs()
        options: dict[str, bool | int | float | str] = {
            "output_flag": False,
            "presolve": "on" if presolve else "off",
            "threads": 1,
            "random_seed": SEED,
            "mip_rel_gap": 0.0,
            "mip_abs_gap": 0.0,
            "mip_feasibility_tolerance": TOLERANCE,
            "primal_feasibility_tolerance": TOLERANCE,
            "dual_feasibility_tolerance": TOLERANCE,
            "time_limit": max(self._deadline - time.monotonic(), 0.0),
        }
        for name, value in options.items():
            highs.setOptionValue(name, value)
        _pass(highs, form)
        return highs


class _Answer(Struct, frozen=True):
    """What HiGHS says: a point if it has one, its lower bound (scaled), whether time ran out."""

    x: Floats | None
    bound: float
    stopped: bool


def _pass(highs: highspy.Highs, form: Standard) -> None:
    """Hand the arrays over; integrality of a MIP with pairs is per column."""
    status = highs.passModel(
        len(form.cost),
        len(form.row_lower),
        len(form.value),
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        form.cost,
        np.zeros(len(form.cost)),
        form.upper,
        form.row_lower,
        form.row_upper,
        form.start,
        form.index,
        form.value,
        form.integer,
    )
    if status == highspy.HighsStatus.kError:
        raise RuntimeError("HiGHS refused the model")


def _exact(bound: float) -> Fraction:
    """A bound as a fraction; solvers say -inf before they have one."""
    return Fraction(bound) if isfinite(bound) else Fraction(-(10**30))


# ---- verification ----------------------------------------------------------------------------


def verify(problem: Problem, chosen: Sequence[int], best: Outcome) -> Diagnostic | None:
    """E0604 unless every requirement and the optimum hold when recomputed from the costs.

    The requirements are evaluated as formulas on the chosen child, not as rows.
    """
    active = problem.columns.active(chosen)
    child = problem.result(chosen)
    broken = [c.span for c in problem.clauses if not c.holds(active)]
    broken += [
        requirement.expr.span
        for requirement in problem.spec.requirements
        if not _holds(requirement.expr, child)
    ]
    if broken:
        message = "a requirement fails when it is recomputed from the chosen costs"
        label = Label(broken[0], "false for the solver's answer", primary=True)
        return Diagnostic(catalog.E0604, message, (label,), helps=(Help(_REPORT),))
    stated, recomputed = (
        problem.objective.at(active),
        evaluate.number(problem.spec.objective.expr, child),
    )
    proved = problem.goal.at(active) <= best.value + abs(best.value) * TIE
    if stated == recomputed and proved and best.gap <= _PROOF:
        return None
    return Diagnostic(
        catalog.E0604,
        "the objective differs when it is recomputed from the chosen costs",
        (Label(problem.spec.objective.expr.span, "not what the solver says", primary=True),),
        values=(
            ("the solver's value", significant(best.value, 9)),
            ("its bound", significant(best.bound, 9)),
            ("the value by the rows", significant(stated, 9)),
            ("the recomputed value", significant(recomputed, 9)),
        ),
        helps=(Help(_REPORT),),
    )


def _holds(expr: Expr, child: Context) -> bool:
    """Whether a requirement holds of the child; the least of no layers bounds nothing."""
    try:
        return evaluate.holds(expr, child)
    except Stop as stop:
        if stop.diagnostic.code is not catalog.E0308:
            raise
        return True


def _unproven(problem: Problem, best: Outcome) -> Diagnostic:
    objective = problem.spec.objective
    if not best.chosen:
        message = "the solver stopped before it found any architecture"
        label = Label(objective.span, "nothing found in time", primary=True)
        return Diagnostic(catalog.E0603, message, (label,))
    gap = significant(100 * best.gap)
    message = f"the solver stopped before it proved its answer: up to {gap}% may be left"
    label = Label(objective.expr.span, "not proven optimal", primary=True)
    values = (
        ("found", significant(float(best.value))),
        ("cannot be below", significant(float(best.bound))),
    )
    return Diagnostic(catalog.E0603, message, (label,), values=values)
