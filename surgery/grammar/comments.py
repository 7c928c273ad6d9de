"""Comments, and which statement each documents.

In: the lexemes of a text. Out: `Comment`s in order, the description of the file, and the doc of
the statement at an offset. Comments inside statements belong to nobody here; the formatter places
them by their spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from surgery.grammar.ast import Comment
from surgery.grammar.scan import Lexeme
from surgery.source import Source, Span


def collect(source: Source, lexemes: Iterable[Lexeme]) -> tuple[Comment, ...]:
    """Every comment of a text."""
    return tuple(_comment(source, each) for each in lexemes if each.kind == "comment")


def _comment(source: Source, lexeme: Lexeme) -> Comment:
    doc = lexeme.text.startswith("##")
    text = lexeme.text[2 if doc else 1 :].removeprefix(" ").rstrip()
    line_start = source.text.rfind("\n", 0, lexeme.start) + 1
    before = source.text[line_start : lexeme.start].lstrip("\ufeff").strip()
    return Comment(Span(source, lexeme.start, lexeme.end), text, doc, trailing=bool(before))


class Docs(Struct, frozen=True):
    """The comments that stand alone on their line, by line number."""

    source: Source
    by_line: dict[int, Comment]

    @classmethod
    def of(cls, source: Source, comments: Sequence[Comment]) -> Docs:
        """Index comments; trailing ones document nothing."""
        alone = (each for each in comments if not each.trailing)
        return cls(source, {each.span.first.line: each for each in alone})

    def above(self, offset: int) -> str:
        """The `##` block directly above the line that begins at an offset, or empty.

        Plain comments may stand between (`# surg: allow(...)` has to be on the line above). A
        second statement on a line has no doc: the block above is about the first.
        """
        if not self._begins_line(offset):
            return ""
        line = self.source.position(offset).line - 1
        while line in self.by_line and not self.by_line[line].doc:
            line -= 1
        block: list[str] = []
        while line in self.by_line and self.by_line[line].doc:
            block.append(self.by_line[line].text)
            line -= 1
        return "\n".join(reversed(block)).strip()

    def description(self, first_item: int) -> str:
        """The first `##` block before the first statement, unless it documents that statement.

        `first_item` is the end of the text where there is no statement.
        """
        alone = first_item == len(self.source.text)
        item_line = self.source.position(first_item).line + alone
        lines = sorted(n for n, each in self.by_line.items() if each.doc and n < item_line)
        if not lines:
            return ""
        last = lines[0]
        while last + 1 in self.by_line and self.by_line[last + 1].doc:
            last += 1
        directly_above = all(n in self.by_line for n in range(last + 1, item_line))
        if directly_above and self._begins_line(first_item) and not alone:
            return ""
        return "\n".join(self.by_line[n].text for n in range(lines[0], last + 1)).strip()

    def _begins_line(self, offset: int) -> bool:
        text = self.source.text
        return not text[text.rfind("\n", 0, offset) + 1 : offset].strip(" \t\r\ufeff")
