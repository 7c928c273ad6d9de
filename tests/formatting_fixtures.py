"""What formatting must keep, for tests: meaning, comments, the width of lines."""

from __future__ import annotations

from typing import cast

from surgery.diagnostics import Sink
from surgery.formatting import format_text
from surgery.grammar import ast, scan
from surgery.grammar.parse import parse
from surgery.source import Source, Span


def formatted(text: str) -> str:
    """The layout of a text that parses."""
    sink = Sink()
    found = format_text(Source("t.surg", text), sink)
    assert found is not None, [each.message for each in sink.found]
    return found


def read(text: str) -> ast.Spec:
    sink = Sink()
    spec = parse(Source("t.surg", text), sink)
    assert sink.found == [], [(each.message, str(each.primary)) for each in sink.found]
    return spec


def meaning(node: object) -> object:
    """A node without its places, spelling of blanks and comments; docs are kept."""
    if isinstance(node, ast.Node):
        kept = [name for name in node.__struct_fields__ if name != "comments"]
        return (type(node).__name__, *(meaning(getattr(node, name)) for name in kept))
    if isinstance(node, tuple):
        return tuple(meaning(part) for part in cast("tuple[object, ...]", node))
    return None if isinstance(node, Span) else node


def comments(text: str) -> list[tuple[str, bool]]:
    """Every comment in order: as it is written, and whether it ends a line of code."""
    return [(each.span.text.rstrip(), each.trailing) for each in read(text).comments]


def too_wide(text: str) -> list[str]:
    """Lines whose code is wider than 100 columns though it has no string."""
    found: list[str] = []
    for line in text.splitlines():
        code = [each for each in scan.lexemes(line) if each.kind != "comment"]
        if code and code[-1].end > 100 and all(each.kind != "string" for each in code):
            found.append(line)
    return found
