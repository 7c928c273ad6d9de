"""What no measurement can mend, found before the first: wrong rows, limits that nothing meets.

In: a spec and its space, before scores. Out: nothing; reports what the solver would of everything
that is known already. Measuring takes minutes to hours, and these mistakes can be told before it.
Damage is taken as zero; requirements on scores are left to the real run, and so are those on times
under a measured routing, and those that may give. Not here: the reports themselves (`batches.py`,
`scoring/blind.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from surgery import affine
from surgery.diagnostics import Sink
from surgery.expr import Expr, Metric, ScoreTotal
from surgery.ir import Measured, Space, Spec
from surgery.passes import batches, estimates
from surgery.passes.constrain import label
from surgery.scoring import blind


def run(spec: Spec, space: Space, sink: Sink, relax: Sequence[str] = ()) -> None:
    """Report what can be told; `relax` has the labels of requirements that may give."""
    if not blind.report_blind(spec, space, sink):
        return
    zero = {c.address: 0.0 for c in space.candidates}
    unmeasured = Measured({score.name: zero for score in spec.scores}, "")
    sizes = tuple(
        requirement
        for requirement in spec.requirements
        if label(spec, requirement) not in relax
        and not any(_measured(part, spec) for part in affine.walk(requirement.expr))
    )
    if batches.sound(spec, space, unmeasured, sink):
        batches.feasible(replace(spec, requirements=sizes), space, unmeasured, sink)


def _measured(part: Expr, spec: Spec) -> bool:
    """Whether a part of a formula is only known once the parent has been run."""
    match part:
        case ScoreTotal():
            return True
        case Metric(name=metric, scenario=name) if metric in estimates.TIMED:
            return any(each.name == name and each.routing is not None for each in spec.scenarios)
        case _:
            return False
