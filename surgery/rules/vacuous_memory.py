"""W0716 vacuous-memory: `memory(s)` is bounded in a scenario whose `batch` is `fit`.

`fit` takes the largest batch that the memory holds, so memory is full in every child, and the
bound decides nothing or cannot be met.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.expr import Metric
from surgery.grammar import ast
from surgery.ir import Requirement, Scenario
from surgery.rules.places import removal
from surgery.rules.rule import Rule, Subject


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every requirement that bounds such a memory."""
    if subject.spec is None:
        return
    fitted = {each.name: each for each in subject.spec.scenarios if each.batch is None}
    for requirement, parts in subject.required:
        for part in parts:
            if isinstance(part, Metric) and part.name == "memory" and not part.parent:
                scenario = fitted.get(part.scenario or "")
                if scenario is not None:
                    yield _vacuous(subject.tree, requirement, scenario)
                    break


def _vacuous(tree: ast.Spec, requirement: Requirement, scenario: Scenario) -> Diagnostic:
    helps: list[Help] = []
    for item in tree.items:
        if isinstance(item, ast.Require) and item.span == requirement.span:
            fix = Fix((removal(item, tree),), Safety.DISPLAY)
            helps.insert(0, Help("leave the requirement out", fix))
        elif isinstance(item, ast.Scenario) and item.name.text == scenario.name:
            fields = (field.value.span for field in item.fields if field.name.text == "batch")
            fixes = (Fix((Edit(span, "8"),), Safety.DISPLAY) for span in fields)
            helps += [Help("or fix how many sequences there are", fix) for fix in fixes]
    labels = (
        Label(requirement.expr.span, "full in every child", primary=True),
        Label(scenario.span, "`batch = fit` fills the memory"),
    )
    message = f"`memory({scenario.name})` is bounded, and `batch = fit` fills it anyway"
    return Diagnostic(catalog.W0716, message, labels, helps=tuple(helps))


RULE = Rule(catalog.W0716, check)
