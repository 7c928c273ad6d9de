"""W0709 single-scenario: speed is required in one scenario, and memory in none.

What is fast in one load may be slow in another, or not fit: a solver uses every freedom it has.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.checking.tables import METRICS
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.expr import Metric
from surgery.rules.rule import Rule, Subject


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report the first requirement on speed when nothing else holds it in check."""
    if subject.spec is None:
        return
    asked = [
        (each, part)
        for each, parts in subject.required
        for part in parts
        if isinstance(part, Metric) and not part.parent
    ]
    timed = [(each, part) for each, part in asked if METRICS[part.name].timed]
    if len({part.scenario for _, part in timed}) != 1:
        return
    if any(part.name == "memory" for _, part in asked):
        return
    requirement, metric = min(timed, key=lambda pair: pair[0].span.start)
    scenario = metric.scenario or ""
    labels = [Label(requirement.expr.span, "the only load that counts", primary=True)]
    found = next((s for s in subject.spec.scenarios if s.name == scenario), None)
    if found is not None:
        labels.append(Label(found.span, "declared here"))
    yield Diagnostic(
        catalog.W0709,
        f"speed is required in the scenario `{scenario}` only, and memory in none",
        tuple(labels),
        helps=(Help("require it in a second scenario too, or bound `memory(...)` in one"),),
    )


RULE = Rule(catalog.W0709, check)
