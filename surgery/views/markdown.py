"""Plans and their differences as Markdown, for pull requests.

In: `Plan`, `PlanDiff`, names of the files. Out: GitHub's Markdown without a final newline. Refuses
nothing. What a terminal shows in columns are tables here; the layers fold away, because who reviews
reads the sizes and requirements first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from surgery import show
from surgery.diff import Change, Op, PlanDiff
from surgery.ir import Decision, Plan
from surgery.units import format_layers
from surgery.views.table import markdown


def plan_markdown(plan: Plan, name: str) -> str:
    """One plan: what it changes, what that comes to, and whether it is allowed to."""
    layers = {d.layer for d in plan.decisions}
    edited = [d for d in plan.decisions if d.artefact]
    count = len({d.layer for d in edited})
    blocks = [f"### `{name}`: {count} of {len(layers)} layers change"]
    if plan.stated is not None:
        blocks.append("> Edited by hand: requirements and metrics are those from before.")
    if edited:
        blocks.append(markdown(_edits(edited), "<<<"))
    blocks.append(markdown(_headed(show.metric_rows(plan, None), "metric"), "<>"))
    if plan.requirements:
        blocks.append(markdown(show.requirement_rows(plan), "<>>>>"))
    blocks.append(f"`{plan.objective[0]}` = **{plan.objective[1]}**")
    return "\n\n".join(blocks)


def diff_markdown(difference: PlanDiff, old: str, new: str) -> str:
    """Two plans: the sentence, the evidence, and the layers below a fold."""
    head = f"### `{old}` → `{new}`"
    if difference.same_decisions:
        return f"{head}\n\n{show.moved(difference).strip()}"
    evidence = _headed(show.evidence_rows(difference, old, new), "")
    changes = markdown(_changes(difference.decisions), "<<<<<")
    fold = f"<details><summary>Layers</summary>\n\n{changes}\n\n</details>"
    sentence = show.summary(difference).strip()
    if any(difference.pair("stated")):
        sentence += "\n\n> Edited by hand: requirements and metrics are those from before."
    return "\n\n".join([head, sentence, markdown(evidence, "<>>><"), fold])


def _headed(rows: list[tuple[str, ...]], corner: str) -> list[tuple[str, ...]]:
    """A table of Markdown needs a head, and may leave its corner empty."""
    return [(corner, *rows[0][1:]), *rows[1:]]


def _edits(edited: Sequence[Decision]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("site", "becomes", "in layers")]
    by_site = sorted(edited, key=lambda d: (d.site.value, d.text, d.layer))
    for (site, text), run in groupby(by_site, key=lambda d: (d.site.value, d.text)):
        rows.append((site, f"`{text}`", format_layers((d.layer for d in run), ", ")))
    return rows


def _changes(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    """One row for all layers with the same change."""
    rows: list[tuple[str, ...]] = [("site", "before", "after", "layers", "because")]
    layers: dict[tuple[str, ...], list[int]] = {}
    for change in changes:
        _, layer, site = change.address.split(".")
        before, after = (f"`{t.partition('#')[0]}`" if t else "" for t in _texts(change))
        after = "other slices kept" if change.op is Op.REMADE else after
        reason = change.reason.value.replace("_", " ") if change.reason else ""
        layers.setdefault((site, before, after, reason), []).append(int(layer))
    for (site, before, after, reason), found in layers.items():
        rows.append((site, before, after, format_layers(found, ", "), reason))
    return rows


def _texts(change: Change) -> tuple[str, str]:
    return change.before or "", change.after or ""
