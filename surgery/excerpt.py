"""Lines of a source with marks under them, as text.

In: labels of one source, or the edits of a fix. Out: rows with a gutter, as styled pieces. Not
here: headers, notes and the order of things (`render.py`). Text from users may hold anything; what
a terminal would obey is shown as a replacement character.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec import Struct

from surgery.diagnostics import Edit, Label
from surgery.source import Source

MAX_WIDTH = 160
"""Longest part of a source line that is shown."""
_FAR = 8 * MAX_WIDTH


class Style(Enum):
    """What a piece of a row is, for those who colour it."""

    PLAIN = "plain"
    GUTTER = "gutter"
    PRIMARY = "primary"
    SECONDARY = "secondary"
    REMOVED = "removed"
    ADDED = "added"


class Piece(Struct, frozen=True):
    """Some characters of one style."""

    text: str
    style: Style = Style.PLAIN


Row = tuple[Piece, ...]


class _Mark(Struct, frozen=True):
    """A label on one line, in columns of the screen, end exclusive."""

    start: int
    end: int
    text: str
    primary: bool

    @property
    def style(self) -> Style:
        return Style.PRIMARY if self.primary else Style.SECONDARY


def visible(text: str) -> str:
    """The text without characters that a terminal obeys or hides; tabs become four blanks.

    Blanks that are not the plain one are shown as an open box.
    """
    # Nearly every text is printable as it is, and lines can have a megabyte.
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\t":
        return "    "
    if char != " " and unicodedata.category(char) == "Zs":
        return "\u2423"
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char


def _width(text: str) -> int:
    """How many columns of a screen a visible text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def numbers(labels: Iterable[Label]) -> list[int]:
    """The lines that an excerpt with these labels shows, in order."""
    return sorted({label.span.first.line for label in labels})


def rows(source: Source, labels: Sequence[Label], gutter: int) -> list[Row]:
    """The marked lines of one source, `...` where lines are left out."""
    found: list[Row] = [bar(gutter)]
    before: int | None = None
    lines: dict[int, list[Label]] = {}
    for label in labels:
        lines.setdefault(label.span.first.line, []).append(label)
    for number in sorted(lines):
        if before is not None and number > before + 1:
            found.append((Piece("." * (gutter + 1) + "|", Style.GUTTER),))
        found.extend(_line(source, number, lines[number], gutter))
        before = number
    return found


def bar(gutter: int) -> Row:
    """An empty row."""
    return (Piece(" " * gutter + " |", Style.GUTTER),)


def _line(source: Source, number: int, labels: Sequence[Label], gutter: int) -> list[Row]:
    text, skipped = _near(source.line(number), labels)
    marks = [_mark(label, text, skipped) for label in labels]
    shown, shift = _cropped(visible(text), marks)
    # A mark before the cropped part is moved to its edge.
    marks = [
        _Mark(max(0, m.start - shift), max(1, m.end - shift), visible(m.text), m.primary)
        for m in marks
    ]
    head = Piece(f"{number:>{gutter}} | ", Style.GUTTER)
    found: list[Row] = [(head, Piece(shown.rstrip()))]
    found.extend((Piece(" " * gutter + " | ", Style.GUTTER), *row) for row in _under(marks))
    return found


