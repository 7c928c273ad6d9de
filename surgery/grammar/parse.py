"""Text -> abstract syntax, with one good error for each broken statement.

In: a `Source` (or a path, for `read_source`). Out: a `Spec` of everything that could be read;
what could not is reported and missing from it. Never raises for anything a user can write.

The text is cut at the statement keywords in column 0 and each piece is parsed alone, so an
unclosed block ends where the next statement begins and cannot hide it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety, Sink
from surgery.grammar import ast, comments, edition, scan, syntax_errors
from surgery.grammar.build import StatementBuilder
from surgery.grammar.front import MAX_DEPTH, Branch, Failure, TooDeep, parse_range
from surgery.grammar.scan import Chunk, Lexeme
from surgery.source import Source, Span

MAX_BYTES = 1_000_000
"""Larger files are refused: no one writes them."""

MAX_NESTING = 64
"""Deepest nesting of brackets."""

MAX_ERRORS = 50
"""Errors after which the rest of a file is not read."""


def read_source(path: str | Path, sink: Sink) -> Source | None:
    """The text of a file under the name by which it was asked for, or `None` and a report."""
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        reason = getattr(error, "strerror", None) or "not a usable path"
        sink.report(Diagnostic(catalog.E0001, f"cannot read `{name}`: {reason.lower()}", (), name))
        return None
    if len(data) > MAX_BYTES:
        sink.report(_too_large(name, ()))
        return None
    try:
        return Source(name, data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        message = f"`{name}` is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        sink.report(Diagnostic(catalog.E0002, message, (), name))
        return None


def parse(source: Source, sink: Sink) -> ast.Spec:
    """Read a spec; whatever is wrong with its text goes to the sink."""
    if _refused(source, sink):
        return ast.Spec(Span(source, 0, 0), 1, (), "", ())
    start = 1 if source.text.startswith("\ufeff") else 0
    lexemes = scan.lexemes(source.text, start)
    if invisible := scan.invisible(lexemes):
        sink.extend(_invisible(source, invisible))
        return ast.Spec(Span(source, 0, 0), 1, (), "", ())
    found = scan.chunks(source.text, lexemes)
    notes = comments.collect(source, lexemes)
    docs = comments.Docs.of(source, notes)
    sink.extend(edition.problems(source, found))
    bodies = edition.without(found)
    statements = _Statements(source, sink, StatementBuilder(source, sink, docs))
    items = tuple(statements.read(bodies))
    first = bodies[0].start if bodies else len(source.text)
    span = Span(source, start, len(source.text))
    return ast.Spec(span, 1, items, docs.description(first), notes)


def _refused(source: Source, sink: Sink) -> bool:
    """Report what makes the whole text unreadable."""
    if len(source.text) > MAX_BYTES:
        sink.report(_too_large(source.name, (Label(Span(source, 0, 0), "", primary=True),)))
        return True
    bad = scan.forbidden(source.text)
    for offset in bad[:5]:
        span = Span(source, offset, offset + 1)
        code = f"U+{ord(span.text):04X}"
        label = Label(span, "this character is invisible here", primary=True)
        notes = (f"{len(bad)} such characters in this file",) if len(bad) > 1 else ()
        message = f"a spec cannot contain the character {code}"
        sink.report(Diagnostic(catalog.E0111, message, (label,), notes=notes))
    return bool(bad)


def _invisible(source: Source, found: tuple[Lexeme, ...]) -> Iterator[Diagnostic]:
    """One E0111 for each kind of character; its fix replaces all of them."""
    for char in dict.fromkeys(lexeme.text for lexeme in found):
        spans = [Span(source, each.start, each.end) for each in found if each.text == char]
        name = unicodedata.name(char, "").lower()
        code = f"U+{ord(char):04X} {name}".rstrip()
        label = Label(spans[0], "this looks like a blank or like nothing", primary=True)
        notes = (f"{len(spans)} such characters in this file",) if len(spans) > 1 else ()
        message = f"only strings and comments can contain the character {code}"
        wide = unicodedata.category(char) != "Cf"
        fix = Fix(tuple(Edit(span, " " if wide else "") for span in spans), Safety.SAFE)
        helps = (Help("write a plain space" if wide else "remove it", fix),)
        yield Diagnostic(catalog.E0111, message, (label,), notes=notes, helps=helps)


def _too_large(name: str, labels: tuple[Label, ...]) -> Diagnostic:
    message = f"`{name}` is larger than 1 MB, the most that a spec may have"
    return Diagnostic(catalog.E0110, message, labels, None if labels else name)


class _Statements(Struct):
    source: Source
    sink: Sink
    builder: StatementBuilder

    def read(self, found: tuple[Chunk, ...]) -> Iterator[ast.Item]:
        """The items of all chunks that can be read."""
        limit = len(self.sink.found) + MAX_ERRORS
        starts = [Span(self.source, c.start, c.start + len(c.keyword)) for c in found]
        for chunk, after in zip(found, [*starts, None][1:], strict=True):
            if len(self.sink.found) >= limit:
                return
            yield from self._chunk(chunk, after)

    def _chunk(self, chunk: Chunk, after: Span | None) -> tuple[ast.Item, ...]:
        deep = scan.deeper_than(MAX_NESTING, chunk.lexemes)
        if deep is not None:
            return self._report(_too_deep(Span(self.source, deep.start, deep.end), MAX_NESTING))
        result = parse_range(self.source.text, chunk.start, chunk.end)
        match result:
            case Branch():
                return self.builder.items(result)
            case TooDeep():
                span = Span(self.source, result.start, result.end)
                return self._report(_too_deep(span, MAX_DEPTH))
            case Failure():
                split = syntax_errors.hidden_statement(self.source.text, chunk, result)
                if split is not None:
                    return self._split(chunk, split, after)
                return self._report(syntax_errors.explain(self.source, chunk, result, after))

    def _split(self, chunk: Chunk, at: int, after: Span | None) -> tuple[ast.Item, ...]:
        """A chunk ends in a statement whose keyword is misspelt: read both parts."""
        count = next(n for n, each in enumerate(chunk.lexemes) if each.start == at)
        head = Chunk(chunk.keyword, chunk.start, at, chunk.lexemes[:count])
        tail = Chunk("", at, chunk.end, chunk.lexemes[count:])
        word = tail.lexemes[0]
        items = self._chunk(head, Span(self.source, word.start, word.end)) if count else ()
        self._report(syntax_errors.unknown_statement(self.source, tail))
        return items

    def _report(self, diagnostic: Diagnostic) -> tuple[ast.Item, ...]:
        self.sink.report(diagnostic)
        return ()


def _too_deep(span: Span, limit: int) -> Diagnostic:
    label = Label(span, f"more than {limit} levels", primary=True)
    message = "this is nested too deeply, or too long a chain of operators"
    return Diagnostic(catalog.E0110, message, (label,))
