"""Price lists, prices of limits and relaxations, held against trying every choice."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import LLAMA_SPEC, Workplace
from solving_fixtures import Formulas, assignments, child, toy_space, toy_spec
from solving_strategies import problem_of, varied

from surgery import evaluate
from surgery import plan as plans
from surgery.diagnostics import Sink, Stop
from surgery.expr import Compare, Expr, Number
from surgery.ir import Candidate
from surgery.passes import explain, prices, relax, solve, why
from surgery.passes.solve import Solution, Solver
from surgery.units import BYTES, PARAMS, format_params, significant

F = Formulas()


class Toy:
    """Three layers of three times three alternatives, small enough to try them all."""

    def __init__(self, *wishes: tuple[str, Expr], sense: str = "minimize") -> None:
        self.space, self.measured = toy_space(varied(2))
        goal = F.metric("params") if sense == "maximize" else F.score()
        self.spec = toy_spec(*wishes, sense=sense, objective=goal)
        self.problem = problem_of(self.spec, self.space, self.measured)
        self.children = [
            (chosen, child(self.spec, self.space, self.measured, chosen))
            for chosen in assignments(self.space)
        ]

    @property
    def solver(self) -> Solver:
        return Solver(self.problem.columns)

    def solution(self) -> Solution:
        found = solve.run(self.problem, Sink())
        assert found is not None
        return found

    def best(
        self,
        *,
        wishes: tuple[Expr, ...] | None = None,
        allowed: Callable[[tuple[Candidate, ...]], bool] = lambda _: True,
    ) -> Fraction | None:
        """The best objective of the allowed choices that keep all wishes, by force."""
        kept = wishes if wishes is not None else tuple(r.expr for r in self.spec.requirements)
        values = [
            evaluate.number(self.spec.objective.expr, made)
            for chosen, made in self.children
            if allowed(chosen) and all(evaluate.holds(wish, made) for wish in kept)
        ]
        pick = max if self.spec.objective.sense == "maximize" else min
        return pick(values, default=None)


def _size(limit: int | Fraction) -> Compare:
    return F.compare(F.metric("params"), "<=", F.number(limit, PARAMS))


def _full(least: int) -> Compare:
    full = F.count(F.test("attention", "full"))
    return F.compare(full, ">=", F.number(least, unit="layers"))


def _calm(most: float | Fraction) -> Compare:
    return F.compare(F.score(), "<=", F.number(most))


def _memory(most: int | Fraction) -> Compare:
    return F.compare(F.memory("chat"), "<=", F.number(most, BYTES))


def _share(most: float | Fraction) -> Compare:
    ratio = F.arith(F.metric("weights"), "/", F.memory("chat"))
    return F.compare(ratio, "<=", F.number(most, unit="x"))


# ---- price lists -----------------------------------------------------------------------------


@pytest.mark.parametrize("sense", ["minimize", "maximize"])
def test_a_price_is_that_of_the_best_plan_with_the_alternative(sense: str) -> None:
    wishes = (("@size", _size(2700)), ("@sight", _full(1)), ("@calm", _calm(0.3)))
    toy = Toy(*wishes, sense=sense)
    solution = toy.solution()
    columns = {c.address: n for n, c in enumerate(toy.space.candidates)}
    statuses: set[str] = set()
    for layer in range(2):
        found = why.run(toy.problem, solution, layer, toy.solver, 0.0)
        assert [site.value for site, _ in found.sites] == ["attention", "ffn"]
        for one in (one for _, each in found.sites for one in each):
            statuses.add(one.status)
            address = one.candidate.address
            best = toy.best(allowed=lambda chosen, a=address: a in {c.address for c in chosen})
            assert one.objective == best
            assert one.bound is None or best is None or abs(one.bound - best) <= abs(best) / 10**9
            place = (one.candidate.layer, one.candidate.site)
            swapped = [
                columns[address if (c.layer, c.site) == place else c.address]
                for c in solution.chosen
            ]
            before = toy.problem.result([columns[c.address] for c in solution.chosen])
            after = toy.problem.result(swapped)
            for requirement, move in zip(toy.spec.requirements, one.moves, strict=True):
                assert isinstance(requirement.expr, Compare)
                value = requirement.expr.first
                assert move == evaluate.number(value, after) - evaluate.number(value, before)
    assert statuses == {"chosen", "optimal", "infeasible"}


def test_a_price_where_two_sites_of_a_layer_interact() -> None:
    """Forcing one site leaves pairs of columns open, and closes others."""
    gone = F.both(
        F.test("attention", "full", negated=True), F.compare(F.fact("width"), "<=", F.number(32))
    )
    toy = Toy(("@pairs", F.compare(F.count(gone), ">=", F.number(1))), ("@size", _size(3200)))
    assert toy.problem.columns.grids
    solution = toy.solution()
    for layer in range(2):
        found = why.run(toy.problem, solution, layer, toy.solver, 0.0)
        for one in (one for _, each in found.sites for one in each):
            address = one.candidate.address
            best = toy.best(allowed=lambda chosen, a=address: a in {c.address for c in chosen})
            assert one.objective == best


def test_a_price_list_as_text() -> None:
    toy = Toy(("@size", _size(2700)), ("@sight", _full(1)), ("@calm", _calm(0.3)))
    found = why.run(toy.problem, toy.solution(), 0, toy.solver, 0.0)
    assert (
        why.text(found).splitlines()
        == """\
