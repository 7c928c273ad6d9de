"""Strings: quotes that are missing (E0106), or written as in other languages (E0108).

In: `Trouble`. Out: a diagnostic whose fix makes a string of it, or nothing when no quote is to
blame. Where a missing quote belongs is tried out: at the first place where the line makes sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.scan import Lexeme
from surgery.grammar.trouble import Trouble, change, insert, report
from surgery.source import Span

_ENDS = re.compile(r"\s+as\s|\s+by\s|\s*(?:[,)\]{}]|$)")
_TRIES = 12


def unclosed(trouble: Trouble) -> Diagnostic | None:
    """A quote without its partner on the line of the failure."""
    got = trouble.at(0)
    if got is None:
        return None
    line = [
        each for each in trouble.lexemes if each.start == got.start or _same(trouble, each, got)
    ]
    opened = [each for each in line if each.kind == "open"]
    if got.kind == "open":
        return _closed(trouble, got)
    strings = [each for each in line if each.kind == "string"]
    if not opened or not strings or not _beside_a_string(trouble, got):
        return None
    return _shifted(trouble, line)


def _same(trouble: Trouble, one: Lexeme, two: Lexeme) -> bool:
    first, last = sorted((one.start, two.start))
    return "\n" not in trouble.source.text[first:last]


def _beside_a_string(trouble: Trouble, got: Lexeme) -> bool:
    """Whether the failure may come from quotes that pair up wrongly."""
    before = trouble.at(-1)
    return got.kind == "string" or (before is not None and before.kind == "string")


def _closed(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    """The string that runs to the end of the line, closed where that makes most sense."""
    inner = got.text.rstrip()
    places = [m.start() for m in _ENDS.finditer(inner, 1)] or [len(inner)]
    message = "this string is not closed on its line"
    if not any(trouble.mends(_quote(trouble, got.start + at)) for at in places[:_TRIES]):
        word = re.search(r"[\w./-]+$", trouble.source.text[: got.start])
        if word is not None and trouble.mends(_quote(trouble, word.start())):
            helps = insert('open the string with `"`', trouble.source, word.start(), '"')
            span = Span(trouble.source, word.start(), got.start + 1)
            message = "this string is not opened"
            return report(catalog.E0106, message, span, 'expected `"` before this', helps=helps)
        quote = Span(trouble.source, got.start, got.start + 1)
        if trouble.mends((Edit(quote, ""),)):
            helps = change("remove the quote", quote, "")
            return report(catalog.E0106, message, trouble.span(got), "opened here", helps=helps)
    mending = (at for at in places[:_TRIES] if trouble.mends(_quote(trouble, got.start + at)))
    plain = len(inner[:-1].rstrip()) if inner.endswith(" {") else len(inner)
    where = got.start + next(mending, plain)
    helps = insert('close the string with `"`', trouble.source, where, '"')
    return report(catalog.E0106, message, trouble.span(got), "opened here", helps=helps)


def _quote(trouble: Trouble, at: int) -> tuple[Edit, ...]:
    return (Edit(Span(trouble.source, at, at), '"'),)


def _shifted(trouble: Trouble, line: list[Lexeme]) -> Diagnostic | None:
    """`["a, "b"]` and `[a", "b"]`: every quote after the missing one has the wrong partner."""
    end = line[-1].end
    for at, opening in _gaps(trouble, line):
        if trouble.gets_further(_quote(trouble, at)) <= end:
            continue
        if opening:
            word = Span(trouble.source, at, trouble.source.text.find('"', at) + 1)
            message, label = "this string is not opened", 'expected `"` before this'
            helps = insert('open the string with `"`', trouble.source, at, '"')
        else:
            start = trouble.source.text.rfind('"', 0, at)
            word = Span(trouble.source, start, at)
            message, label = "this string is not closed on its line", "opened here"
            helps = insert('close the string with `"`', trouble.source, at, '"')
        return report(catalog.E0106, message, word, label, helps=helps)
    return None


def _gaps(trouble: Trouble, line: list[Lexeme]) -> Iterator[tuple[int, bool]]:
    """Places on a line where a quote may be missing, and whether it would be an opening one."""
    text, start = trouble.source.text, line[0].start
    tries = 0
    for match in re.finditer(r'"|[^\s",()\[\]{}=]+', text[start : line[-1].end]):
        first, last = start + match.start(), start + match.end()
        if match[0] == '"' or tries >= _TRIES:
            continue
        tries += 1
        if text[last : last + 1] == '"' and text[first - 1] != '"':
            yield first, True
        if text[first - 1] == '"' and text[last : last + 1] != '"':
            yield last, False


def foreign(trouble: Trouble) -> Diagnostic | None:
    """Single, triple and typographic quotes, and prefixes."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None:
        return None
    if got.text in ("'", "\u2018", "`"):
        return _single(trouble, got)
    if got.text in ("\u201c", "\u201d", "\u201e", "\u00ab"):
        return _typographic(trouble, got)
    if got.kind == "string" and before is not None and before.end == got.start:
        if before.kind == "word" and len(before.text) <= 2:
            return _prefixed(trouble, before, got)
        if before.text == '""':
            return _triple(trouble, before, got)
    return None


