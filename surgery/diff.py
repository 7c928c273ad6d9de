"""What differs between two plans, as data: a list of changes that can be applied.

In: two plans. Out: `PlanDiff`, which views render and `patch` applies: `patch(a, diff(a, b))` is
`b`, for plans in canonical order with shortened digests, as read from files. Also its documented
JSON. Not here: words for people (`show.py`).

A plan is a set of facts under addresses: `spec`, `layer.03.experts`, `kept.layer.03.experts`,
`require.@size`, `metric.weights`. Only a different `text` of a decision is a change of decision;
the same text with another artefact (other experts kept) is marked `=`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import asdict, replace

from surgery import lockfile
from surgery.figures import reading
from surgery.ir import Plan

FORMAT_VERSION = 1
_BARE = ("spec", "parent", "library", "table", "plan", "toolchain")


class Op(StrEnum):
    """What happened at an address."""

    CHANGED = "~"
    REMADE = "="
    """The same decision with another artefact: other slices kept, other values."""
    ADDED = "+"
    REMOVED = "-"


class Reason(StrEnum):
    """Why a decision differs, as far as two plans can tell."""

    FORCED = "forced"
    """Edited by hand."""
    PARENT_CHANGED = "parent_changed"
    REQUIREMENT_TIGHTENED = "requirement_tightened"
    SPEC_CHANGED = "spec_changed"
    REMEASURED = "remeasured"
    RERANKED = "reranked"
    TIE_BROKEN = "tie_broken"
    """Nothing that went in differs, save perhaps the tools."""


class Change(Struct, frozen=True):
    """One address: what it was and is, as plans print it. Decisions have a reason."""

    op: Op
    address: str
    before: str | None
    after: str | None
    reason: Reason | None = None


class PlanDiff(Struct, frozen=True):
    """All changes from one plan to another, and what stayed (so that views need no plan)."""

    changes: tuple[Change, ...]
    unchanged: tuple[tuple[str, str], ...]

    @property
    def same_decisions(self) -> bool:
        """Whether both plans decide the same, artefacts included."""
        return not self.decisions and self.pair("rope")[0] == self.pair("rope")[1]

    @property
    def decisions(self) -> tuple[Change, ...]:
        """The changes of decisions, by layer and site."""
        return tuple(c for c in self.changes if c.address.startswith("layer."))

    def pair(self, address: str) -> tuple[str | None, str | None]:
        """What an address was and is."""
        for change in self.changes:
            if change.address == address:
                return change.before, change.after
        stayed = dict(self.unchanged).get(address)
        return stayed, stayed

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address of either plan, in canonical order."""
        found = [c.address for c in self.changes] + [address for address, _ in self.unchanged]
        return tuple(sorted(found, key=_order))


def diff(a: Plan, b: Plan) -> PlanDiff:
    """The changes that make `b` of `a`."""
    before, after = _facts(a), _facts(b)
    changes: list[Change] = []
    unchanged: list[tuple[str, str]] = []
    for address in sorted({*before, *after}, key=_order):
        old, new = before.get(address), after.get(address)
        if old == new and old is not None:
            unchanged.append((address, old))
        else:
            changes.append(Change(_op(address, old, new), address, old, new))
    why = _reason(changes, b)
    return PlanDiff(tuple(_explained(change, why) for change in changes), tuple(unchanged))


def patch(a: Plan, difference: PlanDiff) -> Plan:
    """The plan that `difference` was made towards.

    Raises `ValueError` when it was not made from `a`, and `Stop` (E0808) when its facts are those
    of no plan.
    """
    facts = _facts(a)
    for change in difference.changes:
        if facts.get(change.address) != change.before:
            raise ValueError(f"{change.address} is not {change.before!r} in this plan")
        if change.after is None:
            del facts[change.address]
        else:
            facts[change.address] = change.after
    stated = facts.get("stated")
    return replace(lockfile.parse(_text(facts), "<patch>"), stated=stated)


# ---- facts -----------------------------------------------------------------------------------


def _facts(plan: Plan) -> dict[str, str]:
    """A plan under its addresses."""
    plan = lockfile.canonical(lockfile.short(plan))
    facts = {
        "decision": lockfile.decision(plan)[: lockfile.DIGEST],
        "spec": " ".join(plan.spec),
        "parent": " ".join(plan.parent),
        "library": plan.library,
        "toolchain": plan.toolchain,
        "objective": " = ".join(plan.objective),
    }
    if plan.stated is not None:
        facts["stated"] = plan.stated
    if plan.rope:
        facts["rope"] = plan.rope
    for d in plan.decisions:
        place = lockfile.address(d.layer, d.site)
        facts[place] = lockfile.value_text(d)
        if d.kept is not None:
            facts[f"kept.{place}"] = lockfile.ranges(d.kept)
        if d.merged is not None:
            facts[f"merged.{place}"] = d.merged.text
        if d.scales is not None:
            facts[f"scales.{place}"] = lockfile.scales_text(d.scales)
    facts |= {f"table.{name}": digest for name, digest in plan.tables}
    facts |= {f"plan.{name}": digest for name, digest in plan.plans}
    facts |= {f"solver.{key}": value for key, value in plan.solver}
    facts |= {f"metric.{name}": value for name, value in plan.metrics}
    for evidence in plan.requirements:
        address, number = f"require.{evidence.label}", 1
        while address in facts:
            number += 1
            address = f"require.{evidence.label}#{number}"
        facts[address] = f"{evidence.value} {evidence.op} {evidence.limit}"
    return facts


