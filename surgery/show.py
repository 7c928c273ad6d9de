"""Plans and their differences as text for a terminal.

In: `Plan` and `PlanDiff`, which are data and all that a view knows; the parent where it is at
hand. Out: text without a final newline, no colour, at most about 100 columns. Refuses nothing.
Not here: reading or comparing plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import groupby

from surgery.diff import Change, Op, PlanDiff, split_evidence
from surgery.edits import unlisted
from surgery.figures import reading
from surgery.ir import Decision, Plan, Site
from surgery.lockfile import SITES, decision
from surgery.units import format_layers
from surgery.views.table import table

_SHORT = 8
_WIDTH = 60


# ---- one plan --------------------------------------------------------------------------------


def plan_text(plan: Plan, parent: Mapping[str, str] | None = None) -> str:
    """What a plan does: edited sites, metrics, requirements.

    `parent` has the printed metrics of the unmodified model (`passes/summary.py`), to be set
    beside the plan's; scores of it are 0.
    """
    layers = {d.layer for d in plan.decisions}
    edited = {d.layer for d in plan.decisions if d.artefact}
    name = plan.spec[0].removesuffix(".surg")
    head = f"{name} would change in {len(edited)} of {len(layers)} layers"
    if not edited:
        head = f"{name} would change nothing in {len(layers)} layers"
    blocks = [head + (":" if edited else "")]
    if plan.stated is not None:
        blocks.insert(0, _edited_by_hand(plan, plan.stated))
    sites = [line for site in SITES for line in _site_lines(plan, site)]
    if plan.rope:
        sites.append(f"  {'rope':<11}YaRN factor {plan.rope} in all layers")
    blocks += ["\n".join(sites)] if sites else []
    metrics = metric_rows(plan, parent)
    blocks.append(table(metrics, "<>>>"[: len(metrics[0])]))
    if plan.requirements:
        blocks.append(table(requirement_rows(plan), "<>>>>"))
    blocks += _notes(plan)
    solver = " ".join(f"{key}={value}" for key, value in plan.solver)
    blocks.append(f"  {plan.objective[0]}: {plan.objective[1]}  ({solver})")
    return "\n\n".join(blocks)


def _notes(plan: Plan) -> list[str]:
    """What is not as usual: measurements of others, blocks that are not ranked yet."""
    lines = [f"  given      {name} ({digest[:_SHORT]})" for name, digest in plan.tables]
    lines += [f"  distance   from {name} ({digest[:_SHORT]})" for name, digest in plan.plans]
    for site in SITES:
        left_open = [d.layer for d in unlisted(plan) if d.site is site]
        if left_open and site is Site.ATTENTION:
            which = f"the KV cache of layers {format_layers(left_open, ' ')}"
            lines.append(f"  no scales  {which}: that takes the weights")
        elif left_open:
            which = f"which {site.value} are kept in {format_layers(left_open, ' ')}"
            lines.append(f"  not ranked {which}: that takes the weights")
    return ["\n".join(lines)] if lines else []


def _edited_by_hand(plan: Plan, stated: str) -> str:
    return (
        f"edited by hand: the file states decision {stated[:_SHORT]}, its decisions are "
        f"{decision(plan)[:_SHORT]};\nrequirements and metrics below are those from before"
    )


def _site_lines(plan: Plan, site: Site) -> list[str]:
    """`experts  18 x 128, 18 x 64    64 in 15 17 19 21-35`; nothing for a site nobody edits."""
    decided = [d for d in plan.decisions if d.site is site]
    edited = [d for d in decided if d.artefact]
    if not edited:
        return []
    kept = [d for d in decided if not d.artefact]
    counts = ", ".join(f"{len(ds)} x {text}" for text, ds in _by_text((*kept, *edited)))
    where = [
        f"{text} in {format_layers((d.layer for d in ds), ' ')}" for text, ds in _by_text(edited)
    ]
    if len(counts) > _WIDTH // 2:
        return [f"  {site.value:<11}{counts}", *(f"  {'':<13}{line}" for line in where)]
    return [f"  {site.value:<11}{counts:<{_WIDTH // 2}}  {where[0]}"] + [
        f"  {'':<11}{'':<{_WIDTH // 2}}  {line}" for line in where[1:]
    ]


def _by_text(decisions: Iterable[Decision]) -> list[tuple[str, list[Decision]]]:
    """Decisions by what they decide, in the order of first appearance."""
    found: dict[str, list[Decision]] = {}
    for decided in decisions:
        found.setdefault(decided.text, []).append(decided)
    return list(found.items())


def metric_rows(plan: Plan, parent: Mapping[str, str] | None) -> list[tuple[str, ...]]:
    """Metrics under a head, beside the parent's where they are known."""
    if parent is None:
        return [("", "plan"), *plan.metrics]
    rows: list[tuple[str, ...]] = [("", "parent", "plan", "change")]
    for name, value in plan.metrics:
        before = parent.get(name, "0")
        rows.append((name, before, value, _change(before, value)))
    return rows


