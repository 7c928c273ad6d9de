"""Source text and places in it.

In: the text of one `.surg` file. Out: `Source` and `Span`, from which every diagnostic, AST node
and requirement can say where it came from. Not here: reading files or drawing carets
(`render.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate, count
from operator import add

from msgspec import Struct


class Position(Struct, frozen=True, order=True, gc=False):
    """A place in a text, both numbers counted from 1; columns count Unicode code points."""

    line: int
    column: int


class Source(Struct, frozen=True, dict=True):
    """One text under the name that the user knows it by (a path as typed, or `<stdin>`)."""

    name: str
    text: str

    def __repr__(self) -> str:
        # Every span has a source; its text has no place in their printed form.
        return f"Source({self.name!r})"

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        # A line begins after the ends of those above and as many line feeds.
        ends = accumulate(map(len, self.text.split("\n")[:-1]))
        return (0, *map(add, ends, count(1)))

    @property
    def line_count(self) -> int:
        """How many lines the text has; a final newline does not open another."""
        return len(self._starts) - (1 if self.text.endswith("\n") else 0)

    def position(self, offset: int) -> Position:
        """Line and column of a character offset (0 <= offset <= len(text))."""
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), without its line ending."""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


class Span(Struct, frozen=True, gc=False):
    """The half-open range [start, end) of character offsets in one source."""

    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        """The characters of the span."""
        return self.source.text[self.start : self.end]

    @property
    def first(self) -> Position:
        """Where the span begins."""
        return self.source.position(self.start)

    @property
    def last(self) -> Position:
        """The position just after the last character of the span."""
        return self.source.position(self.end)

    def to(self, other: Span) -> Span:
        """The smallest span that covers both; they must lie in one source."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))

    def __str__(self) -> str:
        return f"{self.source.name}:{self.first.line}:{self.first.column}"
