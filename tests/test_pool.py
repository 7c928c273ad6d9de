"""Pools of plans that differ, against brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
from msgspec.structs import replace
from solving_fixtures import (
    Formulas,
    Option,
    assignments,
    child,
    ffn,
    satisfies,
    toy_space,
    toy_spec,
)
from solving_strategies import problem_of, varied

from surgery import evaluate
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Site
from surgery.passes import pool, solve
from surgery.solving.outcome import Proof
from surgery.units import PARAMS

F = Formulas()


def layers_apart(first: tuple[Candidate, ...], second: tuple[Candidate, ...]) -> int:
    decided = [{(c.layer, c.site): c.text for c in chosen} for chosen in (first, second)]
    return len({place[0] for place, text in decided[0].items() if decided[1][place] != text})


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_each_is_the_best_that_differs_from_those_before(distance: int) -> None:
    """Two sites in every layer: a layer that differs in both counts once."""
    space, measured = toy_space(varied(3))
    spec = toy_spec(F.compare(F.metric("params"), "<=", F.number(3400, PARAMS)))
    problem = problem_of(spec, space, measured)
    found = pool.run(problem, 3, distance, Sink(), Proof(exact=True))
    worth = {
        chosen: evaluate.number(spec.objective.expr, context)
        for chosen in assignments(space)
        if satisfies(context := child(spec, space, measured, chosen), spec.requirements[0].expr)
    }
    before: list[tuple[Candidate, ...]] = []
    for solution in found:
        left = [v for c, v in worth.items() if all(layers_apart(c, b) >= distance for b in before)]
        assert solution.status == "optimal"
        assert solution.objective == pytest.approx(min(left), rel=1e-9)
        before.append(solution.chosen)
    assert len(found) == 3
    for first, second in combinations(found, 2):
        assert pool.distance(first, second) == layers_apart(first.chosen, second.chosen) >= distance


def test_a_pool_ends_where_nothing_differs_enough() -> None:
    layers: list[dict[Site, list[Option]]] = [
        {Site.FFN: [ffn("64", 100, 0.0), ffn("32", 50, 0.5)]} for _ in range(2)
    ]
    problem = problem_of(toy_spec(), *toy_space(layers))
    sink = Sink()
    assert len(pool.run(problem, 5, 2, sink, Proof())) == 2
    assert not sink.found
    assert len(pool.run(problem, 5, 1, sink, Proof())) == 4


def test_no_plan_at_all_is_explained() -> None:
    space, measured = toy_space(varied(2))
    wish = F.compare(F.metric("params"), "<=", F.number(1, PARAMS))
    sink = Sink()
    assert pool.run(problem_of(toy_spec(wish), space, measured), 2, 1, sink, Proof()) == ()
    assert [d.code.id for d in sink.found] == ["E0601"]


def test_multipliers_of_a_neighbour_change_no_plan() -> None:
    space, measured = toy_space(varied(6))
    warm: tuple[float, ...] = ()
    for size in range(4000, 6000, 250):
        wish = F.compare(F.metric("params"), "<=", F.number(size, PARAMS))
        problem = problem_of(toy_spec(wish), space, measured)
        cold = solve.run(problem, Sink())
        found = solve.run(problem, Sink(), warm=warm)
        assert cold is not None
        assert found is not None
        assert found.chosen == cold.chosen
        assert replace(found, prices=()).objective == cold.objective
        warm = found.prices
