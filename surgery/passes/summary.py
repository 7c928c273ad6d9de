"""The parent as plan views show it: the metrics of the unmodified model.

In: `Space`. Out: printed metrics under the names that plans use. Not here: printing views
(`show.py`).
"""

from __future__ import annotations

from surgery import plan
from surgery.ir import Space
from surgery.passes import cost


def parent(space: Space) -> dict[str, str]:
    """Metrics of the parent for `show.plan_text`; its scores are exactly 0 and left out."""
    return dict(plan.sizes(cost.parent_costs(space.model), space.model.context))
