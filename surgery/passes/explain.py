"""Why no architecture satisfies the requirements: a minimal conflict, and what would be possible.

In: a problem that has no solution, and a way to ask for least values. Out: one E0601. Not here:
the solver.

A deletion filter over the requirements, in the order of the spec, leaves a set that conflicts
while every smaller part of it does not ("one candidate per site" is never in question). HiGHS's
own irreducible systems see the LP relaxation only and would name too few. For each requirement
of the set one more solve asks for its best value with all the others kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from math import ceil, floor, log10

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.passes.constrain import Problem, label, one_line
from surgery.solving.linear import Clause, Extreme, Linear, Ratio, constant
from surgery.solving.outcome import Minimise
from surgery.units import BYTES, NUMBER, PARAMS, UNITS

_KIB = UNITS["KiB"].scale


class Best(Struct, frozen=True):
    """The best that one requirement can reach while others hold: the value, exact and printed."""

    clause: Clause
    value: Fraction
    text: str
    chosen: tuple[int, ...]
    """Candidate columns of a choice that reaches it."""
    asked: str | None = None
    """The limit to write in the spec, which this choice keeps; `None` if no short one does."""


class Conflict(Struct, frozen=True):
    """A minimal conflicting set, as indices of requirements of the spec, ascending.

    `best` gives what each can reach with all other requirements of the spec (`complete`), or
    where those conflict without it, too, with the others of the set.
    """

    requirements: tuple[int, ...]
    best: tuple[Best | None, ...]
    complete: tuple[bool, ...]


def infeasible(problem: Problem, minimise: Minimise) -> Diagnostic:
    """E0601 with the conflict, its labels and what relaxing one requirement would take."""
    found = conflict(problem, minimise)
    others = len(problem.spec.requirements) > 1
    labels = tuple(
        Label(_clause(problem, index, best).span, _text(best, others), primary=number == 0)
        for number, (index, best) in enumerate(zip(found.requirements, found.best, strict=True))
    )
    message = "no architecture satisfies all of the requirements"
    notes, helps = _notes(problem, found), _helps(problem, found)
    return Diagnostic(catalog.E0601, message, labels, notes=notes, helps=helps)


def conflict(problem: Problem, minimise: Minimise) -> Conflict:
    """The minimal conflict that the deletion filter finds, and the best value of each member."""
    kept = sorted({clause.requirement for clause in problem.clauses})
    everything = tuple(kept)
    for index in everything:
        rest = [other for other in kept if other != index]
        if minimise(_rows(problem, rest), constant(0)).status == "infeasible":
            kept = rest
    best: list[Best | None] = []
    complete: list[bool] = []
    for index in kept:
        reached = _best(problem, minimise, index, everything)
        complete.append(reached is not None)
        best.append(reached or _best(problem, minimise, index, kept))
    return Conflict(tuple(kept), tuple(best), tuple(complete))


def _rows(problem: Problem, requirements: Collection[int]) -> tuple[Linear, ...]:
    clauses = (c for c in problem.clauses if c.requirement in requirements)
    return tuple(row for clause in clauses for row in clause.rows)


def _clause(problem: Problem, index: int, best: Best | None) -> Clause:
    if best is not None:
        return best.clause
    return next(c for c in problem.clauses if c.requirement == index)


# ---- the best value of one requirement -------------------------------------------------------


def _best(
    problem: Problem, minimise: Minimise, index: int, requirements: Collection[int]
) -> Best | None:
    """The least violation of one row of a requirement with everything else kept.

    A requirement of several rows gives up one of them; the cheapest, relative to its limit, is
    what is told. `None` if giving up any one of them is not enough.
    """
    others = _rows(problem, [n for n in requirements if n != index])
    own = [c for c in problem.clauses if c.requirement == index]
    found: list[tuple[Fraction, int, Best]] = []
    for clause in own:
        siblings = tuple(row for c in own if c is not clause for row in c.rows)
        for number, row in enumerate(clause.rows):
            rest = tuple(r for n, r in enumerate(clause.rows) if n != number)
            rows = (*others, *siblings, *rest)
            if (reached := _reached(problem, minimise, clause, row, rows)) is not None:
                found.append((_miss(clause, problem, reached), len(found), reached))
    return min(found, key=lambda item: item[:2])[2] if found else None


def _reached(
    problem: Problem, minimise: Minimise, clause: Clause, row: Linear, rows: Sequence[Linear]
) -> Best | None:
    """What the clause comes to when `row` is as small as the other rows allow."""
    outcome = minimise(rows, row)
    if outcome.status != "optimal":
        return None
    chosen = outcome.chosen
    if isinstance(clause.value, Ratio):
        chosen = _best_ratio(problem, minimise, clause, rows, chosen)
    active = problem.columns.active(chosen)
    value = clause.value.at(active)
    if value is None or isinstance(clause.value, Extreme):
        # The rows of a least or greatest value count the layers beyond the limit.
        clause = replace(clause, dimension=NUMBER, unit="exceptions")
        return Best(clause, outcome.value, clause.shown(outcome.value), chosen)
    limit = clause.limit.at(active) or Fraction(0)
    text = attainable(clause, value, up=value > limit)
    return Best(clause, value, text, chosen, asked(clause, value))


def _best_ratio(
    problem: Problem,
    minimise: Minimise,
    clause: Clause,
    rows: Sequence[Linear],
    chosen: tuple[int, ...],
) -> tuple[int, ...]:
    """Dinkelbach's iteration: the extreme of a ratio as a few linear questions, exactly."""
    ratio = clause.value
    if not isinstance(ratio, Ratio):
        raise TypeError("a ratio is needed")
    sign = -1 if ratio.at(problem.columns.active(chosen)) < _limit(clause) else 1
    while True:
        value = ratio.at(problem.columns.active(chosen))
        outcome = minimise(rows, ratio.top.plus(ratio.bottom, -value).times(sign))
        if outcome.status != "optimal" or outcome.value >= 0:
            return chosen
        chosen = outcome.chosen


