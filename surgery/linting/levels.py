"""`[tool.surgery.lint]` of `pyproject.toml`: which lints a project allows, warns of, or denies.

In: the path of a spec. Out: `Levels`, from the nearest `pyproject.toml` upward that has a
`[tool.surgery]` table, and what they make of findings: `allow` drops a lint, `deny` makes it an
error. Refuses, as E0012 pointing into that file: bad TOML, unknown tables, lints and levels. Only
lints have levels; an error stays one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeGuard

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog
from surgery.checking.names import quoted
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety, Severity, Sink
from surgery.grammar.near import nearest
from surgery.source import Source, Span
from surgery.suppress import is_lint, lint

Level = Literal["allow", "warn", "deny"]

LEVELS: tuple[Level, ...] = ("allow", "warn", "deny")
FILE = "pyproject.toml"
_MAX = 4_000_000
"""Bytes of a configuration that are read; no project has more."""
# A quick look: most projects have no such table, and a TOML parser takes time to load.
_OURS = re.compile(r"tool[\"']?\s*\.\s*[\"']?surgery|^\s*\[\s*[\"']?tool[\"']?\s*\]", re.MULTILINE)


class Levels(Struct, frozen=True):
    """The level of every lint that is named, by number; the others are warnings."""

    by_id: Mapping[str, Level] = field(default_factory=dict[str, Level])

    def apply(self, found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
        """The findings that are left, denied lints as errors, in the order given."""
        left: list[Diagnostic] = []
        for each in found:
            level = self.by_id.get(each.code.id, "warn")
            if level == "deny":
                left.append(replace(each, code=replace(each.code, severity=Severity.ERROR)))
            elif level == "warn":
                left.append(each)
        return tuple(left)


def of(spec: str, sink: Sink) -> Levels:
    """The levels that hold for the spec of this path; mistakes in them go to the sink."""
    folder = Path(os.path.abspath(spec)).parent
    for parent in (folder, *folder.parents):
        path = parent / FILE
        text = _text(path)
        if text is not None and _OURS.search(text):
            source = Source(_name(path, Path(spec)), text)
            levels = read(source, sink)
            if levels is not None:
                return levels
    return Levels()


def _text(path: Path) -> str | None:
    """The text of a file, or `None` where there is none that surgery could read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _name(path: Path, spec: Path) -> str:
    """The file as a person in the folder at hand would name it."""
    here = Path.cwd()
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    if not spec.is_absolute() and here.is_relative_to(path.parent):
        return str(Path(*[".."] * len(here.relative_to(path.parent).parts), FILE))
    return str(path)


def read(source: Source, sink: Sink) -> Levels | None:
    """The levels in the text of a `pyproject.toml`, or `None` without `[tool.surgery]`."""
    import tomllib

    try:
        root: Mapping[str, object] = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        sink.report(_not_toml(source, str(error)))
        return Levels()
    tool = root.get("tool")
    ours = tool.get("surgery") if _is_table(tool) else None
    if not _is_table(ours):
        return None
    for name in ours:
        if name != "lint":
            message = f"`[tool.surgery]` has nothing called `{name}`"
            _report(sink, _place(source, name), message, "unknown", ("lint",), name)
    table = ours.get("lint", {})
    if not _is_table(table):
        message = "`lint` is a table of lints and their levels"
        _report(sink, _place(source, "lint"), message, "not a table")
        return Levels()
    return Levels(_levels(source, table, sink))


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _levels(source: Source, table: Mapping[str, object], sink: Sink) -> dict[str, Level]:
    found: dict[str, Level] = {}
    for name, value in table.items():
        code, place = lint(name), _place(source, name)
        if code is None:
            _unknown(source, name, sink)
        elif value not in LEVELS:
            message = f"the level of `{name}` is {quoted(LEVELS, 'or')}"
            text = str(value) if isinstance(value, str) else ""
            _report(sink, _value(source, place), message, "no level", LEVELS, text)
        elif code.id in found:
            message = f"the lint `{code.name}` has two levels"
            _report(sink, place, message, f"`{code.name}` and `{code.id}` are one lint")
        else:
            found[code.id] = value
    return found


# ---- mistakes --------------------------------------------------------------------------------


def _unknown(source: Source, name: str, sink: Sink) -> None:
    place = _place(source, name)
    if (error := catalog.BY_NAME.get(name) or catalog.BY_ID.get(name)) is not None:
        message = f"`{name}` is an error, and only lints have levels"
        _report(sink, place, message, f"{error.id} cannot be allowed")
        return
    lints = [code for code in catalog.BY_ID.values() if is_lint(code)]
    names = (*(code.name for code in lints), *(code.id for code in lints))
    _report(sink, place, f"there is no lint `{name}`", "unknown", names, name)


def _report(
    sink: Sink, span: Span, message: str, label: str, known: Iterable[str] = (), word: str = ""
) -> None:
    """E0012, with the known words that resemble the one that was written."""
    helps = tuple(
        Help(f"write `{near}`", Fix((Edit(span, span.text.replace(word, near)),), Safety.DISPLAY))
        for near in nearest(word, known)
        if word and word in span.text
    )
    primary = (Label(span, label, primary=True),)
    sink.report(Diagnostic(catalog.E0012, message, primary, helps=helps))


def _not_toml(source: Source, text: str) -> Diagnostic:
    at = re.search(r" \(at line (\d+), column (\d+)\)", text)
    reason = text[: at.start()] if at else text.removesuffix(" (at end of document)")
    start = len(source.text)
    if at:
        lines = source.text.split("\n")
        start = sum(len(line) + 1 for line in lines[: int(at[1]) - 1]) + int(at[2]) - 1
    start = min(start, len(source.text))
    label = Label(Span(source, start, min(start + 1, len(source.text))), "here", primary=True)
    message = f"`{FILE}` cannot be read: {reason[:1].lower()}{reason[1:]}"
    return Diagnostic(catalog.E0012, message, (label,))


def _place(source: Source, name: str) -> Span:
    """Where a key stands; TOML says what a file holds and not where."""
    section = re.search(r"^[ \t]*\[[ \t]*tool\.surgery\b[^\n]*$", source.text, re.MULTILINE)
    start = section.start() if section else 0
    key = re.compile(rf"(?<![\w-])(?:\"{re.escape(name)}\"|'{re.escape(name)}'|{re.escape(name)})")
    match = key.search(source.text, start) or key.search(source.text)
    if match is None:
        return Span(source, start, section.end() if section else start)
    return Span(source, match.start(), match.end())


def _value(source: Source, key: Span) -> Span:
    """Where the value of a key stands, or the key where that is hard to say."""
    match = re.compile(r"[ \t]*=[ \t]*([^\s#,}]+)").match(source.text, key.end)
    return Span(source, match.start(1), match.end(1)) if match else key
