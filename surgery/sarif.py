"""Diagnostics -> SARIF 2.1.0, which code hosts and editors read.

In: diagnostics in the order to list. Out: one JSON document, the same for the same findings. Lines
and columns count from 1 and, as offsets do, in code points. Paths are relative to where surgery ran
if they lie below. Not here: the other layouts (`render.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from urllib.parse import quote

from surgery.diagnostics import Code, Diagnostic, Edit, Fix, Safety, Severity
from surgery.source import Source, Span

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
_SAFETIES = {
    Safety.SAFE: "safe fix",
    Safety.UNSAFE: "unsafe fix",
    Safety.DISPLAY: "one way out",
}


def text(diagnostics: Iterable[Diagnostic]) -> str:
    """The whole log, indented."""
    return json.dumps(value(tuple(diagnostics)), indent=2)


def value(diagnostics: Sequence[Diagnostic]) -> dict[str, Json]:
    """The whole log as plain values: one run, with the rules that its results name."""
    codes = sorted({each.code.id: each.code for each in diagnostics}.values(), key=lambda c: c.id)
    places = {code.id: place for place, code in enumerate(codes)}
    driver: dict[str, Json] = {
        "name": "surgery",
        "rules": [_rule(code) for code in codes],
    }
    run: dict[str, Json] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, places[each.code.id]) for each in diagnostics],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: Code) -> dict[str, Json]:
    help = f"`surgery explain {code.id}` explains it, with an example and a remedy."
    # What a project makes of a lint is the level of a result, not of the rule.
    level = "warning" if code.id.startswith("W") else _LEVELS[code.severity]
    return {
        "id": code.id,
        "name": code.name,
        "shortDescription": {"text": _sentence(code.summary)},
        "fullDescription": {"text": f"{_sentence(code.summary)} {_promise(code)}"},
        "help": {"text": help},
        "defaultConfiguration": {"level": level},
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _promise(code: Code) -> str:
    match code.fix:
        case Safety.SAFE:
            return "Every finding has a safe fix."
        case Safety.UNSAFE:
            return "Every finding has an unsafe fix."
        case Safety.DISPLAY:
            return "Every finding shows a way out."
        case None:
            return "No fix is promised."


def _result(found: Diagnostic, place: int) -> dict[str, Json]:
    primary = found.primary
    result: dict[str, Json] = {
        "ruleId": found.code.id,
        "ruleIndex": place,
        "level": _LEVELS[found.severity],
        "message": {"text": _message(found)},
    }
    if primary is not None:
        result["locations"] = [_location(primary.span, primary.text)]
    elif found.subject:
        result["locations"] = [{"logicalLocations": [{"fullyQualifiedName": found.subject}]}]
    others = [each for each in found.labels if not each.primary]
    if others:
        result["relatedLocations"] = [_location(each.span, each.text) for each in others]
    fixes = [(each.text, each.fix) for each in found.helps if each.fix and each.fix.edits]
    if fixes:
        result["fixes"] = [_fix(title, fix) for title, fix in fixes]
    return result


def _message(found: Diagnostic) -> str:
    """The message with facts and advice below; what has a fix stands there."""
    lines = [found.message]
    lines += [f"{name} is {known}" for name, known in found.values]
    lines += [f"note: {note.removeprefix('= ')}" for note in found.notes]
    lines += [f"help: {each.text}" for each in found.helps if each.fix is None]
    return "\n".join(lines)


def _location(span: Span, text: str) -> dict[str, Json]:
    physical: dict[str, Json] = {
        "artifactLocation": _artifact(span.source),
        "region": _region(span),
    }
    location: dict[str, Json] = {"physicalLocation": physical}
    if text:
        location["message"] = {"text": text}
    return location


def _artifact(source: Source) -> dict[str, Json]:
    path = source.name
    here = os.path.join(os.getcwd(), "")
    if path.startswith(here):
        path = path[len(here) :]
    if os.path.isabs(path):
        return {"uri": "file://" + quote(path)}
    return {"uri": quote(path.replace(os.sep, "/"))}


def _region(span: Span) -> dict[str, Json]:
    return {
        "startLine": span.first.line,
        "startColumn": span.first.column,
        "endLine": span.last.line,
        "endColumn": span.last.column,
        "charOffset": span.start,
        "charLength": span.end - span.start,
    }


def _fix(title: str, fix: Fix) -> dict[str, Json]:
    sources = dict.fromkeys(edit.span.source for edit in fix.edits)
    changes: list[Json] = []
    for source in sources:
        edits = [edit for edit in fix.edits if edit.span.source == source]
        changes.append(
            {
                "artifactLocation": _artifact(source),
                "replacements": [_replacement(edit) for edit in edits],
            }
        )
    return {
        "description": {"text": f"{title} ({_SAFETIES[fix.safety]})"},
        "artifactChanges": changes,
    }


def _replacement(edit: Edit) -> dict[str, Json]:
    return {"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}}
