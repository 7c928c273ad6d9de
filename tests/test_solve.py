"""The solver against brute force and against cvxpy: optima, scales, ties, verification."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from solving_fixtures import (
    Formulas,
    Option,
    attention,
    ffn,
    toy_space,
    toy_spec,
)
from solving_strategies import SLOW, best_by_force, options, problem_of, requirements, varied

from surgery.diagnostics import Sink
from surgery.expr import Expr
from surgery.ir import Candidate, Site
from surgery.passes import constrain, solve
from surgery.solving.knapsack.search import Policy
from surgery.solving.outcome import Proof
from surgery.units import PARAMS

F = Formulas()


@given(options(), st.lists(requirements(), max_size=3), st.sampled_from(["minimize", "maximize"]))
@SLOW
def test_agrees_with_brute_force(
    layers: list[dict[Site, list[Option]]], wishes: list[Expr], sense: str
) -> None:
    space, measured = toy_space(layers)
    spec = toy_spec(*wishes, sense=sense)
    sink = Sink()
    problem = constrain.run(spec, space, measured, sink)
    expected = best_by_force(spec, space, measured)
    if problem is None:
        assert {d.code.id for d in sink.found} == {"E0503"}
        assert expected is None
        return
    solution = solve.run(problem, sink)
    if expected is None:
        assert solution is None
        assert [d.code.id for d in sink.found] == ["E0601"]
        return
    assert solution is not None, sink.found
    assert abs(solution.objective - expected[0]) <= abs(expected[0]) * solve.TIE
    column = {c.address: n for n, c in enumerate(space.candidates)}

    def rule(chosen: Sequence[Candidate]) -> tuple[int, int]:
        return sum(c.changed for c in chosen), sum(column[c.address] ** 2 for c in chosen)

    assert rule(solution.chosen) == rule(expected[1])
    assert solution.gap <= 1e-9
    assert abs(solution.bound - solution.objective) <= Fraction(1, 10**6)


@given(options(), st.lists(requirements(), max_size=2))
@SLOW
def test_labels_and_highs_with_and_without_presolve_agree(
    layers: list[dict[Site, list[Option]]], wishes: list[Expr]
) -> None:
    space, measured = toy_space(layers)
    problem = constrain.run(toy_spec(*wishes), space, measured, Sink())
    if problem is None:
        return
    labels = solve.Solver(problem.columns).minimise(problem.rows, problem.goal)
    for presolve in (True, False):
        solver = solve.Solver(problem.columns, policy=Policy(width=0, presolve=presolve))
        outcome = solver.minimise(problem.rows, problem.goal)
        assert outcome.status == labels.status
        assert abs(outcome.value - labels.value) <= abs(labels.value) * solve.TIE


@given(options(), st.lists(requirements(), max_size=2))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_statement_in_cvxpy_has_the_same_optimum(
    layers: list[dict[Site, list[Option]]], wishes: list[Expr]
) -> None:
    import cvxpy as cp  # noqa: TID251 - the oracle

    space, measured = toy_space(layers)
    problem = constrain.run(toy_spec(*wishes), space, measured, Sink())
    if problem is None:
        return
    statement = problem.statement()
    assert statement.is_dcp()
    statement.solve(solver=cp.HIGHS, threads=1, mip_abs_gap=0.0, mip_rel_gap=0.0)  # pyright: ignore[reportUnknownMemberType] - cvxpy's solve is untyped
    direct = solve.Solver(problem.columns).minimise(problem.rows, problem.goal)
    if statement.status == "infeasible":
        assert direct.status == "infeasible"
        return
    x = next(v for v in statement.variables() if v.name() == "x").value
    assert x is not None
    chosen = [j for j, value in enumerate(x) if value > 0.5]
    stated = problem.goal.at(problem.columns.active(chosen))
    assert direct.status == "optimal"
    assert abs(stated - direct.value) <= Fraction(1, 10**6)


# ---- scales and tolerances -------------------------------------------------------------------


SIZE = F.compare(F.metric("params"), "<=", F.number(7000, PARAMS))


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e4])
def test_the_scale_of_scores_does_not_matter(scale: float) -> None:
    """Absolute gaps of solvers make small objectives silently worse; ours are scaled away."""
    chosen: list[list[str]] = []
    for factor in (1.0, scale):
        space, measured = toy_space(varied(8, factor))
        solution = solve.run(problem_of(toy_spec(SIZE), space, measured), Sink())
        assert solution is not None
        chosen.append([c.address for c in solution.chosen])
    assert chosen[0] == chosen[1]
    assert sum(".noop" in a or ".32" in a or ".16" in a for a in chosen[0]) > 3


def test_tiny_damages_beside_huge_ones_are_told_apart() -> None:
    """Damages of 1e-7 decide although another alternative's is 50: 9 orders of magnitude."""
    layers = [
        {
            Site.FFN: [
                ffn("64", 100, 0.0),
                ffn("32", 50, 1e-7 * (1 + (n * 7 % 5) / 1000)),
                ffn("noop", 0, 50.0 + n),
            ]
        }
        for n in range(6)
    ]
    space, measured = toy_space(layers)
    spec = toy_spec(F.compare(F.metric("params"), "<=", F.number(1450, PARAMS)))
    solution = solve.run(problem_of(spec, space, measured), Sink())
    expected = best_by_force(spec, space, measured)
    assert solution is not None
    assert expected is not None
    assert solution.objective == expected[0]


