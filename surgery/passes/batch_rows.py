"""`batch = fit`: which scenarios have it, how large their batches can be, and the rows they add.

In: a spec, its space, measurements; batches. Out: the `Fitting` scenarios with the largest batch
that any child has room for; the problem at given batches, with a requirement `@fits-NAME` for each
(weights and the KV cache of so many sequences within what the engine has for them on one GPU), or
its relaxation over all batches between two. Refuses (E0506) a scenario of which not even one
sequence fits whatever is chosen, and a machine that does not declare what that takes (E0205). Not
here: the search (`batches.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from surgery import affine, catalog, evaluate
from surgery.costing import parallel, serving
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.expr import Compare, Metric, Number
from surgery.ir import Machine, Measured, Requirement, Scenario, Space, Spec
from surgery.passes import constrain, cost
from surgery.passes.constrain import Fixed, Problem
from surgery.solving.optimism import Optimism
from surgery.units import BYTES, format_bytes


class Fitting(Struct, frozen=True):
    """A scenario with `batch = fit` of which something is asked.

    Batches are numbers of sequences per copy of the model: of `copies` copies, from 1 to `most`,
    which the smallest child has room for. `parent` is that of the parent, 1 if it has no room.
    """

    scenario: Scenario
    machine: Machine
    copies: int
    parent: int
    most: int

    def batch(self, size: int) -> int:
        """Sequences on the whole machine, never more than there are clients."""
        found, clients = size * self.copies, self.scenario.clients
        return found if clients is None else min(found, clients)

    def menu(self, steps: int) -> tuple[int, ...]:
        """The parent's and `steps` sizes from one to the largest, in equal ratios; all if few."""
        if self.most <= steps:
            return tuple(range(1, self.most + 1))
        ratio = self.most ** (1 / (steps - 1))
        return tuple(sorted({self.parent, *(round(ratio**n) for n in range(steps))}))


class Question(Struct, frozen=True):
    """What is asked, before any batch is known."""

    spec: Spec
    space: Space
    measured: Measured
    fitting: tuple[Fitting, ...]
    base: Problem | None = None
    """The problem at some batches: what no batch is in is lowered once."""

    def at(self, sizes: Mapping[str, int], sink: Sink) -> Problem | None:
        """The problem at batches (of the whole machine, by scenario); `None` after a report."""
        fixed = Fixed(sizes, base=self.base)
        return constrain.run(self._fitted(self.spec), self.space, self.measured, sink, fixed)

    def between(self, least: Mapping[str, int], most: Mapping[str, int]) -> Problem | None:
        """A relaxation of the problems at all batches between two, `None` if it has no choices.

        Requirements that `Optimism` cannot bound are left out of it.
        """
        told = Sink()
        wanted = self._fitted(replace(self.spec, requirements=self._bounded(tuple(least))))
        fixed = Fixed(least, most, self.base)
        problem = constrain.run(wanted, self.space, self.measured, told, fixed)
        strange = [found for found in told.found if found.code is not catalog.E0503]
        if problem is None and strange:
            raise ValueError(f"a relaxation cannot be stated: {strange[0].message}")
        return problem

    @property
    def bounded(self) -> bool:
        """Whether a relaxation says anything of the objective."""
        objective = self.spec.objective
        sign = -1 if objective.sense == "maximize" else 1
        return self._optimism(tuple(f.scenario.name for f in self.fitting)).least(
            objective.expr, sign
        )

    def _bounded(self, names: tuple[str, ...]) -> tuple[Requirement, ...]:
        test = self._optimism(names)
        return tuple(each for each in self.spec.requirements if test.holds(each.expr))

    def _optimism(self, names: tuple[str, ...]) -> Optimism:
        context = cost.parent_context(self.spec, self.space)
        return Optimism(names, lambda expr: evaluate.number(expr, context))

    def _fitted(self, spec: Spec) -> Spec:
        rows = tuple(self._fits(each) for each in self.fitting)
        return replace(spec, requirements=(*spec.requirements, *rows)) if rows else spec

    def _fits(self, fitting: Fitting) -> Requirement:
        """Weights and KV cache of the batch within what the engine has for them on one GPU."""
        scenario, model = fitting.scenario, self.space.model
        room = serving.room(model.layers, model, fitting.machine, scenario)
        span = scenario.span
        takes = Metric(span, "resident", BYTES, scenario.name, None, False)
        row = Compare(span, takes, (("<=", Number(span, room, BYTES, "")),))
        return Requirement(span, f"fits-{scenario.name}", row)


def question(spec: Spec, space: Space, measured: Measured, sink: Sink) -> Question | None:
    """What is asked of which batches; `None` after a report."""
    found: list[Fitting] = []
    for scenario in _fitting(spec):
        machine = next(each for each in spec.machines if each.name == scenario.machine)
        try:
            found.append(_limits(space, machine, scenario))
        except Stop as stop:
            sink.report(stop.diagnostic)
        except serving.Missing as missing:
            sink.report(_undeclared(machine, missing))
    return None if sink.failed else Question(spec, space, measured, tuple(found))


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


def _limits(space: Space, machine: Machine, scenario: Scenario) -> Fitting:
    """Raises `Stop` (E0506) where the smallest child has no room for one sequence."""
    most, copies = _largest(space, machine, scenario, min), serving.copies(parallel.of(machine))
    if most == 0:
        raise Stop(_too_small(space, machine, scenario))
    if scenario.clients is not None:
        most = min(most, -(-scenario.clients // copies))
    parent = max(1, min(most, _largest(space, machine, scenario, max)))
    return Fitting(scenario, machine, copies, parent, most)


def _largest(
    space: Space, machine: Machine, scenario: Scenario, pick: Callable[..., Fraction]
) -> int:
    """Sequences per copy if every site takes its smallest, or largest, candidate."""
    weights, sequence = _least(space, machine, scenario, pick)
    room = serving.room(space.model.layers, space.model, machine, scenario)
    return serving.sequences(weights, sequence, room, scenario)


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


# ---- refusals --------------------------------------------------------------------------------


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
