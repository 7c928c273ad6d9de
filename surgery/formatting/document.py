"""A layout before its lines are chosen: pieces of text, places that may break, comments.

In: pieces. Out: `Doc`s, which `layout.py` turns into lines (the algebra is Wadler's, with comments
added). Each container knows whether something in it must break, so that nothing has to be searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeAlias

from msgspec import Struct


class Text(Struct, frozen=True):
    """Characters that stay together."""

    text: str
    breaks: ClassVar[bool] = False

    def shown(self, *, flat: bool) -> str:
        """What stands there, on one line or not."""
        return self.text


class Either(Struct, frozen=True):
    """One text where the group around it is broken, another where it is on one line."""

    broken: str
    flat: str
    breaks: ClassVar[bool] = False

    def shown(self, *, flat: bool) -> str:
        """What stands there, on one line or not."""
        return self.flat if flat else self.broken


class Line(Struct, frozen=True):
    """A place to break: `flat` is what stands there when the group is on one line.

    It `breaks` always, or with its group; `blank` also leaves an empty line.
    """

    flat: str = " "
    breaks: bool = False
    blank: bool = False


class Trailing(Struct, frozen=True):
    """A comment at the end of the line of what precedes it."""

    text: str
    breaks: ClassVar[bool] = True


class Standing(Struct, frozen=True):
    """A comment on a line of its own."""

    text: str
    breaks: ClassVar[bool] = True


class Concat(Struct, frozen=True):
    """Parts one after the other."""

    parts: tuple[Doc, ...]
    breaks: bool


class Indent(Struct, frozen=True):
    """A part whose lines begin two columns further right."""

    body: Doc
    breaks: bool


class Group(Struct, frozen=True):
    """A part that is on one line if it fits, and broken at all of its own places if not."""

    body: Doc
    breaks: bool


Doc: TypeAlias = Text | Either | Line | Trailing | Standing | Concat | Indent | Group

NOTHING = Text("")
SPACE = Text(" ")
LINE = Line()
SOFT = Line("")
HARD = Line(breaks=True)
BLANK = Line(breaks=True, blank=True)


def concat(*parts: Doc) -> Doc:
    """Parts one after the other."""
    return Concat(parts, any([part.breaks for part in parts]))


def joined(parts: Iterable[Doc]) -> Doc:
    """Like `concat`, of any number of parts."""
    return concat(*parts)


def indent(*parts: Doc) -> Doc:
    """Parts whose lines begin two columns further right."""
    body = concat(*parts)
    return Indent(body, body.breaks)


def group(*parts: Doc) -> Doc:
    """Parts that are on one line if they fit, broken at all of their own places if not."""
    body = concat(*parts)
    return Group(body, body.breaks)


def flat_width(doc: Doc) -> int:
    """How many columns a part takes on one line, its comments not counted."""
    match doc:
        case Text() | Either():
            return len(doc.shown(flat=True))
        case Line():
            return len(doc.flat)
        case Trailing() | Standing():
            return 0
        case Concat():
            return sum(flat_width(part) for part in doc.parts)
        case Indent() | Group():
            return flat_width(doc.body)
