"""Text -> abstract syntax, with one good error for each broken statement.

In: a `Source` (or a path, for `read_source`). Out: a `Spec` of everything that could be read;
what could not is reported and missing from it. Never raises for anything a user can write.

The text is cut at the statement keywords in column 0 and each piece is parsed alone, so an
unclosed block ends where the next statement begins and cannot hide it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety, Sink
from surgery.grammar import ast, comments, edition, foreign_lines, front, patch, scan, word_errors
from surgery.grammar.build import StatementBuilder
from surgery.grammar.front import Branch
from surgery.grammar.scan import Chunk, Lexeme
from surgery.source import Source, Span

if TYPE_CHECKING:
    from surgery.grammar.recovery import Recovery

MAX_BYTES = 1_000_000
"""Larger files are refused: no one writes them."""

_LARGE = "is larger than 1 MB"

MAX_LEXEMES = 20_000
"""Words and marks of a text; a spec of a thousand lines has five thousand."""

MAX_NESTING = 64
"""Deepest nesting of brackets."""

MAX_ERRORS = 50
"""Errors after which the rest of a file is not read."""


def read_source(path: str | Path, sink: Sink) -> Source | None:
    """The text of a file under the name by which it was asked for, or `None` and a report."""
    data = read_bytes(path, sink)
    return None if data is None else decode(str(path), data, sink)


def read_bytes(path: str | Path, sink: Sink) -> bytes | None:
    """What a file holds (no more than `decode` needs to refuse it), or `None` and a report."""
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        reason = getattr(error, "strerror", None) or "not a usable path"
        sink.report(Diagnostic(catalog.E0001, f"cannot read `{name}`: {reason.lower()}", (), name))
        return None


def decode(name: str, data: bytes, sink: Sink) -> Source | None:
    """Bytes as a text under a name, or `None` and a report: too many (E0110), not UTF-8 (E0002)."""
    if len(data) > MAX_BYTES:
        sink.report(_too_large(name, _LARGE))
        return None
    try:
        return Source(name, data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        message = f"`{name}` is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        sink.report(Diagnostic(catalog.E0002, message, (), name))
        return None


def parse(source: Source, sink: Sink) -> ast.Spec:
    """Read a spec; whatever is wrong with its text goes to the sink."""
    start = 1 if source.text.startswith("\ufeff") else 0
    end = len(source.text)
    lexemes = scan.lexemes(source.text, start, MAX_LEXEMES + 1)
    if end > MAX_BYTES:
        return _nothing(source, sink, _LARGE)
    if len(lexemes) > MAX_LEXEMES:
        return _nothing(source, sink, f"has more than {MAX_LEXEMES:,} words and marks")
    skipped = tuple(_skipped(source, lexemes, sink))
    if skipped:
        lexemes = patch.lexemes(source, start, end, skipped)
    found = scan.chunks(source.text, lexemes)
    notes = comments.collect(source, lexemes)
    docs = comments.Docs.of(source, notes)
    sink.extend(edition.problems(source, found))
    bodies = edition.without(source, found)
    statements = _Statements(source, sink, StatementBuilder(source, sink, docs), skipped)
    items = tuple(statements.read(bodies))
    first = bodies[0].start if bodies else end
    span = Span(source, start, end)
    unread, holes = tuple(statements.unread), tuple(statements.holes)
    return ast.Spec(span, 1, items, docs.description(first), notes, unread, holes)


def _skipped(source: Source, lexemes: tuple[Lexeme, ...], sink: Sink) -> Iterator[Edit]:
    """Report what is no part of the language at all; edits that leave it out."""
    bad = scan.forbidden(source.text)
    sink.extend(_forbidden(source, bad))
    for offset in bad:
        # What has no width divides no word.
        blank = "" if unicodedata.category(source.text[offset]) == "Cf" else " "
        yield Edit(Span(source, offset, offset + 1), blank)
    for diagnostic in _invisible(source, scan.invisible(lexemes)):
        sink.report(diagnostic)
        for fix in (each.fix for each in diagnostic.helps if each.fix):
            yield from fix.edits
    for n, strange in enumerate(foreign_lines.find(source, lexemes)):
        if n < MAX_ERRORS:
            sink.report(strange.diagnostic)
        yield Edit(strange.span, re.sub(r"[^\n]", " ", strange.span.text))


def _nothing(source: Source, sink: Sink, why: str) -> ast.Spec:
    """A text that nobody wrote is not read, and so nothing is known to be missing from it."""
    span = Span(source, 0, 0)
    sink.report(_too_large(source.name, why, (Label(span, "", primary=True),)))
    unread = tuple(ast.Unread(span, word, "") for word in scan.STATEMENTS)
    return ast.Spec(span, 1, (), "", (), unread)


def _forbidden(source: Source, bad: tuple[int, ...]) -> Iterator[Diagnostic]:
    """E0111 for the first characters that no spec may contain."""
    for offset in bad[:5]:
        span = Span(source, offset, offset + 1)
        code = f"U+{ord(span.text):04X}"
        label = Label(span, "this character is invisible here", primary=True)
        notes = (f"{len(bad)} such characters in this file",) if len(bad) > 1 else ()
        message = f"a spec cannot contain the character {code}"
        helps = (Help("remove it", Fix((Edit(span, ""),), Safety.UNSAFE)),)
        yield Diagnostic(catalog.E0111, message, (label,), notes=notes, helps=helps)


def _invisible(source: Source, found: tuple[Lexeme, ...]) -> Iterator[Diagnostic]:
    """One E0111 for each kind of character; its fix replaces all of them."""
    places: dict[str, list[Span]] = {}
    for each in found:
        places.setdefault(each.text, []).append(Span(source, each.start, each.end))
    for char, spans in places.items():
        name = unicodedata.name(char, "").lower()
        code = f"U+{ord(char):04X} {name}".rstrip()
        label = Label(spans[0], "this looks like a blank or like nothing", primary=True)
        notes = (f"{len(spans)} such characters in this file",) if len(spans) > 1 else ()
        message = f"only strings and comments can contain the character {code}"
        wide = unicodedata.category(char) != "Cf"
        fix = Fix(tuple(Edit(span, " " if wide else "") for span in spans), Safety.SAFE)
        helps = (Help("write a plain space" if wide else "remove it", fix),)
        yield Diagnostic(catalog.E0111, message, (label,), notes=notes, helps=helps)


def _too_large(name: str, why: str, labels: tuple[Label, ...] = ()) -> Diagnostic:
    message = f"`{name}` {why}, the most that a spec may have"
    return Diagnostic(catalog.E0110, message, labels, None if labels else name)


class _Statements:
    """Reads the statements of one text; `skipped` are edits that leave out what is reported."""

    def __init__(
        self, source: Source, sink: Sink, builder: StatementBuilder, skipped: tuple[Edit, ...]
    ) -> None:
        self.source: Source = source
        self.sink: Sink = sink
        self.builder: StatementBuilder = builder
        self.skipped: tuple[Edit, ...] = skipped
        self.unread: list[ast.Unread] = []
        self.holes: list[Span] = []
        self.limit: int = len(sink.found) + MAX_ERRORS

    @functools.cached_property
    def recovery(self) -> Recovery:
        # Imported late: most texts have no mistakes, and all that can be said of one takes a while.
        from surgery.grammar.recovery import Recovery

        return Recovery(self.source, self.skipped, self.sink, self.unread, self.holes, self.limit)

    def read(self, found: tuple[Chunk, ...]) -> Iterator[ast.Item]:
        """The items of all chunks that can be read."""
        starts = [Span(self.source, c.start, c.start + len(c.keyword)) for c in found]
        for chunk, after in zip(found, [*starts, None][1:], strict=True):
            if len(self.sink.found) >= self.limit:
                self.recovery.lose(chunk.lexemes)
                continue
            deep = scan.deeper_than(MAX_NESTING, chunk.lexemes)
            if deep is not None:
                self.recovery.nested(deep, chunk.lexemes, MAX_NESTING)
                continue
            result = front.read(chunk.lexemes, chunk.end)
            if isinstance(result, Branch) and not self._strange(chunk):
                yield from self.builder.items(result)
            else:
                yield from self._mended(chunk, after)

    def _strange(self, chunk: Chunk) -> bool:
        """Whether a statement parses and yet is not what it was meant to be."""
        if chunk.keyword != "choose":
            return False
        return word_errors.hidden(self.source, chunk.lexemes) is not None

    def _mended(self, chunk: Chunk, after: Span | None) -> Iterator[ast.Item]:
        holes = len(self.holes)
        for branch in self.recovery.read(chunk, after):
            told = len(self.sink.found)
            yield from self.builder.items(branch)
            if len(self.holes) > holes:
                # Its alternatives are there, but could not be read.
                kept = [d for d in self.sink.found[told:] if d.code is not catalog.E0105]
                self.sink.found[told:] = kept