def _limit(clause: Clause) -> Fraction:
    return clause.limit.at(()) or Fraction(0)


def _miss(clause: Clause, problem: Problem, best: Best) -> Fraction:
    """How far a value is from its limit, relative to the limit."""
    limit = clause.limit.at(problem.columns.active(best.chosen)) or Fraction(0)
    return abs(best.value - limit) / (abs(limit) or 1)


# ---- words -----------------------------------------------------------------------------------


def attainable(clause: Clause, value: Fraction, *, up: bool) -> str:
    """A value as printed, rounded to the side on which it can be asked for."""
    rounded = _rounded(clause, value, up)
    text = clause.shown(rounded)
    if clause.unit != "layers":
        return text
    return f"{text} layer" if rounded == 1 else f"{text} layers"


def asked(clause: Clause, value: Fraction) -> str | None:
    """The limit that a spec must state for `value` to keep it: whoever copies it gets a plan.

    A strict limit is beyond the value, and an equality has one only where it prints exactly. No
    literal has a dimension such as params per byte, or a sign.
    """
    if clause.dimension != NUMBER and all(u.dimension != clause.dimension for u in UNITS.values()):
        return None
    up = clause.op in ("<=", "<")
    rounded = _rounded(clause, value, up)
    if clause.op == "==" and rounded != value:
        return None
    if clause.op in ("<", ">") and rounded == value:
        step = _step(clause, abs(value))
        rounded += step if up else -step
    return _literal(clause, rounded) if rounded >= 0 else None


def _rounded(clause: Clause, value: Fraction, up: bool) -> Fraction:
    step = _step(clause, abs(value))
    return (ceil(value / step) if up else floor(value / step)) * step