def _near(text: str, labels: Sequence[Label]) -> tuple[str, int]:
    """More than enough of a very long line, and how many characters of it are left out before."""
    if len(text) <= _FAR:
        return text, 0
    first = next((label for label in labels if label.primary), labels[0])
    skipped = max(0, first.span.first.column - 1 - _FAR // 2)
    return text[skipped : skipped + _FAR], skipped


def _mark(label: Label, text: str, skipped: int) -> _Mark:
    first, last = label.span.first, label.span.last
    stop = last.column - 1 - skipped if last.line == first.line else len(text.rstrip())
    start = _width(visible(text[: max(0, first.column - 1 - skipped)]))
    end = _width(visible(text[: max(0, stop)]))
    return _Mark(start, max(end, start + 1), label.text, label.primary)


def _cropped(text: str, marks: Sequence[_Mark]) -> tuple[str, int]:
    """A part of a long line that has the first marks in it, and how many columns it lost."""
    if _width(text) <= MAX_WIDTH:
        return text, 0
    primary = next((m for m in marks if m.primary), marks[0])
    shift = max(0, primary.start - MAX_WIDTH // 2)
    # Wide characters make this inexact, which moves a caret in a line no one reads.
    return text[shift : shift + MAX_WIDTH], shift


def _under(marks: Sequence[_Mark]) -> list[Row]:
    """The row of marks with the last text beside it, then the other texts hanging below."""
    ordered = sorted(marks, key=lambda m: (m.start, m.end))
    last = ordered[-1]
    beside = last.text if all(m.end <= last.end for m in ordered) else ""
    row = _marks_row(ordered)
    if beside:
        row = (*row, Piece(" " + beside, last.style))
    hanging = [m for m in ordered if m.text and not (beside and m is last)]
    if not hanging:
        return [row]
    found = [row, _bars(hanging)]
    while hanging:
        mark = hanging.pop()
        # Two marks in one column: the text of the right one must not run over a bar.
        left = [m for m in hanging if m.start < mark.start]
        pad = _bars(left) if left else ()
        used = sum(_width(piece.text) for piece in pad)
        found.append((*pad, Piece(" " * (mark.start - used)), Piece(mark.text, mark.style)))
    return found


def _marks_row(marks: Sequence[_Mark]) -> Row:
    pieces: list[Piece] = []
    width = min(max(m.end for m in marks), MAX_WIDTH + 1)
    for column in range(width):
        over = [m for m in marks if m.start <= column < m.end]
        primary = any(m.primary for m in over)
        if not over:
            _append(pieces, " ", Style.PLAIN)
        else:
            style = Style.PRIMARY if primary else Style.SECONDARY
            _append(pieces, "^" if primary else "-", style)
    return tuple(pieces)


def _bars(marks: Sequence[_Mark]) -> Row:
    pieces: list[Piece] = []
    at = 0
    for start in sorted({m.start for m in marks}):
        _append(pieces, " " * (start - at), Style.PLAIN)
        style = next(m.style for m in marks if m.start == start)
        _append(pieces, "|", style)
        at = start + 1
    return tuple(pieces)


def _append(pieces: list[Piece], text: str, style: Style) -> None:
    if pieces and pieces[-1].style is style:
        text = pieces.pop().text + text
    if text:
        pieces.append(Piece(text, style))


# ---- fixes -----------------------------------------------------------------------------------


class Change(Struct, frozen=True):
    """Lines that a fix replaces; `start` is the number of the first of either."""

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]


def changes(edits: Sequence[Edit]) -> list[Change]:
    """What the edits do, in whole lines; lines that stay the same are left out."""
    groups: list[list[Edit]] = []
    for edit in edits:
        last = groups[-1][-1] if groups else None
        if last is not None and edit.span.first.line <= last.span.last.line + 1:
            groups[-1].append(edit)
        else:
            groups.append([edit])
    return [_change(group) for group in groups]


def _change(edits: Sequence[Edit]) -> Change:
    source = edits[0].span.source
    first, last = edits[0].span.first.line, edits[-1].span.last.line
    start = edits[0].span.start - (edits[0].span.first.column - 1)
    end = source.text.find("\n", edits[-1].span.end)
    text = source.text[start : len(source.text) if end < 0 else end]
    new = text
    for edit in reversed(edits):
        new = new[: edit.span.start - start] + edit.text + new[edit.span.end - start :]
    old_lines = [source.line(number) for number in range(first, last + 1)]
    new_lines = [line.rstrip("\r") for line in new.split("\n")]
    while old_lines and new_lines and old_lines[-1] == new_lines[-1]:
        old_lines.pop()
        new_lines.pop()
    while old_lines and new_lines and old_lines[0] == new_lines[0]:
        del old_lines[0], new_lines[0]
        first += 1
    return Change(first, tuple(old_lines), tuple(new_lines))


def change_rows(change: Change, gutter: int) -> list[Row]:
    """The old lines with `-`, the new ones with `+`; a line that is left empty counts as gone."""
    found: list[Row] = []
    gone = change.old and not any(line.strip() for line in change.new)
    new = () if gone else change.new
    for lines, sign, style in ((change.old, "-", Style.REMOVED), (new, "+", Style.ADDED)):
        for number, line in enumerate(lines, change.start):
            shown = visible(line)[:MAX_WIDTH].rstrip()
            text = f" {sign} {shown}".rstrip()
            found.append((Piece(f"{number:>{gutter}}", Style.GUTTER), Piece(text, style)))
    return found
