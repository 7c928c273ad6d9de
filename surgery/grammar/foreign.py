"""Operators and marks of other languages, and ours for them (E0108).

In: what stands at a failed parse. Out: a diagnostic with the fix, or nothing when the mark is no
stranger. Only marks whose meaning elsewhere is clear are here.
"""

from __future__ import annotations

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.front import Failure
from surgery.source import Source, Span


class _Ours(Struct, frozen=True):
    text: str
    say: str
    safety: Safety = Safety.SAFE


_ALWAYS = {
    "&&": _Ours("and", "join two conditions with `and`"),
    "||": _Ours("or", "join two conditions with `or`"),
    ";": _Ours("", "statements and fields need nothing between them"),
}


def explain(source: Source, got: Span, failure: Failure) -> Diagnostic | None:
    """The diagnostic for a foreign mark at `got`, if it is one."""
    if got.text == "'":
        return _quotes(source, got)
    if got.text == "**":
        label = Label(got, "not an operator", primary=True)
        return Diagnostic(catalog.E0108, "there is no operator `**`", (label,))
    if got.text == "=" and source.text.startswith("<", got.end) and "CMP" in failure.accepts:
        got = Span(source, got.start, got.end + 1)
    ours = _ALWAYS.get(got.text) or _ours(source, got, failure)
    if ours is None:
        return None
    edit = Edit(_with_blanks_before(got) if ours.text.startswith(":") else got, ours.text)
    helps = (Help(ours.say, Fix((edit,), ours.safety)),)
    text = f"expected `{ours.text.strip()}`" if ours.text else "not needed"
    label = Label(got, text, primary=True)
    return Diagnostic(catalog.E0108, f"`{got.text}` is not used here", (label,), helps=helps)


def _ours(source: Source, got: Span, failure: Failure) -> _Ours | None:
    """For marks that depend on what could have stood here."""
    # The parser took the `=` of `==` or `=>` for a whole token and failed at the rest.
    inside = failure.start > got.start
    accepts = failure.accepts
    ours: _Ours | None = None
    match got.text:
        case "!":
            blank = "" if source.text[got.end : got.end + 1].isspace() else " "
            ours = _Ours("not" + blank, "negate a condition with `not`")
        case "//":
            ours = _slashes(source, got)
        case "=>" if "_ARROW" in accepts:
            ours = _Ours("->", "write `->` before the type of the result")
        case "=<" | "=>" if "CMP" in accepts and not inside:
            ours = _compared(got, accepts)
        case ":" | "==" | "=>" if "EQUAL" in accepts or inside:
            ours = _Ours(_spaced(source, got), "give a name its value with `=`")
        case "=" if "COLON" in accepts:
            ours = _Ours(_tight(source, got), "name an argument with `:`", Safety.UNSAFE)
        case "=" if "CMP" in accepts:
            ours = _Ours("==", "compare values with `==`")
        case _:
            pass
    return ours


def _compared(got: Span, accepts: frozenset[str]) -> _Ours:
    """`=<` and `=>` between two values."""
    text = "<=" if got.text == "=<" else ">="
    # In `f(a => 3)`, it may name an argument.
    named = got.text == "=>" and "COLON" in accepts
    safety = Safety.DISPLAY if named else Safety.SAFE
    return _Ours(text, f"compare values with `{text}`", safety)


def _spaced(source: Source, got: Span) -> str:
    """`=` with blanks around it, as `name: value` has only one."""
    before = source.text[got.start - 1 : got.start]
    after = source.text[got.end : got.end + 1]
    return ("" if before.isspace() else " ") + "=" + ("" if after.isspace() else " ")


def _tight(source: Source, got: Span) -> str:
    return ":" if source.text[got.end : got.end + 1].isspace() else ": "


def _with_blanks_before(got: Span) -> Span:
    before = got.source.text[: got.start]
    return Span(got.source, len(before.rstrip(" \t")), got.end)


def _slashes(source: Source, got: Span) -> _Ours:
    line_start = source.text.rfind("\n", 0, got.start) + 1
    alone = not source.text[line_start : got.start].strip()
    # Between two values it may have been meant as a division.
    safety = Safety.SAFE if alone else Safety.DISPLAY
    return _Ours("#", "begin a comment with `#`", safety)


def _quotes(source: Source, got: Span) -> Diagnostic:
    line = source.text.find("\n", got.end)
    rest = source.text[got.end : line if line >= 0 else len(source.text)]
    inner, closed, _ = rest.partition("'")
    fix = None
    span = got
    if closed and '"' not in inner:
        span = Span(source, got.start, got.end + len(inner) + 1)
        fix = Fix((Edit(span, f'"{inner}"'),), Safety.SAFE)
    label = Label(span, 'expected `"`', primary=True)
    helps = (Help('write strings in `"`', fix),)
    message = "strings are not written in single quotes"
    return Diagnostic(catalog.E0108, message, (label,), helps=helps)
