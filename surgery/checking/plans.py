"""Plans that a spec names: `distance(local("released.plan"))`.

In: the place of a plan. Out: a `Distance` that holds what the plan decides, so that a spec means
another thing when the file does. Reports places that are no file beside the spec (E0302), files
that cannot be read (E0001, E0002) or are no plans (E0808). Not here: whether the plan fits the
model (`passes/fit.py`).
"""

from __future__ import annotations

from pathlib import Path

from surgery import catalog, lockfile
from surgery import plan as plans
from surgery.checking.modules import Module
from surgery.checking.scope import Check
from surgery.checking.values import ANY_TEXT, Made, Value
from surgery.diagnostics import Label, Stop
from surgery.expr import Distance
from surgery.source import Span


def distance(check: Check, span: Span, module: Module, given: Value) -> Value:
    """The distance from the plan that a `local(...)` names, relative to the file it stands in."""
    assert isinstance(given, Made), given
    if given.name != "local":
        message = f"a plan cannot come from `{given.name}(...)`"
        notes = ("it comes from `local(...)`",)
        return check.error(catalog.E0302, message, given.span, "a place for models", notes=notes)
    name = given.text("path") or ""
    if name == ANY_TEXT:
        return Distance(span, "", "", "", ())
    folder = Path(check.main.source.name).parent / module.folder
    try:
        plan = plans.read(folder / name)
    except Stop as stop:
        told = stop.diagnostic
        also = (Label(label.span, label.text) for label in told.labels)
        label = "this is no plan" if told.code is catalog.E0808 else "this file"
        return check.error(told.code, f"`{name}`: {told.message}", given.span, label, *also)
    decided = tuple((d.layer, d.site.value, d.text, bool(d.artefact)) for d in plan.decisions)
    digest = lockfile.decision(plan)[: lockfile.DIGEST]
    return Distance(span, name, digest, plan.parent[1][: lockfile.DIGEST], decided)