def requirement_rows(plan: Plan) -> list[tuple[str, ...]]:
    """Requirements with what they come to and the slack, under a head."""
    rows: list[tuple[str, ...]] = [("requirement", "plan", "", "limit", "slack")]
    rows += [(r.label, r.value, r.op, r.limit, _slack(r.value, r.limit)) for r in plan.requirements]
    return rows


def _slack(value: str, limit: str) -> str:
    """How far a value is from its limit, relative to the limit."""
    at, bound = reading(value), reading(limit)
    if at is None or not bound:
        return ""
    return f"{float(abs(bound - at) / abs(bound)):.1%}"


def _change(before: str, after: str) -> str:
    old, new = reading(before), reading(after)
    if not old or new is None:
        return ""
    return f"{float((new - old) / abs(old)):+.1%}" if new != old else "="


# ---- two plans -------------------------------------------------------------------------------


def diff_text(difference: PlanDiff, old: str, new: str) -> str:
    """What changed from the plan called `old` to the one called `new`."""
    if difference.same_decisions:
        return "\n\n".join([*_provenance(difference), moved(difference)])
    blocks = _provenance(difference)
    for site in SITES:
        changes = [c for c in difference.decisions if _place(c)[1] == site.value]
        if changes:
            blocks.append(f"  {site.value}\n" + _site_changes(changes))
    evidence = evidence_rows(difference, old, new)
    blocks += [table(evidence, "<>>><"), summary(difference)]
    return "\n\n".join(blocks)


def _provenance(difference: PlanDiff) -> list[str]:
    lines: list[str] = []
    before, after = difference.pair("decision")
    if before != after and before and after:
        lines.append(f"  decision   {before[:_SHORT]} -> {after[:_SHORT]}")
    stayed: list[str] = []
    for key in ("spec", "parent", "library", "toolchain"):
        before, after = difference.pair(key)
        if before == after:
            stayed.append(key)
        elif key == "toolchain":
            lines.append(f"  {key:<11}{before} -> {after}")
        else:
            lines.append(f"  {key:<11}changed    {_changed_limit(difference, key)}".rstrip())
    for key in (a for a in difference.addresses if a.startswith(("table.", "plan."))):
        before, after = difference.pair(key)
        what = "changed" if before and after else "added" if after else "removed"
        kind, _, name = key.partition(".")
        if before != after:
            lines.append(f"  {kind:<11}{what:<10} {name}")
    before, after = difference.pair("rope")
    if before != after:
        told = (f"YaRN factor {text}" if text else "the parent's" for text in (before, after))
        lines.append(f"  {'rope':<11}{' -> '.join(told)}")
    stated = difference.pair("stated")
    if any(stated):
        lines.append("  edited     by hand, evidence is that from before")
    if stayed:
        lines.append(f"  unchanged  {', '.join(stayed)}")
    return ["\n".join(lines)]


def _changed_limit(difference: PlanDiff, key: str) -> str:
    """The requirement that changed, when it is exactly one: what people ask first."""
    if key != "spec":
        return ""
    changed: list[str] = []
    for address in difference.addresses:
        if not address.startswith("require."):
            continue
        label = address.removeprefix("require.").partition("#")[0]
        before, after = difference.pair(address)
        if before is None or after is None:
            changed.append(f"{label} {'removed' if before else 'added'}")
            continue
        (_, op, old), (_, other, new) = split_evidence(before), split_evidence(after)
        if (op, old) != (other, new):
            changed.append(f"{label} {op} {old} -> {'' if op == other else other + ' '}{new}")
    return changed[0] if len(changed) == 1 else ""


def _place(change: Change) -> tuple[int, str]:
    _, number, site = change.address.split(".")
    return int(number), site


