"""Simpler ways of choosing: legal, no better than the optimum, and made as they say."""

from __future__ import annotations

from fractions import Fraction

import pytest
from conftest import LLAMA_SPEC, Workplace
from hypothesis import HealthCheck, given, settings
from solving_fixtures import Formulas, Option, attention, ffn, toy_space, toy_spec
from solving_strategies import best_by_force, options, problem_of, requirements

from surgery.diagnostics import Sink
from surgery.expr import Expr
from surgery.ir import Site
from surgery.passes import constrain, rivals
from surgery.passes.rivals import Rival
from surgery.passes.solve import TIE

F = Formulas()


def _named(found: tuple[Rival, ...]) -> dict[str, Rival]:
    return {rival.name: rival for rival in found}


@given(options(), requirements())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rivals_keep_the_requirements_and_win_nothing(
    layers: list[dict[Site, list[Option]]], wish: Expr
) -> None:
    space, measured = toy_space(layers)
    spec = toy_spec(wish)
    problem = constrain.run(spec, space, measured, Sink())
    if problem is None:
        return
    best = best_by_force(spec, space, measured)
    found = rivals.run(problem, 2)
    if best is None:
        assert found == ()
        return
    assert {"random, seed 0", "random, seed 1", "largest"} <= set(_named(found))
    for rival in found:
        assert rivals.keeps(problem, rival.chosen)
        assert [sum(n in site for n in rival.chosen) for site in problem.columns.sites] == [
            1 for _ in problem.columns.sites
        ]
        assert rival.objective >= best[0] - abs(best[0]) * TIE


def _layers(count: int) -> list[dict[Site, list[Option]]]:
    """Each layer cuts its FFN to half for a damage that grows, or loses its attention for 1."""
    return [
        {
            Site.ATTENTION: [attention("full", 0, 0.0), attention("noop", -10, 1.0)],
            Site.FFN: [ffn("64", 0, 0.0), ffn("32", -100, 0.1 * (n + 1))],
        }
        for n in range(count)
    ]


def test_greedy_splits_evenly_and_carries_forward() -> None:
    space, measured = toy_space(_layers(4))
    parent = F.parent("params")
    small = F.compare(F.metric("params"), "<=", F.arith(parent, "-", F.number(Fraction(230))))
    problem = problem_of(toy_spec(small), space, measured)
    chosen = rivals.greedy(problem)
    assert chosen is not None
    texts = [problem.columns.candidates[n].text for n in chosen]
    # 230 of what can be saved must be: the first sites in line give first, the rest keep.
    assert rivals.keeps(problem, chosen)
    assert texts.count("32") >= 2


def test_uniform_and_periodic_patterns() -> None:
    space, measured = toy_space(_layers(6))
    half = F.compare(F.count(F.test("attention", "full")), "<=", F.number(Fraction(3)))
    problem = problem_of(toy_spec(half), space, measured)
    found = _named(rivals.run(problem, 1))

    def texts(name: str, site: Site) -> list[str]:
        candidates = problem.candidates(found[name].chosen)
        return [c.text for c in candidates if c.site is site]

    assert texts("uniform", Site.ATTENTION) == ["noop"] * 6
    assert texts("uniform", Site.FFN) == ["64"] * 6
    assert texts("periodic", Site.ATTENTION) in (["full", "noop"] * 3, ["noop", "full"] * 3)
    assert found["uniform"].objective == 6
    assert found["periodic"].objective == 3
    assert texts("largest", Site.FFN) == ["64"] * 6
    assert found["random, seed 0"].objective >= 3


def test_lots_differ_by_seed_and_by_nothing_else() -> None:
    space, measured = toy_space(_layers(8))
    problem = problem_of(toy_spec(), space, measured)
    found = rivals.run(problem, 4)
    lots = [rival.chosen for rival in found if rival.name.startswith("random")]
    assert len(set(lots)) == 4
    assert rivals.run(problem, 4) == found


@pytest.mark.parametrize("flags", [["--rivals"], ["--rivals", "--refine", "1"]], ids=" ".join)
def test_the_command_sets_them_beside_the_plan(
    flags: list[str], workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("a.surg", LLAMA_SPEC)
    assert workplace.run("plan", path, *flags) == 0
    told = capsys.readouterr().out
    table = told[told.index("under the same requirements") :].partition("\n\n")[0].splitlines()
    cells = [[cell for cell in line.split("  ") if cell] for line in table[1:]]
    values = [float(line[1]) for line in cells if len(line) > 1]
    missing = [line[0].partition(": ")[2].split(", ") for line in cells if len(line) == 1]
    assert len(values) + sum(map(len, missing)) == 1 + rivals.SEEDS + len(rivals.WAYS)
    assert all(line[2].endswith("%") for line in cells[1:] if len(line) > 1)
    if "--refine" not in flags:
        assert values[0] == min(values)
