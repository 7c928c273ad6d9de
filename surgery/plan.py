"""A plan: built from what the passes chose, resolved back to candidates, as text and as JSON.

In: the chosen candidates and what was checked about them. Out: `Plan`, its canonical text
(`lockfile.py`), and documented JSON of the same content. Refuses (E0808) files that this version
did not write and (E0801) decisions that a space does not offer. Not here: choosing
(`passes/solve.py`), comparing (`diff.py`), views (`show.py`).

A `Plan` may hold full digests (fresh from `build`, and in JSON); the text shortens them to 16 hex
digits, 6 for an artefact. So `parse(text(p)) == short(p)`, and a plan that was read from text is
its own `short`.

Why kept lists and scales are in the file: together with the parent they are all that cutting needs,
so a committed plan rebuilds its checkpoint after the library is gone, and a reader sees which
experts survive. They come last because nobody reviews them, and stay outside the decision hash
because the artefact suffix of a decision (`64#314537`) already depends on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from msgspec.structs import asdict, replace

from surgery import affine, catalog
from surgery.diagnostics import Code, Diagnostic, Stop
from surgery.expr import Distance
from surgery.figures import Figure, of_text, reading
from surgery.ir import (
    Candidate,
    Cost,
    Decision,
    Evidence,
    Measured,
    Merging,
    Plan,
    Scales,
    Site,
    Space,
    Spec,
    merging_of,
)
from surgery.lockfile import ARTEFACT, address, canonical, decision, parse, short, text
from surgery.units import format_bytes, format_params, format_tokens, significant

__all__ = [
    "build",
    "canonical",
    "chosen",
    "data",
    "decision",
    "from_json",
    "named",
    "parse",
    "read",
    "short",
    "sizes",
    "text",
    "to_json",
]

FORMAT_VERSION = 2
"""Version of the JSON. 2: numbers are objects with a value and a unit beside the text."""


# ---- building --------------------------------------------------------------------------------


def build(
    spec: Spec,
    space: Space,
    measured: Measured,
    chosen: Sequence[Candidate],
    *,
    solver: tuple[tuple[str, str], ...],
    objective: tuple[str, str],
    requirements: tuple[Evidence, ...],
    toolchain: str,
) -> Plan:
    """The plan that takes `chosen`, one candidate per site, in canonical order and full digests.

    `solver`, `objective` and `requirements` are what the solver proved and re-verified, as
    printed (`passes/solve.py` makes them). Metrics are exact sums over the chosen costs.
    """
    plan = Plan(
        spec=(PurePosixPath(spec.source.name).name, spec.digest),
        parent=(space.model.source, space.model.digest),
        library=measured.digest,
        toolchain=toolchain,
        decisions=tuple(
            Decision(c.layer, c.site, c.text, c.artefact, c.kept, c.scales, c.merged)
            for c in chosen
        ),
        solver=solver,
        objective=objective,
        requirements=requirements,
        metrics=(
            *sizes((space.fixed, *(c.cost for c in chosen)), space.model.context),
            *_scores(measured, chosen),
        ),
        plans=named(spec),
        rope=spec.rope.text if spec.rope else "",
    )
    return canonical(plan)


def named(spec: Spec) -> tuple[tuple[str, str], ...]:
    """The plans that distances of the spec are measured from: file and hash of the decisions."""
    formulas = (*(each.expr for each in spec.requirements), spec.objective.expr)
    parts = (part for formula in formulas for part in affine.walk(formula))
    return tuple(sorted({(p.plan, p.digest) for p in parts if isinstance(p, Distance)}))


def sizes(costs: Sequence[Cost], context: int) -> tuple[tuple[str, str], ...]:
    """The metrics every plan states, as printed: params, weights, KV per sequence.

    `costs` are those of the whole model, the fixed one included; KV is at `context` tokens.
    """
    return (
        ("params", format_params(sum(cost.params for cost in costs))),
        ("weights", format_bytes(sum(cost.weights for cost in costs))),
        (
            f"kv@{format_tokens(context)}",
            f"{format_bytes(sum(cost.kv_bytes(context) for cost in costs))}/seq",
        ),
    )


def _scores(measured: Measured, chosen: Sequence[Candidate]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (score, significant(sum(damage[c.address] for c in chosen)))
        for score, damage in sorted(measured.damage.items())
    )


def chosen(plan: Plan, space: Space) -> tuple[Candidate, ...]:
    """The candidates that a plan decides on, with its kept lists and scales, in space order.

    Needs no library: the plan lists what every selecting edit keeps. Raises `Stop` (E0801) when
    the space does not offer a decision, or the plan leaves a site undecided.
    """
    decided = {(d.layer, d.site): d for d in plan.decisions}
    places = [(option.layer, option.site) for option in space.options]
    for place in sorted(set(decided) - set(places)):
        raise _stale(plan, f"the model has no site `{address(*place)}`")
    found: list[Candidate] = []
    for option in space.options:
        decision = decided.get((option.layer, option.site))
        where = address(option.layer, option.site)
        if decision is None:
            raise _stale(plan, f"the plan decides nothing for `{where}`")
        edited = bool(decision.artefact)
        same = [c for c in option.candidates if c.text == decision.text]
        # An alternative may restate the parent's block: then the suffix tells them apart.
        match = next((c for c in same if c.changed is edited), same[0] if same else None)
        if match is None:
            raise _stale(plan, f"the spec offers no `{decision.text}` for `{where}`")
        told = replace(match, kept=decision.kept, scales=decision.scales, merged=decision.merged)
        found.append(replace(told, artefact=_artefact(match, decision)))
    return tuple(found)


def _artefact(candidate: Candidate, decision: Decision) -> str:
    """The full hash where the candidate has it and it agrees, else what the plan states."""
    agrees = candidate.artefact[:ARTEFACT] == decision.artefact[:ARTEFACT]
    return candidate.artefact if agrees else decision.artefact


def _stale(plan: Plan, message: str) -> Stop:
    return Stop(Diagnostic(catalog.E0801, message, subject=plan.spec[0]))


# ---- files and JSON --------------------------------------------------------------------------


def read(path: Path) -> Plan:
    """The plan in a text file. Raises `Stop`: E0001 unreadable, E0002 no UTF-8, E0808 no plan."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise _broken(catalog.E0001, f"cannot read the plan: {reason}", str(path)) from error
    try:
        content = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start} of the plan is not UTF-8 text"
        raise _broken(catalog.E0002, message, str(path)) from error
    return parse(content, str(path))


