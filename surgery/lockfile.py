"""The text of a plan file, written and read: the lock file of an architecture.

In: `Plan`, or the text of one. Out: canonical text (same plan, same bytes), or the plan. Refuses
an unknown version, key or shape with E0808 at the line: a lock file is no configuration. Not
here: JSON and how a plan comes about (`plan.py`).

Four paragraphs, by volatility: provenance, decisions, evidence, kept lists with groups and scales.
Fields are separated by one space and never aligned across rows, so that one changed layer is one
changed line. Texts of candidates contain neither blanks nor `#`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NoReturn

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Label, Stop
from surgery.ir import Decision, Evidence, Plan, Scales, Site, merging_of
from surgery.source import Source, Span
from surgery.units import float32, format_scale

VERSION = 1
DIGEST = 16
"""Hex digits of a digest in the text."""
ARTEFACT = 6
"""Hex digits of an artefact in the text."""

SITES = tuple(Site)
OPERATORS = ("<=", ">=", "==", "<", ">")

_PROVENANCE = ("decision", "spec", "parent", "library", "toolchain")
_HASH = re.compile(rf"sha256:([0-9a-f]{{{DIGEST}}})")
_NAMED = re.compile(rf"(.*\S) {_HASH.pattern}")
_SITE = re.compile(rf"([a-z]+)=([^\s#=]+)(?:#([0-9a-f]{{{ARTEFACT}}}))?")
_LAYER = re.compile(r"layer ([0-9]{2}|[1-9][0-9]{2,5})((?: \S+)+)")
_ROPE = re.compile(r"apply rope factor=([1-9][0-9]{0,8}(?:\.[0-9]{1,17})?)")
_EVIDENCE = re.compile(r"(@\S+) (.+?) (<=|>=|==|<|>) (.+)")
_SCALED = re.compile(r"layer\.([0-9]{2,6})\.([a-z]+) (\S+ \S+)")
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,14})?(?:e[-+][0-9]{2})?"
_SCALES = re.compile(rf"{_NUMBER} {_NUMBER}")
_KEPT = re.compile(r"layer\.([0-9]{2,6})\.([a-z]+) (\S+)")
# Seven digits: no block has ten million slices, and a forged range must not fill the memory.
_RANGE = re.compile(r"(0|[1-9][0-9]{0,6})(?:-([1-9][0-9]{0,6}))?")


# ---- writing ---------------------------------------------------------------------------------


def text(plan: Plan) -> str:
    """The canonical text of a plan, with shortened digests and a final newline."""
    stated = plan.stated or decision(plan)
    provenance = (
        f"surgery-plan {VERSION}",
        f"decision  {_short_hash(stated)}",
        f"spec      {plan.spec[0]} {_short_hash(plan.spec[1])}",
        f"parent    {plan.parent[0]} {_short_hash(plan.parent[1])}",
        f"library   {_short_hash(plan.library)}",
        *(f"table     {name} {_short_hash(digest)}" for name, digest in plan.tables),
        *(f"plan      {name} {_short_hash(digest)}" for name, digest in plan.plans),
        f"toolchain {plan.toolchain}",
    )
    evidence = (
        "solver    " + " ".join(f"{key}={value}" for key, value in plan.solver),
        f"objective {plan.objective[0]} = {plan.objective[1]}",
        *(f"require {r.label} {r.value} {r.op} {r.limit}" for r in plan.requirements),
        *(f"metric {name} {value}" for name, value in plan.metrics),
    )
    kept = tuple(
        f"kept {address(d.layer, d.site)} {ranges(d.kept)}" for d in plan.decisions if d.kept
    )
    scales = tuple(
        f"scales {address(d.layer, d.site)} {scales_text(d.scales)}"
        for d in plan.decisions
        if d.scales
    )
    merged = tuple(
        f"merged {address(d.layer, d.site)} {d.merged.text}" for d in plan.decisions if d.merged
    )
    paragraphs = (provenance, decision_lines(plan), evidence, (*kept, *merged, *scales))
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"


def decision_lines(plan: Plan) -> tuple[str, ...]:
    """The decisions paragraph: what all layers share, then one line per layer, sites in order."""
    by_layer = groupby(plan.decisions, key=lambda d: d.layer)
    shared = (f"apply rope factor={plan.rope}",) if plan.rope else ()
    return shared + tuple(
        f"layer {n:02} " + " ".join(map(_site_text, sites)) for n, sites in by_layer
    )


def decision(plan: Plan) -> str:
    """SHA-256 of the decisions paragraph alone, 64 hex digits."""
    return hashlib.sha256("\n".join(decision_lines(plan)).encode()).hexdigest()


def value_text(decided: Decision) -> str:
    """What a site becomes, as the plan writes it: `64#314537`, or `128` when unchanged."""
    return decided.text + (f"#{decided.artefact[:ARTEFACT]}" if decided.artefact else "")


def address(layer: int, site: Site) -> str:
    """`layer.03.experts`: how findings and differences name a site."""
    return f"layer.{layer:02}.{site.value}"


def scales_text(scales: Scales) -> str:
    """The scales of K and V, in the fewest digits that give them back."""
    return f"{format_scale(scales.k)} {format_scale(scales.v)}"


def scales_of(text: str) -> Scales | None:
    """The scales that `scales_text` wrote; `None` for any other text."""
    if not _SCALES.fullmatch(text):
        return None
    try:
        found = Scales(*(float32(float(part)) for part in text.split(" ")))
    except OverflowError:
        return None
    return found if min(found.k, found.v) > 0 and scales_text(found) == text else None


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as `0-5,9,11-127`, runs of two or more joined."""
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in runs(numbers))


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Maximal runs of neighbours in ascending numbers, as inclusive pairs."""
    for _, pairs in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in pairs]
        yield run[0], run[-1]


def numbers(listed: str) -> tuple[int, ...] | None:
    """What `ranges` wrote as `listed`; `None` for anything that it would not have written."""
    found: list[int] = []
    for part in listed.split(","):
        run = _RANGE.fullmatch(part)
        if run is None:
            return None
        found.extend(range(int(run[1]), int(run[2] or run[1]) + 1))
    return tuple(found) if ranges(found) == listed and found == sorted(set(found)) else None


def _site_text(decided: Decision) -> str:
    if re.search(r"[\s#=]", decided.text) or not decided.text:
        raise ValueError(f"a plan cannot hold the candidate text {decided.text!r}")
    return f"{decided.site.value}={value_text(decided)}"


def _short_hash(digest: str) -> str:
    return f"sha256:{digest[:DIGEST]}"


# ---- the canonical form ----------------------------------------------------------------------


def short(plan: Plan) -> Plan:
    """The plan with its digests cut to what the text shows."""
    return replace(
        plan,
        spec=(plan.spec[0], plan.spec[1][:DIGEST]),
        parent=(plan.parent[0], plan.parent[1][:DIGEST]),
        library=plan.library[:DIGEST],
        decisions=tuple(replace(d, artefact=d.artefact[:ARTEFACT]) for d in plan.decisions),
        stated=plan.stated[:DIGEST] if plan.stated else None,
        tables=tuple((name, digest[:DIGEST]) for name, digest in plan.tables),
        plans=tuple((name, digest[:DIGEST]) for name, digest in plan.plans),
    )


def canonical(plan: Plan) -> Plan:
    """The plan in canonical order: decisions by layer and site, requirements by label.

    Requirements of one label keep their order, which is that of the spec.
    """
    return replace(
        plan,
        decisions=tuple(sorted(plan.decisions, key=lambda d: (d.layer, SITES.index(d.site)))),
        requirements=tuple(sorted(plan.requirements, key=lambda r: r.label)),
        metrics=tuple(sorted(plan.metrics, key=lambda m: metric_order(m[0]))),
        solver=tuple(sorted(plan.solver, key=lambda field: solver_order(field[0]))),
        tables=tuple(sorted(plan.tables)),
        plans=tuple(sorted(plan.plans)),
    )


def metric_order(name: str) -> tuple[int, str]:
    """Sort key of metrics: params, weights, KV sizes, then scores."""
    sizes = ("params", "weights")
    if name in sizes:
        return (sizes.index(name), name)
    return (2 if name.startswith("kv@") else 3, name)


def solver_order(name: str) -> tuple[int, str]:
    """Sort key of solver fields: status, gap, bound, seed, then anything else."""
    fields = ("status", "gap", "bound", "seed")
    return (fields.index(name) if name in fields else len(fields), name)


# ---- reading ---------------------------------------------------------------------------------


def parse(text: str, name: str) -> Plan:
    """The plan that a text holds; `name` is the file as the user knows it.

    Raises `Stop` (E0808, located by line) for anything this version would not have written, save
    that a `decision` hash which does not fit goes into `Plan.stated`: decisions may be edited by
    hand.
    """
    return _Reader(Source(name, text)).plan()


class _Reader(Struct):
    """One pass over the lines of a plan file; every refusal points at the current line."""

    source: Source
    number: int = 0
    fields: dict[str, str] = field(default_factory=dict[str, str])
    decisions: dict[tuple[int, Site], Decision] = field(
        default_factory=dict[tuple[int, Site], Decision]
    )
    requirements: list[Evidence] = field(default_factory=list[Evidence])
    metrics: dict[str, str] = field(default_factory=dict[str, str])
    tables: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    plans: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    rope: str = ""

    def plan(self) -> Plan:
        self.number = 1
        if not self.source.text.startswith("surgery-plan "):
            self.refuse("this is not a plan file", "a plan begins with `surgery-plan 1`")
        if self.source.line(1) != f"surgery-plan {VERSION}":
            version = self.source.line(1).removeprefix("surgery-plan ")
            self.refuse(
                f"plan version `{version}` is unknown", f"this version of surgery reads {VERSION}"
            )
        for number in range(2, self.source.line_count + 1):
            self.number = number
            if line := self.source.line(number):
                self.read(line)
        self.number = 1
        for key in (*_PROVENANCE, "solver", "objective"):
            if key not in self.fields:
                self.refuse(f"the plan has no `{key}` line", "expected in this file")
        return self.assembled()

    def read(self, line: str) -> None:
        key, _, rest = line.partition(" ")
        match key:
            case "apply" | "layer":
                {"apply": self.apply, "layer": self.layer}[key](line)
            case "require":
                label, value, op, limit = self.match(_EVIDENCE, rest, "@label value <= limit")
                self.requirements.append(Evidence(label, value, op, limit))
            case "metric":
                name, value = self.match(re.compile(r"(\S+) (.+)"), rest, "name value")
                if name in self.metrics:
                    self.refuse(f"the metric `{name}` appears twice", "again here")
                self.metrics[name] = value
            case "kept" | "merged" | "scales":
                {"kept": self.kept, "merged": self.merged, "scales": self.scales}[key](rest)
            case "table" | "plan":
                shape = f"name sha256:<{DIGEST} hex digits>"
                name, digest = self.match(_NAMED, rest.lstrip(" "), shape)
                {"table": self.tables, "plan": self.plans}[key].append((name, digest))
            case "solver" | "objective" | "decision" | "spec" | "parent" | "library" | "toolchain":
                if key in self.fields:
                    self.refuse(f"`{key}` appears twice", "again here")
                self.fields[key] = rest.lstrip(" ")
                self.check_field(key)
            case _:
                self.refuse(f"unknown key `{key}` in a plan", "not a key of this version")

    def check_field(self, key: str) -> None:
        value = self.fields[key]
        if key in ("decision", "library"):
            self.match(_HASH, value, f"sha256:<{DIGEST} hex digits>")
        elif key in ("spec", "parent"):
            self.match(_NAMED, value, "name sha256:<hex digits>")
        elif key == "solver":
            self.match(re.compile(r"[^\s=]+=\S+(?: [^\s=]+=\S+)*"), value, "key=value ...")
        elif key == "objective":
            self.match(re.compile(r"(.+) = (.+)"), value, "expression = value")
        elif not value:
            self.refuse(f"`{key}` is empty", "a value is expected here")

    def apply(self, line: str) -> None:
        if self.decisions or self.rope:
            self.refuse("what all layers share comes first, and once", "not expected here")
        (self.rope,) = self.match(_ROPE, line, "apply rope factor=64")

    def layer(self, line: str) -> None:
        number, rest = self.match(_LAYER, line, "layer 00 site=text ...")
        layer = int(number)
        for part in rest.split(" ")[1:]:
            site, chosen, artefact = self.match(_SITE, part, "site=text or site=text#artefact")
            if site not in {s.value for s in SITES}:
                self.refuse(f"unknown site `{site}` in a plan", "not a site of this version")
            place = (layer, Site(site))
            last = next(reversed(self.decisions), None)
            if last and (last[0], SITES.index(last[1])) >= (layer, SITES.index(place[1])):
                self.refuse("the decisions are out of order", "this comes earlier, or only once")
            self.decisions[place] = Decision(layer, place[1], chosen, artefact or "")

    def kept(self, rest: str) -> None:
        layer, site, listed = self.match(_KEPT, rest, "layer.00.site 0-5,9")
        place = next((p for p in self.decisions if address(*p) == f"layer.{layer}.{site}"), None)
        if place is None or self.decisions[place].kept is not None:
            self.refuse(f"no decision for `layer.{layer}.{site}`", "or listed twice")
        for part in listed.split(","):
            self.match(_RANGE, part, "ascending numbers and ranges")
        kept = numbers(listed)
        if kept is None:
            self.refuse("a kept list is not canonical", "ascending, runs joined: `0-5,9`")
        self.decisions[place] = replace(self.decisions[place], kept=kept)

    def merged(self, rest: str) -> None:
        layer, site, told = self.match(_KEPT, rest, "layer.00.site 0*7+5*2,1*3")
        place = next((p for p in self.decisions if address(*p) == f"layer.{layer}.{site}"), None)
        if place is None or self.decisions[place].merged is not None:
            self.refuse(f"no decision for `layer.{layer}.{site}`", "or told twice")
        found = merging_of(told)
        if found is None:
            self.refuse("groups are not canonical", "every expert once: `0*7+5*2,1*3`")
        self.decisions[place] = replace(self.decisions[place], merged=found)

    def scales(self, rest: str) -> None:
        layer, site, told = self.match(_SCALED, rest, "layer.00.site 0.01 0.02")
        place = next((p for p in self.decisions if address(*p) == f"layer.{layer}.{site}"), None)
        if place is None or self.decisions[place].scales is not None:
            self.refuse(f"no decision for `layer.{layer}.{site}`", "or told twice")
        scales = scales_of(told)
        if scales is None:
            self.refuse("scales are not canonical", "two numbers above 0, in the fewest digits")
        self.decisions[place] = replace(self.decisions[place], scales=scales)

    def assembled(self) -> Plan:
        fields = self.fields
        spec, spec_hash = _last_word(fields["spec"])
        parent, parent_hash = _last_word(fields["parent"])
        objective, _, value = fields["objective"].rpartition(" = ")
        plan = Plan(
            spec=(spec, spec_hash.removeprefix("sha256:")),
            parent=(parent, parent_hash.removeprefix("sha256:")),
            library=fields["library"].removeprefix("sha256:"),
            toolchain=fields["toolchain"],
            decisions=tuple(self.decisions.values()),
            solver=tuple(_pair(part) for part in fields["solver"].split(" ")),
            objective=(objective, value),
            requirements=tuple(self.requirements),
            metrics=tuple(self.metrics.items()),
            tables=tuple(self.tables),
            plans=tuple(self.plans),
            rope=self.rope,
        )
        stated = fields["decision"].removeprefix("sha256:")
        agrees = decision(plan).startswith(stated)
        return canonical(plan if agrees else replace(plan, stated=stated))

    def match(self, pattern: re.Pattern[str], text: str, shape: str) -> tuple[str, ...]:
        found = pattern.fullmatch(text)
        if found is None:
            self.refuse("a line of the plan is malformed", f"expected `{shape}`")
        return tuple(found.groups(""))

    def refuse(self, message: str, here: str) -> NoReturn:
        line = self.source.line(self.number)
        start = sum(len(part) + 1 for part in self.source.text.split("\n")[: self.number - 1])
        span = Span(self.source, start, start + len(line))
        labels = (Label(span, here, primary=True),)
        helps = (Help("make a new plan with `surgery plan`"),)
        raise Stop(Diagnostic(catalog.E0808, message, labels, helps=helps))


def _last_word(text: str) -> tuple[str, str]:
    head, _, tail = text.rpartition(" ")
    return head, tail


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value