def _order(address: str) -> tuple[int, int, int, tuple[int, str], str, int]:
    """Provenance, decisions, evidence, kept lists, scales: the order of the file."""
    head, _, rest = address.partition(".")
    rank = (
        "decision",
        "stated",
        *_BARE,
        "rope",
        "layer",
        "solver",
        "objective",
        "require",
        "metric",
    )
    section = rank.index(head) if head in rank else len(rank)
    if head in ("layer", "kept", "merged", "scales"):
        layer, site = rest.removeprefix("layer.").split(".")
        sites = [s.value for s in lockfile.SITES]
        return (section, int(layer), sites.index(site), (0, ""), "", 0)
    named = (0, "")
    if head == "metric":
        named = lockfile.metric_order(rest)
    elif head == "solver":
        named = lockfile.solver_order(rest)
    label, _, number = rest.partition("#")
    return (section, 0, 0, named, label, int(number) if number.isdigit() else 0)


def _text(facts: Mapping[str, str]) -> str:
    """Plan text of these facts; the decision hash is not checked here."""
    lines = [f"surgery-plan {lockfile.VERSION}", f"decision sha256:{'0' * lockfile.DIGEST}"]
    layers: dict[str, list[str]] = {}
    solver: list[str] = []
    evidence: list[str] = []
    kept: list[str] = []
    shared = [f"apply rope factor={facts['rope']}"] if "rope" in facts else []
    for address in sorted(facts, key=_order):
        head, _, rest = address.partition(".")
        value = facts[address]
        match head:
            case "spec" | "parent":
                name, _, digest = value.rpartition(" ")
                lines.append(f"{head} {name} sha256:{digest}")
            case "library" | "table" | "plan":
                lines.append(f"{head} {rest} sha256:{value}")
            case "toolchain" | "objective":
                lines.append(f"{head} {value}")
            case "layer":
                number, _, site = rest.partition(".")
                layers.setdefault(number, []).append(f"{site}={value}")
            case "kept" | "merged" | "scales":
                kept.append(f"{head} {rest} {value}")
            case "solver":
                solver.append(f"{rest}={value}")
            case "require":
                evidence.append(f"require {rest.partition('#')[0]} {value}")
            case "metric":
                evidence.append(f"metric {rest} {value}")
            case _:
                pass
    decided = [f"layer {number} {' '.join(sites)}" for number, sites in layers.items()]
    return (
        "\n".join([*lines, *shared, *decided, "solver " + " ".join(solver), *evidence, *kept])
        + "\n"
    )


# ---- operations and reasons ------------------------------------------------------------------


def _op(address: str, old: str | None, new: str | None) -> Op:
    if old is None:
        return Op.ADDED
    if new is None:
        return Op.REMOVED
    decided = address.startswith("layer.")
    same = decided and old.partition("#")[0] == new.partition("#")[0]
    return Op.REMADE if same else Op.CHANGED


def _reason(changes: Iterable[Change], b: Plan) -> Reason:
    """Why decisions changed: the first thing that went in and differs."""
    moved = {change.address: change for change in changes}
    if b.stated is not None:
        return Reason.FORCED
    if "parent" in moved:
        return Reason.PARENT_CHANGED
    if "spec" in moved:
        tight = any(_tightened(c) for a, c in moved.items() if a.startswith("require."))
        return Reason.REQUIREMENT_TIGHTENED if tight else Reason.SPEC_CHANGED
    measured = any(address == "library" or address.startswith("table.") for address in moved)
    return Reason.REMEASURED if measured else Reason.TIE_BROKEN


def _explained(change: Change, why: Reason) -> Change:
    if not change.address.startswith("layer."):
        return change
    reranked = change.op is Op.REMADE and why is not Reason.FORCED
    return replace(change, reason=Reason.RERANKED if reranked else why)


def _tightened(change: Change) -> bool:
    if change.before is None:
        return True
    if change.after is None:
        return False
    (_, op, old), (_, _, new) = split_evidence(change.before), split_evidence(change.after)
    before, after = reading(old), reading(new)
    if before is None or after is None or before == after:
        return False
    return (after < before) is (op in ("<=", "<"))


# ---- printed values --------------------------------------------------------------------------


def split_evidence(text: str) -> tuple[str, str, str]:
    """`1.63x >= 1.60x` as value, operator and limit."""
    for op in lockfile.OPERATORS:
        value, found, limit = text.partition(f" {op} ")
        if found:
            return value, op, limit
    return text, "", ""


# ---- JSON ------------------------------------------------------------------------------------


def to_json(difference: PlanDiff) -> str:
    """The changes as JSON with `format_version`; `reason` is null for what is no decision."""
    data = {
        "format_version": FORMAT_VERSION,
        "same_decisions": difference.same_decisions,
        "changes": [asdict(change) for change in difference.changes],
        "unchanged": dict(difference.unchanged),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
