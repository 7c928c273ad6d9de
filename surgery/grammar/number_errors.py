"""Numbers as other languages or people write them (E0104, E0108, E0109).

In: `Trouble`. Out: a diagnostic that shows the number as it is written here, or nothing when the
number before the failure is in order. Which units exist is known to `unit_errors.py`.
"""

from __future__ import annotations

import re

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Safety
from surgery.grammar import unit_errors
from surgery.grammar.scan import RESERVED, Lexeme
from surgery.grammar.trouble import Trouble, change, report
from surgery.source import Span

_BASES = {"x": 16, "b": 2, "o": 8}
_UNIT = re.compile(r"\w+(?:/[A-Za-z]+)?")
_GROUPS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")


def foreign(trouble: Trouble) -> Diagnostic | None:
    """`0x10`, `1,000`, `.5`, `5.` and `+5`."""
    got = trouble.at(0)
    if got is None:
        return _bare_point(trouble)
    return (
        _other_base(trouble, got)
        or _grouped(trouble, got)
        or _bare_fraction(trouble, got)
        or _bare_point(trouble)
        or _times(trouble, got)
        or _plus(trouble, got)
    )


def _other_base(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    before = trouble.at(-1)
    if before is None or before.text != "0" or got.start != before.end or got.kind != "word":
        return None
    base = _BASES.get(got.text[0].lower(), 0)
    try:
        value = int(got.text[1:], base or 1)
    except ValueError:
        return None
    span = trouble.span(before, got)
    message = f"numbers are written with the digits 0 to 9: `{span.text}` is not"
    helps = change(f"write `{value}`", span, str(value), Safety.SAFE)
    return report(catalog.E0108, message, span, "not a number here", helps=helps)


def _grouped(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    before = trouble.at(-1)
    if got.text != "," or before is None or before.kind != "number":
        return None
    match = _GROUPS.match(trouble.source.text, before.start)
    if match is None or match.end() <= got.end:
        return _decimal_comma(trouble, before, got)
    span = Span(trouble.source, match.start(), match.end())
    message = "the digits of a number are not grouped with `,`"
    text = match[0].replace(",", "_")
    helps = change(f"write `{text}`", span, text, Safety.SAFE)
    return report(catalog.E0108, message, span, "group digits with `_`", helps=helps)


def _decimal_comma(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic | None:
    number = trouble.at(1)
    if number is None or number.start != got.end or before.end != got.start:
        return None
    if number.kind != "number" or not before.text.isdigit() or trouble.open:
        return None
    span = trouble.span(before, number)
    text = f"{before.text}.{number.text}"
    helps = change(f"write `{text}`", span, text, Safety.SAFE)
    message = "the point of a number is not written as `,`"
    return report(catalog.E0108, message, span, "expected `.`", helps=helps)


def _bare_fraction(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    """`.5` instead of `0.5`."""
    number = trouble.at(1)
    if number is None or got.text != "." or number.start != got.end:
        return None
    if number.kind != "number" or not trouble.accepts("QUANTITY") or trouble.text(-1) == "..":
        return None
    span = trouble.span(got, number)
    fix = Fix((Edit(Span(trouble.source, got.start, got.start), "0"),), Safety.SAFE)
    helps = (Help(f"write `0{span.text}`", fix),)
    message = "a number begins with a digit"
    return report(catalog.E0109, message, span, "no digit before the point", helps=helps)


def _bare_point(trouble: Trouble) -> Diagnostic | None:
    """`5.` instead of `5`: the point waits for the name of a member."""
    offset = 0 if trouble.text(0) == "." else -1
    point, number, following = (trouble.at(offset + n) for n in (0, -1, 1))
    if point is None or point.text != "." or number is None or number.kind != "number":
        return None
    if number.end != point.start:
        return None
    if following is not None and following.start == point.end:
        return None
    helps = change(f"write `{number.text}`", trouble.span(point), "", Safety.SAFE)
    message = "a number does not end with a point"
    span = trouble.span(number, point)
    return report(catalog.E0109, message, span, "no digit after the point", helps=helps)


def _times(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    """`8 x nvidia.h100`."""
    sign = got if got.text == "x" else trouble.at(-1)
    number = trouble.at(-1 if sign is got else -2)
    if sign is None or sign.text != "x" or number is None or number.kind != "number":
        return None
    if sign.start == number.end or not trouble.mends((Edit(trouble.span(sign), "*"),)):
        return None
    helps = change("multiply with `*`", trouble.span(sign), "*", Safety.SAFE)
    return report(
        catalog.E0108, "`x` is not used here", trouble.span(sign), "expected `*`", helps=helps
    )


def _plus(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    before, number = trouble.at(-1), trouble.at(1)
    if got.text != "+" or not trouble.accepts("QUANTITY") or number is None:
        return None
    if number.start != got.end or number.kind != "number" or before is None:
        return None
    helps = change("leave it out", trouble.span(got), "", Safety.SAFE)
    message = "a number has no `+` in front"
    return report(catalog.E0108, message, trouble.span(got), "not needed", helps=helps)


def unit(trouble: Trouble) -> Diagnostic | None:
    """At the failure, or just before it when the word was taken for the next name."""
    apart = _apart(trouble)
    if apart is not None:
        return apart
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
        if not adjacent and not unit_errors.meant(word.text) and _keyword(trouble, word):
            continue
        likely = unit_errors.meant(word.text) or (word is trouble.at(0) and not trouble.open)
        if adjacent or (unfinished and likely):
            return unit_errors.unknown_unit(trouble.span(number), _whole(trouble, word))
    return _doubled(trouble)


def _whole(trouble: Trouble, word: Lexeme) -> Span:
    """A unit such as `tokens/s` is more than one lexeme."""
    match = _UNIT.match(trouble.source.text, word.start)
    return Span(trouble.source, word.start, match.end() if match else word.end)


def _keyword(trouble: Trouble, word: Lexeme) -> bool:
    """Whether the word looks like a keyword that could stand here."""
    return bool(unit_errors.nearest(word.text, tuple(k.lower() for k in trouble.failure.accepts)))


def _apart(trouble: Trouble) -> Diagnostic | None:
    """`80 %` and `1.5 x`: these two units have no blank before them."""
    for offset in (0, -1, -2):
        sign, number = trouble.at(offset), trouble.at(offset - 1)
        if sign is None or number is None or number.kind != "number" or sign.start == number.end:
            continue
        if sign.text not in ("%", "x") or not trouble.same_line(number, sign):
            continue
        if number.text[-1] not in "0123456789_":
            continue
        edits = (Edit(Span(trouble.source, number.end, sign.start), ""),)
        if not trouble.mends(edits):
            continue
        span = trouble.span(number, sign)
        message = f"`{sign.text}` stands directly after its number"
        fix = Fix(edits, Safety.SAFE)
        helps = (Help(f"write `{number.text}{sign.text}`", fix),)
        return report(catalog.E0104, message, span, "no blank in between", helps=helps)
    return None


def _doubled(trouble: Trouble) -> Diagnostic | None:
    """`64K tok tok`, or two units in a row."""
    number, word = trouble.at(-1), trouble.at(0)
    if number is None or word is None or number.kind != "number" or word.kind != "word":
        return None
    if number.text[-1].isdigit() or not trouble.same_line(number, word):
        return None
    if not number.text.endswith(word.text):
        return None
    span = trouble.span(number, word)
    message = f"`{number.text}` has its unit already"
    edit = Edit(Span(trouble.source, number.end, word.end), "")
    helps = (Help("write it once", Fix((edit,), Safety.SAFE)),)
    return report(catalog.E0104, message, span, "a unit too many", helps=helps)
