"""A solution -> what its user should know about it before it is carried out.

In: a problem and its verified solution. Out: warnings: requirements that hold by less than the
measurement or the model can tell (W0706), and layers whose KV caches share pages poorly (W0802,
`pages.py`). Changes nothing. Not here: warnings that need no solution (`rules/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import isinf, sqrt

from msgspec.structs import replace

from surgery import catalog, evaluate
from surgery.affine import walk
from surgery.costing.trust import Trust
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.expr import Compare, Expr, Logic, Metric, ScoreTotal
from surgery.facts import Context
from surgery.ir import Candidate, Measured, Requirement, Spec
from surgery.passes import estimates, pages
from surgery.passes.constrain import Problem
from surgery.units import significant


def run(problem: Problem, chosen: Sequence[Candidate], sink: Sink) -> None:
    """Report what is doubtful about the chosen child (one candidate per site)."""
    columns = {c.address: column for column, c in enumerate(problem.columns.candidates)}
    child = problem.result([columns[c.address] for c in chosen])
    for requirement in problem.spec.requirements:
        sink.extend(_tight(requirement, child, chosen, problem.measured))
        sink.extend(_uncertain(problem.spec, requirement, child))
    sink.extend(pages.findings(problem.spec, problem.columns.space, child.layers, chosen))


# ---- slack and noise -------------------------------------------------------------------------


def _tight(
    requirement: Requirement, child: Context, chosen: Sequence[Candidate], measured: Measured
) -> Iterator[Diagnostic]:
    for left, right in _comparisons(requirement.expr):
        names = sorted({s.score for side in (left, right) for s in _scores(side)})
        noise = _noise(left, right, names, child, chosen, measured)
        value, limit = evaluate.number(left, child), evaluate.number(right, child)
        slack = abs(limit - value)
        if not names or noise is None or slack >= noise:
            continue
        name = f"`@{requirement.label}`" if requirement.label else "a requirement"
        scores = " and ".join(f"`{each}`" for each in names)
        shown = value if _scores(left) else limit
        here = f"{significant(shown)} in this plan: {significant(slack)} to spare"
        yield Diagnostic(
            catalog.W0706,
            f"{name} holds by less than the noise of {scores}",
            (Label(left.span.to(right.span), here, primary=True),),
            notes=(f"the standard error of what is measured here is {significant(noise)}",),
            helps=(Help("measure on more samples, or leave a margin of the standard error"),),
        )


def _uncertain(spec: Spec, requirement: Requirement, child: Context) -> Iterator[Diagnostic]:
    """W0706 for a time that is nearer to its limit than it is known.

    Not where the parent's own is on the other side: what is wrong in both cancels.
    """
    for part in walk(requirement.expr):
        if not isinstance(part, Compare) or len(part.rest) != 1:
            continue
        (_, right), left = part.rest[0], part.first
        times = [m for m in walk(part) if isinstance(m, Metric) and m.name in estimates.TIMED]
        if not times or any(metric.parent for metric in times):
            continue
        value, limit = evaluate.number(left, child), evaluate.number(right, child)
        found = [estimates.trusted(spec, child, metric) for metric in times]
        worst = max(found, key=lambda each: each.band)
        # A time that may be twice as long is half of its limit, a rate half of it is twice that.
        least = min(abs(value), abs(limit))
        if not least or abs(float((limit - value) / least)) >= worst.band:
            continue
        name = f"`@{requirement.label}`" if requirement.label else "a requirement"
        slack = f"{float(abs((limit - value) / limit)):.1%}"
        yield Diagnostic(
            catalog.W0706,
            f"{name} holds by less than the error of {worst.least} times",
            (Label(part.span, f"{slack} to spare in this plan", primary=True),),
            notes=(_known(worst),),
            helps=(Help("leave a margin, or compare with the same of the parent"),),
        )


def _known(trust: Trust) -> str:
    if isinf(trust.band):
        return f"nobody has said how far {trust.least} times are off: {trust.long}"
    predictions = "predictions of a time" if trust.least == "modelled" else "such times"
    return f"nine in ten {predictions} are nearer than {trust.band:.0%}"


def _comparisons(expr: Expr) -> Iterator[tuple[Expr, Expr]]:
    """The sides of every comparison that has to hold, in one file and about scores."""
    match expr:
        case Compare():
            left = expr.first
            for _, right in expr.rest:
                if left.span.source is right.span.source and (_scores(left) or _scores(right)):
                    yield left, right
                left = right
        case Logic(op="and"):
            for operand in expr.operands:
                yield from _comparisons(operand)
        case _:
            return


def _scores(expr: Expr) -> tuple[ScoreTotal, ...]:
    return tuple(part for part in walk(expr) if isinstance(part, ScoreTotal))


def _noise(
    left: Expr,
    right: Expr,
    names: Sequence[str],
    child: Context,
    chosen: Sequence[Candidate],
    measured: Measured,
) -> float | None:
    """The standard error of the difference of two sides; `None` where it is not known.

    Errors of blocks and scores are added in squares, as if they were independent. Blocks are
    measured on the same samples, so it is more rather than less.
    """
    total = 0.0
    for name in names:
        errors = measured.errors.get(name, {})
        changed = [c for c in chosen if c.changed and measured.damage[name][c.address]]
        if any(c.address not in errors for c in changed):
            return None
        weight = _difference(left, right, child, {name: 1}) - _difference(left, right, child, {})
        total += float(weight) ** 2 * sum(errors[c.address] ** 2 for c in changed)
    return sqrt(total)


def _difference(left: Expr, right: Expr, child: Context, more: Mapping[str, int]) -> Fraction:
    scores = {name: value + more.get(name, 0) for name, value in (child.scores or {}).items()}
    moved = replace(child, scores=scores)
    return evaluate.number(left, moved) - evaluate.number(right, moved)
