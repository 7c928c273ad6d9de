"""The problem -> several plans that differ: the best, then the best that differs from those before.

In: `Problem`, how many, in how many layers each two must differ. Out: solutions, best first, each
proved like a single plan under the cuts that keep it away from those before it; fewer than asked
for where no further choice differs enough. Reports E0603 and E0604 as `passes/solve.py` does.

That is greedy, as a pool should be: the first is the optimum, and each further one is as good as
its distance from the ones before allows. The cut "at most L - D layers decided as in that plan" is
one more row of the same knapsack. A layer with two sites counts once, so its sites become pairs.
"""

from __future__ import annotations

from msgspec.structs import replace

from surgery.diagnostics import Sink
from surgery.passes import explain, solve
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solution, Solver
from surgery.solving.linear import Linear, constant
from surgery.solving.outcome import Proof


def run(
    problem: Problem, count: int, distance: int, sink: Sink, proof: Proof
) -> tuple[Solution, ...]:
    """Up to `count` solutions that differ pairwise in at least `distance` layers.

    Reports E0601 if there is not even one.
    """
    solver = Solver(problem.columns, proof.seconds)
    found: list[Solution] = []
    while len(found) < count:
        solution = solve.answer(problem, solver, sink, proof)
        if solution is None:
            break
        found.append(solution)
        cut = differs(problem, solution, distance)
        problem = replace(problem, cuts=(*problem.cuts, cut))
    if not found and not sink.failed:
        sink.report(explain.infeasible(problem, solver.minimise))
    return tuple(found)


def differs(problem: Problem, solution: Solution, distance: int) -> Linear:
    """The row (<= 0) of all choices that decide at least `distance` layers otherwise."""
    columns = problem.columns
    place = {c.address: column for column, c in enumerate(columns.candidates)}
    chosen = frozenset(place[c.address] for c in solution.chosen)
    layers = sorted({c.layer for c in columns.candidates})
    same = constant(distance - len(layers))
    for layer in layers:
        same = same.plus(columns.same(layer, chosen))
    return same


def distance(first: Solution, second: Solution) -> int:
    """In how many layers two solutions differ."""
    pairs = zip(first.chosen, second.chosen, strict=True)
    return len({a.layer for a, b in pairs if a.address != b.address})
