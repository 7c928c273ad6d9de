"""The parent as plan views show it: the metrics of the unmodified model.

In: a spec, its space. Out: printed metrics under the names that plans use. Not here: printing views
(`show.py`).
"""

from __future__ import annotations

from surgery import plan
from surgery.diagnostics import Stop
from surgery.ir import Space, Spec
from surgery.passes import cost, estimates


def parent(spec: Spec, space: Space) -> dict[str, str]:
    """Metrics of the parent for `show.plan_text`; its scores are exactly 0 and left out.

    Times are left out, too, where the parent does not fit on a machine.
    """
    found = dict(plan.sizes(cost.parent_costs(space.model), space.model.context))
    try:
        return found | dict(estimates.parent(spec, space))
    except Stop:
        return found | {
            f"{name}@{scenario.name}": "-"
            for scenario in estimates.timed(spec)
            for name in ("batch", *estimates.TIMED)
        }