def test_a_budget_is_kept_to_the_last_parameter() -> None:
    """Sizes near 1e12 that differ by one: a relative tolerance of 1e-9 would allow 1000 more."""
    base = 10**12
    layers = [
        {Site.FFN: [ffn("64", base + 1, 0.0), ffn("32", base, 1.0 + n / 8), ffn("16", 7, 9.0 + n)]}
        for n in range(3)
    ]
    space, measured = toy_space(layers)
    budget = 3 * base + 1000 + 1
    spec = toy_spec(F.compare(F.metric("params"), "<=", F.number(budget, PARAMS)))
    solution = solve.run(problem_of(spec, space, measured), Sink())
    assert solution is not None
    assert [c.text for c in solution.chosen if c.site is Site.FFN] == ["32", "32", "64"]
    assert solution.objective == Fraction(17, 8)


# ---- ties ------------------------------------------------------------------------------------


def test_ties_go_to_fewest_edits_then_to_early_layers() -> None:
    layers = [
        {Site.FFN: [ffn("64", 100, 0.0), ffn("32", 50, 0.0), ffn("16", 40, 0.0)]} for _ in range(4)
    ]
    space, measured = toy_space(layers)
    spec = toy_spec(F.compare(F.metric("params"), "<=", F.number(1300, PARAMS)))
    solution = solve.run(problem_of(spec, space, measured), Sink())
    assert solution is not None
    texts = [c.text for c in solution.chosen if c.site is Site.FFN]
    assert texts == ["32", "32", "64", "64"]


