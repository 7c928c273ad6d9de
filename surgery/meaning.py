"""What differs in meaning between two specs, as data.

In: two checked specs with their trees, each of a text in canonical layout (`formatting`), so that
pieces of it can be compared as they stand. Out: `SpecDiff`. Layout, comments, order of statements
and names of `let`s and functions are no meaning: who renames one has changed nothing. Also its
documented JSON. Not here: whether the two plans would differ (that takes a solver), words for
people (`views/specs.py`).

An address is what a statement is about: `require @long`, `scenario short`, `choose experts in
layers`. A part of it that can be told apart has an address of its own: `scenario short.batch`,
`choose experts in layers: retain 48`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import asdict

from surgery.diff import Op
from surgery.grammar import ast, scan
from surgery.ir import Alternative, Choice, Facet, Objective, Requirement, Spec
from surgery.ir.digest import canonical
from surgery.source import Span

FORMAT_VERSION = 1
_Declared: TypeAlias = ast.Model | ast.Machine | ast.Scenario | ast.Dataset | ast.Score | ast.Emit


class SpecChange(Struct, frozen=True):
    """One address: what stood there, and stands there.

    Where both texts are equal, something that they name has another value.
    """

    op: Op
    address: str
    before: str | None
    after: str | None


class SpecDiff(Struct, frozen=True):
    """All changes of meaning; `definitions` are the `let`s and functions of both with new values.

    `unchanged` counts the addresses that mean the same, by their first word.
    """

    changes: tuple[SpecChange, ...]
    definitions: tuple[SpecChange, ...]
    unchanged: Mapping[str, int]

    @property
    def same_meaning(self) -> bool:
        """Whether both specs ask for the same."""
        return not self.changes


class _Part(Struct, frozen=True):
    """What a part of a statement means, and its text."""

    meaning: str
    text: str


class _Fact(Struct, frozen=True):
    """What an address means, its text, and its parts, by what follows the address."""

    meaning: str
    text: str
    parts: Mapping[str, _Part] = field(default_factory=dict[str, _Part])


_Facts: TypeAlias = dict[str, _Fact]


def diff(a: tuple[Spec, ast.Spec], b: tuple[Spec, ast.Spec]) -> SpecDiff:
    """The changes of meaning from one spec to another."""
    before, after = _facts(*a), _facts(*b)
    changes: list[SpecChange] = []
    unchanged: dict[str, int] = {}
    for address in _merged(before, after):
        old, new = before.get(address), after.get(address)
        if old and new and old.meaning == new.meaning:
            kind = address.partition(" ")[0]
            unchanged[kind] = unchanged.get(kind, 0) + 1
        else:
            changes += _changes(address, old, new)
    named = _definitions(a[1], b[1]) if changes else ()
    return SpecDiff(tuple(changes), tuple(named), unchanged)


def _merged(before: _Facts, after: _Facts) -> Iterator[str]:
    """Every address once, in the order of a plan's life: kinds first, then as they come."""
    order = {kind: place for place, kind in enumerate(_KINDS)}
    found = dict.fromkeys([*before, *after])
    yield from sorted(found, key=lambda address: order[address.partition(" ")[0]])


def _changes(address: str, old: _Fact | None, new: _Fact | None) -> Iterator[SpecChange]:
    if old is None or new is None:
        op = Op.ADDED if old is None else Op.REMOVED
        yield SpecChange(op, address, old and old.text, new and new.text)
        return
    parts = list(_parts(address, old.parts, new.parts))
    if parts:
        yield from parts
    else:
        yield SpecChange(Op.CHANGED, address, old.text, new.text)


def _parts(
    address: str, old: Mapping[str, _Part], new: Mapping[str, _Part]
) -> Iterator[SpecChange]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before and after and before.meaning == after.meaning:
            continue
        op = Op.ADDED if before is None else Op.REMOVED if after is None else Op.CHANGED
        texts = (before and before.text, after and after.text)
        yield SpecChange(op, f"{address}{name}", *texts)


# ---- facts -----------------------------------------------------------------------------------

_KINDS = (
    *("model", "input", "machine", "scenario", "dataset", "score", "expect"),
    *("choose", "apply", "require", "objective", "recover", "emit"),
)


def _facts(spec: Spec, tree: ast.Spec) -> _Facts:
    """Everything that a spec asks for, under its addresses."""
    items = {item.span.start: item for item in tree.items}
    found: _Facts = {f"model {spec.model.name}": _declared(spec.model, spec.model.span, items)}
    for value in spec.inputs:
        found[f"input {value.name}"] = _Fact(value.text, value.text)
    for kind, records in (
        ("machine", spec.machines),
        ("scenario", spec.scenarios),
        ("dataset", spec.datasets),
        ("score", spec.scores),
    ):
        for record in records:
            found[f"{kind} {record.name}"] = _declared(record, record.span, items)
    for offer in (*spec.choices, *spec.facets):
        found[_offer_address(offer)] = _offer(offer)
    found |= _wishes("expect", spec.expects) | _wishes("require", spec.requirements)
    found["objective"] = _objective(spec.objective)
    for emit in spec.emits:
        found[f"emit {emit.kind}"] = _declared(emit, emit.span, items)
    return found | _recovery(tree)


