"""Several plans of one spec: a pool of plans that differ, a plan for every value of an input.

In: a path and `Options`, like `pipeline.py`, and what to vary. Out: plans, or `None` when an error
was reported. Not here: tables of them (`report.py`), files (`commands/plan.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Severity, Sink
from surgery.pipeline import (
    Halt,
    Options,
    Planned,
    Posed,
    Run,
    answered,
    checked,
    pose,
    recorded,
)

_RANGE = re.compile(r"([0-9.]+)(\D*)\.\.([0-9.]+?)(\D*)/(\d{1,3})")
_GROUNDS = ("model", "machines", "scenarios", "datasets", "scores", "choices", "not_yet", "facets")
"""What a space and its measurements depend on, of a spec."""


class Sweep(Struct, frozen=True):
    """An input and the texts of the values to give it, ascending or descending."""

    name: str
    values: tuple[str, ...]


class Point(Struct, frozen=True):
    """A plan at one value of the input; `None` where no architecture satisfies the spec."""

    value: str
    planned: Planned | None


def parse_sweep(text: str) -> Sweep | None:
    """`share=60%..90%/16`: 16 values from 60% to 90%; `None` for anything else.

    Where both ends are written as whole numbers without a unit, so are all values.
    """
    name, _, rest = text.partition("=")
    found = _RANGE.fullmatch(rest.replace(" ", ""))
    if found is None or not name.strip():
        return None
    first, unit, last, last_unit, count = found.groups()
    try:
        low, high, points = Fraction(first), Fraction(last), int(count)
    except ValueError:
        return None
    if points < 2 or low == high or (unit or last_unit) != last_unit:
        return None
    whole = not last_unit and "." not in first + last
    steps = (low + (high - low) * n / (points - 1) for n in range(points))
    texts = (str(round(step)) if whole else _decimal(step) + last_unit for step in steps)
    return Sweep(name.strip(), tuple(dict.fromkeys(texts)))


def _decimal(value: Fraction) -> str:
    """Up to six decimals, no more than are needed."""
    text = f"{float(value):.6f}"
    return text.rstrip("0").rstrip(".")


def pool(
    path: str, sink: Sink, options: Options, count: int, distance: int
) -> tuple[Planned, ...] | None:
    """Up to `count` plans, best first, that differ pairwise in at least `distance` layers."""
    from surgery.passes import advise
    from surgery.passes import pool as pool_pass

    run = Run(sink, options)
    try:
        posed = pose(path, run)
        # Where batches are to fit, all plans are for those that suit the optimum.
        problem = answered(posed, run).problem
        arguments = (problem, count, distance, sink, options.proof)
        found = run.step("pool", lambda: pool_pass.run(*arguments))
        run.ensure("advise", lambda: advise.run(problem, found[0].chosen, sink))
        return tuple(recorded(posed, problem, solution, run) for solution in found)
    except Halt:
        return None


def sweep(path: str, sink: Sink, options: Options, over: Sweep) -> tuple[Point, ...] | None:
    """A plan for every value of an input.

    What only requirements and the objective depend on is worked out once, and the multipliers of
    one point begin the next. Reports the findings of the first plan, and errors of any point that
    are not conflicts of requirements (E0601); with conflicts everywhere, those of the last.
    """
    points: list[Point] = []
    known: Posed | None = None
    warm: tuple[float, ...] = ()
    conflict: tuple[Diagnostic, ...] = ()
    for value in over.values:
        told = Sink()
        run = Run(told, replace(options, settings={**options.settings, over.name: value}))
        try:
            known, planned, warm = _point(path, run, known, warm)
        except Halt:
            errors = {d.code for d in told.found if d.severity is Severity.ERROR}
            if errors != {catalog.E0601}:
                _report(sink, told.found)
                return None
            points.append(Point(value, None))
            conflict = tuple(told.found)
            continue
        if all(point.planned is None for point in points):
            _report(sink, told.found)
        points.append(Point(value, planned))
    if all(point.planned is None for point in points):
        _report(sink, conflict)
        return None
    return tuple(points)


def _point(
    path: str, run: Run, known: Posed | None, warm: Sequence[float]
) -> tuple[Posed, Planned, tuple[float, ...]]:
    from surgery.passes import advise

    posed = pose(path, run) if known is None else _posed_again(path, run, known)
    answer = answered(posed, run, warm)
    problem, solution = answer.problem, answer.solution
    if known is None:
        run.ensure("advise", lambda: advise.run(problem, solution.chosen, run.sink))
    return posed, recorded(posed, problem, solution, run), solution.prices


def _posed_again(path: str, run: Run, known: Posed) -> Posed:
    """The question for another value: only the wishes again, where nothing else has changed."""
    from surgery import evaluate
    from surgery.passes import fit

    spec = checked(path, run)
    if any(getattr(spec, part) != getattr(known.spec, part) for part in _GROUNDS):
        return pose(path, run)
    space, sink = known.space, run.sink
    run.ensure("expect", lambda: evaluate.expects(spec, space.model, sink))
    run.ensure("fit", lambda: fit.run(spec, space.model, sink))
    return replace(known, spec=spec)


def _report(sink: Sink, found: Sequence[Diagnostic]) -> None:
    for diagnostic in found:
        sink.report(diagnostic)
