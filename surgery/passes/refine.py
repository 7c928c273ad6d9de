"""Solution -> a better one: damages measured around what was chosen, and the choice made again.

In: a solved problem, the library, a number of rounds. Out: `Refined`: the choice that measures
best, and every step on the way. Objectives without a score are left as they are. Raises `Stop` as
measuring does. Not here: the measurements (`scoring/around.py`, `scoring/assembled.py`).

Puzzle adds up damages of single blocks measured in an otherwise unchanged parent (paper A, section
on replace-one-block scores). Edits interact, and the sum is off by what the child's measured damage
says: some ten percent where little is cut, several times where much is. So a round measures every
alternative once more, one block away from the best child so far. Around that child the sum is exact
to first order, and it is minimised again with the same rows, at most `reach` sites away from it.
The answer is assembled and measured, and taken only if it measures better; otherwise the reach is
halved. This is sequential linear programming with a trust region, in integers: what it returns
never measures worse than the additive optimum, and every claim about it is a measurement.

Requirements about scores hold for the sums, as in any plan, and a child that breaks more of them as
measured is never taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from surgery import evaluate, plan
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Dataset, Measured, Plan, Score, Spec
from surgery.library import Library
from surgery.passes import constrain
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solver
from surgery.progress import Progress
from surgery.scoring.assembled import assembled
from surgery.scoring.blind import scores_used
from surgery.scoring.neighbours import neighbours
from surgery.solving.linear import Linear
from surgery.units import significant


class Step(Struct, frozen=True):
    """One round: how far it could go, what was expected of its answer, what that measures."""

    reach: int
    sites: int
    expected: Fraction
    measured: Fraction
    taken: bool


class Refined(Struct, frozen=True):
    """The best child: one candidate per site, its objective as sums, as measured, the way there.

    `damage` has the measured value of every score; `start` is what the additive optimum measures.
    """

    chosen: tuple[Candidate, ...]
    predicted: Fraction
    measured: Fraction
    start: Fraction
    damage: Mapping[str, float]
    steps: tuple[Step, ...]


class _Child(Struct, frozen=True):
    """A child as measured: broken requirements, then the objective, where less is better."""

    columns: tuple[int, ...]
    broken: int
    objective: Fraction
    goal: Fraction
    damage: Mapping[str, float]

    def better_than(self, other: _Child) -> bool:
        return (self.broken, self.goal) < (other.broken, other.goal)


def run(
    problem: Problem,
    chosen: tuple[Candidate, ...],
    library: Library,
    sink: Sink,
    progress: Progress,
    rounds: int,
) -> Refined:
    """Go on from a solution for so many rounds, or until the reach is nothing."""
    search = _Search(problem, library, sink, progress)
    best = start = search.measure(search.columns(chosen))
    sites = len(problem.columns.sites)
    reach, steps, linear = max(1, sites // 2), list[Step](), None
    for _ in range(rounds if scores_used(problem.spec) else 0):
        linear = linear or search.around(best)
        answer = search.again(best, linear, reach)
        if answer is None:
            break
        child = search.measure(answer)
        moved, taken = len(set(answer) - set(best.columns)), child.better_than(best)
        expected = search.value(linear, answer)
        steps.append(Step(reach, moved, expected, child.objective, taken))
        if taken:
            best, linear = child, None
        else:
            reach = min(reach, moved) // 2
        if reach == 0:
            break
    active = problem.columns.active(best.columns)
    return Refined(
        problem.candidates(best.columns),
        problem.objective.at(active),
        best.objective,
        start.objective,
        best.damage,
        tuple(steps),
    )


def record(made: Plan, problem: Problem, refined: Refined) -> Plan:
    """The plan of a refined choice: sums as in any plan, and beside them what was measured."""
    chosen = [problem.columns.candidates.index(c) for c in refined.chosen]
    costs = (problem.columns.space.fixed, *(c.cost for c in refined.chosen))
    sums = problem.result(chosen).scores or {}
    metrics = [*plan.sizes(costs, problem.columns.space.model.context)]
    metrics += [(name, significant(sums[name])) for name in sorted(problem.measured.damage)]
    for name, value in sorted(refined.damage.items()):
        metrics.append((f"{name}.measured", significant(value)))
        if sums[name]:
            metrics.append((f"{name}.gap", f"{float(Fraction(value) / sums[name] - 1):+.1%}"))
    taken = sum(step.taken for step in refined.steps)
    return replace(
        made,
        solver=(("status", "refined"), ("rounds", str(len(refined.steps))), ("taken", str(taken))),
        metrics=tuple(metrics),
    )


class _Search(Struct):
    """What the rounds share: the problem, and how children are measured."""

    problem: Problem
    library: Library
    sink: Sink
    progress: Progress

    def columns(self, chosen: tuple[Candidate, ...]) -> tuple[int, ...]:
        """Candidates as columns."""
        index = {c.address: n for n, c in enumerate(self.problem.columns.candidates)}
        return tuple(index[c.address] for c in chosen)

    def measure(self, columns: tuple[int, ...]) -> _Child:
        """Assemble a child and measure it on the text of every score."""
        problem, spec = self.problem, self.problem.spec
        chosen = problem.candidates(columns)
        damage = {
            each.name: assembled(
                spec,
                problem.columns.space,
                chosen,
                _dataset(spec, each),
                self.library,
                self.progress,
                each.tail,
            ).kl
            for each in scores_used(spec)
        }
        context = problem.result(columns)
        scores = {**(context.scores or {}), **{name: Fraction(kl) for name, kl in damage.items()}}
        context = replace(context, scores=scores)
        objective = evaluate.number(spec.objective.expr, context)
        broken = sum(not evaluate.holds(each.expr, context) for each in spec.requirements)
        sign = -1 if spec.objective.sense == "maximize" else 1
        return _Child(columns, broken, objective, sign * objective, damage)

    def around(self, child: _Child) -> Problem:
        """The problem whose sums are what children one block away from this one measure."""
        problem = self.problem
        chosen, space = problem.candidates(child.columns), problem.columns.space
        damage = {
            each.name: self._damage(each, chosen, child.damage[each.name])
            for each in scores_used(problem.spec)
        }
        spec = replace(problem.spec, requirements=())
        found = constrain.run(spec, space, Measured(damage, ""), self.sink)
        assert found is not None, "an objective that was lowered once"
        return found

    def _damage(
        self, each: Score, chosen: tuple[Candidate, ...], measured: float
    ) -> dict[str, float]:
        """Per candidate what it adds to the child's damage, and its share of that."""
        space = self.problem.columns.space
        dataset = _dataset(self.problem.spec, each)
        values = neighbours(
            self.problem.spec, space, chosen, dataset, each.tail, self.library, self.progress
        )
        share = measured / len(chosen)
        return {address: value - measured + share for address, value in values.items()} | {
            c.address: share for c in chosen
        }

    def again(self, best: _Child, linear: Problem, reach: int) -> tuple[int, ...] | None:
        """The least objective at most `reach` sites away from a child, if it is another."""
        stay = Linear(
            Fraction(len(best.columns) - reach), {column: Fraction(-1) for column in best.columns}
        )
        solver = Solver(self.problem.columns)
        found = solver.minimise((*self.problem.rows, stay), linear.goal)
        other = found.status == "optimal" and set(found.chosen) != set(best.columns)
        return tuple(sorted(found.chosen)) if other else None

    def value(self, linear: Problem, columns: tuple[int, ...]) -> Fraction:
        """What the sums around a child say of another one."""
        return linear.objective.at(linear.columns.active(columns))


def _dataset(spec: Spec, each: Score) -> Dataset:
    return next(dataset for dataset in spec.datasets if dataset.name == each.dataset)
