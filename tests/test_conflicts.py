"""200 generated specs that nothing satisfies: each conflict is minimal, each best value possible.

The generator draws limits from what single children come to, so that each requirement can be kept
and all together cannot. What is claimed is held against solves of specs that state it: without
a member, with the limit at the best value, a hair tighter, and as printed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property

import pytest
from msgspec.structs import replace
from solving_fixtures import NOWHERE, Formulas, Option, attention, ffn, toy_space, toy_spec

from surgery.diagnostics import Sink
from surgery.expr import Compare, Expr, Logic, Number
from surgery.ir import Measured, Requirement, Site, Space, Spec
from surgery.passes import constrain, explain, solve
from surgery.passes.constrain import Problem
from surgery.passes.explain import Best, Conflict
from surgery.units import BYTES, NUMBER, PARAMS, UNITS, factor

F = Formulas()
HAIR = Fraction(1, 10**12)
_UNIT = "|".join(map(re.escape, UNITS))
_LITERAL = re.compile(rf"([0-9.]+(?:e-[0-9]+)?) ?([KMBT]?) ?({_UNIT})?")


class Case:
    """One space with its spec, and whether other requirements of it can be kept."""

    def __init__(self, spec: Spec, space: Space, measured: Measured) -> None:
        self.spec, self.space, self.measured = spec, space, measured

    @cached_property
    def whole(self) -> Problem:
        """The problem of the spec as it is."""
        found = self.problem(self.spec.requirements)
        assert found is not None
        return found

    def problem(self, requirements: Sequence[Requirement]) -> Problem | None:
        """`None` where a requirement is false whatever is chosen."""
        spec = replace(self.spec, requirements=tuple(requirements))
        return constrain.run(spec, self.space, self.measured, Sink())

    def possible(self, requirements: Sequence[Requirement]) -> bool:
        problem = self.problem(requirements)
        if problem is None:
            return False
        found = solve.Solver(problem.columns).minimise(problem.rows, explain.constant(0))
        return found.status == "optimal"

    def conflict(self) -> Conflict | None:
        """The explained conflict; `None` for a spec that something satisfies."""
        if self.problem(self.spec.requirements) is None:
            return None
        solver = solve.Solver(self.whole.columns)
        if solver.minimise(self.whole.rows, explain.constant(0)).status != "infeasible":
            return None
        return explain.conflict(self.whole, solver.minimise)


# ---- generated -------------------------------------------------------------------------------


def _space(draw: random.Random) -> tuple[Space, Measured]:
    texts = ("window(32)", "noop", "kv_heads(2)")
    layers: list[dict[Site, list[Option]]] = []
    for _ in range(draw.randint(2, 4)):
        sites: dict[Site, list[Option]] = {}
        kinds = draw.choice([[Site.ATTENTION], [Site.FFN], [Site.ATTENTION, Site.FFN]])
        if Site.ATTENTION in kinds:
            edits = draw.sample(texts, draw.randint(1, 2))
            sites[Site.ATTENTION] = [attention("full", draw.randint(200, 400), 0.0)] + [
                attention(t, draw.randint(0, 200), draw.random()) for t in sorted(edits)
            ]
        if Site.FFN in kinds:
            sites[Site.FFN] = [ffn("64", draw.randint(300, 600), 0.0)] + [
                ffn(t, draw.randint(0, 300), draw.random()) for t in ("32", "noop")
            ]
        layers.append(sites)
    return toy_space(layers)


def _wish(draw: random.Random) -> Expr:
    """One requirement of a kind that conflicts with others, its limit drawn."""
    kv, kv_parent = F.metric("kv", tokens=64), F.metric("kv", tokens=64, parent=True)
    full = F.count(F.test("attention", "full"))
    layers = F.number(draw.randint(1, 3), unit="layers")
    tight = F.number(Fraction(draw.randint(45, 75), 100), unit="%")
    calm = F.number(Fraction(draw.randint(1, 40), 100))
    narrow = F.compare(F.fact("width"), "<=", F.number(32))
    size = F.number(draw.randint(1400, 2400), PARAMS)
    op, share = draw.choice(["<=", ">="]), Fraction(draw.randint(30, 70), 100)
    made = (
        lambda: F.compare(F.metric("params"), draw.choice(["<=", "<"]), size),
        lambda: F.compare(
            F.metric("weights"), "<=", F.arith(tight, "*", F.metric("weights", parent=True))
        ),
        lambda: F.compare(F.arith(kv, "/", kv_parent), "<=", tight),
        lambda: F.compare(
            F.arith(F.metric("weights"), "/", F.memory("chat")), op, F.number(share, NUMBER, "x")
        ),
        lambda: F.compare(F.memory("chat"), "<=", F.number(draw.randint(4000, 9000), BYTES)),
        lambda: F.compare(F.score(), "<=", calm),
        lambda: F.compare(F.score(), "<=", calm),
        lambda: F.compare(full, draw.choice([">=", ">", "==", "<="]), layers),
        lambda: F.fold("every", F.test("attention", "full")),
        lambda: F.no(F.fold("some", F.test("ffn", "noop"))),
        lambda: F.fold("some", narrow),
        lambda: F.compare(F.fold("min", F.fact("width")), ">=", F.number(32)),
        lambda: F.compare(F.fold("sum", F.fact("width")), ">=", F.number(160)),
        lambda: F.both(
            F.compare(F.metric("params"), "<=", size),
            F.compare(full, ">=", layers),
        ),
    )
    return draw.choice(made)()


def _cases(seeds: range, count: int) -> Iterator[tuple[Case, Conflict]]:
    """The first `count` infeasible specs that the seeds draw, with their explanations."""
    for seed in seeds:
        draw = random.Random(seed)
        space, measured = _space(draw)
        case = Case(toy_spec(*(_wish(draw) for _ in range(draw.randint(2, 4)))), space, measured)
        found = case.conflict()
        if found is not None:
            yield case, found
            count -= 1
        if count == 0:
            return
    raise AssertionError("the generator draws too few infeasible specs")


# ---- held against solves ---------------------------------------------------------------------


def _with_limit(case: Case, index: int, best: Best, limit: Fraction) -> list[Requirement]:
    """All requirements of the spec, the clause of `best` with another number as its limit."""

    def limited(expr: Expr) -> Expr:
        if isinstance(expr, Logic):
            number = next(n for n, c in enumerate(own) if c.value == best.clause.value)
            parts = (limited(o) if n == number else o for n, o in enumerate(expr.operands))
            return replace(expr, operands=tuple(parts))
        assert isinstance(expr, Compare)
        number = Number(NOWHERE, limit, expr.first.dimension, best.clause.unit)
        return replace(expr, rest=((expr.rest[0][0], number),))

    problem = case.whole
    own = [c for c in problem.clauses if c.requirement == index]
    found = list(case.spec.requirements)
    found[index] = replace(found[index], expr=limited(found[index].expr))
    return found


def _copied(best: Best) -> Fraction:
    """The value of the printed limit, read as a spec reads it."""
    assert best.asked is not None
    found = _LITERAL.fullmatch(best.asked)
    assert found is not None, best.asked
    return Fraction(found[1]) * factor(found[2], found[3] or "")


def _check_exceptions(case: Case, index: int, best: Best) -> None:
    """So many layers break it, and no fewer do."""
    problem = case.whole
    place = next(n for n, c in enumerate(problem.clauses) if c.requirement == index)
    clause, solver = problem.clauses[place], solve.Solver(problem.columns)
    first, *more = clause.rows
    if more:
        return
    rest = [r for n, c in enumerate(problem.clauses) if n != place for r in c.rows]
    miss = first.at(problem.columns.active(best.chosen))
    for allowed, status in ((miss, "optimal"), (miss - HAIR, "infeasible")):
        row = first.plus(explain.constant(allowed), -1)
        assert solver.minimise([*rest, row], problem.goal).status == status


def _check_best(case: Case, index: int, best: Best) -> None:
    """The limit can be what is said to be possible, and nothing between that and what it was."""
    compared = isinstance(case.spec.requirements[index].expr, Compare | Logic)
    if not compared or best.clause.unit == "exceptions":
        _check_exceptions(case, index, best)
        return
    strict, value = best.clause.op in ("<", ">"), best.value
    up = best.clause.op in ("<=", "<")
    outward = HAIR if up else -HAIR
    assert case.possible(_with_limit(case, index, best, value + (outward if strict else 0)))
    if best.clause.op != "==":
        tighter = value if strict else value - outward
        assert not case.possible(_with_limit(case, index, best, tighter))
    if best.asked is not None and (strict or _copied(best) != value):
        assert case.possible(_with_limit(case, index, best, _copied(best)))


@pytest.mark.parametrize("part", range(4))
def test_conflicts_are_minimal_and_their_best_values_are_possible(part: int) -> None:
    kinds: set[tuple[str, str]] = set()
    for case, found in _cases(range(1000 * part, 1000 * part + 1000), 50):
        members = [case.spec.requirements[n] for n in found.requirements]
        assert not case.possible(members)
        for place, index in enumerate(found.requirements):
            assert case.possible(members[:place] + members[place + 1 :])
            best = found.best[place]
            if best is not None and found.complete[place]:
                _check_best(case, index, best)
                kinds.add((best.clause.op, best.clause.unit))
    assert len(kinds) >= 8
