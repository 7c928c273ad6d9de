"""The tokens of a text in order, with the comments before each.

In: the lexemes of a text without syntax errors. Out: a `Reader`, from which the printer takes every
token once and in order; so nothing can be lost, and a comment stays between the tokens between
which it stood. Where the printer leaves out a comma or a pair of parentheses, the comments around
it join.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from msgspec import Struct

from surgery.grammar.scan import Lexeme
from surgery.source import Span


class Note(Struct, frozen=True):
    """One comment: whether it stands behind code, and whether a blank line is above it."""

    text: str
    trailing: bool
    blank: bool


class Gap(Struct, frozen=True):
    """What stands before a token: comments, and whether a blank line is directly above it."""

    notes: tuple[Note, ...] = ()
    blank: bool = False

    @property
    def apart(self) -> bool:
        """Whether an empty line or the line of a comment separates what is around the gap."""
        return self.blank or any(not note.trailing for note in self.notes)

    def then(self, later: Gap) -> Gap:
        """Two gaps without the token between them: only the first comment can be behind code."""
        if not self.notes:
            moved = [Note(n.text, n.trailing, n.blank or self.blank) for n in later.notes[:1]]
            return Gap((*moved, *later.notes[1:]), later.blank or (self.blank and not moved))
        moved = [Note(n.text, False, n.blank or self.blank) for n in later.notes[:1]]
        notes = (*self.notes, *moved, *later.notes[1:])
        return Gap(notes, later.blank or (self.blank and not moved))


_EMPTY = Gap()


class Reader:
    """Hands out tokens in order. The last one is the end of the text, which is empty."""

    def __init__(self, text: str, lexemes: Sequence[Lexeme]) -> None:
        self._text: str = text
        self._tokens, self._gaps = _split(text, lexemes)
        self._starts: list[int] = [token.start for token in self._tokens]
        self._at: int = 0
        self._carried: Gap = _EMPTY

    @property
    def next(self) -> str:
        """The token that comes next; empty at the end."""
        return self._tokens[self._at].text

    def gap(self) -> Gap:
        """What stands before the next token; a second call finds nothing left."""
        found = self._gaps[self._at]
        if self._carried is not _EMPTY:
            found = self._carried.then(found)
            self._carried = _EMPTY
        self._gaps[self._at] = _EMPTY
        return found

    def take(self, expected: str | None = None) -> str:
        """The next token, which must be `expected`; what stands before it must have been taken."""
        token = self._tokens[self._at]
        assert expected in (None, token.text), f"{expected!r} expected, not {token.text!r}"
        assert not self._gaps[self._at].notes, "a comment would be lost"
        assert self._carried is _EMPTY, "a comment would be lost"
        self._at += 1
        return token.text

    def drop(self, expected: str) -> None:
        """Leave out the next token; what stands before it joins what stands after it."""
        assert self.next == expected, f"{expected!r} expected, not {self.next!r}"
        self._carried = self._carried.then(self._gaps[self._at])
        self._at += 1

    def one_line(self) -> bool:
        """Whether the brace that comes next and the one that closes it are on one line."""
        depth, at = 0, self._at
        while True:
            depth += {"{": 1, "}": -1}.get(self._tokens[at].text, 0)
            if depth == 0:
                break
            at += 1
        return "\n" not in self._text[self._tokens[self._at].start : self._tokens[at].end]

    def pairs(self, node: Span) -> int:
        """How many parentheses open between here and the first token of a node."""
        return bisect_left(self._starts, node.start) - self._at

    def commented(self, node: Span, pairs: int) -> bool:
        """Whether a comment stands directly inside one of the pairs around a node."""
        after = bisect_left(self._starts, node.end)
        inside = self._gaps[self._at + 1 : self._at + 1 + pairs]
        return any(gap.notes for gap in (*inside, *self._gaps[after : after + pairs]))


def _split(text: str, lexemes: Iterable[Lexeme]) -> tuple[list[Lexeme], list[Gap]]:
    """Tokens, and the gap before each."""
    tokens: list[Lexeme] = []
    gaps: list[Gap] = []
    notes: list[Note] = []
    end = 0
    for lexeme in (*lexemes, Lexeme("other", "", len(text), len(text))):
        between = text[end : lexeme.start]
        blank = between.count("\n") > 1
        if lexeme.kind == "comment":
            trailing = bool(tokens) and not notes and "\n" not in between
            notes.append(Note(lexeme.text.rstrip(), trailing, blank))
        else:
            tokens.append(lexeme)
            gaps.append(Gap(tuple(notes), blank) if notes or blank else _EMPTY)
            notes = []
        end = lexeme.end
    return tokens, gaps
