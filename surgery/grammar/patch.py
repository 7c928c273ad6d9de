"""A text with edits, read as if it were the text itself.

In: a range of a source and edits of it. Out: the lexemes of the edited text, each with the place in
the source that it stands for, so that whatever is built from them points at what was written. What
an edit inserts stands at the place of the edit and has no width. Not here: which edits to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from surgery.diagnostics import Edit
from surgery.grammar import scan
from surgery.grammar.scan import Lexeme
from surgery.source import Source


class _Moved(Struct, frozen=True):
    """An edit in both texts: [start, end) of the edited one was [first, last) of the source."""

    start: int
    end: int
    first: int
    last: int


def lexemes(source: Source, start: int, end: int, edits: Iterable[Edit]) -> tuple[Lexeme, ...]:
    """The lexemes of [start, end) of a source after edits in it, comments included."""
    text, moved = _edited(source.text, start, end, sorted(edits, key=_place))
    if not moved:
        return scan.lexemes(source.text[:end], start)
    return tuple(_placed(scan.lexemes(text), moved, start))


def _place(edit: Edit) -> tuple[int, int]:
    return (edit.span.start, edit.span.end)


def _edited(text: str, start: int, end: int, edits: list[Edit]) -> tuple[str, list[_Moved]]:
    pieces: list[str] = []
    moved: list[_Moved] = []
    size, at = 0, start
    for edit in edits:
        if edit.span.start < at or edit.span.end > end:
            continue
        pieces += (text[at : edit.span.start], edit.text)
        size += edit.span.start - at
        moved.append(_Moved(size, size + len(edit.text), edit.span.start, edit.span.end))
        size += len(edit.text)
        at = edit.span.end
    pieces.append(text[at:end])
    return "".join(pieces), moved


def _placed(found: tuple[Lexeme, ...], moved: list[_Moved], start: int) -> Iterator[Lexeme]:
    """Lexemes of an edited text at their places in the source."""
    n, offset = 0, start
    for lexeme in found:
        # An edit that ends where a lexeme starts lies behind, unless the lexeme is what it wrote.
        while n < len(moved) and moved[n].end <= lexeme.start:
            offset = moved[n].last - moved[n].end
            n += 1
        first = lexeme.start + offset
        if n < len(moved) and moved[n].start <= lexeme.start:
            first = min(moved[n].first + lexeme.start - moved[n].start, moved[n].last)
        last, m, shift = lexeme.end + offset, n, offset
        while m < len(moved) and moved[m].start < lexeme.end:
            shift = moved[m].last - moved[m].end
            last = lexeme.end + shift
            if lexeme.end < moved[m].end:
                last = min(moved[m].first + lexeme.end - moved[m].start, moved[m].last)
            m += 1
        yield Lexeme(lexeme.kind, lexeme.text, first, max(first, last))