def _site_changes(changes: Sequence[Change]) -> str:
    """Neighbouring layers with the same change fold into a range."""
    rows: list[tuple[str, str]] = []
    width = max(len(_what(change)[1]) for change in changes)
    for _, run in groupby(
        enumerate(changes), key=lambda item: (_place(item[1])[0] - item[0], _what(item[1]))
    ):
        found = [change for _, change in run]
        numbers = [_place(change)[0] for change in found]
        span = f"layer {numbers[0]}"
        if len(numbers) > 1:
            span = f"layers {numbers[0]}-{numbers[-1]}"
        op, before, after = _what(found[0])
        tail = {
            Op.CHANGED: f" -> {after}",
            Op.REMADE: "    same decision, different slices kept",
        }
        rows.append((f"  {op.value} {span}", f"{before or after:>{width}}{tail.get(op, '')}"))
    return table(rows, "<<")


def _what(change: Change) -> tuple[Op, str, str]:
    before, after = (
        text.partition("#")[0] if text else "" for text in (change.before, change.after)
    )
    return change.op, before, after


def evidence_rows(difference: PlanDiff, old: str, new: str) -> list[tuple[str, ...]]:
    """Requirements, objective and metrics of both plans under a head, with the limits."""
    rows: list[tuple[str, ...]] = [("", old, new, "change", "limit")]
    for address in difference.addresses:
        head, _, name = address.partition(".")
        if head not in ("require", "objective", "metric"):
            continue
        before, after = (text or "" for text in difference.pair(address))
        limit = ""
        if head == "require":
            name = f"require {name}"
            (before, op, was), (after, other, limit) = (
                split_evidence(before),
                split_evidence(after),
            )
            was = f"  (was {was})" if was and limit and (op, was) != (other, limit) else ""
            limit = f"{other} {limit}{was}"
        elif head == "objective":
            name = "objective"
            goal, _, after = after.rpartition(" = ")
            before, limit = before.rpartition(" = ")[2], goal.partition(" ")[0]
        rows.append((name, before, after, _change(before, after), limit))
    return rows


def summary(difference: PlanDiff) -> str:
    """One sentence: how many layers differ, and whether a requirement is violated."""
    layers = {a.split(".")[1] for a in difference.addresses if a.startswith("layer.")}
    changed = {_place(c)[0] for c in difference.decisions}
    parts = [
        f"{site.value} in {len(found)}"
        for site in SITES
        if (found := [c for c in difference.decisions if _is(c, site) and c.op is not Op.REMADE])
    ]
    remade = [c for c in difference.decisions if c.op is Op.REMADE]
    parts += [f"remade in {len({_place(c)[0] for c in remade})}"] if remade else []
    broken = [label for label, holds in _verdicts(difference) if not holds]
    verdict = f"Violated: {', '.join(broken)}." if broken else "No requirement is violated."
    return f"  {len(changed)} of {len(layers)} layers differ: {', '.join(parts)}. {verdict}"


def _is(change: Change, site: Site) -> bool:
    return _place(change)[1] == site.value


def _verdicts(difference: PlanDiff) -> list[tuple[str, bool]]:
    """Whether the requirements of the new plan hold, as printed."""
    verdicts: list[tuple[str, bool]] = []
    for address in difference.addresses:
        after = difference.pair(address)[1]
        if not address.startswith("require.") or after is None:
            continue
        value, op, limit = split_evidence(after)
        at, bound = reading(value), reading(limit)
        if at is not None and bound is not None:
            holds = {"<=": at <= bound, ">=": at >= bound, "==": at == bound}
            verdicts.append((address.removeprefix("require."), holds.get(op, True)))
    return verdicts


def moved(difference: PlanDiff) -> str:
    """The evidence of two plans that decide the same."""
    shifts: list[Fraction] = []
    for change in difference.changes:
        if change.address.startswith(("metric.", "require.")) and change.before and change.after:
            old = reading(split_evidence(change.before)[0])
            new = reading(split_evidence(change.after)[0])
            if old and new is not None and old != new:
                shifts.append((new - old) / abs(old))
    if not shifts:
        return "  same decisions; no measurement moved"
    noun = "measurement" if len(shifts) == 1 else "measurements"
    largest = max(shifts, key=abs)
    return f"  same decisions; {len(shifts)} {noun} moved, largest {float(largest):+.1%}"
