"""The reasons given when no architecture satisfies the requirements."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from solving_fixtures import (
    Formulas,
    Option,
    assignments,
    attention,
    child,
    ffn,
    satisfies,
    toy_space,
    toy_spec,
)
from solving_strategies import SLOW, best_by_force, options, problem_of, requirements, varied

from surgery import evaluate
from surgery.diagnostics import Safety, Sink
from surgery.expr import Compare, Expr
from surgery.ir import Measured, Site, Space, Spec
from surgery.passes import constrain, explain, solve
from surgery.source import Source
from surgery.units import BYTES, NUMBER, PARAMS

F = Formulas()

CONFLICT = Source(
    "toy.surg",
    "require @size  params <= 3000 params\n"
    "require @sight count(layers where attention is full) >= 3 layers\n"
    "require @calm  damage <= 0.5\n"
    "minimize damage\n",
)


def conflicting() -> tuple[Spec, Space, Measured]:
    """Four layers that cannot be small, full-sighted and unharmed at once."""
    layers = [
        {
            Site.ATTENTION: [attention("full", 300, 0.0), attention("noop", 0, 0.125 + n / 16)],
            Site.FFN: [ffn("64", 400, 0.0), ffn("32", 200, 0.125 + n / 32)],
        }
        for n in range(4)
    ]
    f = Formulas(CONFLICT)
    size = f.compare(f.metric("params"), "<=", f.number(3000, PARAMS), "params <= 3000 params")
    sight = f.compare(
        f.count(f.test("attention", "full")),
        ">=",
        f.number(3, unit="layers"),
        "count(layers where attention is full) >= 3 layers",
    )
    calm = f.compare(f.score(), "<=", f.number(0.5), "damage <= 0.5")
    spaced = [(e, t) for e, t in ((size, "@size"), (sight, "@sight"), (calm, "@calm"))]
    slack = ("@slack", F.compare(F.metric("weights"), ">=", F.number(1, BYTES)))
    space, measured = toy_space(layers)
    spec = toy_spec(
        *((t, _spanned(f, e)) for e, t in spaced),
        slack,
        objective=f.score(text="damage"),
        source=CONFLICT,
    )
    return spec, space, measured


def _spanned(f: Formulas, expr: Expr) -> Expr:
    """Gives the operands of a comparison the spans of its two halves."""
    assert isinstance(expr, Compare)
    left, _, right = expr.span.text.rpartition(expr.rest[0][0])
    first = replace(expr.first, span=f.span(left.strip()))
    limit = replace(expr.rest[0][1], span=f.span(right.strip()))
    return replace(expr, first=first, rest=((expr.rest[0][0], limit),))


def test_infeasible_names_a_minimal_conflict_and_its_best_values() -> None:
    spec, space, measured = conflicting()
    sink = Sink()
    assert solve.run(problem_of(spec, space, measured), sink) is None
    (found,) = sink.found
    assert found.code.id == "E0601"
    assert found.message == "no architecture satisfies all of the requirements"
    assert [(label.span.text, label.text, label.primary) for label in found.labels] == [
        ("params <= 3000 params", "best possible with the others: 3.10K", True),
        (
            "count(layers where attention is full) >= 3 layers",
            "best possible with the others: 2 layers",
            False,
        ),
        ("damage <= 0.5", "best possible with the others: 0.5938", False),
    ]
    assert found.notes == ("these 3 of 4 requirements conflict; any 2 of them can be satisfied",)
    assert [each.text for each in found.helps] == [
        "relax `@size` to what is possible",
        "or relax `@sight` to what is possible",
        "or relax `@calm` to what is possible",
    ]
    fixes = [each.fix for each in found.helps if each.fix]
    assert {fix.safety for fix in fixes} == {Safety.DISPLAY}
    assert [(e.span.text, e.text) for fix in fixes for e in fix.edits] == [
        ("3000 params", "3.10K params"),
        ("3 layers", "2 layers"),
        ("0.5", "0.5938"),
    ]


def test_requirements_without_labels_are_named_by_line_and_text() -> None:
    spec, space, measured = conflicting()
    bare = tuple(
        replace(r, label=None, span=r.expr.span) if r.label in ("@size", "@sight") else r
        for r in spec.requirements
    )
    sink = Sink()
    assert solve.run(problem_of(replace(spec, requirements=bare), space, measured), sink) is None
    assert [each.text for each in sink.found[0].helps] == [
        "relax the requirement in line 1 to what is possible",
        "or relax the requirement in line 2 to what is possible",
        "or relax `@calm` to what is possible",
    ]


@given(options(), st.lists(requirements(), min_size=2, max_size=4))
@SLOW
def test_conflicts_are_minimal_and_best_values_attained(
    layers: list[dict[Site, list[Option]]], wishes: list[Expr]
) -> None:
    space, measured = toy_space(layers)
    spec = toy_spec(*wishes)
    problem = constrain.run(spec, space, measured, Sink())
    if problem is None or best_by_force(spec, space, measured) is not None:
        return
    found = explain.conflict(problem, solve.Solver(problem.columns).minimise)
    column = {c.address: n for n, c in enumerate(space.candidates)}
    choices = [tuple(column[c.address] for c in chosen) for chosen in assignments(space)]
    contexts = [child(spec, space, measured, chosen) for chosen in assignments(space)]
    holds = [[satisfies(c, r.expr) for c in contexts] for r in spec.requirements]

    def possible(indices: Sequence[int]) -> list[int]:
        return [n for n in range(len(choices)) if all(holds[i][n] for i in indices)]

    assert not possible(found.requirements)
    for index, best, complete in zip(found.requirements, found.best, found.complete, strict=True):
        assert possible([n for n in found.requirements if n != index])
        if best is None:
            continue
        within = range(len(wishes)) if complete else found.requirements
        others = possible([n for n in within if n != index])
        clauses = [c for c in problem.clauses if c.requirement == index]
        if len(clauses) > 1:
            continue
        (clause,) = clauses
        assert choices.index(best.chosen) in others
        if best.clause.unit == "exceptions" or clause.op not in ("<=", ">="):
            continue
        # The value is reached, and nothing that keeps the others comes nearer to the limit.
        active = [problem.columns.active(choices[n]) for n in others]
        reached = [value for a in active if (value := clause.value.at(a)) is not None]
        assert best.value == (min(reached) if clause.op == "<=" else max(reached))
        assert clause.value.at(problem.columns.active(best.chosen)) == best.value


def test_a_requirement_that_fails_alone_is_a_conflict_of_one() -> None:
    space, measured = toy_space(varied(2))
    spec = toy_spec(
        ("@tiny", F.compare(F.metric("params"), "<=", F.number(1001, PARAMS))),
        ("@calm", F.compare(F.score(), "<=", F.number(0.5))),
    )
    sink = Sink()
    assert solve.run(problem_of(spec, space, measured), sink) is None
    (found,) = sink.found
    assert found.notes == ("no other requirement is in its way",)
    assert len(found.labels) == 1


def test_exceptions_and_layers_are_counted() -> None:
    space, measured = toy_space(varied(2))
    full = F.compare(F.count(F.test("attention", "full")), ">=", F.number(2, unit="layers"))
    wide = F.fold("every", F.compare(F.fact("width"), ">=", F.number(64)))
    size = F.compare(F.metric("params"), "<=", F.number(2000, PARAMS))

    def best(*wishes: tuple[str, Expr]) -> dict[str, str]:
        problem = problem_of(toy_spec(*wishes), space, measured)
        found = explain.conflict(problem, solve.Solver(problem.columns).minimise)
        return {b.clause.label: b.text for b in found.best if b is not None}

    # 1000 fixed, attention 300 and 307, FFN 900 and 913 at full width, 230 and 233 at 16.
    assert best(("@size", size), ("@wide", wide)) == {"@size": "2.82K", "@wide": "2 exceptions"}
    looser = F.compare(F.metric("params"), "<=", F.number(2200, PARAMS))
    assert best(("@size", looser), ("@wide", wide)) == {"@size": "2.82K", "@wide": "1 exception"}
    assert best(("@size", size), ("@full", full)) == {"@size": "2.07K", "@full": "1 layer"}
    # Both pairs conflict: the filter drops the first requirement it can do without, and what
    # would be enough for `@size` counts the one that it dropped, too.
    assert best(("@wide", wide), ("@size", size), ("@full", full)) == {
        "@size": "3.42K",
        "@full": "1 layer",
    }


def test_best_ratio_is_exact() -> None:
    """`best possible` of a ratio of two choice-dependent sums takes more than one linear solve."""
    layers = [
        {Site.FFN: [Option("64", None, 10 + n, 0.0, weights=50 - n, changed=False),
                    Option("32", None, 9 - n, 0.1, weights=30 + 5 * n),
                    Option("16", None, 3 + 2 * n, 0.2, weights=9 + n)]}
        for n in range(3)
    ]  # fmt: skip
    space, measured = toy_space(layers)
    ratio = F.arith(F.metric("params"), "/", F.metric("weights"))
    spec = toy_spec(F.compare(ratio, ">=", F.number(0.9, NUMBER, "x")))
    problem = problem_of(spec, space, measured)
    found = explain.conflict(problem, solve.Solver(problem.columns).minimise)
    values = [
        evaluate.number(ratio, child(spec, space, measured, chosen))
        for chosen in assignments(space)
    ]
    (best,) = found.best
    assert best is not None
    assert best.value == max(values)