layer 0: what each alternative would cost

  attention   damage  @size  @sight   @calm  objective   price
  full             0      =       =       =     0.1426          in the plan
  window(32)   0.013      =      -1  +0.013     0.1556  +0.013
  noop          0.31   -300      -1   +0.31                     infeasible

  ffn  damage  @size   @calm  objective   price
  64        0   +450  -0.043                     infeasible
  32    0.043      =       =     0.1426          in the plan
  16     0.11   -220  +0.067     0.2096  +0.067

  damage is what the alternative does by itself
  @names: what it would change in the plan if it alone were taken
  objective: of the best plan that has it, solved again; price: against this plan
""".splitlines()
    )


def test_a_layer_that_there_is_not() -> None:
    toy = Toy()
    with pytest.raises(Stop) as stopped:
        why.run(toy.problem, toy.solution(), 2, toy.solver, 0.0)
    assert stopped.value.diagnostic.message == "there is no layer 2: the model has 2, from 0 to 1"


# ---- prices of limits ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "room", "share"), [(2300, 54000, 0.1), (2600, 40000, 0.2)])
def test_prices_are_optima_with_a_limit_moved(size: int, room: int, share: float) -> None:
    ratio = _share(Fraction(share).limit_denominator(10))
    wishes = {"@size": _size(size), "@sight": _full(1), "@room": _memory(room), "@x": ratio}
    toy = Toy(*wishes.items())
    found = prices.run(toy.problem, toy.solution(), toy.solver, 0.0)
    assert [price.clause.label for price in found.found] == list(wishes)
    for price in found.found:
        name = price.clause.label
        wish = wishes[name]
        ((op, limit),) = wish.rest
        assert isinstance(limit, Number)
        assert price.step == (1 if name == "@sight" else limit.value / 100)
        for moved, sign in ((price.looser, 1), (price.tighter, -1)):
            to = limit.value + sign * price.step * (1 if op == "<=" else -1)
            others = [w for n, w in wishes.items() if n != name]
            other = F.compare(wish.first, op, F.number(to, limit.dimension))
            assert moved.objective == toy.best(wishes=(*others, other))
    loose, tight = found.found[1].looser.objective, found.found[0].tighter.objective
    assert found.found[1].tighter.objective is None
    assert loose != found.objective or tight != found.objective


def test_prices_as_text() -> None:
    toy = Toy(("@size", _size(2300)), ("@sight", _full(1)), ("@room", _memory(54000)))
    found = prices.run(toy.problem, toy.solution(), toy.solver, 0.0)
    assert (
        prices.text(found).splitlines()
        == """\
  one limit moved, solved again       by  looser     tighter
  @size <= 2.30K                      23       =     +0.1408
  @sight >= 1                    1 layer       =  infeasible
  @room <= 52.73KiB                 540B       =     +0.1408