def _single(trouble: Trouble, got: Lexeme) -> Diagnostic:
    source, start = trouble.source, got.end
    line = source.text.find("\n", start)
    rest = source.text[start : line if line >= 0 else len(source.text)]
    closing = "\u2019" if got.text == "\u2018" else got.text
    inner, closed, _ = rest.partition(closing)
    if not closed:
        inner = rest[: m.start()] if (m := _ENDS.search(rest)) else rest
    size = len(inner) + (1 if closed else 0)
    span = Span(source, got.start, got.end + size)
    message = "strings are not written in single quotes"
    if got.text == "`":
        message = "strings are not written in backquotes"
    text = '"' + inner.replace('"', "") + '"'
    if not closed:
        message = "this string is not closed on its line"
        helps = change('write strings in `"`', span, text)
        return report(catalog.E0106, message, trouble.span(got), "opened here", helps=helps)
    edits = tuple(_double(trouble, got.text))
    helps = (Help('write strings in `"`', Fix(edits, Safety.SAFE)),)
    return report(catalog.E0108, message, span, 'expected `"`', helps=helps)


def _double(trouble: Trouble, quote: str) -> Iterator[Edit]:
    """All strings in other quotes, from the failure to the end of the line."""
    closing = "\u2019" if quote == "\u2018" else quote
    got = trouble.lexemes[trouble.index]
    end = -1
    for lexeme in trouble.lexemes[trouble.index :]:
        if lexeme.start < end or lexeme.text != quote or not _same(trouble, got, lexeme):
            continue
        close = trouble.source.text.find(closing, lexeme.end)
        inner = trouble.source.text[lexeme.end : max(close, 0)]
        if close < 0 or "\n" in inner:
            return
        end = close + 1
        text = '"' + inner.replace('"', "") + '"'
        yield Edit(Span(trouble.source, lexeme.start, end), text)


def _typographic(trouble: Trouble, got: Lexeme) -> Diagnostic:
    source = trouble.source
    line = source.text.find("\n", got.end)
    rest = source.text[got.end : line if line >= 0 else len(source.text)]
    match = re.search('[\u201c\u201d\u00bb"]', rest)
    inner = rest[: match.start()] if match else rest.rstrip()
    span = Span(source, got.start, got.end + (match.end() if match else len(inner)))
    helps = change('write strings in `"`', span, f'"{inner}"', Safety.SAFE)
    message = "strings are not written in typographic quotes"
    return report(catalog.E0108, message, span, 'expected `"`', helps=helps)


def _prefixed(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic | None:
    if "{" in got.text:
        message = "a string is taken as it stands: nothing is put in for `{`"
        return report(catalog.E0109, message, trouble.span(before, got), "not such a string")
    message = f"strings have no prefix `{before.text}`"
    helps = change("remove it", trouble.span(before), "", Safety.SAFE)
    return report(catalog.E0108, message, trouble.span(before), "not needed", helps=helps)


def _triple(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic | None:
    last = trouble.at(1)
    if last is None or last.text != '""' or last.start != got.end:
        return None
    span = trouble.span(before, last)
    helps = change("write one quote on each side", span, got.text, Safety.SAFE)
    message = "strings are not written in triple quotes"
    return report(catalog.E0108, message, span, 'one `"` on each side', helps=helps)


def needed(trouble: Trouble) -> Diagnostic | None:
    """A path without quotes, or a name with them."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None:
        return None
    if trouble.only("STRING") and got.kind in ("word", "number", "mark"):
        return _bare(trouble, got, before) or _no_path(trouble, got)
    if got.kind != "string":
        return None
    inner = got.text[1:-1]
    if trouble.in_block and trouble.accepts("NAME") and trouble.text(1) in ("=", ":"):
        return _quoted_field(trouble, got, inner)
    if trouble.keyword == "choose" and trouble.accepts("KEEP") and trouble.in_block:
        message = "the names of edits have no quotes"
        helps = change(f"write `{inner}`", trouble.span(got), inner)
        return report(catalog.E0109, message, trouble.span(got), "not a name", helps=helps)
    if trouble.only("NAME") and re.fullmatch(r"[a-z_][a-z0-9_]*", inner):
        message = f"`{before.text}` is followed by a name, and names have no quotes"
        helps = change(f"write `{inner}`", trouble.span(got), inner, Safety.UNSAFE)
        return report(catalog.E0109, message, trouble.span(got), "expected a name", helps=helps)
    return None


def _bare(trouble: Trouble, got: Lexeme, before: Lexeme) -> Diagnostic | None:
    match = re.match(r"[\w./@~:+-]*", trouble.source.text[got.start :])
    path = match[0] if match else ""
    if not path or got.text in ("as", "else"):
        return None
    span = Span(trouble.source, got.start, got.start + len(path))
    message = f"the text after `{before.text}` has to be in quotes"
    label = Label(span, "expected a string in quotes", primary=True)
    helps = (Help(f'write `"{path}"`', Fix((Edit(span, f'"{path}"'),), Safety.UNSAFE)),)
    return Diagnostic(catalog.E0109, message, (label,), helps=helps)


def _no_path(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    following = trouble.at(1)
    if trouble.keyword not in ("import", "emit"):
        return None
    if following is not None and following.kind == "string":
        return None
    message = f"this `{trouble.keyword}` has no path"
    return report(catalog.E0109, message, trouble.span(got), "expected a string in quotes")


def _quoted_field(trouble: Trouble, got: Lexeme, inner: str) -> Diagnostic | None:
    """`"decode": 64K tok`, as in JSON."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", inner):
        return None
    span = trouble.span(got)
    text, colon = inner, trouble.at(1)
    if colon is not None and colon.text == ":":
        span, text = trouble.span(got, colon), f"{inner} ="
    helps = change(f"write `{inner} = ...`", span, text, Safety.SAFE)
    message = "the names of fields have no quotes"
    return report(catalog.E0108, message, span, "not a string", helps=helps)