def _broken(code: Code, message: str, subject: str) -> Stop:
    return Stop(Diagnostic(code, message, subject=subject))


def to_json(plan: Plan, known: Mapping[str, Figure] | None = None) -> str:
    """The plan as JSON, keys in fixed order, with `format_version` and whatever digests it has."""
    return json.dumps(data(plan, known), indent=2, ensure_ascii=False) + "\n"


def data(plan: Plan, known: Mapping[str, Figure] | None = None) -> dict[str, object]:
    """What `to_json` writes. Every number is an object of `text`, `value` in base units, `unit`,
    and whether the value is `exact`: those in `known` are, by `objective`, `metric.NAME`,
    `require.N.value` and `require.N.limit` (N counts from 0); all others are read from the text.
    """
    known = known or {}

    def figure(text: str, address: str, name: str = "") -> dict[str, object]:
        return (known.get(address) or of_text(text, name)).data()

    return {
        "format_version": FORMAT_VERSION,
        "decision": decision(plan),
        "stated": plan.stated,
        "spec": {"name": plan.spec[0], "sha256": plan.spec[1]},
        "parent": {"source": plan.parent[0], "sha256": plan.parent[1]},
        "library": plan.library,
        "tables": dict(plan.tables),
        **({"plans": dict(plan.plans)} if plan.plans else {}),
        "toolchain": plan.toolchain,
        **({"rope": plan.rope} if plan.rope else {}),
        "decisions": [_decision_json(d) for d in plan.decisions],
        "solver": {
            key: text if reading(text) is None else figure(text, f"solver.{key}")
            for key, text in plan.solver
        },
        "objective": {"expression": plan.objective[0], **figure(plan.objective[1], "objective")},
        "requirements": [
            {
                "label": each.label,
                "value": figure(each.value, f"require.{number}.value"),
                "op": each.op,
                "limit": figure(each.limit, f"require.{number}.limit"),
            }
            for number, each in enumerate(plan.requirements)
        ],
        "metrics": {name: figure(text, f"metric.{name}", name) for name, text in plan.metrics},
    }


