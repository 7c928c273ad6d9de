"""Statements and blocks -> one `Doc` for the whole text.

In: a `Spec` and the text that it was read from. Out: a `Doc`. Statements stay in their order; a
block stays on one line if it was written on one and fits, and has a line for each entry otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from surgery.formatting import columns
from surgery.formatting.columns import Entry
from surgery.formatting.document import (
    HARD,
    LINE,
    NOTHING,
    SPACE,
    Doc,
    Either,
    Text,
    concat,
    flat_width,
    group,
    indent,
)
from surgery.formatting.expressions import ExpressionPrinter
from surgery.formatting.tokens import Gap, Note
from surgery.grammar import ast
from surgery.grammar.scan import RESERVED

_Other: TypeAlias = (
    ast.Import
    | ast.Fn
    | ast.Scenario
    | ast.Apply
    | ast.Choose
    | ast.Objective
    | ast.Recover
    | ast.Emit
)


class StatementPrinter(ExpressionPrinter):
    """Prints one text."""

    def spec(self, spec: ast.Spec) -> Doc:
        """The whole text: comments, edition, statements, comments."""
        begin = self.lines(self.reader.gap(), HARD, first=True)
        edition = concat(self.token("surg"), indent(self.lines(self.reader.gap(), SPACE)))
        edition = concat(edition, self.token())
        entries = [self._statement(item) for item in spec.items]
        gaps = [*(entry.gap for entry in entries), self.reader.gap()]
        gaps[0] = _blank_below(gaps[0])
        last = self.lines(Gap(gaps.pop().notes), NOTHING)
        lines = [self.lines(gap, HARD) for gap in gaps]
        parts = zip(lines, columns.built(entries), strict=True)
        return concat(begin, edition, *(doc for part in parts for doc in part), last)

    # ---- statements --------------------------------------------------------------------------

    def _statement(self, item: ast.Item) -> Entry:
        gap = self.reader.gap()
        match item:
            case ast.Model() | ast.Dataset() | ast.Score():
                return self._defined(gap, item.call, item.fields)
            case ast.Machine():
                return self._defined(gap, item.value, item.fields)
            case ast.Let():
                return self._defined(gap, item.value, ())
            case ast.Input():
                return self._input(gap, item)
            case ast.Expect() | ast.Require():
                return self._wish(gap, item)
            case _:
                return _alone(gap, self._other(item))

    def _other(self, item: _Other) -> Doc:
        """A statement that has no column."""
        match item:
            case ast.Import():
                return self._import()
            case ast.Fn():
                return self._fn(item)
            case ast.Scenario():
                words = [self.token(), SPACE, self.token(), SPACE, self.token("on"), SPACE]
                return concat(*words, self.token(), self._block(item.fields))
            case ast.Apply():
                return self._apply(item)
            case ast.Choose():
                return self._choose(item)
            case ast.Objective():
                return concat(self.token(item.sense), SPACE, self.expr(item.value, whole=True))
            case ast.Recover():
                return self._recover(item)
            case ast.Emit():
                words = [self.token("emit"), SPACE, self.token(), SPACE, self.token()]
                return concat(*words, self._block(item.fields))

    def _import(self) -> Doc:
        words = [self.token("import"), SPACE, self.token(), SPACE, self.token("as"), SPACE]
        return concat(*words, self.token())

    def _defined(self, gap: Gap, value: ast.Expr, fields: tuple[ast.Field, ...]) -> Entry:
        """`keyword name = value { fields }`."""
        keyword = self.reader.next
        head = concat(self.token(), SPACE, self.token())
        rest = concat(self._equals(value), self._block(fields))
        return _aligned(gap, keyword, head, rest)

    def _equals(self, value: ast.Expr) -> Doc:
        return concat(SPACE, self.token("="), self.operand(value))

    def _input(self, gap: Gap, item: ast.Input) -> Entry:
        words = [self.token("input"), SPACE, self.token(), self.token(":"), SPACE]
        head = concat(*words, self.token())
        rest = NOTHING if item.default is None else self._equals(item.default)
        return _aligned(gap, "input", head, rest)

    def _fn(self, item: ast.Fn) -> Doc:
        head = concat(self.token("fn"), SPACE, self.token())
        params = self.bracketed("(", item.params, ")")
        result = concat(SPACE, self.token("->"), SPACE, self.token())
        return concat(head, params, result, self._equals(item.body))

    def _apply(self, item: ast.Apply) -> Doc:
        words = [self.token("apply"), SPACE, self.token()]
        if item.where is None:
            return concat(*words, self._block(item.fields))
        return concat(self._where(words, item.where), self._braces(item.fields))

    def _choose(self, item: ast.Choose) -> Doc:
        words = [self.token("choose"), SPACE, self.token()]
        head = concat(self._where(words, item.where), self.token("{"))
        return self._body(head, [self._alternative(each) for each in item.alternatives])

    def _where(self, words: Sequence[Doc], where: ast.Selector) -> Doc:
        """`... in layers ...` up to the brace, which has its own line below a broken selector."""
        into = concat(SPACE, self.token("in"), SPACE)
        begin, rest = self.selection(where)
        return group(*words, into, begin, indent(rest), LINE)

    def _alternative(self, item: ast.Alternative) -> Entry:
        gap = self.reader.gap()
        name = self.token()
        if isinstance(item, ast.Keep):
            return _alone(gap, name)
        bars: list[Doc] = []
        for number, arg in enumerate(item.args):
            bar = concat(LINE, self.token("|"), SPACE) if number else SPACE
            literal = isinstance(arg, ast.Quantity | ast.Str)
            bars += [bar, self.expr(arg, whole=literal, callee=not literal)]
        head = group(name, indent(*bars))
        clauses = {"by": item.by, "init": item.init, "when": item.when}
        kind, rest = self.reader.next, NOTHING
        given = [value for value in clauses.values() if value is not None]
        for _ in given:
            value = clauses[self.reader.next]
            assert value is not None
            rest = concat(rest, LINE, self.token(), SPACE, self.expr(value, whole=True))
        if not given:
            return _alone(gap, head)
        return Entry(
            gap,
            kind,
            flat_width(head),
            lambda blanks: group(head, Either("", " " * blanks), indent(rest)),
        )

    def _wish(self, gap: Gap, item: ast.Expect | ast.Require) -> Entry:
        keyword = self.reader.next
        head, kind = self.token(), ""
        if item.label is not None:
            head, kind = concat(head, SPACE, self.token()), keyword
        rest = self.operand(item.condition)
        if item.message is not None:
            rest = concat(rest, indent(HARD, self.token("else"), SPACE, self.token()))
        return _aligned(gap, kind, head, rest)

    def _recover(self, item: ast.Recover) -> Doc:
        head = concat(self.token("recover"), SPACE, self.token("{"))
        return self._body(head, [_alone(self.reader.gap(), self._step(s)) for s in item.steps])

    def _step(self, step: ast.Step) -> Doc:
        head = self.token()
        if step.name is not None:
            head = concat(head, SPACE, self.token())
        return concat(head, self._block(step.fields))

    # ---- blocks ------------------------------------------------------------------------------

    def _body(self, head: Doc, entries: Sequence[Entry]) -> Doc:
        """Braces with a line for each entry."""
        docs = columns.built(entries)
        parts: list[Doc] = []
        for number, (entry, doc) in enumerate(zip(entries, docs, strict=True)):
            parts += [self.lines(entry.gap, HARD, first=number == 0), doc]
        return concat(head, indent(*parts), self.closing("}", HARD, blanks=True))

    def _block(self, fields: Sequence[ast.Field]) -> Doc:
        """The fields, if there is a block: it may be left out where it is empty."""
        return concat(SPACE, self._braces(fields)) if self.reader.next == "{" else NOTHING

    def _braces(self, fields: Sequence[ast.Field]) -> Doc:
        line = LINE if self.reader.one_line() else HARD
        head = self.token("{")
        if not fields:
            return group(head, self.closing("}", NOTHING))
        entries = [self._field(field) for field in fields]
        docs = columns.built(entries)
        parts: list[Doc] = []
        for number, (entry, doc) in enumerate(zip(entries, docs, strict=True)):
            comma = _comma(fields[number + 1 :])
            parts += [self.lines(entry.gap, line, first=number == 0), doc, comma]
        return group(head, indent(*parts), self.closing("}", line, blanks=True))

    def _field(self, field: ast.Field) -> Entry:
        gap = self.reader.gap()
        name = self.token()
        rest = self._equals(field.value)
        if self.reader.next == ",":
            self.reader.drop(",")

        def build(blanks: int) -> Doc:
            return concat(name, Either(" " * blanks, ""), rest)

        return Entry(gap, "=", len(field.name.text), build)


def _comma(after: Sequence[ast.Field]) -> Doc:
    """The comma before the fields that follow, if there are any."""
    if not after:
        return NOTHING
    # After a value, only a comma says that `model` is a field and not the next statement.
    return Text(",") if after[0].name.text in RESERVED else Either("", ",")


def _alone(gap: Gap, doc: Doc) -> Entry:
    return Entry(gap, "", 0, lambda _: doc)


def _aligned(gap: Gap, kind: str, head: Doc, rest: Doc) -> Entry:
    return Entry(gap, kind, flat_width(head), lambda n: concat(head, Text(" " * n), rest))


def _blank_below(gap: Gap) -> Gap:
    """The gap with a blank line at its top, under a comment that ends the line above."""
    notes = list(gap.notes)
    for number, note in enumerate(notes):
        if not note.trailing:
            notes[number] = Note(note.text, trailing=False, blank=True)
            return Gap(tuple(notes), gap.blank)
    return Gap(gap.notes, blank=True)
