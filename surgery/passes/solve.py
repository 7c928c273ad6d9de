"""The problem -> a proven optimum, verified in exact arithmetic.

In: `Problem`. Out: `Solution` (chosen candidates, exact objective, what no choice is better than),
and what a plan states about it. Reports E0601 with a minimal conflict (`explain.py`) when no
architecture satisfies the requirements, E0603 when time ran out before the proof, E0604 when the
recomputed costs disagree. Not here: rows (`constrain.py`) and the search (`solving/knapsack/`).

The search works in floating point, with whole weights that floats hold exactly:

* rows are judged in whole numbers; where those are too large for floats, a choice that breaks one
  is cut off by a cover inequality that no feasible choice violates, and the search run again;
* bounds carry a margin for rounding, relative to the costs that matter, so that damages of 1e-7
  beside damages of 50 are told apart, and every scale of scores has the same plan;
* what is left is judged by `evaluate.py`, which shares no code with the rows.

The optimum is proved where that takes at most `Policy.effort` labels, which is nearly always; past
that, an answer is good enough once it is proved within the gap of `GAP`, far below the noise of
scores. So a plan says `gap=0` whenever that is cheap, and it then depends on nothing but the
problem: ties are broken in the same exact way, by fixing the objective at its optimum within 1e-9:
fewest edits first, then the least sum of squared column indices. Squares, because the plain sum
cannot tell the same edit in layer 3 from that in layer 5. Where that takes too much work the first
optimum stays. One thread, fixed seed, work counted and not timed: same input, same plan.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from fractions import Fraction
from importlib.metadata import version
from math import inf
from typing import Literal

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
from surgery.solving import highs
from surgery.solving.columns import Columns
from surgery.solving.knapsack import search
from surgery.solving.knapsack.items import Lowered, lowered
from surgery.solving.knapsack.search import Policy
from surgery.solving.linear import ZERO, Linear, constant
from surgery.solving.outcome import Outcome, Proof
from surgery.solving.standard import Knapsack
from surgery.units import significant

GAP = 1e-3
"""Relative distance to the bound that is good enough where proving the optimum takes long."""
TIE = Fraction(1, 10**9)
"""Objectives closer than this, relative to the optimum, are ties."""
_BRIEFLY = 16_384
"""Labels at a time that breaking a tie may take."""
_DEFAULT = Proof()
_REPORT = "report this with the spec: it is a bug of surgery or its solver, not of the spec"
_PROOF = 1e-6
"""Largest distance between bound and value, relative to the scale, that floats explain."""


class Solution(Struct, frozen=True):
    """A proven choice: one candidate per site in canonical order, and how good it is.

    `objective` is exact, in the user's sense and unit; no choice is better than `bound`, and `gap`
    is their relative distance. `status`: `optimal`, `within_gap` where the proof stopped at an
    allowed gap, `stopped` where time ran out and that was accepted. `ties_broken` counts the sites
    where a tie-breaking rule overruled the first optimum; only optima have ties.
    """

    chosen: tuple[Candidate, ...]
    objective: Fraction
    bound: Fraction
    gap: float
    status: Literal["optimal", "within_gap", "stopped"]
    ties_broken: int
    seed: int
    prices: tuple[float, ...] = ()
    """Multipliers of the rows, to begin a neighbouring problem with."""


def run(
    problem: Problem, sink: Sink, proof: Proof = _DEFAULT, warm: Sequence[float] = ()
) -> Solution | None:
    """Solve to the optimum, or to the gap that `proof` allows.

    `warm` are the multipliers of a neighbouring problem. Reports E0601, E0603 or E0604 and returns
    `None` when there is no such answer.
    """
    solver = Solver(problem.columns, proof.seconds)
    found = answer(problem, solver, sink, proof, warm)
    if found is None and not sink.failed:
        sink.report(explain.infeasible(problem, solver.minimise))
    return found


def answer(
    problem: Problem, solver: Solver, sink: Sink, proof: Proof, warm: Sequence[float] = ()
) -> Solution | None:
    """Like `run`, but where there is no answer at all nothing is reported."""
    gap = 0.0 if proof.exact else GAP
    best = solver.minimise(problem.rows, problem.goal, gap=gap, warm=warm)
    if best.status == "infeasible":
        return None
    if best.status == "stopped" and not (proof.accept_gap and best.chosen):
        sink.report(unproven(problem, best))
        return None
    return solution(problem, solver, best, sink, gap)


def feasible(problem: Problem, sink: Sink) -> bool:
    """Whether any choice keeps every row; E0601 if not."""
    solver = Solver(problem.columns)
    if solver.minimise(problem.rows, constant(0)).status != "infeasible":
        return True
    sink.report(explain.infeasible(problem, solver.minimise))
    return False


def solution(
    problem: Problem, solver: Solver, best: Outcome, sink: Sink, gap: float
) -> Solution | None:
    """An answer with its ties broken, verified; E0604 and `None` if it does not hold."""
    optimal = best.gap <= highs.TOLERANCE
    chosen = _least_tie(problem, solver, best) if optimal else best.chosen
    allowed = inf if best.status == "stopped" else gap
    if (wrong := verify(problem, chosen, best, allowed)) is not None:
        sink.report(wrong)
        return None
    sign = -1 if problem.spec.objective.sense == "maximize" else 1
    status = "optimal" if optimal else "within_gap" if best.status == "optimal" else "stopped"
    return Solution(
        chosen=problem.candidates(chosen),
        objective=problem.objective.at(problem.columns.active(chosen)),
        bound=sign * best.bound,
        gap=best.gap,
        status=status,
        ties_broken=len(set(chosen) - set(best.chosen)),
        seed=highs.SEED,
        prices=best.prices,
    )


def record(problem: Problem, solution: Solution) -> Plan:
    """The plan of a solution, with what was proved and re-verified about it."""
    index = {c.address: column for column, c in enumerate(problem.columns.candidates)}
    proof: list[tuple[str, str]] = [("status", solution.status), ("gap", "0")]
    if solution.status != "optimal":
        _, bound = problem.objective_text(solution.bound)
        proof[1:] = [("gap", significant(solution.gap)), ("bound", bound)]
    return plan.build(
        problem.spec,
        problem.columns.space,
        problem.measured,
        solution.chosen,
        solver=(*proof, ("seed", str(solution.seed))),
        objective=problem.objective_text(solution.objective),
        requirements=problem.evidence([index[c.address] for c in solution.chosen]),
        toolchain=f"surgery-{version('surgery')} highs-{highs.version()}",
    )


def _least_tie(problem: Problem, solver: Solver, best: Outcome) -> tuple[int, ...]:
    """Among the optima: fewest edits, then least sum of squared column indices.

    As far as that takes no longer than a proof should: past `_BRIEFLY` the first optimum stays. It
    is as good, and work is counted, so the same input still has the same plan.
    """
    cap = best.value + abs(best.value) * TIE
    candidates = problem.columns.candidates
    edits = Linear(ZERO, {j: Fraction(1) for j, c in enumerate(candidates) if c.changed})
    squares = Linear(ZERO, {j: Fraction(j * j) for j in range(1, len(candidates))})
    rows = (*problem.rows, problem.goal.plus(constant(cap), -1))
    far = set(range(problem.columns.width)) - best.near
    policy = replace(solver.policy, width=min(_BRIEFLY, solver.policy.width), patience=False)
    brief = Solver(problem.columns, policy=policy)
    fewest = brief.minimise(rows, edits, far)
    if fewest.status != "optimal":
        return best.chosen
    rows = (*rows, edits.plus(constant(fewest.value), -1))
    first = brief.minimise(rows, squares, far)
    return first.chosen if first.status == "optimal" else fewest.chosen


# ---- asking the solver -----------------------------------------------------------------------


class Solver(Struct):
    """Answers questions about one set of columns; `limit` seconds for all of them.

    `policy` says what counts as proved and how hard to try; its deadline is set from the limit.
    """

    columns: Columns
    limit: float | None = None
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        if self.limit is not None:
            self.policy = replace(self.policy, deadline=time.monotonic() + self.limit)

    def minimise(
        self,
        rows: Sequence[Linear],
        goal: Linear,
        excluded: Collection[int] = (),
        *,
        gap: float = 0.0,
        warm: Sequence[float] = (),
    ) -> Outcome:
        """The least value of `goal` over the choices that keep every row, within the relative gap.

        Columns that are `excluded` are not chosen; `warm` are the multipliers of a neighbour.
        """
        groups = self.columns.groups
        goal = goal.settled(groups)
        knapsacks = [Knapsack.of(row, groups) for row in rows]
        policy = replace(self.policy, gap=gap)
        while True:
            form = lowered(self.columns, knapsacks, goal, excluded)
            if form is None:
                return Outcome("infeasible")
            start = np.array([warm]) if len(warm) == len(knapsacks) > 0 else None
            answer = search.solve(
                form.instance, policy, start, form.step, float(goal.constant / form.scale)
            )
            if answer.status == "infeasible":
                return Outcome("infeasible")
            bound = Fraction(answer.bound) * form.scale + goal.constant
            if answer.chosen is None:
                return Outcome("stopped", bound=bound, gap=inf)
            chosen = form.chosen(answer.chosen.tolist())
            active = self.columns.active(chosen)
            covers = [k.cover(active, groups) for k in knapsacks]
            cuts = [Knapsack.of(cover, groups) for cover in covers if cover is not None]
            if not cuts:
                return _outcome(form, answer, chosen, goal, goal.at(active), bound)
            knapsacks += cuts


def _outcome(
    form: Lowered,
    answer: search.Answer,
    chosen: tuple[int, ...],
    goal: Linear,
    value: Fraction,
    bound: Fraction,
) -> Outcome:
    """What was found in exact terms, and what a choice as good may contain."""
    bound = min(bound, value)
    size = max(abs(value), value - goal.constant)
    cap = float((value + abs(value) * TIE - goal.constant) / form.scale)
    near = answer.within(len(form.instance.cost), cap)
    return Outcome(
        status=answer.status,
        chosen=chosen,
        value=value,
        bound=bound,
        gap=float((value - bound) / size) if size else 0.0,
        near=form.columns(near),
        prices=tuple(answer.bundle.steps[0].prices.tolist()),
    )


# ---- verification ----------------------------------------------------------------------------


def verify(
    problem: Problem, chosen: Sequence[int], best: Outcome, gap: float = 0.0
) -> Diagnostic | None:
    """E0604 unless every requirement and the optimum hold when recomputed from the costs.

    The requirements are evaluated as formulas on the chosen child, not as rows; `gap` is the
    distance to the bound that the answer may have.
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
    if stated == recomputed and proved and best.gap <= max(gap, _PROOF):
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


def unproven(problem: Problem, best: Outcome) -> Diagnostic:
    """E0603: what was found in time, and what it is known to be worth."""
    objective = problem.spec.objective
    if not best.chosen:
        message = "the solver stopped before it found any architecture"
        label = Label(objective.span, "nothing found in time", primary=True)
        return Diagnostic(catalog.E0603, message, (label,), helps=(Help("give it more time"),))
    sign, beyond = (-1, "above") if objective.sense == "maximize" else (1, "below")
    gap = significant(100 * best.gap)
    message = f"the solver stopped before it proved its answer: up to {gap}% may be left"
    label = Label(objective.expr.span, "not proven optimal", primary=True)
    values = (
        ("found", problem.objective_text(sign * best.value)[1]),
        (f"cannot be {beyond}", problem.objective_text(sign * best.bound)[1]),
    )
    helps = (Help("give it more time, or take this answer with `--accept-gap`"),)
    return Diagnostic(catalog.E0603, message, (label,), values=values, helps=helps)
