"""The last plan of a spec: the file beside it, when it is a plan of this very spec.

In: an analysis. Out: what the plan proved of each requirement, and how much room was left. A plan
of another version of the spec (its digest differs) says nothing here. Read again when the file
has changed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from surgery import plan as plans
from surgery import units
from surgery.diagnostics import Stop
from surgery.figures import reading
from surgery.ir import Evidence, Plan
from surgery.lsp.analysis import Analysis, beside


def last_plan(analysis: Analysis) -> Plan | None:
    """The plan beside the spec, if it is of this spec as it stands."""
    path = beside(analysis.document, ".plan")
    if path is None or analysis.spec is None:
        return None
    try:
        stamp = os.stat(path).st_mtime_ns
    except OSError:
        return None
    plan = _read(path, stamp)
    same = plan is not None and analysis.spec.digest.startswith(plan.spec[1])
    return plan if same else None


@functools.lru_cache(maxsize=16)
def _read(path: str, _stamp: int) -> Plan | None:
    try:
        return plans.read(Path(path))
    except Stop:
        return None


def evidence(analysis: Analysis) -> Mapping[str, Evidence]:
    """What the last plan proved, by label."""
    plan = last_plan(analysis)
    return {} if plan is None else {each.label: each for each in plan.requirements}


def slack(found: Evidence) -> str:
    """`4.21MiB, 0.5% to spare`: the value in the plan, and its distance from the limit."""
    value, limit = reading(found.value), reading(found.limit)
    if value is None or limit is None:
        return found.value
    room = {"<=": limit - value, "<": limit - value}.get(found.op, value - limit)
    if found.op == "==" or limit == 0:
        return found.value
    if room == 0:
        return f"{found.value}, at its limit"
    return (
        f"{found.value}, {units.significant(Fraction(abs(room) / abs(limit) * 100), 2)}% to spare"
    )
