"""A solved problem -> what its requirements cost: the optimum again with one limit moved.

In: a problem and its solution. Out: one `Price` per requirement that can be moved by a step: what
the best plan is worth with the limit a step looser, and a step tighter. Each is a solve of its
own, so it is what moving the limit would do and no derivative: with whole alternatives the
multipliers of the LP relaxation can be far from it. As data and as text. Not here: `every`,
`some`, `min` and `max`, of which there is no little more, and strict limits.

A step is 1 % of the limit, or the least by which values can differ where that is more; one layer
where layers are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from surgery.figures import plain
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solution, Solver
from surgery.passes.why import signed, worth
from surgery.solving.linear import Clause, Linear, Ratio, constant, granularity
from surgery.units import Dimension, significant
from surgery.views.table import table

_STEP = Fraction(1, 100)


class Moved(Struct, frozen=True):
    """The optimum with a limit moved: no plan is worth more than `bound`, in the user's sense.

    Both are `None` where there is no plan, or where time ran out before that was `settled`.
    """

    objective: Fraction | None
    bound: Fraction | None
    settled: bool = True


class Price(Struct, frozen=True):
    """One comparison of a requirement, with the limit `step` (base units) looser and tighter."""

    clause: Clause
    step: Fraction
    looser: Moved
    tighter: Moved


class Prices(Struct, frozen=True):
    """All of them, beside what the plan itself is worth and the bound of its proof."""

    found: tuple[Price, ...]
    objective: Fraction
    bound: Fraction
    dimension: Dimension


def run(problem: Problem, solution: Solution, solver: Solver, gap: float) -> Prices:
    """The prices of all requirements; every solve goes to the relative `gap` at most."""
    columns = problem.columns
    index = {c.address: column for column, c in enumerate(columns.candidates)}
    active = columns.active(index[c.address] for c in solution.chosen)
    found: list[Price] = []
    for place, clause in enumerate(problem.clauses):
        step = _step(clause, active)
        if step is None:
            continue

        def at(by: Fraction, place: int = place) -> Moved:
            return _solved(problem, solution, place, by, solver, gap)

        kept = Moved(solution.objective, solution.bound)
        # A limit that the plan keeps with more than a step to spare can be a step tighter.
        spare = all(row.at(active) <= 0 for row in _rows(clause, -step))
        found.append(Price(clause, step, at(step), kept if spare else at(-step)))
    dimension = problem.spec.objective.expr.dimension
    return Prices(tuple(found), solution.objective, solution.bound, dimension)


def _step(clause: Clause, active: frozenset[int]) -> Fraction | None:
    """What to move the limit by; `None` where that means nothing."""
    if clause.op not in ("<=", ">=") or clause.unit == "exceptions" or len(clause.rows) != 1:
        return None
    limit = clause.limit.at(active)
    if clause.unit == "layers":
        return Fraction(1)
    if not limit or not isinstance(clause.value, Linear | Ratio):
        return None
    step = abs(limit) * _STEP
    # Values that are counted move by whole counts.
    least = granularity(clause.rows[0]) if isinstance(clause.value, Linear) else Fraction(0)
    return max(step, least) if least.denominator == 1 else step


def _rows(clause: Clause, by: Fraction) -> tuple[Linear, ...]:
    """The rows of the clause with its limit looser by so much."""
    bottom = clause.value.bottom if isinstance(clause.value, Ratio) else constant(1)
    return tuple(row.plus(bottom, -by) for row in clause.rows)


def _solved(
    problem: Problem, solution: Solution, place: int, by: Fraction, solver: Solver, gap: float
) -> Moved:
    clauses = list(problem.clauses)
    clauses[place] = replace(clauses[place], rows=_rows(clauses[place], by))
    moved = replace(problem, clauses=tuple(clauses))
    found = solver.minimise(moved.rows, problem.goal, gap=gap, warm=solution.prices)
    if found.status != "optimal":
        return Moved(None, None, settled=found.status == "infeasible")
    value = problem.objective.at(problem.columns.active(found.chosen))
    sign = -1 if problem.spec.objective.sense == "maximize" else 1
    return Moved(value, value - sign * (found.value - found.bound))


def data(prices: Prices) -> list[dict[str, object]]:
    """For JSON: values and steps in base units; `null` where there is no plan."""
    return [
        {
            "label": price.clause.label,
            "step": plain(price.step),
            "unit": str(price.clause.dimension),
            "looser": plain(price.looser.objective),
            "tighter": plain(price.tighter.objective),
        }
        for price in prices.found
    ]


# ---- text ------------------------------------------------------------------------------------


def text(prices: Prices) -> str:
    """For a terminal: requirements that a step changes nothing about are named at the end."""
    idle = [price for price in prices.found if not _matters(prices, price)]
    rows = [("one limit moved, solved again", "by", "looser", "tighter")]
    rows += [tuple(_row(prices, price)) for price in prices.found if price not in idle]
    lines = [table(rows, "<>>>")] if len(rows) > 1 else []
    if idle:
        names = ", ".join(dict.fromkeys(price.clause.label for price in idle))
        lines.append(f"  a step of {names} changes nothing")
    if not prices.found:
        lines = ["  no requirement has a limit that can be moved by a step"]
    return "\n".join(lines)


def _matters(prices: Prices, price: Price) -> bool:
    return any(m.objective != prices.objective for m in (price.looser, price.tighter))


def _row(prices: Prices, price: Price) -> Iterator[str]:
    clause = price.clause
    yield f"{clause.label} {clause.op} {_limit(clause)}"
    amount = clause.shown(price.step)
    if clause.unit == "x":
        amount = f"{significant(price.step)}x"
    elif clause.unit == "layers":
        amount = f"{amount} layer"
    yield amount
    yield from (_change(prices, moved) for moved in (price.looser, price.tighter))


def _limit(clause: Clause) -> str:
    value = clause.limit
    return clause.shown(value.constant) if isinstance(value, Linear) and not value.terms else ""


def _change(prices: Prices, moved: Moved) -> str:
    """The change of the objective; two numbers where the proofs leave that much open."""
    if moved.objective is None or moved.bound is None:
        return "infeasible" if moved.settled else "not settled"
    ends = sorted({moved.bound - prices.objective, moved.objective - prices.bound})
    close = _close(ends, prices.objective)
    shown = [signed(worth(abs(end), prices.dimension), end) for end in close]
    return " to ".join(dict.fromkeys(shown))


def _close(ends: Sequence[Fraction], size: Fraction) -> list[Fraction]:
    """Ends that differ by rounding only are one; a change that is only rounding is none."""
    slack = abs(size) / 10**6
    whole = [Fraction(0) if abs(end) <= slack else end for end in ends]
    return whole[:1] if whole[-1] - whole[0] <= slack else whole