""".splitlines()
    )


# ---- relaxing --------------------------------------------------------------------------------


def _drawn(draw: random.Random) -> dict[str, Compare]:
    made = {
        "@size": _size(draw.randint(1000, 1800)),
        "@sight": _full(2),
        "@calm": _calm(Fraction(draw.randint(1, 60), 100)),
        "@room": _memory(draw.randint(2000, 6000)),
        "@x": _share(Fraction(draw.randint(20, 50), 100)),
    }
    return {name: made[name] for name in draw.sample(sorted(made), draw.randint(2, 4))}


def _miss(wish: Compare, made: evaluate.Context) -> Fraction:
    ((op, limit),) = wish.rest
    value, bound = evaluate.number(wish.first, made), evaluate.number(limit, made)
    over = value - bound if op == "<=" else bound - value
    return max(Fraction(0), over / (abs(bound) or 1))


@pytest.mark.parametrize("seed", range(24))
def test_the_least_relaxation_is_the_least(seed: int) -> None:
    draw = random.Random(seed)
    wishes = _drawn(draw)
    toy = Toy(*wishes.items())
    give = draw.sample(sorted(wishes), draw.randint(1, 2))
    sink = Sink()
    found = relax.least(toy.problem, give, toy.solver, sink)
    rest = tuple(wish for name, wish in wishes.items() if name not in give)
    misses = [
        max(_miss(wishes[name], made) for name in give)
        for _, made in toy.children
        if all(evaluate.holds(wish, made) for wish in rest)
    ]
    if not misses:
        assert found is None
        assert [d.code.id for d in sink.found] == ["E0601"]
        assert "is not enough" in sink.found[0].message
        return
    assert found is not None
    least = min(misses)
    assert least <= found.by <= least * (1 + relax.CLOSE)
    answer = solve.answer(found.problem, toy.solver, sink, solve.Proof())
    assert answer is not None, sink.found
    # Who writes what is said gets a plan.
    columns = {c.address: n for n, c in enumerate(toy.space.candidates)}
    made = toy.problem.result([columns[c.address] for c in answer.chosen])
    assert max(_miss(wishes[name], made) for name in give) <= found.by
    assert all(evaluate.holds(wish, made) for wish in rest)


def test_what_giving_a_requirement_up_buys() -> None:
    wishes = {"@size": _size(2600), "@sight": _full(1), "@room": _memory(40000)}
    toy = Toy(*wishes.items())
    objective = toy.solution().objective
    for name, wish in wishes.items():
        (found,) = relax.bought(toy.problem, name, objective, toy.solver, 0.0)
        others = tuple(other for n, other in wishes.items() if n != name)
        assert found.objective == toy.best(wishes=others)
        if found.objective == objective:
            assert found.until is None
            continue
        # The nearest limit of the optima without it: with that one, nothing is lost.
        values = [
            evaluate.number(wish.first, made)
            for _, made in toy.children
            if all(evaluate.holds(other, made) for other in others)
            and evaluate.number(toy.spec.objective.expr, made) == found.objective
        ]
        nearest = min(values) if wish.rest[0][0] == "<=" else max(values)
        assert found.until == explain.asked(found.clause, nearest)


def test_time_that_runs_out_is_no_answer() -> None:
    """What is not settled is neither impossible nor possible."""
    toy = Toy(("@size", _size(1500)), ("@calm", _calm(0.2)), ("@sight", _full(1)))
    sink = Sink()
    late = Solver(toy.problem.columns, limit=0.0)
    assert relax.least(toy.problem, ["@size", "@calm"], late, sink) is None
    assert [d.code.id for d in sink.found] == ["E0603"]
    toy = Toy(("@size", _size(2600)), ("@sight", _full(1)))
    solution = toy.solution()
    priced = prices.run(toy.problem, solution, late, 0.0)
    assert "not settled" in prices.text(priced)
    assert "infeasible" not in prices.text(priced)
    listed = why.text(why.run(toy.problem, solution, 0, late, 0.0))
    assert "not settled in time" in listed
    (given_up,) = relax.bought(toy.problem, "@sight", solution.objective, late, 0.0)
    assert given_up.objective is None


def test_labels_are_asked_for_by_name() -> None:
    toy = Toy(("@size", _size(2600)), ("", _full(1)))
    assert relax.unknown(toy.spec, ["@size", "@1"]) is None
    wrong = relax.unknown(toy.spec, ["@size", "@shape"])
    assert wrong is not None
    assert (wrong.code.id, wrong.message) == ("E0201", "there is no requirement `@shape`")
    assert [each.text for each in wrong.helps] == ["requirements are @size, @1"]


# ---- the command -----------------------------------------------------------------------------


def test_questions_about_a_plan(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace.write("asked.surg", LLAMA_SPEC)
    assert workplace.run("plan", path) == 0
    plain = Path(path).with_suffix(".plan").read_bytes()
    told = capsys.readouterr().out
    questions = ["--why", "layer", "1", "--why", "layer", "2", "--prices", "--relax", "size"]
    assert workplace.run("plan", path, *questions) == 0
    assert Path(path).with_suffix(".plan").read_bytes() == plain
    asked = capsys.readouterr().out
    body, _, ending = told.partition("\nWritten to")
    assert asked.startswith(body)
    assert asked.endswith(f"Written to{ending}")
    for part in ("one limit moved", "given up", "layer 1: what", "layer 2: what", "in the plan"):
        assert part in asked
    # What is asked twice is answered once.
    again = ["--relax", "@size", "--why", "layer", "1"]
    assert workplace.run("plan", path, *questions, *again) == 0
    assert capsys.readouterr().out == asked


def test_a_plan_of_the_least_relaxation_is_shown_and_not_written(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("tight.surg", LLAMA_SPEC)
    run = ["plan", path, "--set", "share=30%", "--format", "concise"]
    assert workplace.run(*run, "--relax", "@size") == 1
    told = capsys.readouterr()
    assert "E0601" in told.err
    found = re.search(r"@size +<= +\S+ +\S+ +(\S+ params)", told.out)
    assert found is not None, told.out
    assert "Not written" in told.out
    assert not Path(path).with_suffix(".plan").exists()
    # The limit that is to be written has this plan.
    limit = "params <= share * parent.params"
    assert limit in LLAMA_SPEC
    path = workplace.write("eased.surg", LLAMA_SPEC.replace(limit, f"params <= {found[1]}"))
    assert workplace.run("plan", path) == 0
    body = told.out[told.out.index("layers:") : told.out.index("requirement")]
    assert body in capsys.readouterr().out
    assert workplace.run(*run, "--relax", "@shape") == 1
    assert "there is no requirement `@shape`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["--why", "layer", "1", "--top", "2"],
        ["--prices", "--sweep", "share=60%..90%/3"],
        ["--relax", "@size", "--refine", "1"],
        ["--why", "1"],
        ["--why", "site", "1"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together(flags: list[str], workplace: Workplace) -> None:
    assert workplace.run("plan", workplace.write("a.surg", LLAMA_SPEC), *flags) == 2


def test_a_layer_past_the_end(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace.write("a.surg", LLAMA_SPEC)
    assert workplace.run("plan", path, "--why", "layer", "9") == 1
    assert "there is no layer 9: the model has 4, from 0 to 3" in capsys.readouterr().err
    assert not Path(path).with_suffix(".plan").exists()


def test_json_has_exact_numbers_and_the_answers(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("asked.surg", LLAMA_SPEC)
    flags = ["--json", "--prices", "--relax", "@size", "--rivals", "--format", "json"]
    assert workplace.run("plan", path, *flags, "--why", "layer", "1", "--why", "layer", "3") == 0
    told = json.loads(capsys.readouterr().out)
    plan = plans.read(Path(path).with_suffix(".plan"))
    assert told["format_version"] == plans.FORMAT_VERSION
    # Every number is the one that the file prints, but exact.
    objective = told["objective"]
    assert (objective["text"], objective["exact"]) == (plan.objective[1], True)
    assert significant(objective["value"]) == objective["text"]
    for name, text in plan.metrics:
        assert told["metrics"][name]["text"] == text
        assert told["metrics"][name]["exact"] is True
    assert format_params(told["metrics"]["params"]["value"]) == dict(plan.metrics)["params"]
    assert isinstance(told["metrics"]["params"]["value"], int)
    for each, printed in zip(told["requirements"], plan.requirements, strict=True):
        assert (each["label"], each["op"]) == (printed.label, printed.op)
        assert each["value"]["exact"]
        assert each["limit"]["exact"]
        assert each["value"]["value"] <= each["limit"]["value"]
    assert told["admitted"] is True
    assert [price["label"] for price in told["prices"]] == ["@kv", "@size"]
    assert told["given_up"][0]["objective"] <= objective["value"]
    assert [layer["layer"] for layer in told["layers"]] == [1, 3]
    chosen = [
        one["alternative"]
        for each in told["layers"][0]["sites"].values()
        for one in each
        if one["status"] == "chosen"
    ]
    assert chosen == [d.text for d in plan.decisions if d.layer == 1]
    assert min(told["rivals"].values()) >= objective["value"] * (1 - 1e-9)
    assert workplace.run("plan", path, "--set", "share=30%", "--relax", "size", "--json") == 1
    relaxed = json.loads(capsys.readouterr().out)
    assert relaxed["admitted"] is False
    assert relaxed["relaxed"]["by"] > 0
    assert [each["label"] for each in relaxed["relaxed"]["limits"]] == ["@size"]
