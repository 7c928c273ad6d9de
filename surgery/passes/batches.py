"""`batch = fit`: which batch sizes to solve for, and the best of the solutions.

In: a spec, its space, measurements. Out: the problem and the solution for the batch sizes that suit
the objective best, one size per scenario with `batch = fit` that something is asked of. Every size
makes times linear and adds a requirement, `@fits-NAME`: weights and the KV cache of so many
sequences within what the engine has for them on one GPU. Sizes are tried from a geometric menu up
to what the smallest child has room for, as the paper does (B, section on the MIP: re-solve for
several batches, keep the best), all combinations of at most `MENU` sizes each. Reports what the
solver would (E0601 and others, at the smallest sizes) where no combination has a solution, and
E0506 where not even one sequence fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product

from msgspec import Struct
from msgspec.structs import replace

from surgery import affine, catalog
from surgery.costing import parallel, serving
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.expr import Compare, Metric, Number
from surgery.ir import Machine, Measured, Requirement, Scenario, Space, Spec
from surgery.passes import constrain, solve
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solution, Solver
from surgery.solving.linear import constant
from surgery.solving.outcome import Proof
from surgery.units import BYTES, format_bytes

MENU = 6
"""Sizes to try for one scenario."""


class Answer(Struct, frozen=True):
    """A problem at fixed batches, and its solution."""

    problem: Problem
    solution: Solution
    batches: Mapping[str, int]


def run(
    spec: Spec,
    space: Space,
    measured: Measured,
    sink: Sink,
    proof: Proof | None = None,
    warm: Sequence[float] = (),
) -> Answer | None:
    """The best solution over all menus; `None` after a report.

    `warm` are the multipliers of a neighbour's solution.
    """
    best: tuple[Fraction, Mapping[str, int]] | None = None
    combinations = tuple(_combinations(spec, space, sink))
    gap = 0.0 if proof and proof.exact else solve.GAP
    for batches in combinations if len(combinations) > 1 else ():
        problem = _stated(spec, space, measured, Sink(), batches)
        if problem is None:
            continue
        # Ties and explanations are for the winner alone: they take longer than the optimum.
        found = Solver(problem.columns).minimise(problem.rows, problem.goal, gap=gap)
        if not found.chosen:
            continue
        # Of equals, those with the larger batches, which come later.
        if best is None or found.value <= best[0]:
            best = (found.value, batches)
    if not combinations:
        return None
    batches = best[1] if best else combinations[0]
    problem = _stated(spec, space, measured, sink, batches)
    solution = solve.run(problem, sink, proof or Proof(), warm) if problem is not None else None
    return Answer(problem, solution, batches) if problem and solution else None


def feasible(spec: Spec, space: Space, measured: Measured, sink: Sink) -> bool:
    """Whether any batches and choices keep every row; reports why not."""
    combinations = tuple(_combinations(spec, space, sink))
    for batches in combinations[1:]:
        problem = _stated(spec, space, measured, Sink(), batches)
        if problem is None:
            continue
        found = Solver(problem.columns).minimise(problem.rows, constant(0))
        if found.status != "infeasible":
            return True
    # The smallest are what a refusal is explained with.
    problem = _stated(spec, space, measured, sink, combinations[0]) if combinations else None
    return problem is not None and solve.feasible(problem, sink)


def sound(spec: Spec, space: Space, measured: Measured, sink: Sink) -> bool:
    """Whether everything that is asked can be a row; reports what cannot."""
    batches = next(_combinations(spec, space, sink), None)
    return batches is not None and _stated(spec, space, measured, sink, batches) is not None


# ---- menus -----------------------------------------------------------------------------------


def _combinations(spec: Spec, space: Space, sink: Sink) -> Iterator[Mapping[str, int]]:
    """Batches by scenario, the smallest first; one empty combination where nothing is to fit."""
    fitting = [(scenario, _machine(spec, scenario)) for scenario in _fitting(spec)]
    menus: list[tuple[int, ...]] = []
    for scenario, machine in fitting:
        try:
            menus.append(menu(space, machine, scenario))
        except (Stop, serving.Missing) as why:
            sink.report(why.diagnostic if isinstance(why, Stop) else _undeclared(machine, why))
            return
    for sizes in product(*menus):
        yield {scenario.name: n for (scenario, _), n in zip(fitting, sizes, strict=True)}


def _fitting(spec: Spec) -> tuple[Scenario, ...]:
    """Scenarios with `batch = fit` of which something is asked about the result."""
    formulas = [each.expr for each in spec.requirements]
    asked = {
        part.scenario
        for formula in (*formulas, spec.objective.expr)
        for part in affine.walk(formula)
        if isinstance(part, Metric) and not part.parent
    }
    return tuple(s for s in spec.scenarios if s.batch is None and s.name in asked)


def _machine(spec: Spec, scenario: Scenario) -> Machine:
    return next(machine for machine in spec.machines if machine.name == scenario.machine)


def menu(space: Space, machine: Machine, scenario: Scenario) -> tuple[int, ...]:
    """Sizes to try: from what the parent has room for to what the smallest child has, in equal
    ratios. Raises `Stop` (E0506) where the smallest has no room for one sequence."""
    copies = serving.copies(parallel.of(machine))
    smallest = _largest(space, machine, scenario, min)
    if smallest == 0:
        raise Stop(_too_small(space, machine, scenario))
    parent = max(copies, min(smallest, _largest(space, machine, scenario, max)))
    ratio = (smallest / parent) ** (1 / (MENU - 1))
    steps = (round(parent * ratio**n / copies) * copies for n in range(MENU))
    return tuple(sorted({smallest, *(max(copies, min(n, smallest)) for n in steps)}))


def _largest(
    space: Space, machine: Machine, scenario: Scenario, pick: Callable[..., Fraction]
) -> int:
    """The batch that fits if every site takes its smallest, or largest, candidate."""
    rule, shared = serving.profile(scenario), parallel.of(machine)
    weights, sequence = _least(space, machine, scenario, pick)
    left = serving.room(space.model.layers, space.model, machine, scenario) - weights
    if left < sequence or left <= 0:
        return 0
    found = int(left // sequence) if sequence else rule.sequences or 1
    return (found if rule.sequences is None else min(found, rule.sequences)) * shared.data


def _least(
    space: Space, machine: Machine, scenario: Scenario, pick: Callable[..., Fraction]
) -> tuple[Fraction, Fraction]:
    fixed = serving.needs(space.fixed, machine, scenario)
    weights, sequence = fixed.weights, fixed.sequence
    for option in space.options:
        each = [serving.needs(c.cost, machine, scenario) for c in option.candidates]
        if each:
            weights += pick(need.weights for need in each)
            sequence += pick(need.sequence for need in each)
    return weights, sequence


# ---- rows ------------------------------------------------------------------------------------


def _stated(
    spec: Spec, space: Space, measured: Measured, sink: Sink, batches: Mapping[str, int]
) -> Problem | None:
    rows = tuple(_fits(spec, space, scenario) for scenario in _fitting(spec))
    wanted = replace(spec, requirements=(*spec.requirements, *rows)) if rows else spec
    return constrain.run(wanted, space, measured, sink, batches)


def _fits(spec: Spec, space: Space, scenario: Scenario) -> Requirement:
    """Weights and KV cache of the batch within what the engine has for them on one GPU."""
    room = serving.room(space.model.layers, space.model, _machine(spec, scenario), scenario)
    span = scenario.span
    takes = Metric(span, "resident", BYTES, scenario.name, None, False)
    row = Compare(span, takes, (("<=", Number(span, room, BYTES, "")),))
    return Requirement(span, f"fits-{scenario.name}", row)


def _too_small(space: Space, machine: Machine, scenario: Scenario) -> Diagnostic:
    weights, sequence = _least(space, machine, scenario, min)
    room = serving.room(space.model.layers, space.model, machine, scenario)
    needed = format_bytes(weights + sequence)
    message = f"`{scenario.name}` does not fit on `{machine.name}`, whatever is chosen"
    labels = (
        Label(scenario.span, f"takes {needed} of one GPU with one sequence", primary=True),
        Label(machine.span, f"{scenario.engine} has {format_bytes(room)} for it there"),
    )
    missing = format_bytes(weights + sequence - room)
    notes = (f"{missing} are missing",)
    helps = (Help("share it among more GPUs, shorten it, or offer smaller alternatives"),)
    return Diagnostic(catalog.E0506, message, labels, notes=notes, helps=helps)


def _undeclared(machine: Machine, missing: serving.Missing) -> Diagnostic:
    message = f"the machine `{machine.name}` does not declare its `{missing.field}`"
    label = Label(machine.span, "a scenario with `batch = fit` runs here", primary=True)
    return Diagnostic(catalog.E0205, message, (label,))
