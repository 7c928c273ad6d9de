"""The scenarios that matter: those that something is asked of.

In: a spec. Out: its scenarios that a requirement, an expectation or the objective names. Not here:
any rule; one that nobody asks about is W0201.
"""

from __future__ import annotations

from surgery.affine import walk
from surgery.expr import Metric
from surgery.ir import Scenario, Spec


def asked(spec: Spec) -> tuple[Scenario, ...]:
    """The scenarios that formulas name, in the order of the spec."""
    formulas = [each.expr for each in (*spec.expects, *spec.requirements)]
    named = {
        part.scenario
        for formula in (*formulas, spec.objective.expr)
        for part in walk(formula)
        if isinstance(part, Metric)
    }
    return tuple(scenario for scenario in spec.scenarios if scenario.name in named)
