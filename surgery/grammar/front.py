"""The only file that knows Lark: a piece of text -> `Branch`es and `Leaf`s, or a `Failure`.

In: text and a range of it. Out: plain frozen values with absolute offsets. Not here: what the
failure means to a person (`syntax_errors.py`) or what the branches mean (`build.py`).

Building the LALR tables takes longer than all the rest of `surgery check`, so they are kept in the
user's cache directory, under a name that changes with the grammar, Lark and Python. A cache that
cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, TypeAlias, cast

from msgspec import Struct

MAX_DEPTH = 160
"""Deepest tree that is built; the passes that follow recurse over it."""

END = "$END"
"""The kind of the token after the last one."""


class Leaf(Struct, frozen=True):
    """One token."""

    kind: str
    text: str
    start: int
    end: int


class Branch(Struct, frozen=True):
    """What one rule of the grammar matched."""

    rule: str
    start: int
    end: int
    parts: tuple[Part, ...]


Part: TypeAlias = Branch | Leaf


class Failure(Struct, frozen=True):
    """The first place where the text stops making sense.

    `kind` is the terminal that was found: `END`, or empty when nothing the language knows begins
    here. `accepts` are the terminals that would have been accepted.
    """

    start: int
    kind: str
    accepts: frozenset[str]


class TooDeep(Struct, frozen=True):
    """The text is well formed but nested deeper than `MAX_DEPTH`; where the deep part is."""

    start: int
    end: int


class _Meta(Protocol):
    empty: bool
    start_pos: int
    end_pos: int


class _Tree(Protocol):
    data: str
    children: list[_Tree | _Token]
    meta: _Meta


class _Token(Protocol):
    type: str
    value: str
    start_pos: int
    end_pos: int


class _Interactive(Protocol):
    def accepts(self) -> set[str]: ...


class _Unexpected(Protocol):
    """What Lark's `UnexpectedToken` (with `token`) and `UnexpectedCharacters` (without) have."""

    interactive_parser: _Interactive
    pos_in_stream: int


class _Parser(Protocol):
    def parse(self, text: object) -> _Tree: ...

    def save(self, f: IO[bytes]) -> None: ...


class _ParserClass(Protocol):
    def __call__(
        self, grammar: str, *, parser: str, lexer: str, propagate_positions: bool, strict: bool
    ) -> _Parser: ...

    def load(self, f: IO[bytes]) -> _Parser: ...


def _lark() -> _ParserClass:
    # Imported late: no other part of surgery needs it, and it is a tenth of a second.
    from lark import Lark

    return cast("_ParserClass", Lark)


def grammar_text() -> str:
    """The grammar, as shipped."""
    return Path(__file__).with_name("surg.lark").read_text(encoding="utf-8")


def build_parser(*, strict: bool = False) -> _Parser:
    """A parser made from the grammar; `strict` refuses any conflict (and needs interegular)."""
    return _lark()(
        grammar_text(), parser="lalr", lexer="contextual", propagate_positions=True, strict=strict
    )


def _cache_path() -> Path:
    import lark

    parts = (grammar_text(), lark.__version__, sys.version)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "surgery" / f"grammar-{key}.tables"


def _save(parser: _Parser, path: Path) -> None:
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            parser.save(file)
        # Atomic, so that a second process never reads half a table.
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@functools.cache
def _parser() -> _Parser:
    # Absent or damaged tables can raise anything; the grammar itself is always there.
    with contextlib.suppress(Exception), _cache_path().open("rb") as file:
        return _lark().load(file)
    parser = build_parser()
    # RuntimeError: a user without a home.
    with contextlib.suppress(OSError, RuntimeError):
        _save(parser, _cache_path())
    return parser


def parse_range(text: str, start: int, end: int) -> Branch | Failure | TooDeep:
    """Read the statements in text[start:end]."""
    from lark import UnexpectedInput
    from lark.utils import TextSlice

    try:
        tree = _parser().parse(TextSlice(text, start, end))
    except UnexpectedInput as error:
        return _failure(cast("_Unexpected", cast("object", error)), end)
    deep = _too_deep(tree)
    return deep if deep else _branch(tree, start)


def _failure(error: _Unexpected, end: int) -> Failure:
    accepts = frozenset(error.interactive_parser.accepts())
    token = cast("_Token | None", getattr(error, "token", None))
    if token is None:
        return Failure(error.pos_in_stream, "", accepts)
    return Failure(end if token.type == END else token.start_pos, token.type, accepts)


def _is_tree(node: _Tree | _Token) -> bool:
    return hasattr(node, "children")


def _levels(tree: _Tree) -> Iterator[list[_Tree]]:
    level = [tree]
    while level:
        yield level
        level = [
            cast("_Tree", child) for node in level for child in node.children if _is_tree(child)
        ]


def _too_deep(tree: _Tree) -> TooDeep | None:
    """Without recursion, because this is what makes recursion safe afterwards."""
    for depth, level in enumerate(_levels(tree)):
        if depth > MAX_DEPTH:
            return TooDeep(level[0].meta.start_pos, level[0].meta.end_pos)
    return None


def _branch(tree: _Tree, at: int) -> Branch:
    parts: list[Part] = []
    for child in tree.children:
        if _is_tree(child):
            parts.append(_branch(cast("_Tree", child), at))
        else:
            token = cast("_Token", child)
            parts.append(Leaf(token.type, str(token.value), token.start_pos, token.end_pos))
    if tree.meta.empty:
        # Only a text without a statement; it has no place of its own.
        return Branch(tree.data, at, at, ())
    return Branch(str(tree.data), tree.meta.start_pos, tree.meta.end_pos, tuple(parts))
