"""What a plan says of times: values per scenario, where they come from, how far to trust them.

In: a solved problem, or the parent. Out: printed metrics `throughput@NAME` and its kin for every
scenario of which a time is asked, each with its source and its error band (`costing/trust.py`):
nine in ten such times are nearer than that. Not here: sizes, which are exact (`plan.py`), what a
figure is made of (`breakdown.py`), where times are found that need no model (`timing.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from surgery import affine, facts
from surgery.costing import trust
from surgery.costing.trust import Trust
from surgery.expr import Metric
from surgery.facts import Context
from surgery.ir import Candidate, Cost, Scenario, Space, Spec
from surgery.passes import cost
from surgery.passes.constrain import Problem
from surgery.units import (
    J_PER_TOK,
    NUMBER,
    REQ_PER_S,
    TIME,
    TOK_PER_S,
    Dimension,
    format_quantity,
    significant,
)

_REQUESTS = ("requests", REQ_PER_S)
_SHOWN: Sequence[tuple[str, Dimension]] = (
    ("throughput", TOK_PER_S),
    ("latency", TIME),
    ("ttft", TIME),
    ("tpot", TIME),
)
TIMED = frozenset({"cost", "energy", "requests", *(name for name, _ in _SHOWN)})


def child(problem: Problem, chosen: Sequence[Candidate]) -> tuple[tuple[str, str], ...]:
    """Metrics of the chosen child, at the batches that were solved for."""
    index = {c.address: column for column, c in enumerate(problem.columns.candidates)}
    context = problem.result([index[c.address] for c in chosen])
    assert context.result is not None
    return tuple(_of(problem.spec, context, context.result, parent=False))


def parent(spec: Spec, space: Space) -> tuple[tuple[str, str], ...]:
    """The same of the parent, each scenario with a batch of its own where that is to fit."""
    context = cost.parent_context(spec, space)
    assert context.parent is not None
    return tuple(_of(spec, context, context.parent, parent=True))


def timed(spec: Spec) -> tuple[Scenario, ...]:
    """The scenarios of which a time is asked."""
    asked = _asked(spec, TIMED)
    return tuple(scenario for scenario in spec.scenarios if scenario.name in asked)


def _asked(spec: Spec, metrics: Collection[str]) -> frozenset[str]:
    """The names of the scenarios of which one of the metrics is asked."""
    formulas = [each.expr for each in (*spec.expects, *spec.requirements)]
    return frozenset(
        part.scenario
        for formula in (*formulas, spec.objective.expr)
        for part in affine.walk(formula)
        if isinstance(part, Metric) and part.name in metrics and part.scenario
    )


def _of(
    spec: Spec, context: Context, costs: tuple[Cost, ...], *, parent: bool
) -> Iterator[tuple[str, str]]:
    requests, energies = _asked(spec, ("requests",)), _asked(spec, ("energy",))
    for scenario in timed(spec):
        machine = next(m for m in spec.machines if m.name == scenario.machine)
        asked = Metric(scenario.span, "tpot", TIME, scenario.name, None, parent)
        at = facts.setting(asked, costs, context)
        yield f"batch@{scenario.name}", str(round(at.stage.load.batch))
        shown = [
            # Requests differ from tokens where a child talks more, or less, than its parent.
            *([_REQUESTS] if scenario.verbosity != 1 or scenario.name in requests else []),
            *_SHOWN,
            *([("cost", NUMBER)] if "price" in dict(machine.fields) else []),
            *([("energy", J_PER_TOK)] if scenario.name in energies else []),
        ]
        for name, dimension in shown:
            value = facts.metric(replace(asked, name=name, dimension=dimension), context)
            text = significant(value) if name == "cost" else format_quantity(value, dimension)
            source = trust.of(costs, at, machine, name)
            yield f"{name}@{scenario.name}", f"{text}, {source.text}"


def trusted(spec: Spec, context: Context, metric: Metric) -> Trust:
    """Where a time of the result comes from, and how far to trust it."""
    assert context.result is not None
    scenario = next(s for s in spec.scenarios if s.name == metric.scenario)
    machine = next(m for m in spec.machines if m.name == scenario.machine)
    at = facts.setting(metric, (), context)
    return trust.of(context.result, at, machine, metric.name)
