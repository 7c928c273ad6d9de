"""Diagnostics -> text: `full`, `concise`, `json`, `github` and (in `sarif.py`) `sarif`.

In: diagnostics in the order to print. Out: strings without a final newline. Prints nothing and
decides no order. Colour only where asked for, and never as the only carrier of a meaning.

A note is printed as `= note: ...`, unless it begins with `= `: then it is printed as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeAlias

from surgery import sarif
from surgery.diagnostics import Diagnostic, Fix, Label, Safety, Severity
from surgery.excerpt import Piece, Row, Style, bar, change_rows, changes, numbers, rows, visible
from surgery.source import Position, Source, Span

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"


class Format(StrEnum):
    """The ways to print findings."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


_BOLD = "\x1b[1m"
_RESET = "\x1b[0m"
_SEVERITY_COLOUR = {
    Severity.ERROR: "\x1b[1;31m",
    Severity.WARNING: "\x1b[1;33m",
    Severity.NOTE: "\x1b[1;36m",
}
_STYLE_COLOUR = {
    Style.GUTTER: "\x1b[1;34m",
    Style.SECONDARY: "\x1b[1;34m",
    Style.REMOVED: "\x1b[31m",
    Style.ADDED: "\x1b[32m",
}


UNSAFE = "note: this is an unsafe fix: it may change what the spec means"


