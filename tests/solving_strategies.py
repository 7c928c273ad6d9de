"""Spaces and requirements at random, and their optimum by brute force."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from solving_fixtures import Formulas, Option, assignments, attention, child, ffn, satisfies

from surgery import evaluate
from surgery.diagnostics import Sink
from surgery.expr import Expr
from surgery.ir import Candidate, Measured, Site, Space, Spec
from surgery.passes import constrain, solve
from surgery.units import BYTES, PARAMS

F = Formulas()
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def problem_of(spec: Spec, space: Space, measured: Measured) -> constrain.Problem:
    sink = Sink()
    problem = constrain.run(spec, space, measured, sink)
    assert problem is not None, sink.found
    return problem


# ---- spaces and requirements at random -------------------------------------------------------

ATTENTION = ("full", "window(32)", "noop", "kv_heads(2)")
FFN = ("64", "32", "16", "noop")


@st.composite
def options(draw: st.DrawFn) -> list[dict[Site, list[Option]]]:
    """One to three layers of one to three alternatives per site."""
    layers: list[dict[Site, list[Option]]] = []
    damage = st.one_of(st.sampled_from([0.0, 0.5, 0.25]), st.floats(0, 1, allow_subnormal=False))
    for _ in range(draw(st.integers(1, 3))):
        sites: dict[Site, list[Option]] = {}
        for site, texts, make in ((Site.ATTENTION, ATTENTION, attention), (Site.FFN, FFN, ffn)):
            chosen = draw(st.lists(st.sampled_from(texts), min_size=1, max_size=3, unique=True))
            sites[site] = [
                make(t, draw(st.integers(0, 200)), 0.0 if t in ("full", "64") else draw(damage))
                for t in sorted(chosen, key=texts.index)
            ]
        layers.append(sites)
    return layers


def layer_tests() -> st.SearchStrategy[Expr]:
    """Predicates about one layer of the result; some concern both of its sites."""
    simple = st.sampled_from(
        [
            F.test("attention", "full"),
            F.test("attention", "noop"),
            F.test("ffn", "noop", negated=True),
            F.compare(F.fact("width"), "<=", F.number(32)),
            F.compare(F.fact("kv_heads"), ">=", F.number(3)),
            F.compare(F.fact("index"), "<", F.number(1)),
        ]
    )
    pairs = st.tuples(simple, simple)
    return st.one_of(simple, pairs.map(lambda p: F.both(*p)), pairs.map(lambda p: F.either(*p)))


def requirements() -> st.SearchStrategy[Expr]:
    """Every kind of requirement that lowers to rows, with limits around what can be reached."""
    share = st.integers(0, 20).map(lambda n: F.number(Fraction(n, 20), unit="%"))
    op = st.sampled_from(["<=", ">="])
    counts = st.tuples(
        layer_tests(), st.sampled_from(["<=", ">=", "==", "<", ">"]), st.integers(0, 3)
    )
    size = st.tuples(op, st.integers(1000, 1900))
    widths = st.tuples(st.sampled_from(["min", "max"]), op, st.sampled_from([0, 16, 32, 64]))
    parent = F.metric("params", parent=True)
    kv, kv_parent = F.metric("kv", tokens=64), F.metric("kv", tokens=64, parent=True)
    return st.one_of(
        size.map(lambda s: F.compare(F.metric("params"), s[0], F.number(s[1], PARAMS))),
        share.map(
            lambda n: F.compare(
                F.metric("weights"), "<=", F.arith(n, "*", F.metric("weights", parent=True))
            )
        ),
        share.map(lambda n: F.compare(F.arith(kv, "/", kv_parent), "<=", n)),
        share.map(
            lambda n: F.compare(F.arith(F.metric("params"), "/", F.metric("weights")), ">=", n)
        ),
        st.integers(2000, 9000).map(
            lambda n: F.compare(F.memory("chat"), "<=", F.number(n, BYTES))
        ),
        st.floats(0, 2).map(lambda d: F.compare(F.score(), "<=", F.number(d))),
        counts.map(lambda c: F.compare(F.count(c[0]), c[1], F.number(c[2], unit="layers"))),
        layer_tests().map(lambda t: F.fold("every", t)),
        layer_tests().map(lambda t: F.no(F.fold("every", t))),
        layer_tests().map(lambda t: F.fold("some", t)),
        st.integers(0, 160).map(
            lambda n: F.compare(F.fold("sum", F.fact("width")), ">=", F.number(n))
        ),
        widths.map(lambda w: F.compare(F.fold(w[0], F.fact("width")), w[1], F.number(w[2]))),
        st.integers(1000, 1900).map(
            lambda n: F.both(
                F.compare(F.metric("params"), ">=", F.number(n, PARAMS)),
                F.compare(F.metric("params"), "<=", parent),
            )
        ),
    )


def best_by_force(
    spec: Spec, space: Space, measured: Measured
) -> tuple[Fraction, tuple[Candidate, ...]] | None:
    """The optimum and the canonical choice, by trying everything."""
    column = {c.address: n for n, c in enumerate(space.candidates)}
    sign = -1 if spec.objective.sense == "maximize" else 1
    found: list[tuple[Fraction, tuple[Candidate, ...]]] = []
    for chosen in assignments(space):
        context = child(spec, space, measured, chosen)
        if all(satisfies(context, r.expr) for r in spec.requirements):
            found.append((sign * evaluate.number(spec.objective.expr, context), chosen))
    if not found:
        return None
    least = min(value for value, _ in found)
    ties = [item for item in found if item[0] <= least + abs(least) * solve.TIE]

    def rule(item: tuple[Fraction, tuple[Candidate, ...]]) -> tuple[int, int]:
        chosen = item[1]
        return (sum(c.changed for c in chosen), sum(column[c.address] ** 2 for c in chosen))

    value, chosen = min(ties, key=rule)
    return sign * value, chosen


def varied(count: int, scale: float = 1.0) -> list[dict[Site, list[Option]]]:
    """Layers of two sites whose damages and sizes have no pattern."""
    return [
        {
            Site.ATTENTION: [
                attention("full", 300 + 7 * n, 0.0),
                attention("window(32)", 300 + 7 * n, scale * (0.013 + (n * 37 % 11) / 97)),
                attention("noop", 0, scale * (0.31 + (n * 53 % 17) / 41)),
            ],
            Site.FFN: [
                ffn("64", 900 + 13 * n, 0.0),
                ffn("32", 450 + 6 * n, scale * (0.043 + (n * 29 % 13) / 53)),
                ffn("16", 230 + 3 * n, scale * (0.11 + (n * 31 % 7) / 23)),
            ],
        }
        for n in range(count)
    ]
