"""`batch = fit`: the problem and the solution at the batches that suit the objective best.

In: a spec, its space, measurements. Out: the best of the problems at all batches that the smallest
child has room for, and its solution, proved against all the others. At a batch, times are linear;
a requirement `@fits-NAME` keeps the batch within what the engine has room for on one GPU. The paper
solves for several batches and keeps the best (B, section on the MIP). Here every batch counts:
branch and bound over boxes of batches. The relaxation of a box (times and bytes at its smallest
batches, throughput at its largest, `solving/optimism.py`) bounds every batch in it, so that most of
them are never solved for. Where an objective cannot be bounded so, all batches are solved for,
unless they are more than `MOST`.

Reports what the solver would where no batch has a solution (E0601, at the parent's batch), E0506
where not even one sequence fits, E0603 where time runs out or nothing bounds too many batches. Not
here: rows (`batch_rows.py`).
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import prod
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog
from surgery.costing import serving
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.ir import Measured, Space, Spec
from surgery.passes import batch_rows, solve
from surgery.passes.batch_rows import Question
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solution, Solver
from surgery.solving import highs
from surgery.solving.linear import constant
from surgery.solving.outcome import Outcome, Proof

PATIENCE = 64
"""Boxes to open for the optimum itself; after them, what is proved within the gap will do. They are
counted, not timed, so that the same spec has the same plan."""
MENU = 24
"""Sizes to try for one scenario where not all are searched; a quarter where there are several."""
MOST = 2048
"""Batches to try one by one at most, where nothing bounds several of them."""
Sizes: TypeAlias = tuple[int, ...]
"""Sequences per copy of the model, by fitting scenario."""


class Answer(Struct, frozen=True):
    """A problem at fixed batches, and its solution."""

    problem: Problem
    solution: Solution
    batches: Mapping[str, int]


def run(
    spec: Spec,
    space: Space,
    measured: Measured,
    sink: Sink,
    proof: Proof | None = None,
    warm: Sequence[float] = (),
) -> Answer | None:
    """The best solution over all batches; `None` after a report.

    `warm` are the multipliers of a neighbour's solution.
    """
    proof = proof or Proof()
    question = batch_rows.question(spec, space, measured, sink)
    if question is None:
        return None
    search = _Search(question, proof, tuple(warm))
    base = question.at(search.named(search.parent), sink)
    if base is None:
        return None
    if question.fitting:
        search.question = replace(question, base=base)
        search.run()
        # Of batches that were not tried, nothing is known: there is no gap to accept either.
        if search.cut or (search.late and not search.best):
            unproven = solve.unproven(base, Outcome("stopped"))
            sink.report(unproven if search.late else _unbounded(spec))
            return None
    return _answer(search, sink, proof, warm)


def _answer(search: _Search, sink: Sink, proof: Proof, warm: Sequence[float]) -> Answer | None:
    """The solution at the best batches, its ties broken, with what is proved of all others."""
    question, batches = search.question, search.named(search.best or search.parent)
    problem = question.at(batches, sink)
    solution = solve.run(problem, sink, proof, warm) if problem is not None else None
    if problem is None or solution is None:
        return None
    if search.best:
        solution = search.certified(problem, solution)
        if solution.status == "stopped" and not proof.accept_gap:
            sink.report(_unproven(problem, solution))
            return None
        batches = search.named(search.grown(solution))
        problem = question.at(batches, sink) or problem
    return Answer(problem, solution, batches)


def _unbounded(spec: Spec) -> Diagnostic:
    span = spec.objective.expr.span
    message = "the objective cannot be bounded over batches, and there are too many to try them all"
    here = "a part of it is better with larger batches, another with smaller ones"
    label = Label(span, here, primary=True)
    helps = (Help("give its scenarios a `batch`, or bound one part with `require`"),)
    return Diagnostic(catalog.E0603, message, (label,), helps=helps)


def _unproven(problem: Problem, solution: Solution) -> Diagnostic:
    sign = -1 if problem.spec.objective.sense == "maximize" else 1
    value, bound = sign * solution.objective, sign * solution.bound
    found = Outcome("stopped", (0,), value, bound, solution.gap)
    return solve.unproven(problem, found)


def feasible(spec: Spec, space: Space, measured: Measured, sink: Sink) -> bool:
    """Whether any batches and choices keep every row; reports why not."""
    question = batch_rows.question(spec, space, measured, sink)
    if question is None:
        return False
    search = _Search(question, Proof(), (), only_feasible=True)
    problem = question.at(search.named(search.parent), sink)
    if problem is None:
        return False
    if question.fitting:
        search.question = replace(question, base=problem)
        search.run()
    return bool(search.best) or solve.feasible(problem, sink)


def stated(
    spec: Spec, space: Space, measured: Measured, sink: Sink
) -> Iterator[tuple[Mapping[str, int], Problem]]:
    """Problems at a menu of batches, the smallest first: for questions that cannot be bounded."""
    question = batch_rows.question(spec, space, measured, sink)
    if question is None:
        return
    steps = MENU if len(question.fitting) == 1 else MENU // 4
    for sizes in product(*(each.menu(steps) for each in question.fitting)):
        pairs = zip(question.fitting, sizes, strict=True)
        batches = {each.scenario.name: each.batch(size) for each, size in pairs}
        # At some of them a requirement may be false whatever is chosen: then they are left out.
        problem = question.at(batches, Sink() if question.fitting else sink)
        if problem is not None:
            yield batches, problem


def sound(spec: Spec, space: Space, measured: Measured, sink: Sink) -> bool:
    """Whether everything that is asked can be a row; reports what cannot."""
    question = batch_rows.question(spec, space, measured, sink)
    if question is None:
        return False
    parent = {each.scenario.name: each.batch(each.parent) for each in question.fitting}
    return question.at(parent, sink) is not None


# ---- the search ------------------------------------------------------------------------------


class _Box(Struct, frozen=True, order=True):
    """Batches between two, by the bound on what any of them is worth; of equals, larger ones."""

    bound: Fraction
    serial: int
    low: Sizes
    high: Sizes

    @property
    def halves(self) -> tuple[tuple[Sizes, Sizes], ...]:
        """Both parts of the box, cut where the ratio of its ends is greatest; larger ones first."""
        ends = list(zip(self.low, self.high, strict=True))
        axis = max(range(len(ends)), key=lambda n: ends[n][1] / ends[n][0])
        low, high = ends[axis]
        # The geometric middle: time and room are felt in ratios.
        cut = min(high - 1, max(low, int((low * high) ** 0.5)))
        upper = (*self.low[:axis], cut + 1, *self.low[axis + 1 :])
        lower = (*self.high[:axis], cut, *self.high[axis + 1 :])
        return (upper, self.high), (self.low, lower)


class _Search(Struct):
    """Best first over boxes. `best` are the sizes of the best solution so far, `value` its goal."""

    question: Question
    proof: Proof
    warm: tuple[float, ...]
    only_feasible: bool = False
    best: Sizes = ()
    value: Fraction = Fraction(0)
    waiting: list[_Box] = field(default_factory=list[_Box])
    tried: dict[Sizes, Fraction | None] = field(default_factory=dict[Sizes, Fraction | None])
    opened: int = 0
    cut: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def parent(self) -> Sizes:
        """The sizes that the parent has room for, or the smallest child where that is less."""
        return tuple(each.parent for each in self.question.fitting)

    def named(self, sizes: Sizes) -> dict[str, int]:
        """Batches of the whole machine, by scenario."""
        pairs = zip(self.question.fitting, sizes, strict=True)
        return {each.scenario.name: each.batch(size) for each, size in pairs}

    def run(self) -> None:
        """Search until the best is proved, or proved within the gap, or time runs out."""
        fitting = self.question.fitting
        if self.only_feasible or self.question.bounded:
            self._open(tuple(1 for _ in fitting), tuple(each.most for each in fitting))
            while self.waiting and not self._done(self.waiting[0].bound):
                for low, high in heapq.heappop(self.waiting).halves:
                    self._open(low, high)
            return
        self.cut = prod(each.most for each in fitting) > MOST
        if self.cut:
            return
        for sizes in product(*(range(each.most, 0, -1) for each in fitting)):
            if self.late:
                self.cut = True
                return
            self._try(sizes)

    def _done(self, bound: Fraction) -> bool:
        if self.late or (self.best and self.only_feasible):
            return True
        patient = self.proof.exact or self.opened < PATIENCE
        gap = highs.TOLERANCE if patient else solve.GAP
        return bool(self.best) and self.distance(bound) <= gap

    @property
    def late(self) -> bool:
        limit = self.proof.seconds
        return limit is not None and time.monotonic() - self.started > limit

    def distance(self, bound: Fraction) -> float:
        """How far a bound is below the best, relative to it."""
        size = abs(self.value)
        return max(0.0, float((self.value - bound) / size)) if size else float(bound < self.value)

    def _open(self, low: Sizes, high: Sizes) -> None:
        """Bound a box, and try the batches that the choice of its relaxation has room for."""
        self.opened += 1
        if low == high:
            self._try(low)
            return
        problem = self.question.between(self.named(low), self.named(high))
        found = self._solved(problem) if problem is not None else None
        if problem is None or found is None:
            return
        if found.chosen:
            self._try(self._room(problem, found))
        if not self.best or self.distance(found.bound) > highs.TOLERANCE:
            heapq.heappush(self.waiting, _Box(found.bound, self.opened, low, high))

    def _try(self, sizes: Sizes) -> None:
        """Solve for these batches, and then for the largest that the solution has room for."""
        while sizes not in self.tried:
            problem = self.question.at(self.named(sizes), Sink())
            found = self._solved(problem) if problem is not None else None
            self.tried[sizes] = found.bound if found else None
            if problem is None or found is None or not found.chosen:
                return
            # Of equals, those with the larger batches.
            rank = (found.value, tuple(-size for size in sizes))
            if not self.best or rank < (self.value, tuple(-size for size in self.best)):
                self.best, self.value = sizes, found.value
            sizes = self._room(problem, found)

    def _solved(self, problem: Problem) -> Outcome | None:
        """The optimum without broken ties, which take longer than it and are for the winner."""
        goal = constant(0) if self.only_feasible else problem.goal
        limit = self.proof.seconds
        left = None if limit is None else max(0.1, limit - (time.monotonic() - self.started))
        solver = Solver(problem.columns, left)
        gap = 0.0 if self.proof.exact else solve.GAP
        found = solver.minimise(problem.rows, goal, gap=gap, warm=self.warm)
        if found.status == "infeasible":
            return None
        self.warm = found.prices or self.warm
        return found

    def _room(self, problem: Problem, found: Outcome) -> Sizes:
        """The largest batches that the choice of a relaxation has room for."""
        space = self.question.space
        costs = (space.fixed, *(c.cost for c in problem.candidates(found.chosen)))
        layers, model = space.model.layers, space.model
        return tuple(
            -(-serving.largest(costs, layers, model, each.machine, each.scenario) // each.copies)
            for each in self.question.fitting
        )

    def grown(self, solution: Solution) -> Sizes:
        """The largest batches at which a solution is as good: boxes of equals are not searched."""
        assert self.question.base is not None
        columns = self.question.base.columns
        index = {c.address: n for n, c in enumerate(columns.candidates)}
        chosen = tuple(index[c.address] for c in solution.chosen)
        active, sizes = columns.active(chosen), self.best
        room = self._room(self.question.base, Outcome("optimal", chosen))

        def keeps(sizes: Sizes) -> bool:
            problem = self.question.at(self.named(sizes), Sink())
            if problem is None or problem.objective.at(active) != solution.objective:
                return False
            return all(row.at(active) <= 0 for row in problem.rows)

        for axis, most in enumerate(room):
            low, high = sizes[axis], most
            while low < high:
                middle = (low + high + 1) // 2
                wider = (*sizes[:axis], middle, *sizes[axis + 1 :])
                low, high = (middle, high) if keeps(wider) else (low, middle - 1)
            sizes = (*sizes[:axis], low, *sizes[axis + 1 :])
        return sizes

    # ---- what was proved ---------------------------------------------------------------------

    def certified(self, problem: Problem, solution: Solution) -> Solution:
        """The solution at the best batches, with what is proved of all batches."""
        sign = -1 if problem.spec.objective.sense == "maximize" else 1
        others = [bound for sizes, bound in self.tried.items() if sizes != self.best]
        open_ = [box.bound for box in self.waiting]
        bounds = [sign * solution.bound, *open_, *(b for b in others if b is not None)]
        self.value = sign * solution.objective
        gap = max(solution.gap, self.distance(min(bounds)))
        if gap <= highs.TOLERANCE or gap == solution.gap:
            return solution
        allowed = 0.0 if self.proof.exact else solve.GAP
        status = "within_gap" if gap <= allowed else "stopped"
        return replace(solution, bound=sign * min(bounds), gap=gap, status=status)
