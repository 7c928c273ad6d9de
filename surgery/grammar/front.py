"""The lexemes of a statement -> `Branch`es and lexemes, or a `Failure`.

In: lexemes without comments. Out: plain frozen values with absolute offsets. The work is done by
`automaton.py`, which sees no text: a statement has the shape of every other whose lexemes are of
the same kinds, so shapes are kept, and a key that is typed costs the statement that it changes. Not
here: what the failure means to a person (`syntax_errors.py`) or what the branches mean
(`build.py`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from msgspec import Struct

from surgery.grammar import automaton
from surgery.grammar.automaton import Kinds, Shape, Stopped
from surgery.grammar.scan import Lexeme
from surgery.grammar.tables import tables

MAX_DEPTH = 160
"""Deepest tree that is built; the passes that follow recurse over it."""

_KEPT = 2048
"""How many shapes are kept; a spec of a thousand lines has about a hundred."""
_LONGEST = 256
"""Lexemes of a statement whose shape is kept: the memory that this can take is bounded."""


class Branch(Struct, frozen=True, gc=False):
    """What one rule of the grammar matched."""

    rule: str
    start: int
    end: int
    parts: tuple[Part, ...]


Part: TypeAlias = Branch | Lexeme


class Failure(Struct, frozen=True):
    """The first place where the text stops making sense.

    `kind` is the terminal that was found: `END`, or empty when it is nothing that the language
    knows. `accepts` are the terminals that would have been accepted.
    """

    start: int
    kind: str
    accepts: frozenset[str]


class TooDeep(Struct, frozen=True):
    """The text is well formed but nested deeper than `MAX_DEPTH`; where the deep part is."""

    start: int
    end: int


def read(lexemes: Sequence[Lexeme], end: int) -> Branch | Failure | TooDeep:
    """Read statements; `end` is where the text ends that the lexemes are from."""
    if not lexemes:
        return Branch("start", end, end, ())
    kinds = _kinds(lexemes)
    shape = _kept(tuple(kinds)) if len(lexemes) <= _LONGEST else automaton.shape_of(kinds)
    if isinstance(shape, Stopped):
        start = lexemes[shape.at].start if shape.at < len(lexemes) else end
        return Failure(start, shape.kind, shape.accepts)
    # A tree has at most two levels for each of its lexemes.
    deep = _too_deep(shape) if 2 * len(lexemes) >= MAX_DEPTH else None
    if deep is not None:
        return TooDeep(lexemes[deep.first].start, lexemes[deep.last].end)
    return _branch(shape, lexemes)


def accepts(lexemes: Sequence[Lexeme], count: int) -> frozenset[str]:
    """The terminals that could come after so many lexemes, of which none is wrong.

    `Failure.accepts` has fewer: the lexeme that cannot stand there has already closed what it can.
    """
    return automaton.accepts(islice(_kinds(lexemes), count))


@functools.lru_cache(maxsize=_KEPT)
def _kept(kinds: tuple[Kinds, ...]) -> Shape | Stopped:
    return automaton.shape_of(kinds)


def _branch(shape: Shape, lexemes: Sequence[Lexeme]) -> Branch:
    parts = [lexemes[n] if isinstance(n, int) else _branch(n, lexemes) for n in shape.parts]
    start, end = lexemes[shape.first].start, lexemes[shape.last].end
    return Branch(shape.rule, start, end, tuple(parts))


def _too_deep(shape: Shape) -> Shape | None:
    """The first part that is too deep, without recursion: this makes recursion safe afterwards."""
    level = [shape]
    for _ in range(MAX_DEPTH + 1):
        level = [part for each in level for part in each.parts if isinstance(part, Shape)]
        if not level:
            return None
    return level[0]


# ---- kinds -----------------------------------------------------------------------------------

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_OTHERS: dict[str, Kinds] = {"string": ("STRING",), "mark": ("LABEL",)}


def _kinds(lexemes: Sequence[Lexeme]) -> Iterator[Kinds]:
    known = tables().terminals
    return (
        _of_spelling(known[each.text], lexemes, n) if each.text in known else _of_class(each)
        for n, each in enumerate(lexemes)
    )


def _of_spelling(kinds: Kinds, lexemes: Sequence[Lexeme], n: int) -> Kinds:
    """`min` folds over layers where `(layers` follows; else it is a function or a name."""
    if kinds[:1] == ("FOLD",) and [e.text for e in lexemes[n + 1 : n + 3]] != ["(", "layers"]:
        return kinds[1:]
    return kinds


def _of_class(lexeme: Lexeme) -> Kinds:
    match lexeme.kind:
        case "word":
            return ("NAME",) if _NAME.fullmatch(lexeme.text) else ()
        case "number":
            return ("QUANTITY", "INT") if lexeme.text.isdigit() else ("QUANTITY",)
        case kind:
            return _OTHERS.get(kind, ())
