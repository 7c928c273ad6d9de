"""A plan from a file -> the chosen candidates, if the plan still fits.

In: a plan that was read, the spec and the space as they are now. Out: one candidate per site with
the kept lists of the plan (`None` where it leaves a ranking open, see `require_listed`): neither
library nor solver is asked. Refuses, as `terraform apply` refuses a stale plan (E0801, saying what
moved): a plan whose spec or parent has changed since, whose decisions or kept lists were edited by
hand, or whose child breaks a requirement that can be recomputed without measurements.
"""

from __future__ import annotations

from msgspec.structs import replace

from surgery import affine, catalog, edits, evaluate
from surgery import plan as plans
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.expr import ScoreTotal
from surgery.ir import Candidate, Plan, Requirement, Site, Space, Spec
from surgery.lockfile import address
from surgery.passes import cost, routing


def run(
    plan: Plan, spec: Spec, space: Space, name: str, sink: Sink
) -> tuple[Candidate, ...] | None:
    """The candidates that the plan in the file `name` decides on. Raises `Stop` (E0801)."""
    now_named = dict(plans.named(spec))
    moved = [name for name, then in plan.plans if now_named.get(name, then) != then]
    for each in moved:
        message = f"`{each}`, which the spec names, decides otherwise than when this plan was made"
        sink.report(_stale(name, message))
    for what, then, now in (
        *(() if moved else (("the spec", plan.spec[1], spec.digest),)),
        ("the parent", plan.parent[1], space.model.digest),
    ):
        if not now.startswith(then):
            sink.report(_stale(name, f"{what} has changed since this plan was made"))
    if plan.stated is not None:
        sink.report(_stale(name, "its decisions are not those that its hash was taken of"))
    if sink.failed:
        return None
    verified = (_verified(c, space, name) for c in plans.chosen(plan, space))
    chosen = routing.settled(space, verified)
    stated = dict(plan.metrics)
    for metric, value in plans.sizes(cost.chosen_costs(space, chosen), space.model.context):
        if stated.get(metric) != value:
            said = stated.get(metric, "nothing")
            message = f"it says {said} for `{metric}`, and its child has {value}"
            why = ("its costs may be those of a table: see its `table` lines",)
            sink.report(replace(_stale(name, message), notes=why if plan.tables else ()))
    _verify_requirements(spec, space, chosen, name, sink)
    return None if sink.failed else chosen


def require_listed(plan: Plan, name: str) -> None:
    """Raise `Stop` (E0801) unless the plan lists all that is kept, and the scales of FP8 caches.

    A plan that was made of a config alone does not: it has sizes, and nothing can be cut by it.
    """
    missing = edits.unlisted(plan)
    if not missing:
        return
    first, more = missing[0], f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    lacking, metrics = "list what is kept in", "`kept`"
    if first.site is Site.ATTENTION:
        lacking, metrics = "tell the scales of K and V in", "`k_scale` and `v_scale`"
    raise Stop(
        Diagnostic(
            catalog.E0801,
            f"the plan does not {lacking} `{address(first.layer, first.site)}`{more}",
            subject=name,
            notes=("a plan that is made without weights leaves rankings and scales open",),
            helps=(
                Help(f"plan again where the weights are, or with a table that gives {metrics}"),
            ),
        )
    )


def _verified(candidate: Candidate, space: Space, name: str) -> Candidate:
    """The candidate with its full artefact hash, which must be the one that the plan states."""
    if not candidate.changed:
        return candidate
    where = address(candidate.layer, candidate.site)
    if edits.missing(candidate):
        left_open = edits.unranked(space.model, candidate)
        if candidate.artefact and left_open.artefact.startswith(candidate.artefact):
            return left_open
        lacking = "the scales of" if edits.scaled(candidate) else "what is kept in"
        raise Stop(_stale(name, f"it does not list {lacking} `{where}`"))
    try:
        found = edits.artefact(space.model, candidate)
    except ValueError as error:
        raise Stop(_stale(name, f"what it keeps in `{where}` does not fit: {error}")) from error
    if not candidate.artefact or not found.startswith(candidate.artefact):
        told = f"what it keeps in `{where}` is" if not edits.scaled(candidate) else ""
        told = told or f"the scales that it tells of `{where}` are"
        raise Stop(_stale(name, f"{told} not what its hash was taken of"))
    return replace(candidate, artefact=found)


def _verify_requirements(
    spec: Spec, space: Space, chosen: tuple[Candidate, ...], name: str, sink: Sink
) -> None:
    """Sizes, KV bytes and counts need no library, so they are not taken from the file."""
    context = replace(
        replace(cost.parent_context(spec, space), sink=sink),
        layers=edits.child_layers(space.model, chosen),
        result=cost.chosen_costs(space, chosen),
        decided=frozenset(c.decision for c in chosen),
    )
    for requirement in spec.requirements:
        if any(isinstance(part, ScoreTotal) for part in affine.walk(requirement.expr)):
            continue
        if not evaluate.holds(requirement.expr, context):
            sink.report(_broken(requirement, name))


def _broken(requirement: Requirement, name: str) -> Diagnostic:
    return Diagnostic(
        catalog.E0801,
        f"the plan `{name}` does not meet this requirement",
        labels=(Label(requirement.span, "not met", primary=True),),
        helps=(Help("make a new plan with `surgery plan`"),),
    )


def _stale(name: str, message: str) -> Diagnostic:
    return Diagnostic(
        catalog.E0801,
        message,
        subject=name,
        helps=(Help("make a new plan with `surgery plan`"),),
    )
