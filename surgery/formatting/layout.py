"""A `Doc` -> lines of at most 100 columns.

In: a `Doc`. Out: `Row`s: indentation, code, comment. A group is on one line where that line still
fits up to the next place that may break. Comments do not count: what is too long for its line is
then a comment, a string or another piece that cannot be broken, never code that could be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from surgery.formatting.document import (
    Concat,
    Doc,
    Either,
    Group,
    Indent,
    Line,
    Standing,
    Text,
    Trailing,
)

WIDTH = 100
STEP = 2


class Row(Struct):
    """One line: code, comment or both; without both it is blank."""

    indent: int
    code: str = ""
    comment: str = ""

    @property
    def width(self) -> int:
        """Columns up to the end of the code."""
        return self.indent + len(self.code)


_Frame: TypeAlias = tuple[int, bool, Doc]
"""A part that is still to be laid out: its indentation, whether it is on one line, the part."""


def lay_out(doc: Doc) -> tuple[Row, ...]:
    """The lines of a document."""
    page = _Page()
    stack: list[_Frame] = [(0, False, doc)]
    while stack:
        level, flat, part = stack.pop()
        match part:
            case Concat():
                stack += [(level, flat, each) for each in reversed(part.parts)]
            case Text() | Either():
                page.write(part.shown(flat=flat), level)
            case Line():
                if flat and not part.breaks:
                    page.write(part.flat, level)
                else:
                    page.break_line(level, blank=part.blank)
            case Group():
                fits = flat or (not part.breaks and _fits(page.room, part.body, stack))
                stack.append((level, fits, part.body))
            case Indent():
                stack.append((level + STEP, flat, part.body))
            case Trailing():
                page.trail(part.text, level)
            case Standing():
                page.stand(part.text, level)
    return page.finish()


def _fits(room: int, first: Doc, rest: Sequence[_Frame]) -> bool:
    """Whether `first` on one line, and what follows up to the next possible break, has room."""
    following = len(rest)
    stack = [(True, first)]
    while room >= 0:
        if not stack:
            if following == 0:
                return True
            following -= 1
            stack.append(rest[following][1:])
        flat, part = stack.pop()
        match part:
            case Concat():
                stack += [(flat, each) for each in reversed(part.parts)]
            case Text() | Either():
                room -= len(part.shown(flat=flat))
            case Line():
                if part.breaks or not flat:
                    return True
                room -= len(part.flat)
            case Group() | Indent():
                stack.append((flat and not part.breaks, part.body))
            case Trailing() | Standing():
                return True
    return False


class _Page:
    """The lines so far. The last one is open: it may still get code."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._row: Row = Row(0)
        self._standing: bool = False

    @property
    def room(self) -> int:
        """Columns left on the open line."""
        return WIDTH - self._row.width

    @property
    def _fresh(self) -> bool:
        return not self._row.code and not self._row.comment

    def write(self, text: str, level: int) -> None:
        """Add code; after a comment it has to go on the next line, wherever that is."""
        blank = not text.strip()
        if self._row.comment:
            if blank:
                return
            self.break_line(self._row.indent if self._standing else level + STEP)
        if blank and self._fresh:
            return
        self._row.code += text

    def break_line(self, level: int, *, blank: bool = False) -> None:
        """Begin a line, unless one has just begun."""
        if self._fresh:
            self._row.indent = level
        else:
            self._close()
            self._row = Row(level)
        if blank and self._rows:
            self._rows.append(Row(0))

    def trail(self, text: str, level: int) -> None:
        """Put a comment behind the code before it, if no other comment stands there."""
        code = self._rows[-1] if self._fresh and self._rows else self._row
        if code.comment or not code.code:
            self.stand(text, level)
        else:
            code.comment = text

    def stand(self, text: str, level: int) -> None:
        """Put a comment on a line of its own."""
        if not self._fresh:
            self.break_line(self._row.indent if self._standing else level + STEP)
        self._row.comment = text
        self._standing = True

    def finish(self) -> tuple[Row, ...]:
        """All lines."""
        if not self._fresh:
            self._close()
        return tuple(self._rows)

    def _close(self) -> None:
        self._row.code = self._row.code.rstrip()
        self._rows.append(self._row)
        self._standing = False