def _literal(clause: Clause, value: Fraction) -> str:
    """A value as a spec writes it."""
    text = clause.shown(value)
    if clause.unit == "layers":
        return f"{text} layers"
    if clause.dimension == PARAMS:
        return f"{text} params"
    if clause.dimension == BYTES and clause.unit != "%" and abs(value) < _KIB:
        return f"{float(value / _KIB):.10f}".rstrip("0").rstrip(".") + "KiB"
    return text


def _step(clause: Clause, size: Fraction) -> Fraction:
    """The last printed digit of a value, in base units (see `units.format_quantity`)."""
    if clause.unit == "layers":
        return Fraction(1)
    if size == 0:
        return Fraction(1, 10**6)
    if clause.unit == "x":
        return Fraction(1, 100)
    if clause.unit != "%" and clause.dimension == BYTES:
        units = [UNITS[name].scale for name in ("TiB", "GiB", "MiB", "KiB")]
        scale = next((s for s in units if size >= s), None)
        return Fraction(1) if scale is None else scale / (100 if size < 100 * scale else 10)
    if clause.dimension == PARAMS:
        scale = next((Fraction(s) for s in (10**9, 10**6, 10**3) if size >= s), None)
        return Fraction(1) if scale is None else scale / (100 if size < 1000 * scale else 1)
    if clause.dimension == NUMBER and size.denominator == 1:
        return Fraction(1)
    return Fraction(10) ** (floor(log10(size)) - 3)


def _text(best: Best | None, others: bool) -> str:
    if best is None:
        return "cannot hold with the others" if others else "cannot hold"
    if best.clause.unit == "exceptions" and best.value > 0:
        layers = "1 layer breaks" if best.value == 1 else f"{best.value} layers break"
        return f"{'with the others, ' if others else ''}at least {layers} it"
    return f"best possible{' with the others' if others else ''}: {best.text}"


def _name(problem: Problem, index: int) -> str:
    """A requirement as the user knows it: its label, or else its line and text."""
    requirement = problem.spec.requirements[index]
    if requirement.label is not None:
        return label(problem.spec, requirement)
    return f"line {requirement.span.first.line}, `{one_line(requirement.expr)}`,"


def _notes(problem: Problem, found: Conflict) -> tuple[str, ...]:
    count, total = len(found.requirements), len(problem.spec.requirements)
    if count == 1:
        notes = ["no other requirement is in its way"] if total > 1 else []
    else:
        fewer = "either" if count == 2 else f"any {count - 1}"
        notes = [
            f"these {count} of {total} requirements conflict; {fewer} of them can be satisfied"
        ]
    ways = [
        f"{_name(problem, index)} to {best.asked}"
        for index, best in _enough(found)
        if best.clause.bound is None and best.asked is not None
    ]
    if ways:
        notes.append("relaxing one is enough: " + ", or ".join(ways))
    return tuple(notes)


def _enough(found: Conflict) -> Iterator[tuple[int, Best]]:
    """The requirements of which relaxing a single one makes room for all the others."""
    for index, best, complete in zip(found.requirements, found.best, found.complete, strict=True):
        if best is not None and complete and best.clause.unit != "exceptions":
            yield index, best


def _helps(problem: Problem, found: Conflict) -> tuple[Help, ...]:
    """Limits that are written as numbers, each with the number that would be possible."""
    helps: list[Help] = []
    for index, best in _enough(found):
        if best.clause.bound is None or best.asked is None:
            continue
        enough = "relax" if not helps else "or relax"
        fix = Fix((Edit(best.clause.bound, best.asked),), Safety.DISPLAY)
        helps.append(Help(f"{enough} {_short(problem, index)} to what is possible", fix))
    return tuple(helps)


def _short(problem: Problem, index: int) -> str:
    requirement = problem.spec.requirements[index]
    if requirement.label is not None:
        return f"`{label(problem.spec, requirement)}`"
    return f"the requirement in line {requirement.span.first.line}"