def render(
    diagnostics: Iterable[Diagnostic], format: Format = Format.FULL, *, colour: bool = False
) -> str:
    """All findings in one format; empty when there are none, except in JSON and SARIF."""
    found = tuple(diagnostics)
    match format:
        case Format.FULL:
            return "\n\n".join(full(each, colour=colour) for each in found)
        case Format.CONCISE:
            return "\n".join(concise(each, colour=colour) for each in found)
        case Format.GITHUB:
            return "\n".join(github(each) for each in found)
        case Format.JSON:
            return "[" + ",\n ".join(json_text(each) for each in found) + "]"
        case Format.SARIF:
            return sarif.text(found)


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`, or `no findings`."""
    found = [each.severity for each in diagnostics]
    counts = ((severity.word, found.count(severity)) for severity in Severity)
    words = [f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts if n]
    return ", ".join(words) or "no findings"


# ---- full ------------------------------------------------------------------------------------


def full(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """The finding with the lines it is about, notes and fixes."""
    gutter = _gutter(diagnostic)
    head = _Painter(colour, diagnostic.severity)
    title = f"{diagnostic.severity.word}[{diagnostic.code.id}]"
    lines = [head.severity(title) + head.bold(f": {visible(diagnostic.message)}")]
    excerpt = [head.row(row) for row in _excerpts(diagnostic, gutter)]
    facts = [f"{' ' * gutter} = {visible(fact)}" for fact in _facts(diagnostic)]
    lines += excerpt
    if facts or (diagnostic.labels and any(each.fix for each in diagnostic.helps)):
        lines.append(head.row(bar(gutter)))
    lines += facts
    for each in diagnostic.helps:
        if each.fix is not None:
            lines.append(f"help: {visible(each.text)}")
            lines += [head.row(row) for row in _fix(each.fix, gutter)]
            if each.fix.safety is Safety.UNSAFE:
                lines.append(UNSAFE)
    return "\n".join(lines)


def _facts(diagnostic: Diagnostic) -> list[str]:
    values = [f"{name} is {value}" for name, value in diagnostic.values]
    notes = [n[2:] if n.startswith("= ") else f"note: {n}" for n in diagnostic.notes]
    helps = [f"help: {each.text}" for each in diagnostic.helps if each.fix is None]
    return values + notes + helps


def _gutter(diagnostic: Diagnostic) -> int:
    """How many columns the line numbers need."""
    lines = numbers(diagnostic.labels)
    for fix in (each.fix for each in diagnostic.helps if each.fix):
        for change in changes(fix.edits):
            lines.append(change.start + max(len(change.old), len(change.new), 1) - 1)
    return len(str(max(lines))) if lines else 2


def _by_source(labels: Sequence[Label], first: Source) -> list[tuple[Source, list[Label]]]:
    sources = [first]
    sources += [label.span.source for label in labels]
    unique = [s for n, s in enumerate(sources) if s not in sources[:n]]
    return [(s, [label for label in labels if label.span.source == s]) for s in unique]


def _excerpts(diagnostic: Diagnostic, gutter: int) -> list[Row]:
    primary = diagnostic.primary
    if primary is None:
        if diagnostic.subject is None:
            return []
        return [(Piece(" " * gutter + "--> ", Style.GUTTER), Piece(visible(diagnostic.subject)))]
    found: list[Row] = []
    for source, labels in _by_source(diagnostic.labels, primary.span.source):
        here = primary if primary in labels else labels[0]
        arrow = "--> " if here is primary else "::: "
        found.append((Piece(" " * gutter + arrow, Style.GUTTER), Piece(visible(str(here.span)))))
        found += rows(source, labels, gutter)
    return found


def _fix(fix: Fix, gutter: int) -> list[Row]:
    found = [bar(gutter)]
    for change in changes(fix.edits):
        found += change_rows(change, gutter)
    return found


class _Painter:
    """Adds colour, or not."""

    def __init__(self, colour: bool, severity: Severity) -> None:
        self._colour = colour
        self._severity = _SEVERITY_COLOUR[severity]

    def _paint(self, text: str, start: str) -> str:
        return f"{start}{text}{_RESET}" if self._colour and start and text else text

    def severity(self, text: str) -> str:
        return self._paint(text, self._severity)

    def bold(self, text: str) -> str:
        return self._paint(text, _BOLD)

    def row(self, row: Row) -> str:
        return "".join(
            self._paint(
                piece.text,
                self._severity
                if piece.style is Style.PRIMARY
                else _STYLE_COLOUR.get(piece.style, ""),
            )
            for piece in row
        ).rstrip()


# ---- one line --------------------------------------------------------------------------------


def concise(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """`file:line:column: error[E0101]: message`; `[*]` marks what a safe fix mends."""
    painter = _Painter(colour, diagnostic.severity)
    primary = diagnostic.primary
    place = str(primary.span) if primary else diagnostic.subject
    title = painter.severity(f"{diagnostic.severity.word}[{diagnostic.code.id}]")
    safe = any(each.fix and each.fix.safety is Safety.SAFE for each in diagnostic.helps)
    text = f"{title}{' [*]' if safe else ''}: {visible(diagnostic.message)}"
    return f"{visible(place)}: {text}" if place else text


def github(diagnostic: Diagnostic) -> str:
    """A workflow command that GitHub shows at the line."""
    word = "notice" if diagnostic.severity is Severity.NOTE else diagnostic.severity.word
    title = f"{diagnostic.code.id} {diagnostic.code.name}"
    primary = diagnostic.primary
    if primary is None:
        subject = f"{diagnostic.subject}: " if diagnostic.subject else ""
        return f"::{word} title={_property(title)}::{_data(subject + diagnostic.message)}"
    first, last = primary.span.first, primary.span.last
    place = f"file={_property(primary.span.source.name)},line={first.line},col={first.column}"
    end = f"endLine={last.line},title={_property(title)}"
    return f"::{word} {place},{end}::{_data(diagnostic.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# ---- json ------------------------------------------------------------------------------------


def json_text(diagnostic: Diagnostic) -> str:
    """One finding as a JSON object on one line."""
    return json.dumps(json_value(diagnostic))


def json_value(diagnostic: Diagnostic) -> dict[str, Json]:
    """One finding as plain values; offsets count code points, lines and columns from 1."""
    primary = diagnostic.primary
    home = primary.span.source if primary else None
    found: dict[str, Json] = {
        "code": diagnostic.code.id,
        "name": diagnostic.code.name,
        "severity": diagnostic.severity.word,
        "message": diagnostic.message,
        "labels": [
            {"span": _json_span(each.span), "text": each.text, "primary": each.primary}
            for each in diagnostic.labels
        ],
        "helps": [
            {"text": each.text, "fix": _json_fix(each.fix, home)} for each in diagnostic.helps
        ],
    }
    if diagnostic.subject is not None:
        found["subject"] = diagnostic.subject
    if diagnostic.values:
        found["values"] = [[name, value] for name, value in diagnostic.values]
    if diagnostic.notes:
        found["notes"] = list(diagnostic.notes)
    found["url"] = f"surgery explain {diagnostic.code.id}"
    return found


def _json_span(span: Span) -> dict[str, Json]:
    return {
        "file": span.source.name,
        "start": _json_position(span.first, span.start),
        "end": _json_position(span.last, span.end),
    }


def _json_position(position: Position, offset: int) -> dict[str, Json]:
    return {"line": position.line, "column": position.column, "offset": offset}


def _json_fix(fix: Fix | None, home: Source | None) -> dict[str, Json] | None:
    """A fix; an edit names its file only where that is not the file of the finding."""
    if fix is None:
        return None
    edits: list[Json] = []
    for each in fix.edits:
        edit: dict[str, Json] = {
            "start": each.span.start,
            "end": each.span.end,
            "text": each.text,
        }
        if each.span.source != home:
            edit["file"] = each.span.source.name
        edits.append(edit)
    return {"safety": fix.safety.value, "edits": edits}
