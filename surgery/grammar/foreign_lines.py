"""Comments and separators of other languages (E0108), seen before anything is parsed.

In: the lexemes of a text. Out: what is wrong, and where there is nothing to read because of it. A
`//` that may be a division is left to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Safety
from surgery.grammar.scan import Lexeme
from surgery.grammar.trouble import report
from surgery.source import Source, Span

_RULE = re.compile(r"(-{3,}|={3,}|\*{3,}|~{3,}|`{3,}\w*|\"{3}|'{3})[ \t\r]*$", re.MULTILINE)
_PROSE = re.compile(r"[ \t]+[^\s()\[\]+*/<>=.,-]+[ \t,]+[^\s()\[\]+*/<>=.,|&-]+")


class Strange(Struct, frozen=True):
    """What is no part of the language: the finding, and the text that is skipped."""

    diagnostic: Diagnostic
    span: Span


def find(source: Source, lexemes: tuple[Lexeme, ...]) -> tuple[Strange, ...]:
    """Every comment and separator of another language, in order."""
    return tuple(_find(source, lexemes))


def _find(source: Source, lexemes: tuple[Lexeme, ...]) -> Iterator[Strange]:
    end = before = 0
    for lexeme in lexemes:
        last, before = before, lexeme.end
        # Cheap first: most lexemes are none of these.
        if lexeme.start < end or lexeme.text[0] not in "/-=*~`'\"":
            continue
        alone = last == 0 or source.text.find("\n", last, lexeme.start) >= 0
        found = _at(source, lexeme, alone=alone)
        if found is not None:
            end = found.span.end
            yield found


def _at(source: Source, lexeme: Lexeme, *, alone: bool) -> Strange | None:
    """What begins at a lexeme; `alone` says that it is the first on its line."""
    text, start = source.text, lexeme.start
    if text.startswith("/*", start):
        return _block(source, start)
    if text.startswith("//", start) and (alone or _PROSE.match(text, start + 2)):
        return _line(source, start, "//")
    if not alone:
        return None
    if text.startswith("-- ", start) and re.match(r"-- [A-Za-z]", text[start : start + 4]):
        return _line(source, start, "--")
    match = _RULE.match(text, start)
    return _separator(source, Span(source, start, match.end(1))) if match else None


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _line(source: Source, start: int, mark: str) -> Strange:
    span = Span(source, start, start + len(mark))
    helps = (Help("begin a comment with `#`", Fix((Edit(span, "#"),), Safety.SAFE)),)
    message = f"`{mark}` is not used here"
    found = report(catalog.E0108, message, span, "expected `#`", helps=helps)
    return Strange(found, Span(source, start, _line_end(source.text, start)))


def _separator(source: Source, span: Span) -> Strange:
    line = source.text.rfind("\n", 0, span.start) + 1
    end = _line_end(source.text, span.end)
    whole = Span(source, line, min(end + 1, len(source.text)))
    helps = (Help("remove the line", Fix((Edit(whole, ""),), Safety.SAFE)),)
    message = f"`{span.text}` is not used here"
    found = report(catalog.E0108, message, span, "separates nothing", helps=helps)
    return Strange(found, span)


def _block(source: Source, start: int) -> Strange:
    """`/* ... */` becomes lines that begin with `#`."""
    text = source.text
    close = text.find("*/", start + 2)
    end = close + 2 if close >= 0 else len(text.rstrip())
    body = text[start + 2 : close if close >= 0 else end]
    whole = Span(source, start, end)
    after = text[end : _line_end(text, end)]
    if "\n" not in body and after.strip():
        # Code follows on the line: the comment goes to its end.
        at = _line_end(text, end)
        gap = len(after) - len(after.lstrip(" \t"))
        edits = (
            Edit(Span(source, start, end + gap), ""),
            Edit(Span(source, at, at), f"  # {body.strip(' *')}"),
        )
    else:
        lines = [line.strip().lstrip("*").strip() for line in body.split("\n")]
        kept = [line for n, line in enumerate(lines) if line or 0 < n < len(lines) - 1]
        comment = "\n".join(f"# {line}".rstrip() for line in kept or [""])
        edits = (Edit(whole, comment + ("\n" if after.strip() else "")),)
    helps = (Help("begin each line of a comment with `#`", Fix(edits, Safety.SAFE)),)
    mark = Span(source, start, start + 2)
    message = "`/*` is not used here"
    return Strange(report(catalog.E0108, message, mark, "expected `#`", helps=helps), whole)
