"""A solved problem and its plan -> the numbers that the plan prints, exactly.

In: a problem, the chosen candidates, the plan of them. Out: `Figure`s by the addresses that
`plan.data` gives them. Not here: times, which are predicted and have a band, not an exact value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from surgery.figures import Figure, exact
from surgery.ir import Candidate, Plan
from surgery.passes.constrain import Problem
from surgery.units import BYTES, NUMBER, PARAMS, Dimension, format_tokens


def run(problem: Problem, chosen: Sequence[Candidate], plan: Plan) -> Mapping[str, Figure]:
    """Objective, sizes, scores, and both sides of every requirement."""
    index = {c.address: n for n, c in enumerate(problem.columns.candidates)}
    active = problem.columns.active(index[c.address] for c in chosen)
    worth = problem.objective.at(active)
    dimension = problem.spec.objective.expr.dimension
    found = {"objective": exact(plan.objective[1], worth, dimension)}
    texts = dict(plan.metrics)
    for name, value, kind in (*_sizes(problem, chosen), *_scores(problem, chosen)):
        found[f"metric.{name}"] = exact(texts[name], value, kind)
    # Plans have their requirements by label; those of one label stay in order.
    clauses = sorted(problem.clauses, key=lambda clause: clause.label)
    for number, (clause, told) in enumerate(zip(clauses, plan.requirements, strict=True)):
        sides = (("value", clause.value, told.value), ("limit", clause.limit, told.limit))
        for side, form, text in sides:
            value = form.at(active)
            if value is not None:
                found[f"require.{number}.{side}"] = exact(text, value, clause.dimension)
    return found


def _sizes(
    problem: Problem, chosen: Sequence[Candidate]
) -> Iterator[tuple[str, Fraction, Dimension]]:
    space = problem.columns.space
    costs = (space.fixed, *(c.cost for c in chosen))
    context = space.model.context
    yield "params", Fraction(sum(cost.params for cost in costs)), PARAMS
    yield "weights", Fraction(sum(cost.weights for cost in costs)), BYTES
    kv = Fraction(sum(cost.kv_bytes(context) for cost in costs))
    yield f"kv@{format_tokens(context)}", kv, BYTES


def _scores(
    problem: Problem, chosen: Sequence[Candidate]
) -> Iterator[tuple[str, Fraction, Dimension]]:
    for score, damage in problem.measured.damage.items():
        yield score, sum((Fraction(damage[c.address]) for c in chosen), Fraction(0)), NUMBER
