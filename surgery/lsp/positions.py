"""Character offsets <-> the positions that a client counts in.

In: a text and the encoding that was negotiated (UTF-16 unless the client offers another). Out:
offsets of code points, and positions. Lines end at LF, CRLF or a lone CR, as the protocol says.
Refuses nothing: what lies past the end of a line or of the text means its end, and a position
inside a character (half of a surrogate pair) means its start.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import Literal, TypeAlias

from lsprotocol import types
from msgspec import Struct

Encoding: TypeAlias = Literal["utf-8", "utf-16", "utf-32"]

_LINE_END = re.compile(r"\r\n|\n|\r")


def width(char: str, encoding: Encoding) -> int:
    """How many units of the encoding a character takes; a lone surrogate is one of UTF-16."""
    point = ord(char)
    if encoding == "utf-16":
        return 2 if point > 0xFFFF else 1
    if encoding == "utf-8":
        return 1 if point < 0x80 else 2 if point < 0x800 else 3 if point < 0x10000 else 4
    return 1


def units(text: str, encoding: Encoding) -> int:
    """How many units of the encoding a text takes."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    return sum(width(char, encoding) for char in text)


class Places(Struct, frozen=True, dict=True):
    """Places in one text, by offset and by position."""

    text: str
    encoding: Encoding = "utf-16"

    @cached_property
    def _lines(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Where each line starts, and where it ends before its line ending."""
        starts, ends = [0], list[int]()
        for match in _LINE_END.finditer(self.text):
            ends.append(match.start())
            starts.append(match.end())
        return tuple(starts), (*ends, len(self.text))

    @property
    def line_count(self) -> int:
        """How many lines the text has; a final line ending opens another, empty one."""
        return len(self._lines[0])

    def offset(self, position: types.Position) -> int:
        """The code point at a position."""
        starts, ends = self._lines
        if position.line >= len(starts):
            return len(self.text)
        start, end = starts[max(0, position.line)], ends[max(0, position.line)]
        wanted = max(0, position.character)
        if self.encoding == "utf-32" or self.text[start:end].isascii():
            return min(start + wanted, end)
        seen = 0
        for at in range(start, end):
            seen += width(self.text[at], self.encoding)
            if seen > wanted:
                return at
        return end

    def position(self, offset: int) -> types.Position:
        """The position of a code point."""
        starts, ends = self._lines
        offset = min(max(0, offset), len(self.text))
        line = bisect_right(starts, offset) - 1
        # The middle of CRLF has no position of its own.
        until = min(offset, ends[line])
        return types.Position(line, units(self.text[starts[line] : until], self.encoding))

    def offsets(self, range: types.Range) -> tuple[int, int]:
        """Start and end of a range, in order even where the client has them swapped."""
        start, end = self.offset(range.start), self.offset(range.end)
        return min(start, end), max(start, end)

    def range(self, start: int, end: int) -> types.Range:
        """The range of two offsets."""
        return types.Range(self.position(start), self.position(end))

    def whole(self) -> types.Range:
        """The range of the whole text."""
        return self.range(0, len(self.text))

    def line_start(self, offset: int) -> int:
        """Where the line of an offset begins."""
        starts = self._lines[0]
        return starts[bisect_right(starts, offset) - 1]

    def line_end(self, offset: int) -> int:
        """Where the line of an offset ends, before its line ending."""
        starts, ends = self._lines
        return ends[bisect_right(starts, offset) - 1]
