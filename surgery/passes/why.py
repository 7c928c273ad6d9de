"""One layer of a solved problem -> what every alternative of it would cost.

In: a problem, its solution, a layer. Out: `PriceList`: for each alternative of each site the
damage that it brings by itself, what exchanging it alone would do to every requirement of the
plan, and the best plan that has it: the problem solved again with nothing else allowed at that
site. As data and as text. Refuses (E0402) a layer that the model does not have.

Exchanging alone and solving again are different questions. The first says what a requirement pays
for the alternative; the second lets all other layers answer to it, and is the price.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.figures import plain
from surgery.ir import Candidate, Site
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solution, Solver
from surgery.solving.highs import TOLERANCE
from surgery.solving.linear import Clause
from surgery.units import NUMBER, Dimension, format_layers, format_quantity, significant
from surgery.views.table import table

Status = Literal["chosen", "optimal", "within_gap", "infeasible", "stopped"]


class Alternative(Struct, frozen=True):
    """One candidate of a site.

    `damage` has one entry per score, `moves` one per clause of the problem: by how much the value
    that is compared changes when the plan takes this candidate and is otherwise as it was (`None`
    where either has no value). `objective` is that of the best plan with it, in the user's sense;
    no plan with it is better than `bound`. Both are `None` where there is no such plan.
    """

    candidate: Candidate
    damage: tuple[Fraction, ...]
    moves: tuple[Fraction | None, ...]
    status: Status
    objective: Fraction | None = None
    bound: Fraction | None = None


class PriceList(Struct, frozen=True):
    """All alternatives of a layer, site by site, beside the objective of the plan."""

    layer: int
    scores: tuple[str, ...]
    clauses: tuple[Clause, ...]
    sites: tuple[tuple[Site, tuple[Alternative, ...]], ...]
    objective: Fraction
    dimension: Dimension


def run(problem: Problem, solution: Solution, layer: int, solver: Solver, gap: float) -> PriceList:
    """The price list of `layer`; every solve goes to the relative `gap` at most. Raises `Stop`."""
    columns = problem.columns
    index = {c.address: column for column, c in enumerate(columns.candidates)}
    chosen = tuple(index[c.address] for c in solution.chosen)
    sites = [s for s in columns.sites if columns.candidates[s[0]].layer == layer]
    if not sites:
        raise Stop(_no_layer(problem, layer))
    return PriceList(
        layer,
        tuple(sorted(problem.measured.damage)),
        problem.clauses,
        tuple(
            (
                columns.candidates[site[0]].site,
                tuple(_priced(problem, solution, chosen, site, n, solver, gap) for n in site),
            )
            for site in sites
        ),
        solution.objective,
        problem.spec.objective.expr.dimension,
    )


def _priced(
    problem: Problem,
    solution: Solution,
    chosen: Sequence[int],
    site: Sequence[int],
    column: int,
    solver: Solver,
    gap: float,
) -> Alternative:
    candidate = problem.columns.candidates[column]
    damage = tuple(
        Fraction(of[candidate.address]) for _, of in sorted(problem.measured.damage.items())
    )
    swapped = tuple(column if n in site else n for n in chosen)
    moves = _moves(problem, chosen, swapped)
    if column in chosen:
        value, bound = solution.objective, solution.bound
        return Alternative(candidate, damage, moves, "chosen", value, bound)
    others = set(site) - {column}
    found = solver.minimise(problem.rows, problem.goal, others, gap=gap, warm=solution.prices)
    if found.status != "optimal":
        return Alternative(candidate, damage, moves, found.status)
    sign = -1 if problem.spec.objective.sense == "maximize" else 1
    # The objective, not the goal: that of a maximum has been settled, which keeps its sums.
    value = problem.objective.at(problem.columns.active(found.chosen))
    bound = value - sign * (found.value - found.bound)
    status = "optimal" if found.gap <= TOLERANCE else "within_gap"
    return Alternative(candidate, damage, moves, status, value, bound)


def _moves(
    problem: Problem, chosen: Sequence[int], swapped: Sequence[int]
) -> tuple[Fraction | None, ...]:
    before, after = problem.columns.active(chosen), problem.columns.active(swapped)
    pairs = ((clause.value.at(before), clause.value.at(after)) for clause in problem.clauses)
    return tuple(None if a is None or b is None else b - a for a, b in pairs)


def _no_layer(problem: Problem, layer: int) -> Diagnostic:
    layers = len(problem.context.layers)
    message = f"there is no layer {layer}: the model has {layers}, from 0 to {layers - 1}"
    helps = ()
    if layer < layers:
        edited = {c.layer for c in problem.columns.candidates}
        message = f"nothing is decided in layer {layer}"
        helps = (Help(f"layers with alternatives: {format_layers(edited)}"),)
    return Diagnostic(catalog.E0402, message, subject="--why", helps=helps)


def data(found: PriceList) -> dict[str, object]:
    """For JSON: values in base units; `null` where there is no plan, or no value."""
    labels = [clause.label for clause in found.clauses]
    return {
        "layer": found.layer,
        "objective": plain(found.objective),
        "sites": {
            site.value: [_data(found, one, labels) for one in each] for site, each in found.sites
        },
    }


def _data(found: PriceList, one: Alternative, labels: Sequence[str]) -> dict[str, object]:
    return {
        "alternative": one.candidate.text,
        "status": one.status,
        "scores": {n: plain(d) for n, d in zip(found.scores, one.damage, strict=True)},
        "moves": [[n, plain(m)] for n, m in zip(labels, one.moves, strict=True)],
        "objective": plain(one.objective),
        "bound": plain(one.bound),
    }


# ---- text ------------------------------------------------------------------------------------


def text(found: PriceList) -> str:
    """For a terminal. Requirements that no alternative of a site moves are left out there."""
    blocks = [f"layer {found.layer}: what each alternative would cost"]
    blocks += ["\n".join(_site(found, site, each)) for site, each in found.sites]
    blocks.append("\n".join(_legend(found)))
    return "\n\n".join(blocks)


def _site(found: PriceList, site: Site, each: Sequence[Alternative]) -> Iterator[str]:
    moved = [n for n in range(len(found.clauses)) if any(a.moves[n] for a in each)]
    names = (clause.label for n, clause in enumerate(found.clauses) if n in moved)
    rows = [(site.value, *found.scores, *names, "objective", "price", "")]
    for one in each:
        moves = (_move(found.clauses[n], one.moves[n]) for n in moved)
        rows.append(
            (one.candidate.text, *(significant(d) for d in one.damage), *moves, *_end(found, one))
        )
    width = len(rows[0])
    yield table(rows, "<" + ">" * (width - 2) + "<")


def _end(found: PriceList, one: Alternative) -> tuple[str, str, str]:
    """Objective, price, remark."""
    if one.status == "chosen":
        return worth(found.objective, found.dimension), "", "in the plan"
    if one.objective is None or one.bound is None:
        words = {"infeasible": "infeasible", "stopped": "not settled in time"}
        return "", "", words[one.status]
    price = one.objective - found.objective
    beyond = f"cannot be beyond {worth(one.bound, found.dimension)}"
    remark = "" if one.status == "optimal" else beyond
    shown = signed(worth(abs(price), found.dimension), price)
    return worth(one.objective, found.dimension), shown, remark


def _move(clause: Clause, value: Fraction | None) -> str:
    if value is None:
        return "none"
    shown = clause.shown(abs(value))
    return signed(f"{significant(abs(value))}x" if clause.unit == "x" else shown, value)


def signed(shown: str, value: Fraction) -> str:
    """A size as printed, with the sign of what it is the size of; `=` for 0."""
    return "=" if value == 0 else f"{'-' if value < 0 else '+'}{shown}"


def worth(value: Fraction, dimension: Dimension) -> str:
    """A value of the objective as plans print it."""
    return significant(value) if dimension == NUMBER else format_quantity(value, dimension)


def _legend(found: PriceList) -> Iterator[str]:
    scores = " and ".join(found.scores)
    verb = "is" if len(found.scores) == 1 else "are"
    if scores:
        yield f"  {scores} {verb} what the alternative does by itself"
    yield "  @names: what it would change in the plan if it alone were taken"
    yield "  objective: of the best plan that has it, solved again; price: against this plan"
