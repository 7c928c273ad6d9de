"""Requirements as exact rows: coefficients, pairs, units, and what cannot be a row."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest
from msgspec.structs import replace
from solving_fixtures import (
    Formulas,
    Option,
    assignments,
    attention,
    child,
    ffn,
    toy_space,
    toy_spec,
)

from surgery import evaluate
from surgery.diagnostics import Sink
from surgery.expr import Expr, If, Metric
from surgery.ir import Measured, Site, Space, Spec
from surgery.passes import constrain
from surgery.solving.linear import Linear
from surgery.source import Source
from surgery.units import BYTES, NUMBER, PARAMS

F = Formulas()
NOOP_BOTH = F.both(F.test("attention", "noop"), F.test("ffn", "noop"))


def layers() -> list[dict[Site, list[Option]]]:
    """Two layers: three kinds of attention and three widths each."""
    return [
        {
            Site.ATTENTION: [
                attention("full", 40, 0.0),
                attention("window(16)", 40, 0.1),
                attention("noop", 0, 0.3),
            ],
            Site.FFN: [ffn("64", 90, 0.0), ffn("32", 45, 0.2), ffn("noop", 0, 0.7)],
        }
        for _ in range(2)
    ]


def stated(
    *wishes: Expr | tuple[str, Expr], objective: Expr | None = None, sense: str = "minimize"
) -> tuple[constrain.Problem | None, Sink, Spec, Space, Measured]:
    space, measured = toy_space(layers())
    spec = toy_spec(*wishes, objective=objective, sense=sense)
    sink = Sink()
    return constrain.run(spec, space, measured, sink), sink, spec, space, measured


def problem_of(*wishes: Expr | tuple[str, Expr]) -> constrain.Problem:
    problem, sink, *_ = stated(*wishes)
    assert problem is not None, sink.found
    return problem


def refused(*wishes: Expr, objective: Expr | None = None) -> tuple[str, str]:
    problem, sink, *_ = stated(*wishes, objective=objective)
    assert problem is None
    (found,) = sink.found
    return found.code.id, found.message


PARAMS_ROW = F.compare(F.metric("params"), "<=", F.number(1200, PARAMS))


# ---- coefficients ----------------------------------------------------------------------------


def test_coefficients_are_exact() -> None:
    problem = problem_of(PARAMS_ROW)
    (clause,) = problem.clauses
    assert isinstance(clause.value, Linear)
    # Least coefficients are in the constant: 1000 fixed, then 40 or 90 per unchanged site.
    assert clause.value.constant == 1000
    assert clause.value.terms == {0: 40, 1: 40, 3: 90, 4: 45, 6: 40, 7: 40, 9: 90, 10: 45}
    (row,) = clause.rows
    assert row.constant == -200
    assert problem.objective.terms[1] == Fraction(0.1)
    assert problem.objective.terms[1] != Fraction(1, 10)


PARENT = F.arith(F.number(0.9), "*", F.metric("params", parent=True))
WIDE = F.compare(F.fact("width"), ">=", F.number(32))
WISHES: list[Expr] = [
    F.compare(F.metric("weights"), "<=", F.number(2300, BYTES)),
    F.compare(F.metric("kv", tokens=64), "<=", F.number(12000, BYTES)),
    F.compare(F.memory("chat"), "<=", F.arith(F.number(0.8), "*", F.memory("chat", parent=True))),
    F.compare(F.arith(F.metric("kv", tokens=64), "/", F.metric("params")), ">=", F.number(5)),
    F.compare(F.number(0.9), ">=", F.arith(F.score(), "*", F.number(2))),
    F.compare(
        F.arith(F.metric("kv", tokens=64), "-", F.metric("weights")), "<", F.number(5000, BYTES)
    ),
    F.compare(F.count(F.test("attention", "full")), "==", F.number(1)),
    F.compare(F.count(NOOP_BOTH), "<=", F.number(1)),
    F.compare(F.fold("sum", F.fact("width")), ">", F.number(40)),
    F.compare(F.fold("min", F.fact("width")), ">=", F.number(32)),
    F.compare(F.fold("max", F.fact("width")), "<=", F.number(32)),
    F.compare(F.fold("max", F.fact("width")), "==", F.number(32)),
    F.fold("every", F.no(NOOP_BOTH)),
    F.fold("every", WIDE, F.layers(F.test("attention", "full"))),
    F.fold("some", NOOP_BOTH),
    F.no(F.fold("some", NOOP_BOTH)),
    F.fold("every", F.test("ffn", "dense"), F.layers(picks=[(-1, -1)])),
    F.fold("every", F.test("ffn", "dense"), F.layers(excludes=[(0, 0)])),
    F.no(F.either(F.fold("some", NOOP_BOTH), F.compare(F.metric("params"), ">", PARENT))),
    F.no(F.fold("every", WIDE)),
]  # fmt: skip


@pytest.mark.parametrize("wish", WISHES, ids=range(len(WISHES)))
def test_rows_say_what_the_formula_says(wish: Expr) -> None:
    """On all 81 children: rows hold exactly when the formula does, and shown values are its."""
    problem, sink, spec, space, measured = stated(wish)
    assert problem is not None, sink.found
    column = {c.address: n for n, c in enumerate(space.candidates)}
    seen: set[bool] = set()
    for chosen in assignments(space):
        active = problem.columns.active([column[c.address] for c in chosen])
        context = child(spec, space, measured, chosen)
        holds = evaluate.holds(wish, context)
        assert all(clause.holds(active) for clause in problem.clauses) is holds
        seen.add(holds)
    assert seen == {True, False}


def test_values_are_those_of_the_formula() -> None:
    ratio = F.arith(
        F.arith(F.metric("kv", tokens=64), "+", F.metric("weights")), "/", F.metric("weights")
    )
    shifted = F.arith(F.number(1), "-", ratio)
    for formula in (F.metric("kv", tokens=64), ratio, shifted, F.arith(shifted, "*", F.number(3))):
        wish = F.compare(formula, ">=", F.number(-100))
        problem, sink, spec, space, measured = stated(wish)
        assert problem is not None, sink.found
        column = {c.address: n for n, c in enumerate(space.candidates)}
        for chosen in assignments(space)[::7]:
            active = problem.columns.active([column[c.address] for c in chosen])
            value = problem.clauses[0].value.at(active)
            assert value == evaluate.number(formula, child(spec, space, measured, chosen))


def test_pairs_appear_only_where_sites_interact() -> None:
    additive = F.compare(
        F.fold("sum", F.arith(F.fact("width"), "+", F.fact("heads"))), ">=", F.number(9)
    )
    assert problem_of(additive).columns.grids == {}
    problem = problem_of(F.compare(F.count(NOOP_BOTH), "==", F.number(0)))
    assert sorted(problem.columns.grids) == [0, 1]
    assert problem.columns.width == 12 + 9 + 9
    only_first = F.fold("every", F.no(NOOP_BOTH), F.layers(picks=[(0, 0)]))
    assert sorted(problem_of(only_first).columns.grids) == [0]


# ---- requirements, labels, units -------------------------------------------------------------


def test_a_conjunction_is_several_clauses_under_one_label() -> None:
    band = F.both(F.compare(F.metric("params"), ">=", F.number(1050, PARAMS)), PARAMS_ROW)
    problem = problem_of(("@band", band), ("", F.compare(F.score(), "<=", F.number(1))))
    assert [(c.label, c.op, len(c.rows)) for c in problem.clauses] == [
        ("@band", ">=", 1),
        ("@band", "<=", 1),
        ("@1", "<=", 1),
    ]
    equal = problem_of(F.compare(F.metric("params"), "==", F.number(1085, PARAMS)))
    assert [len(c.rows) for c in equal.clauses] == [2]


def test_evidence_is_printed_in_the_units_of_the_spec() -> None:
    share_of = F.arith(F.metric("params"), "/", F.metric("params", parent=True))
    share = F.compare(share_of, "<=", F.number(0.9, NUMBER, "%"))
    speed = F.compare(
        F.number(2, NUMBER, "x"),
        ">=",
        F.arith(F.metric("weights"), "/", F.metric("weights", parent=True)),
    )
    sight = F.compare(F.count(F.test("attention", "full")), ">=", F.number(1, NUMBER, "layers"))
    calm = F.fold("every", F.no(NOOP_BOTH))
    problem = problem_of(share, speed, sight, calm, PARAMS_ROW)
    chosen = [0, 3, 7, 10]
    shown = [(e.value, e.op, e.limit) for e in problem.evidence(chosen)]
    assert shown == [
        ("96.43%", "<=", "90%"),
        ("0.96x", "<=", "2.00x"),
        ("1", ">=", "1"),
        ("0 exceptions", "==", "0 exceptions"),
        ("1.22K", "<=", "1.20K"),
    ]


def test_a_comparison_keeps_the_order_in_which_it_was_written() -> None:
    # Neither side depends on the choices: every layer has one attention or another.
    every = F.compare(F.count(), ">=", F.number(1))
    false = F.compare(F.count(), "<=", F.arith(F.number(0.5), "*", F.number(2)))
    (shown,) = problem_of(every).evidence([0, 3, 6, 9])
    assert (shown.value, shown.op, shown.limit) == ("2", ">=", "1")
    problem, sink, *_ = stated(false)
    assert problem is None
    assert [value for _, value in sink.found[0].values] == ["2 <= 1"]
    # A constant that was written first still comes last.
    turned = F.compare(F.number(1200, PARAMS), ">=", F.metric("params"))
    (shown,) = problem_of(turned).evidence([0, 3, 6, 9])
    assert (shown.op, shown.limit) == ("<=", "1.20K")


def test_objective_text_is_one_line() -> None:
    source = Source("toy.surg", "minimize damage  # the sum\n   + 0.5 * damage\n")
    f = Formulas(source)
    text = "damage  # the sum\n   + 0.5 * damage"
    objective = f.arith(F.score(), "+", F.arith(F.number(0.5), "*", F.score()), text)
    problem, *_ = stated(PARAMS_ROW, objective=objective)
    assert problem is not None
    assert problem.objective_text(Fraction(41271, 100000)) == (
        "minimize damage + 0.5 * damage",
        "0.4127",
    )
    assert problem.objective.terms[1] == Fraction(3, 2) * Fraction(0.1)


def test_maximize_minimises_the_negative() -> None:
    problem, *_ = stated(PARAMS_ROW, objective=F.metric("params"), sense="maximize")
    assert problem is not None
    for chosen in ([0, 3, 6, 9], [2, 5, 8, 11]):
        assert problem.goal.at(chosen) == -problem.objective.at(chosen)


# ---- refusals --------------------------------------------------------------------------------


def test_a_product_is_marked_with_both_factors() -> None:
    source = Source("toy.surg", "minimize damage * reach\n")
    f = Formulas(source)
    wanted = f.arith(f.score(text="damage"), "*", f.score(text="reach"), "damage * reach")
    _, sink, *_ = stated(objective=wanted)
    (found,) = sink.found
    assert found.code.id == "E0502"
    assert found.message == "this product is not linear in the choices"
    assert [(x.span.text, x.primary) for x in found.labels] == [
        ("damage * reach", True),
        ("damage", False),
        ("reach", False),
    ]
    assert found.helps[0].text == "weigh them instead: `damage + 0.5 * reach`"


CHAIN = replace(PARAMS_ROW, rest=(*PARAMS_ROW.rest, (">=", F.number(1, PARAMS))))


@pytest.mark.parametrize(
    ("wish", "code", "message"),
    [
        (F.either(PARAMS_ROW, PARAMS_ROW), "E0502", "a choice between requirements"),
        (F.no(F.both(PARAMS_ROW, PARAMS_ROW)), "E0502", "a choice between requirements"),
        (F.no(CHAIN), "E0502", "the denial of a chain"),
        (F.compare(F.metric("params"), "!=", F.number(9, PARAMS)), "E0502", "`!=` is a choice"),
        (F.compare(F.arith(F.metric("params"), "/", F.score()), "<=", F.number(9)), "E0502",
         "this denominator may be zero"),
        (F.compare(F.arith(F.metric("params"), "%", F.number(2)), "==", F.number(0)), "E0502",
         "a remainder"),
        (F.compare(F.arith(F.fold("min", F.fact("width")), "*", F.number(2)), ">=", F.number(2)),
         "E0502", "a multiple of a least"),
        (F.compare(F.fold("min", F.fact("width")), ">=", F.count()), "E0503", ""),
        (F.compare(F.fold("min", F.fact("width")), ">=", F.fold("sum", F.fact("width"))), "E0502",
         "these two are not comparable"),
        (F.compare(F.count(F.compare(F.score(), "<=", F.number(1))), "==", F.number(2)), "E0502",
         "this is about the whole result"),
        (F.compare(F.score(), "<", F.number(1)), "E0505", "a strict comparison"),
        (F.compare(F.metric("params"), "<=", F.number(999, PARAMS)), "", ""),
        (F.compare(F.metric("params", parent=True), "<=", F.number(999, PARAMS)), "E0503",
         "this requirement does not depend on the choices and is false"),
        (F.compare(F.count(), "==", F.number(3)), "E0503", "this requirement does not depend"),
        (F.compare(F.memory("bulk"), "<=", F.number(9, BYTES)), "E0011", "`memory(bulk)`"),
        (F.compare(Metric(F.span(""), "throughput", NUMBER, scenario="bulk"), ">=", F.number(1)),
         "E0011", "`throughput(bulk)` is not known while `batch = fit`"),
    ],
)  # fmt: skip
def test_refusals(wish: Expr, code: str, message: str) -> None:
    if not code or not message:
        # Impossible for the solver to satisfy, but that is the solver's to explain.
        problem, *_ = stated(wish)
        assert problem is not None
        return
    got = refused(wish)
    assert got[0] == code
    assert got[1].startswith(message)


def test_objectives_must_be_linear() -> None:
    ratio = F.arith(F.metric("params"), "/", F.metric("weights"))
    assert refused(objective=ratio) == ("E0502", "a ratio of choice-dependent values is not linear")
    assert refused(objective=F.fold("max", F.fact("width")))[0] == "E0502"


def test_all_refusals_are_reported_in_one_run() -> None:
    _, sink, *_ = stated(
        F.either(PARAMS_ROW, PARAMS_ROW),
        F.compare(F.score(), "<", F.number(1)),
        objective=F.arith(F.score(), "*", F.score()),
    )
    assert sorted(d.code.id for d in sink.found) == ["E0502", "E0502", "E0505"]


def test_constants_are_folded_away() -> None:
    """A known operand of `or` or `and`, and a known test of `if`, decide before the solver."""
    true = F.compare(F.number(1), "<=", F.number(2))
    assert problem_of(F.either(true, PARAMS_ROW)).clauses == ()
    assert len(problem_of(F.both(true, PARAMS_ROW)).clauses) == 1
    assert len(problem_of(F.either(F.no(true), PARAMS_ROW)).clauses) == 1
    branch = If(F.span(""), true, PARAMS_ROW, F.compare(F.score(), "<=", F.number(1)), NUMBER)
    (clause,) = problem_of(branch).clauses
    assert clause.shown(Fraction(2000)) == "2.00K"
    assert refused(F.both(F.no(true), PARAMS_ROW))[0] == "E0503"


@pytest.mark.parametrize(
    ("damage", "code"), [(float("nan"), "E0702"), (float("inf"), "E0702"), (None, "E0701")]
)
def test_scores_must_be_measured_and_finite(damage: float | None, code: str) -> None:
    space, measured = toy_space(layers())
    table = {k: v for k, v in measured.damage["damage"].items() if k != "layer.01.ffn.32"}
    if damage is not None:
        table["layer.01.ffn.32"] = damage
    sink = Sink()
    assert constrain.run(toy_spec(), space, Measured({"damage": table}, "a"), sink) is None
    (found,) = sink.found
    assert found.code.id == code
    assert "`layer.01.ffn.32`" in found.message


def test_a_site_without_candidates() -> None:
    space, measured = toy_space(layers())
    empty = replace(space.options[3], candidates=())
    sink = Sink()
    broken = replace(space, options=(*space.options[:3], empty))
    assert constrain.run(toy_spec(), broken, measured, sink) is None
    assert [(d.code.id, d.subject) for d in sink.found] == [("E0602", "layer.01.ffn")]


# ---- the statement ---------------------------------------------------------------------------


def test_statement_is_one_boolean_per_candidate() -> None:
    statement = problem_of(PARAMS_ROW, F.compare(F.score(), "<=", F.number(1))).statement()
    (x,) = statement.variables()
    assert x.shape == (12,)
    assert statement.is_mixed_integer()
    # One vectorised assignment for all four sites, then one line per row.
    assert len(statement.constraints) == 3


# ---- what views may load ---------------------------------------------------------------------


def test_plans_and_views_load_no_solver() -> None:
    code = (
        "import sys, surgery.plan, surgery.diff, surgery.show\n"
        "heavy = {'numpy', 'scipy', 'cvxpy', 'highspy', 'torch'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    code = "import sys, surgery.passes.solve\nsys.exit('cvxpy' in sys.modules)\n"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