def _decision_json(decided: Decision) -> dict[str, object]:
    """One decision; `scales` and `merged` only where there are any."""
    made: dict[str, object] = {**asdict(decided), "site": decided.site.value}
    del made["scales"], made["merged"]
    scales = decided.scales
    if decided.merged is not None:
        made["merged"] = decided.merged.text
    return made if scales is None else made | {"scales": {"k": scales.k, "v": scales.v}}


def from_json(content: str, name: str = "<json>") -> Plan:
    """The plan that `to_json` wrote. Raises `Stop` (E0808) for anything else."""
    try:
        data = cast("Mapping[str, object]", json.loads(content))
        version = data["format_version"]
        if version != FORMAT_VERSION:
            message = f"plan format {version!r} is unknown: this version reads {FORMAT_VERSION}"
            raise _broken(catalog.E0808, message, name)
        return _plan_of(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = "this JSON is not a plan of this version"
        raise _broken(catalog.E0808, message, name) from error


def _plan_of(data: Mapping[str, object]) -> Plan:
    known = {"format_version", "decision", "stated", "spec", "parent", "library", "toolchain"}
    known |= {"decisions", "solver", "objective", "requirements", "metrics", "tables"}
    if set(data) - {"rope", "plans"} != known:
        raise KeyError(", ".join(sorted(set(data) ^ known)))
    spec, parent = (_texts(data[key]) for key in ("spec", "parent"))
    objective = _fields(data["objective"])
    stated = data["stated"]
    return Plan(
        spec=(spec["name"], spec["sha256"]),
        parent=(parent["source"], parent["sha256"]),
        library=str(data["library"]),
        toolchain=str(data["toolchain"]),
        decisions=tuple(_decision_of(d) for d in _list(data["decisions"])),
        solver=tuple((key, _printed(value)) for key, value in _fields(data["solver"]).items()),
        objective=(str(objective["expression"]), _printed(objective)),
        requirements=tuple(_evidence_of(_fields(r)) for r in _list(data["requirements"])),
        metrics=tuple((key, _printed(value)) for key, value in _fields(data["metrics"]).items()),
        stated=None if stated is None else str(stated),
        tables=tuple(_texts(data["tables"]).items()),
        plans=tuple(_texts(data.get("plans", {})).items()),
        rope=str(data.get("rope", "")),
    )


def _decision_of(data: object) -> Decision:
    found = cast("dict[str, object]", data)
    kept, scales = found["kept"], cast("dict[str, float] | None", found.get("scales"))
    return Decision(
        layer=int(cast("int", found["layer"])),
        site=Site(str(found["site"])),
        text=str(found["text"]),
        artefact=str(found["artefact"]),
        kept=None if kept is None else tuple(int(n) for n in cast("list[int]", kept)),
        scales=None if scales is None else Scales(float(scales["k"]), float(scales["v"])),
        merged=_merging_of(found.get("merged")),
    )


def _merging_of(text: object) -> Merging | None:
    found = merging_of(str(text))
    if text is not None and found is None:
        raise ValueError(f"{text!r} is no merging")
    return found


def _evidence_of(data: Mapping[str, object]) -> Evidence:
    """A requirement: `label`, `op`, and two figures."""
    label, op = str(data["label"]), str(data["op"])
    return Evidence(label, _printed(data["value"]), op, _printed(data["limit"]))


def _printed(figure: object) -> str:
    """The text of a figure, or a text that holds no number."""
    return figure if isinstance(figure, str) else str(_fields(figure)["text"])


def _fields(data: object) -> dict[str, object]:
    if not isinstance(data, dict):
        raise TypeError("an object is expected here")
    return {str(k): v for k, v in cast("dict[object, object]", data).items()}


def _texts(data: object) -> dict[str, str]:
    return {key: str(value) for key, value in _fields(data).items()}


def _list(data: object) -> list[object]:
    if not isinstance(data, list):
        raise TypeError("a list is expected here")
    return cast("list[object]", data)
