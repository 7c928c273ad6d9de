"""A plan from a file -> the chosen candidates, if the plan still fits.

In: a plan that was read, the spec and the space as they are now. Out: one candidate per site with
the kept lists of the plan: neither library nor solver is asked. Refuses a plan whose spec or
parent has changed since, or whose decisions were edited by hand (E0801, saying what moved), as
`terraform apply` refuses a stale plan.
"""

from __future__ import annotations

from dataclasses import replace

from surgery import catalog, edits
from surgery import plan as plans
from surgery.diagnostics import Diagnostic, Help, Sink, Stop
from surgery.ir import Candidate, Plan, Space, Spec


def run(plan: Plan, spec: Spec, space: Space, name: str, sink: Sink) -> tuple[Candidate, ...]:
    """The candidates that the plan in the file `name` decides on. Raises `Stop` (E0801)."""
    for what, then, now in (
        ("the spec", plan.spec[1], spec.digest),
        ("the parent", plan.parent[1], space.model.digest),
    ):
        if not now.startswith(then):
            sink.report(_stale(name, f"{what} has changed since this plan was made"))
    if plan.stated is not None:
        sink.report(_stale(name, "its decisions are not those that its hash was taken of"))
    chosen = tuple(_verified(c, space, name) for c in plans.chosen(plan, space))
    return chosen


def _verified(candidate: Candidate, space: Space, name: str) -> Candidate:
    """The candidate with its full artefact hash, which must be the one that the plan states."""
    found = edits.artefact(space.model, candidate) if candidate.changed else ""
    if not found.startswith(candidate.artefact):
        where = f"layer.{candidate.layer:02}.{candidate.site}"
        raise Stop(_stale(name, f"what it keeps in `{where}` is not what its hash was taken of"))
    return replace(candidate, artefact=found)


def _stale(name: str, message: str) -> Diagnostic:
    return Diagnostic(
        catalog.E0801,
        message,
        subject=name,
        helps=(Help("make a new one with `surgery plan`"),),
    )