def _declared(record: Struct, span: Span, items: Mapping[int, ast.Item]) -> _Fact:
    """A statement with a block, or one that an import brought, which has no parts here."""
    item = items.get(span.start)
    parts: dict[str, _Part] = {}
    if isinstance(item, _Declared):
        told = [("", _head(item)), *((f".{f.name.text}", f.value.span) for f in item.fields)]
        texts = ((name, plain(place.text)) for name, place in told)
        parts = {name: _Part(text, text) for name, text in texts}
        span = item.span
    return _Fact(canonical(record), plain(span.text), parts)


def _head(item: _Declared) -> Span:
    """What a statement says before its block."""
    match item:
        case ast.Machine(value=value):
            return value.span
        case ast.Model(call=call) | ast.Dataset(call=call) | ast.Score(call=call):
            return call.span
        case ast.Scenario(machine=machine):
            return machine.span
        case ast.Emit(path=path):
            return path.span


def _offer_address(offer: Choice | Facet) -> str:
    where = f" in {plain(offer.selector.span.text)}" if offer.selector else ""
    if isinstance(offer, Facet):
        return f"{'apply' if offer.applied else 'choose'} {offer.kind.value}{where}"
    return f"choose {offer.site.value}{where}"


def _offer(offer: Choice | Facet) -> _Fact:
    parts = {f": {_short(each)}": _alternative(each) for each in offer.alternatives}
    return _Fact(canonical(offer), ", ".join(map(_short, offer.alternatives)), parts)


def _alternative(each: Alternative) -> _Part:
    """Its own words: other arguments of the clause that it stands in are other alternatives."""
    told = [f"by {plain(each.by.span.text)}"] if each.by else []
    told += [f"init {each.init}"] if each.init else []
    told += [f"when {plain(each.when.span.text)}"] if each.when else []
    return _Part(canonical(each), " ".join(told))


def _short(each: Alternative) -> str:
    text = plain(each.span.text)
    return text if text.startswith(each.edit) else f"{each.edit} {text}"


def _recovery(tree: ast.Spec) -> _Facts:
    """`recover` has no back end yet, and so no place in a spec but its text."""
    found: _Facts = {}
    for item in tree.items:
        if isinstance(item, ast.Recover):
            text = plain(item.span.text)
            found["recover"] = _Fact(text, text, {f" {k}": v for k, v in _steps(item)})
    return found


def _steps(item: ast.Recover) -> Iterator[tuple[str, _Part]]:
    for step in item.steps:
        name = step.kind.text + (f" {step.name.text}" if step.name else "")
        for each in step.fields:
            text = plain(each.value.span.text)
            yield f"{name}.{each.name.text}", _Part(text, text)


def _wishes(kind: str, wishes: Iterable[Requirement]) -> _Facts:
    found: _Facts = {}
    for each in wishes:
        text = plain(each.expr.span.text)
        name = f"@{each.label}" if each.label else text
        found[f"{kind} {name}"] = _Fact(canonical(each.expr), text)
    return found


def _objective(objective: Objective) -> _Fact:
    text = f"{objective.sense} {plain(objective.expr.span.text)}"
    return _Fact(canonical(objective), text)


# ---- definitions -----------------------------------------------------------------------------


def _definitions(a: ast.Spec, b: ast.Spec) -> Iterator[SpecChange]:
    """What is defined in both under one name, with different texts."""
    before, after = _named(a), _named(b)
    for name in before:
        if name in after and before[name] != after[name]:
            yield SpecChange(Op.CHANGED, name, before[name], after[name])


def _named(tree: ast.Spec) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in tree.items:
        if isinstance(item, ast.Let):
            found[f"let {item.name.text}"] = plain(item.value.span.text)
        elif isinstance(item, ast.Fn):
            found[f"fn {item.name.text}"] = plain(item.body.span.text)
    return found


def plain(text: str) -> str:
    """A piece of a spec on one line, without comments."""
    kept, at = "", 0
    for each in scan.lexemes(text):
        if each.kind == "comment":
            kept, at = kept + text[at : each.start], each.end
    return " ".join((kept + text[at:]).split())


# ---- JSON ------------------------------------------------------------------------------------


def to_json(difference: SpecDiff) -> str:
    """The changes as JSON with `format_version`."""
    data = {
        "format_version": FORMAT_VERSION,
        "same_meaning": difference.same_meaning,
        "changes": [asdict(change) for change in difference.changes],
        "definitions": [asdict(change) for change in difference.definitions],
        "unchanged": dict(difference.unchanged),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
