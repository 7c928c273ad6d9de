"""Where the cursor stands in a text that may not parse: for completion and signature help.

In: lexemes and an offset. Out: a `Spot`: the word being typed, the statement, what stands before
it, and which brackets are open. Works on lexemes alone, because a statement that is being written
has no tree.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from surgery.grammar.scan import Lexeme, in_column_0
from surgery.lsp.analysis import Analysis

Around: TypeAlias = Literal["code", "comment", "string"]
_GOES_ON = frozenset(
    [
        "=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "|",
        ",",
        ":",
        ".",
        "(",
        "[",
        "<=",
        ">=",
        "==",
        "!=",
        "<",
        ">",
        "->",
        "..",
    ]
)
_GOES_ON_WORDS = frozenset(
    [
        "by",
        "init",
        "when",
        "and",
        "or",
        "not",
        "is",
        "in",
        "on",
        "where",
        "except",
        "if",
        "then",
        "else",
        "as",
    ]
)


class Spot(Struct, frozen=True):
    """One place. `before` are the lexemes of the statement up to `start`, where the word that is
    being typed begins, `after` those behind it; `opened` are the indices in `before` of the
    brackets that are open."""

    offset: int
    start: int
    word: str
    around: Around
    before: tuple[Lexeme, ...]
    after: tuple[Lexeme, ...]
    opened: tuple[int, ...]
    first_on_line: bool
    column_0: bool

    @property
    def keyword(self) -> str:
        """The first word of the statement."""
        return self.before[0].text if self.before else ""

    @property
    def last(self) -> str:
        """The lexeme before the word being typed."""
        return self.before[-1].text if self.before else ""

    @property
    def bracket(self) -> str:
        """The innermost open bracket."""
        return self.before[self.opened[-1]].text if self.opened else ""

    @property
    def inner(self) -> tuple[Lexeme, ...]:
        """What stands before, inside the innermost open bracket."""
        return self.before[self.opened[-1] + 1 :] if self.opened else self.before

    @property
    def begins(self) -> bool:
        """Whether a field or an alternative can begin here."""
        if not self.inner or self.last == ",":
            return True
        goes_on = self.last in _GOES_ON or self.last in _GOES_ON_WORDS
        return self.first_on_line and not goes_on

    @property
    def flat(self) -> tuple[Lexeme, ...]:
        """`inner` without what stands in brackets that are closed again."""
        return outside(self.inner)

    @property
    def block(self) -> tuple[Lexeme, ...]:
        """The innermost open bracket as a whole, what stands behind the place included."""
        return (*self.flat, *outside(self.after))


def outside(part: tuple[Lexeme, ...]) -> tuple[Lexeme, ...]:
    """Lexemes that stand in no bracket of their own, up to the one that closes them all."""
    depth = 0
    found: list[Lexeme] = []
    for each in part:
        if each.kind == "mark" and each.text in ("(", "[", "{"):
            depth += 1
        elif each.kind == "mark" and each.text in (")", "]", "}"):
            depth -= 1
            if depth < 0:
                break
        elif depth == 0:
            found.append(each)
    return tuple(found)


def spot(analysis: Analysis, offset: int) -> Spot:
    """The place of an offset."""
    text = analysis.source.text
    at = next((each for each in analysis.lexemes if each.start < offset <= each.end), None)
    around: Around = "code"
    start = offset
    if at is not None and at.kind == "comment":
        around = "comment"
    elif at is not None and (at.kind == "open" or (at.kind == "string" and offset < at.end)):
        around, start = "string", at.start
    elif (at is not None and at.kind in ("word", "number")) or (
        at is not None and at.text.startswith("@")
    ):
        start = at.start
    chunk = next((c for c in reversed(analysis.chunks) if c.start <= start), None)
    lexemes = chunk.lexemes if chunk is not None else ()
    before = tuple(each for each in lexemes if each.end <= start)
    after = tuple(each for each in lexemes if each.start >= max(offset, start + 1))
    line = text.rfind("\n", 0, start) + 1
    return Spot(
        offset,
        start,
        text[start:offset],
        around,
        before,
        after,
        _opened(before),
        not text[line:start].strip(),
        in_column_0(text, start),
    )


def _opened(before: tuple[Lexeme, ...]) -> tuple[int, ...]:
    opened: list[int] = []
    for n, each in enumerate(before):
        if each.kind != "mark":
            continue
        if each.text in ("(", "[", "{"):
            opened.append(n)
        elif each.text in (")", "]", "}") and opened:
            opened.pop()
    return tuple(opened)


def argument(at: Spot) -> tuple[str, int, str | None] | None:
    """The call around a place: what is called, the index of the argument, and its name if given.

    `None` when the innermost bracket is not that of a call.
    """
    if at.bracket != "(":
        return None
    opened = at.opened[-1]
    callee: list[str] = []
    for each in reversed(at.before[:opened]):
        if each.kind == "word" or each.text == ".":
            callee.append(each.text)
            # Two words side by side: the first belongs to something else.
            if len(callee) > 1 and callee[-1] != "." and callee[-2] != ".":
                callee.pop()
                break
        else:
            break
    name = "".join(reversed(callee))
    if not name or name in ("let", "fn"):
        return None
    flat = at.flat
    index = sum(each.text == "," for each in flat)
    given = flat[-2].text if len(flat) > 1 and flat[-1].text == ":" else None
    return name, index, given
