"""SARIF 2.1.0: the shape that its schema asks for, and the places that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from lint_fixtures import CLEAN, changed, findings

from surgery import catalog, render, sarif
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.source import Source, Span

TEXT = Source("dir/a b.surg", 'surg 1\nlet ä = 1 # \U0001f600\nlet b = "c"\n')


def at(part: str, text: str = "", primary: bool = False) -> Label:
    start = TEXT.text.index(part)
    return Label(Span(TEXT, start, start + len(part)), text, primary)


FOUND = Diagnostic(
    catalog.W0714,
    "twice",
    (at("b", "here", True), at("ä", "and here")),
    values=(("x", "1"),),
    notes=("= as it is", "a note"),
    helps=(
        Help("do it", Fix((Edit(at("b").span, "c"), Edit(at('"c"').span, "")), Safety.UNSAFE)),
        Help("or do nothing"),
    ),
)

# What sarif-schema-2.1.0.json says of the objects that surgery writes: all that they may have,
# and (with a star) what they must.
SHAPES: dict[str, str] = {
    "log": "$schema version* runs*",
    "run": "tool* columnKind results artifacts invocations",
    "tool": "driver* extensions",
    "driver": "name* version informationUri rules",
    "rule": "id* name shortDescription fullDescription help helpUri defaultConfiguration",
    "text": "text* markdown",
    "configuration": "enabled level rank parameters",
    "result": "ruleId ruleIndex level message* locations relatedLocations fixes kind rank",
    "location": "id physicalLocation logicalLocations message",
    "logical": "name fullyQualifiedName kind index",
    "physical": "artifactLocation region contextRegion",
    "artifact": "uri uriBaseId index description",
    "region": "startLine startColumn endLine endColumn charOffset charLength byteOffset",
    "fix": "description artifactChanges*",
    "change": "artifactLocation* replacements*",
    "replacement": "deletedRegion* insertedContent",
    "content": "text binary rendered",
}
PARTS: dict[str, dict[str, str]] = {
    "log": {"runs": "run"},
    "run": {"tool": "tool", "results": "result"},
    "tool": {"driver": "driver"},
    "driver": {"rules": "rule"},
    "rule": {
        "shortDescription": "text",
        "fullDescription": "text",
        "help": "text",
        "defaultConfiguration": "configuration",
    },
    "result": {
        "message": "text",
        "locations": "location",
        "relatedLocations": "location",
        "fixes": "fix",
    },
    "location": {"physicalLocation": "physical", "logicalLocations": "logical", "message": "text"},
    "physical": {"artifactLocation": "artifact", "region": "region"},
    "fix": {"description": "text", "artifactChanges": "change"},
    "change": {"artifactLocation": "artifact", "replacements": "replacement"},
    "replacement": {"deletedRegion": "region", "insertedContent": "content"},
}


def conforms(value: object, kind: str) -> None:
    """Whether a value and its parts have the shape of their kind."""
    assert isinstance(value, dict), kind
    found = cast("dict[str, object]", value)
    allowed = SHAPES[kind].split()
    assert found.keys() <= {name.rstrip("*") for name in allowed}, kind
    assert found.keys() >= {name[:-1] for name in allowed if name.endswith("*")}, kind
    for name, part in PARTS.get(kind, {}).items():
        inner = found.get(name)
        for each in cast("list[object]", inner) if isinstance(inner, list) else [inner]:
            if each is not None:
                conforms(each, part)
    if kind in ("result", "configuration"):
        assert found.get("level") in ("none", "note", "warning", "error")
    if kind == "region":
        assert all(isinstance(number, int) and number >= 0 for number in found.values())
        assert all(cast("int", found[n]) >= 1 for n in ("startLine", "startColumn", "endColumn"))


def document(*found: Diagnostic) -> dict[str, object]:
    value = cast("dict[str, object]", json.loads(sarif.text(found)))
    conforms(value, "log")
    return value


def dig(value: object, *path: str | int) -> object:
    for step in path:
        value = cast("dict[str | int, object]", value)[step]
    return value


def test_every_kind_of_finding_has_the_shape() -> None:
    nowhere = Diagnostic(catalog.E0001, "no", subject="x.surg")
    bare = Diagnostic(catalog.E0603, "no")
    busy = changed("\nchoose experts", "\nlet a = 2\n\nchoose experts").replace("@size ", "")
    found = (FOUND, nowhere, bare, *findings(busy), *findings("surg 2\nmodel = \n"))
    value = document(*found)
    results = cast("list[object]", dig(value, "runs", 0, "results"))
    assert len(results) == len(found)
    rules = cast("list[object]", dig(value, "runs", 0, "tool", "driver", "rules"))
    for result, diagnostic in zip(results, found, strict=True):
        assert dig(result, "ruleId") == diagnostic.code.id
        index = cast("int", dig(result, "ruleIndex"))
        assert dig(rules[index], "id") == diagnostic.code.id
        assert dig(rules[index], "name") == diagnostic.code.name


def test_nothing_found_is_a_log_too() -> None:
    assert findings(CLEAN) == ()
    assert dig(document(), "runs", 0, "results") == []
    assert dig(document(), "version") == "2.1.0"


def test_places_count_code_points() -> None:
    value = document(FOUND)
    assert dig(value, "runs", 0, "columnKind") == "unicodeCodePoints"
    result = dig(value, "runs", 0, "results", 0)
    place = dig(result, "locations", 0)
    assert dig(place, "physicalLocation", "artifactLocation", "uri") == "dir/a%20b.surg"
    assert dig(place, "physicalLocation", "region") == {
        "startLine": 3,
        "startColumn": 5,
        "endLine": 3,
        "endColumn": 6,
        "charOffset": TEXT.text.index("b"),
        "charLength": 1,
    }
    assert dig(place, "message", "text") == "here"
    other = dig(result, "relatedLocations", 0)
    assert dig(other, "physicalLocation", "region", "startColumn") == 5
    assert dig(result, "message", "text") == (
        "twice\nx is 1\nnote: as it is\nnote: a note\nhelp: or do nothing"
    )


def test_fixes_are_replacements() -> None:
    (fix,) = cast("list[object]", dig(document(FOUND), "runs", 0, "results", 0, "fixes"))
    assert dig(fix, "description", "text") == "do it (unsafe fix)"
    (change,) = cast("list[object]", dig(fix, "artifactChanges"))
    first, second = cast("list[object]", dig(change, "replacements"))
    assert dig(first, "insertedContent", "text") == "c"
    assert dig(second, "deletedRegion", "charLength") == 3
    assert dig(second, "insertedContent", "text") == ""


def test_a_denied_lint_is_an_error_of_a_rule_that_warns() -> None:
    from surgery.linting.levels import Levels

    denied = Levels({"W0714": "deny"}).apply((FOUND,))
    value = document(*denied)
    assert dig(value, "runs", 0, "results", 0, "level") == "error"
    rule = dig(value, "runs", 0, "tool", "driver", "rules", 0)
    assert dig(rule, "defaultConfiguration", "level") == "warning"
    assert dig(rule, "shortDescription", "text") == "The same literal in three requirements."


def test_absolute_paths_below_here_become_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def uri(name: str) -> object:
        source = Source(name, "surg 1\n")
        label = Label(Span(source, 0, 4), "", primary=True)
        path = ("locations", 0, "physicalLocation", "artifactLocation", "uri")
        value = document(Diagnostic(catalog.E0109, "no", (label,)))
        return dig(value, "runs", 0, "results", 0, *path)

    assert uri(str(tmp_path / "x" / "a.surg")) == "x/a.surg"
    assert uri("/elsewhere/a.surg") == "file:///elsewhere/a.surg"
    assert uri("<stdin>") == "%3Cstdin%3E"


def test_it_is_one_of_the_formats() -> None:
    assert render.render([FOUND], render.Format.SARIF) == sarif.text([FOUND])
    assert sarif.text([FOUND, FOUND]) == sarif.text([FOUND, FOUND])
