"""Why a statement cannot be parsed, said to a person.

In: a chunk of text and the `Failure` of the parser in it. Out: exactly one diagnostic. The cases
people run into are written by hand, keyed on what stands around the failure; the rest is E0109,
with what would have been accepted there in words (`expected.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import expected, foreign, unit_errors
from surgery.grammar.front import Failure
from surgery.grammar.near import nearest
from surgery.grammar.scan import (
    FUTURE,
    RESERVED,
    STATEMENTS,
    Chunk,
    Lexeme,
    in_column_0,
)
from surgery.source import Source, Span

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_CLOSER = {"(": ")", "[": "]", "{": "}"}


class Trouble(Struct, frozen=True):
    """Where a parse failed and what stands around it.

    `after` is the keyword of the next statement, if there is one.
    """

    source: Source
    chunk: Chunk
    failure: Failure
    after: Span | None

    @property
    def index(self) -> int:
        """The number of the lexeme at the failure; one past the last at the end."""
        ends = enumerate(self.chunk.lexemes)
        return next(
            (n for n, each in ends if each.end > self.failure.start), len(self.chunk.lexemes)
        )

    def at(self, offset: int) -> Lexeme | None:
        """The lexeme so many places from the failure."""
        n = self.index + offset
        return self.chunk.lexemes[n] if 0 <= n < len(self.chunk.lexemes) else None

    def span(self, lexeme: Lexeme) -> Span:
        """Where a lexeme stands."""
        return Span(self.source, lexeme.start, lexeme.end)

    def same_line(self, one: Lexeme, two: Lexeme) -> bool:
        """Whether nothing but blanks of one line stands between two neighbours."""
        return not self.source.text[one.end : two.start].strip(" \t")

    def accepts(self, *kinds: str) -> bool:
        """Whether any of these terminals would have been accepted."""
        return not self.failure.accepts.isdisjoint(kinds)


def explain(source: Source, chunk: Chunk, failure: Failure, after: Span | None) -> Diagnostic:
    """The one diagnostic for a chunk that does not parse."""
    trouble = Trouble(source, chunk, failure, after)
    if chunk.keyword in FUTURE:
        return _future(trouble)
    if not chunk.keyword:
        return unknown_statement(source, chunk)
    for case in _CASES:
        found = case(trouble)
        if found is not None:
            return found
    return _unexpected(trouble)


def report(
    code: Code, message: str, span: Span, text: str, *others: Label, helps: tuple[Help, ...] = ()
) -> Diagnostic:
    """A diagnostic with one primary label."""
    return Diagnostic(code, message, (Label(span, text, primary=True), *others), helps=helps)


# ---- statements that are none ----------------------------------------------------------------


def hidden_statement(text: str, chunk: Chunk, failure: Failure) -> int | None:
    """Where in a chunk a statement with a misspelt keyword begins, if one does.

    Either the parse fails at a word in column 0, or it fails later and such a word looks like a
    keyword: `chose experts in ...` after an unclosed block reads as two alternatives at first.
    """
    depth = 0
    for one, two in zip(chunk.lexemes, [*chunk.lexemes[1:], None], strict=True):
        if one.start > failure.start:
            return None
        depth += (one.text in "([{") - (one.text in ")]}") if one.kind == "mark" else 0
        if one.text == "//" and depth <= 0 and _leads(text, one.start):
            return one.start
        if one.kind != "word" or one.start == chunk.start or not in_column_0(text, one.start):
            continue
        if one.text in RESERVED or (two and two.text == "="):
            continue
        heads = two is not None and (two.kind in ("word", "string") or two.text.startswith("@"))
        if (heads and nearest(one.text, STATEMENTS)) or (one.start == failure.start and depth <= 0):
            return one.start
    return None


def _leads(text: str, offset: int) -> bool:
    """Whether nothing stands before an offset on its line."""
    return not text[text.rfind("\n", 0, offset) + 1 : offset].strip()


def unknown_statement(source: Source, chunk: Chunk) -> Diagnostic:
    """The chunk begins with something that begins no statement."""
    first = chunk.lexemes[0]
    span = Span(source, first.start, first.end)
    if first.kind != "word":
        strange = foreign.explain(source, span, Failure(first.start, "", frozenset()))
        if strange is not None:
            return strange
        message = f"expected a statement, found {expected.found(first)}"
        return report(catalog.E0109, message, span, "no statement begins like this")
    near = nearest(first.text, STATEMENTS[1:])
    safety = Safety.SAFE if len(near) == 1 else Safety.DISPLAY
    helps = tuple(
        Help(f"use the statement `{word}`", Fix((Edit(span, word),), safety)) for word in near
    )
    notes = () if near else (f"the statements are {', '.join(STATEMENTS[1:])}",)
    message = f"there is no statement `{first.text}`"
    label = Label(span, "not a statement", primary=True)
    return Diagnostic(catalog.E0103, message, (label,), notes=notes, helps=helps)


def _future(trouble: Trouble) -> Diagnostic:
    span = trouble.span(trouble.chunk.lexemes[0])
    message = f"`{span.text}` is reserved for a later edition of the language"
    return report(catalog.E0107, message, span, "there is no such statement yet")


# ---- cases -----------------------------------------------------------------------------------


def _unclosed_string(trouble: Trouble) -> Diagnostic | None:
    got = trouble.at(0)
    if got is None or got.kind != "open":
        return None
    span = trouble.span(got)
    inner = got.text.rstrip()
    if inner.endswith(" {"):
        inner = inner[:-2].rstrip()
    where = Span(trouble.source, got.start + len(inner), got.start + len(inner))
    helps = (Help('close the string with `"`', Fix((Edit(where, '"'),), Safety.UNSAFE)),)
    message = "this string is not closed on its line"
    return report(catalog.E0106, message, span, "opened here", helps=helps)


def _foreign(trouble: Trouble) -> Diagnostic | None:
    got = trouble.at(0)
    if got is None:
        return None
    return foreign.explain(trouble.source, trouble.span(got), trouble.failure)


def _bare_fraction(trouble: Trouble) -> Diagnostic | None:
    """`.5` instead of `0.5`."""
    got, number = trouble.at(0), trouble.at(1)
    if got is None or number is None or got.text != "." or number.start != got.end:
        return None
    if number.kind != "number" or not trouble.accepts("QUANTITY"):
        return None
    span = trouble.span(got).to(trouble.span(number))
    fix = Fix((Edit(Span(trouble.source, got.start, got.start), "0"),), Safety.SAFE)
    helps = (Help(f"write `0{span.text}`", fix),)
    message = "a number begins with a digit"
    return report(catalog.E0109, message, span, "no digit before the point", helps=helps)


def _unit(trouble: Trouble) -> Diagnostic | None:
    """At the failure, or just before it when the word was taken for the next name."""
    pairs = ((trouble.at(-1), trouble.at(0)), (trouble.at(-2), trouble.at(-1)))
    for (number, word), following in zip(pairs, (trouble.at(1), trouble.at(0)), strict=True):
        if number is None or word is None or number.kind != "number" or word.kind != "word":
            continue
        adjacent = number.end == word.start
        if not adjacent and (
            word.text in RESERVED
            or not trouble.same_line(number, word)
            or (following is not None and following.text == "=")
        ):
            continue
        unfinished = number.text[-1].isdigit() or number.text[-1] in "KMBT_"
        if adjacent or (unfinished and (unit_errors.meant(word.text) or word is trouble.at(0))):
            return unit_errors.unknown_unit(trouble.span(number), trouble.span(word))
    return None


def _missing_equals(trouble: Trouble) -> Diagnostic | None:
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or not trouble.accepts("EQUAL") or got.text in RESERVED:
        return None
    if got.kind not in ("number", "string", "word") and got.text not in ("(", "[", "-"):
        return None
    if not trouble.same_line(before, got):
        return None
    field = trouble.failure.accepts == frozenset({"EQUAL"}) and trouble.at(-2) is not None
    in_block = field and _open_brackets(trouble)
    what = f"the field name `{before.text}`" if in_block else f"`{before.text}`"
    gap = Span(trouble.source, before.end, got.start)
    new = gap.text[:-2] + "= " if len(gap.text) > 2 else " = "
    helps = (
        Help(
            "write the field as `name = value`" if in_block else "put a `=` before the value",
            Fix((Edit(gap, new),), Safety.SAFE),
        ),
    )
    return report(
        catalog.E0101,
        f"expected `=` after {what}",
        trouble.span(got),
        "expected `=` before this value",
        Label(trouble.span(before), "this field" if in_block else "after this"),
        helps=helps,
    )


def _open_brackets(trouble: Trouble) -> list[Lexeme]:
    stack: list[Lexeme] = []
    for lexeme in trouble.chunk.lexemes[: trouble.index]:
        if lexeme.kind != "mark":
            continue
        if lexeme.text in "([{":
            stack.append(lexeme)
        elif lexeme.text in ")]}" and stack:
            stack.pop()
    return stack


def _unclosed(trouble: Trouble) -> Diagnostic | None:
    stack, got = _open_brackets(trouble), trouble.at(0)
    if not stack:
        return None
    opener = stack[-1]
    if got is not None:
        return _unclosed_inside(trouble, opener, got)
    what = f"this `{opener.text}` is not closed"
    if opener.text == "{":
        head = trouble.chunk.lexemes[: 2 if trouble.chunk.keyword != "recover" else 1]
        what = f"the block of `{' '.join(each.text for each in head)}` is not closed"
    others: tuple[Label, ...] = ()
    text = "opened here, and the file ends"
    if trouble.after is not None:
        text = "opened here"
        others = (Label(trouble.after, "the next statement begins here"),)
    last = trouble.chunk.lexemes[-1].end
    closer = _CLOSER[opener.text]
    edit = Edit(Span(trouble.source, last, last), "\n}" if closer == "}" else closer)
    helps = (Help(f"close it with `{closer}`", Fix((edit,), Safety.UNSAFE)),)
    return report(catalog.E0102, what, trouble.span(opener), text, *others, helps=helps)


def _unclosed_inside(trouble: Trouble, opener: Lexeme, got: Lexeme) -> Diagnostic | None:
    """A call or list that runs into the next line, or into a closer of another kind."""
    before = trouble.at(-1)
    if opener.text == "{" or before is None:
        return None
    if got.text not in ")]}" and (
        trouble.same_line(before, got) or before.text in (",", opener.text)
    ):
        return None
    closer = _CLOSER[opener.text]
    if got.text == closer or not trouble.accepts("RPAR" if closer == ")" else "RSQB"):
        return None
    edit = Edit(Span(trouble.source, before.end, before.end), closer)
    return report(
        catalog.E0102,
        f"this `{opener.text}` is not closed",
        trouble.span(opener),
        "opened here",
        Label(trouble.span(got), f"expected `{closer}` before this"),
        helps=(Help(f"close it with `{closer}`", Fix((edit,), Safety.UNSAFE)),),
    )


def _stray_closer(trouble: Trouble) -> Diagnostic | None:
    got = trouble.at(0)
    if got is None or got.kind != "mark" or got.text not in ")]}" or _open_brackets(trouble):
        return None
    fix = Fix((Edit(trouble.span(got), ""),), Safety.UNSAFE)
    message = f"this `{got.text}` closes nothing"
    helps = (Help("remove it", fix),)
    return report(catalog.E0109, message, trouble.span(got), "nothing is open here", helps=helps)


def _reserved(trouble: Trouble) -> Diagnostic | None:
    got = trouble.at(0)
    if got is None or got.text not in RESERVED or trouble.failure.accepts != frozenset({"NAME"}):
        return None
    message = f"`{got.text}` is a reserved word and cannot name anything"
    helps = (Help("use another name"),)
    return report(catalog.E0107, message, trouble.span(got), "reserved", helps=helps)


def _capitals(trouble: Trouble) -> Diagnostic | None:
    got = trouble.at(0)
    if got is None or got.kind != "word" or _NAME.fullmatch(got.text):
        return None
    lower = got.text.lower()
    helps: tuple[Help, ...] = ()
    if _NAME.fullmatch(lower) and lower not in RESERVED:
        fix = Fix((Edit(trouble.span(got), lower),), Safety.UNSAFE)
        helps = (Help(f"write `{lower}`", fix),)
    label = Label(trouble.span(got), "not a name", primary=True)
    notes = ("names have lower-case letters a to z, digits and `_`",)
    message = f"`{got.text}` cannot be a name"
    return Diagnostic(catalog.E0109, message, (label,), notes=notes, helps=helps)


def _unexpected(trouble: Trouble) -> Diagnostic:
    got, before = trouble.at(0), trouble.at(-1)
    words = expected.words(trouble.failure.accepts)
    if got is not None:
        where = f" after {expected.found(before)}" if before is not None else ""
        message = f"unexpected {expected.found(got)}{where}"
        return report(catalog.E0109, message, trouble.span(got), f"expected {words}")
    assert before is not None, trouble
    end = "the next statement begins" if trouble.after else "the file ends"
    message = f"`{trouble.chunk.keyword}` is not complete: {end} after {expected.found(before)}"
    return report(catalog.E0109, message, trouble.span(before), f"expected {words} after this")


_CASES: tuple[Callable[[Trouble], Diagnostic | None], ...] = (
    _unclosed_string,
    _unit,
    _foreign,
    _bare_fraction,
    _capitals,
    _missing_equals,
    _unclosed,
    _stray_closer,
    _reserved,
)