def test_a_tie_that_takes_too_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is as good, and the same every time."""
    space, measured = toy_space(varied(8))
    problem = problem_of(toy_spec(SIZE), space, measured)
    broken = solve.run(problem, Sink())
    monkeypatch.setattr(solve, "_BRIEFLY", 0)
    found = [solve.run(problem, Sink()) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0] is not None
    assert broken is not None
    assert found[0].status == "optimal"
    assert found[0].objective == broken.objective
    assert found[0].ties_broken == 0


# ---- limits ----------------------------------------------------------------------------------


def test_running_out_of_time_is_no_answer() -> None:
    space, measured = toy_space(varied(8))
    sink = Sink()
    assert solve.run(problem_of(toy_spec(SIZE), space, measured), sink, Proof(seconds=0.0)) is None
    assert [d.code.id for d in sink.found] == ["E0603"]


# ---- verification ----------------------------------------------------------------------------


def test_wrong_answers_do_not_pass() -> None:
    space, measured = toy_space(varied(4))
    problem = problem_of(
        toy_spec(F.compare(F.metric("params"), "<=", F.number(4000, PARAMS))), space, measured
    )
    best = solve.Solver(problem.columns).minimise(problem.rows, problem.goal)
    assert solve.verify(problem, best.chosen, best) is None
    unedited = tuple(site[0] for site in problem.columns.sites)
    heavy = solve.verify(problem, unedited, best)
    assert heavy is not None
    assert heavy.code.id == "E0604"
    smallest = solve.verify(problem, tuple(site[-1] for site in problem.columns.sites), best)
    assert smallest is not None
    assert smallest.message.startswith("the objective differs")


def test_the_least_of_no_layers_bounds_nothing() -> None:
    """`min` over a selection that the choice empties is no reason to fail."""
    layers = [
        {
            Site.ATTENTION: [attention("full", 9, 0.5), attention("noop", 0, 0.0)],
            Site.FFN: [ffn("16", 1, 0.0), ffn("32", 2, 0.125)],
        }
    ]
    space, measured = toy_space(layers)
    full = F.layers(F.test("attention", "full"))
    wish = F.compare(F.fold("min", F.fact("width"), full), ">=", F.number(32))
    solution = solve.run(problem_of(toy_spec(wish), space, measured), Sink())
    assert solution is not None
    assert [c.text for c in solution.chosen] == ["noop", "16"]
    some = F.fold("some", F.test("attention", "full"))
    solution = solve.run(problem_of(toy_spec(wish, some), space, measured), Sink())
    assert solution is not None
    assert [c.text for c in solution.chosen] == ["full", "32"]


@example(3)
@given(st.integers(1, 6))
@settings(max_examples=5, deadline=None)
def test_the_plan_says_what_was_solved(count: int) -> None:
    from surgery import plan as plans

    space, measured = toy_space(varied(count))
    spec = toy_spec(
        ("@size", F.compare(F.metric("params"), "<=", F.number(1000 + 900 * count, PARAMS)))
    )
    problem = problem_of(spec, space, measured)
    solution = solve.run(problem, Sink())
    assert solution is not None
    plan = solve.record(problem, solution)
    assert plans.chosen(plan, space) == solution.chosen
    assert plans.parse(plans.text(plan), "x.plan") == plans.short(plan)
    total = 1000 + sum(c.cost.params for c in solution.chosen)
    (evidence,) = plan.requirements
    assert (evidence.label, evidence.op) == ("@size", "<=")
    assert evidence.value == f"{total / 1000:.2f}K"
    assert dict(plan.metrics)["params"] == evidence.value


# ---- gaps ------------------------------------------------------------------------------------


def test_a_gap_is_told_with_its_bound() -> None:
    """Where the optimum takes more work than is worth it, the plan says how far off it may be."""
    problem = problem_of(toy_spec(SIZE), *toy_space(varied(8)))
    solver = solve.Solver(problem.columns, policy=Policy(effort=0))
    best = solver.minimise(problem.rows, problem.goal, gap=0.2)
    exact = solve.run(problem, Sink())
    assert exact is not None
    assert best.status == "optimal"
    assert best.bound <= exact.objective <= best.value
    assert 0 < best.gap <= 0.2
    found = solve.solution(problem, solver, best, Sink(), 0.2)
    assert found is not None
    assert found.status == "within_gap"
    told = dict(solve.record(problem, found).solver)
    assert list(told) == ["status", "gap", "bound", "seed"]
    assert float(told["bound"]) <= exact.objective
    assert solve.verify(problem, best.chosen, best) is not None


def test_what_was_found_in_time_is_taken_when_asked() -> None:
    problem = problem_of(toy_spec(SIZE), *toy_space(varied(8)))
    solver = solve.Solver(problem.columns, policy=Policy(effort=0))
    rough = replace(solver.minimise(problem.rows, problem.goal, gap=0.2), status="stopped")
    found = solve.solution(problem, solver, rough, Sink(), 0.0)
    assert found is not None
    assert found.status == "stopped"
    told = solve.unproven(problem, rough)
    assert told.code.id == "E0603"
    assert told.message.startswith("the solver stopped before it proved its answer: up to ")
    assert [name for name, _ in told.values] == ["found", "cannot be below"]
