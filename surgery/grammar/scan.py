"""A quick look at the whole text before it is parsed: lexemes, statements, forbidden characters.

In: any text. Out: `Lexeme`s (comments included, blanks not) and the `Chunk`s that begin at a
statement keyword in column 0. Never fails: a character that means nothing is a lexeme too. The
parser proper has its own lexer; this one exists so that one broken statement cannot hide the
others, and so that errors can be explained by what stands around them.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

STATEMENTS = (
    "surg",
    "import",
    "model",
    "input",
    "let",
    "fn",
    "machine",
    "scenario",
    "dataset",
    "score",
    "apply",
    "choose",
    "expect",
    "require",
    "minimize",
    "maximize",
    "recover",
    "emit",
)
"""The words that begin a statement; in column 0 they always do."""

DEFINING = ("model", "input", "let", "fn", "machine", "scenario", "dataset", "score")
"""Statements that begin with the name that they define."""

FUTURE = ("prefer", "for", "forbid", "test", "variant")
"""Words kept for statements of later editions."""

OPERATOR_WORDS = ("and", "or", "not", "is", "if", "then", "else")
CLAUSE_WORDS = ("as", "on", "in", "where", "except", "by", "init", "when", "keep", "layers")

RESERVED = frozenset(STATEMENTS + FUTURE + OPERATOR_WORDS + CLAUSE_WORDS)
"""Words that nothing can be named by."""

FOLDS = ("count", "sum", "min", "max", "every", "some")
"""Words that fold over layers, before `(layers`; names everywhere else."""

MARKS = (
    *("<=", ">=", "==", "!=", "&&", "||", "//", "**", "->", "=>", ".."),
    *("=", "<", ">", "+", "-", "*", "/", "%", "|", ":", ";", ",", "."),
    *("(", ")", "{", "}", "[", "]", "!"),
)
"""Every mark but the labels, the language's own and those of others; longer ones first."""

UNITS = (
    *("KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB", "TB"),
    *("tok/s", "req/s", "J/tok", "tok", "params", "layers", "kW", "W", "ms", "us", "s", "%", "x"),
)
"""Every unit of a literal."""

LexemeKind: TypeAlias = Literal["comment", "string", "open", "number", "word", "mark", "other"]

# The number is the QUANTITY of surg.lark; a test compares the two.
QUANTITY = (
    r"[0-9][0-9_]*(\.[0-9]+)?([eE][-+]?[0-9]+)?([KMBT](?![A-Za-z0-9_]))?"
    r"([ \t]?(KiB|MiB|GiB|TiB|kB|MB|GB|TB|tok\/s|req\/s|J\/tok|tok|params|layers|kW|W|ms|us|s)"
    r"(?![A-Za-z0-9_\/])|[%x](?![A-Za-z0-9_]))?"
)
# Something follows all blanks, if only the end: so no blank is looked at twice.
_LEXEME = re.compile(
    r"[ \t\r\n]*+(?:"
    r"(?P<comment>#[^\r\n]*)"
    r'|(?P<string>"[^"\n]*")'
    r'|(?P<open>"[^"\r\n]*)'
    rf"|(?P<number>{QUANTITY})"
    r"|(?P<word>[^\W\d]\w*)"
    rf"|(?P<mark>@[a-z][a-z0-9-]*|{'|'.join(map(re.escape, MARKS))})"
    r"|(?P<other>[^ \t\r\n])"
    r"|\Z)"
)

_KINDS: dict[str | None, LexemeKind] = {kind: kind for kind in get_args(LexemeKind)}

# NUL and other controls, lone surrogates, and marks that show text in another order than it has.
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_FORBIDDEN = (
    f"[{_CONTROLS}\x80-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)

_INVISIBLE = ("Cf", "Zs", "Zl", "Zp")


class Lexeme(Struct, frozen=True, gc=False):
    """One word, number, mark or comment."""

    kind: LexemeKind
    text: str
    start: int
    end: int


class Chunk(Struct, frozen=True, gc=False):
    """The text from one statement keyword in column 0 up to the next.

    `keyword` is empty for a text before the first statement. `lexemes` has no comments.
    """

    keyword: str
    start: int
    end: int
    lexemes: tuple[Lexeme, ...]


def lexemes(text: str, start: int = 0, most: int | None = None) -> tuple[Lexeme, ...]:
    """Everything in a text that is not blank, or the first `most` of it."""
    found = islice(_LEXEME.finditer(text, start), most)
    return tuple(
        [
            Lexeme(_KINDS[kind], match[kind], *match.span(kind))
            for match in found
            if (kind := match.lastgroup)
        ]
    )


def in_column_0(text: str, offset: int) -> bool:
    """Whether a line begins at this offset; a byte order mark does not count."""
    return offset == 0 or text[offset - 1] in "\n\ufeff"


def chunks(text: str, found: tuple[Lexeme, ...]) -> tuple[Chunk, ...]:
    """The statements of a text, each with its lexemes."""
    groups: list[list[Lexeme]] = []
    starts: set[str] = {*STATEMENTS, *FUTURE}
    for lexeme in found:
        if lexeme.kind == "comment":
            continue
        begins = lexeme.text in starts and in_column_0(text, lexeme.start)
        if begins or not groups:
            groups.append([])
        groups[-1].append(lexeme)
    ends = [*(group[0].start for group in groups), len(text)][1:]
    return tuple(
        Chunk(group[0].text if group[0].text in starts else "", group[0].start, end, tuple(group))
        for group, end in zip(groups, ends, strict=True)
    )


def defined(chunk: Chunk) -> str:
    """The name that a statement defines, or would if it could be read; empty when it has none."""
    words = [lexeme.text for lexeme in chunk.lexemes if lexeme.kind == "word"]
    if chunk.keyword == "import" and "as" in words[:-1]:
        return words[words.index("as") + 1]
    return words[1] if chunk.keyword in DEFINING and len(words) > 1 else ""


def forbidden(text: str) -> tuple[int, ...]:
    """Offsets of the characters that no spec may contain, comments and strings included."""
    # Most texts are ASCII, and a class with characters from far away takes long to compile.
    found = re.finditer(f"[{_CONTROLS}]" if text.isascii() else _FORBIDDEN, text)
    return tuple(match.start() for match in found)


def invisible(found: tuple[Lexeme, ...]) -> tuple[Lexeme, ...]:
    """Blanks that are no blanks of the language, and marks of no width, outside strings and
    comments; not what is `forbidden` everywhere."""
    return tuple(
        lexeme
        for lexeme in found
        if lexeme.kind == "other"
        and unicodedata.category(lexeme.text) in _INVISIBLE
        and not forbidden(lexeme.text)
    )


def deeper_than(limit: int, found: tuple[Lexeme, ...]) -> Lexeme | None:
    """The first bracket that opens more than `limit` levels inside a statement."""
    depth = 0
    for lexeme in found if len(found) > limit else ():
        if lexeme.kind != "mark":
            continue
        if lexeme.text in "([{":
            depth += 1
            if depth > limit:
                return lexeme
        elif lexeme.text in ")]}":
            depth = max(0, depth - 1)
    return None
