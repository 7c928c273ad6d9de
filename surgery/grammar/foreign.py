"""Operators, marks and words of other languages, and ours for them (E0108).

In: `Trouble`. Out: a diagnostic with a safe fix, or nothing when what stands at the failure is no
stranger. Only what has one clear meaning is E0108; what may mean two things here is E0109 and shows
both. Comments and separators are seen before parsing (`foreign_lines.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Safety
from surgery.grammar.scan import Lexeme
from surgery.grammar.trouble import CLOSER, Trouble, report
from surgery.source import Span


class _Ours(Struct, frozen=True):
    text: str
    say: str


_WISHES = ("minimize", "maximize", "require", "expect")
_ALWAYS = {
    "&&": _Ours("and", "join two conditions with `and`"),
    "&": _Ours("and", "join two conditions with `and`"),
    "\u2227": _Ours("and", "join two conditions with `and`"),
    "||": _Ours("or", "join two conditions with `or`"),
    "\u2228": _Ours("or", "join two conditions with `or`"),
    ";": _Ours("", "statements and fields need nothing between them"),
    "\\": _Ours("", "a statement goes on in the next line by itself"),
    "\u2264": _Ours("<=", "compare values with `<=`"),
    "\u2265": _Ours(">=", "compare values with `>=`"),
    "\u2260": _Ours("!=", "compare values with `!=`"),
    "\u00d7": _Ours("*", "multiply with `*`"),
    "\u00b7": _Ours("*", "multiply with `*`"),
    "\u00f7": _Ours("/", "divide with `/`"),
    "\u2212": _Ours("-", "subtract with `-`"),
    "\u2013": _Ours("-", "subtract with `-`"),
    "\u2026": _Ours("..", "write a range with `..`"),
}
_JOINED = {
    ":=": ("EQUAL", "=", "give a name its value with `=`"),
    "<-": ("EQUAL", "=", "give a name its value with `=`"),
    "===": ("CMP", "==", "compare values with `==`"),
    "!==": ("CMP", "!=", "compare values with `!=`"),
    "=!": ("CMP", "!=", "compare values with `!=`"),
    "<>": ("CMP", "!=", "compare values with `!=`"),
    "=<": ("CMP", "<=", "compare values with `<=`"),
    "...": ("_DOTS", "..", "write a range with `..`"),
    "..=": ("_DOTS", "..", "write a range with `..`, which has both of its ends"),
    "-->": ("_ARROW", "->", "write `->` before the type of the result"),
}


def explain(trouble: Trouble) -> Diagnostic | None:
    """The diagnostic for a foreign mark or word at the failure, if it is one."""
    got = trouble.at(0)
    if got is None:
        return None
    joined = _joined(trouble)
    if joined is not None:
        return joined
    if got.text in ("**", "//", "=>"):
        found = _ambiguous(trouble, got)
        if found is not None:
            return found
    ours = _ALWAYS.get(got.text) or _mark(trouble, got) or _word(trouble, got)
    return _instead(trouble, trouble.span(got), ours) if ours is not None else None


def _instead(trouble: Trouble, span: Span, ours: _Ours) -> Diagnostic:
    place, text = span, ours.text
    if text == ":" and span.text == "=":
        helps = (Help(ours.say, Fix(tuple(_named(trouble)), Safety.SAFE)),)
        label = "expected `:`"
        return report(catalog.E0108, f"`{span.text}` is not used here", span, label, helps=helps)
    if text in ("=", "|", "and", "or", "not", "=="):
        text = _spaced(trouble, span, text)
    elif text in (":", ""):
        place = _with_blanks_before(span) if text or not _leads(span) else _with_blank_after(span)
        text = text + ("" if trouble.source.text[span.end : span.end + 1].isspace() else " ")
        text = text if ours.text else ""
    label = f"expected `{ours.text}`" if ours.text else "not needed"
    helps = (Help(ours.say, Fix((Edit(place, text),), Safety.SAFE)),)
    return report(catalog.E0108, f"`{span.text}` is not used here", span, label, helps=helps)


def _joined(trouble: Trouble) -> Diagnostic | None:
    """Marks that the scanner sees as two, the failure being at either."""
    for offset in (0, -1):
        first = trouble.at(offset)
        if first is None or first.kind == "word":
            continue
        for text, (needs, ours, say) in _JOINED.items():
            if not trouble.source.text.startswith(text, first.start):
                continue
            span = Span(trouble.source, first.start, first.start + len(text))
            edits = (Edit(span, _spaced(trouble, span, ours) if ours == "=" else ours),)
            if offset == 0 and not trouble.accepts(needs):
                continue
            if trouble.gets_further(edits) >= min(span.end + 1, trouble.lexemes[-1].end + 1):
                return _instead(trouble, span, _Ours(ours, say))
    return None


def _mark(trouble: Trouble, got: Lexeme) -> _Ours | None:
    """For marks that depend on what could have stood here."""
    accepts = trouble.failure.accepts
    block = trouble.in_block and trouble.keyword != "choose"
    ours: _Ours | None = None
    match got.text:
        case "!" if "NOT" in accepts:
            ours = _Ours("not", "negate a condition with `not`")
        case "," if "AND" in accepts and trouble.keyword in ("require", "expect"):
            ours = _Ours("and", "join two conditions with `and`")
        case "|" if "OR" in accepts and trouble.keyword in ("require", "expect"):
            ours = _Ours("or", "join two conditions with `or`")
        case "=>" if "_ARROW" in accepts:
            ours = _Ours("->", "write `->` before the type of the result")
        case ":" if "_ARROW" in accepts:
            ours = _Ours(" ->", "write `->` before the type of the result")
        case "=" | ":" | "=>" | "->" if "LBRACE" in accepts and trouble.text(1) == "{":
            ours = _Ours("", "a block begins with `{` alone")
        case ":" | "==" | "=>" | "->" if "EQUAL" in accepts:
            ours = _Ours("=", "give a name its value with `=`")
        case "=" if "COLON" in accepts and _names_an_argument(trouble):
            ours = _Ours(":", "name an argument with `:`")
        case "=" if "CMP" in accepts and not block:
            ours = _Ours("==", "compare values with `==`")
        case _:
            ours = _separator(trouble, got)
    return ours


def _separator(trouble: Trouble, got: Lexeme) -> _Ours | None:
    """`,`, `|` and `-` between things that nothing stands between, or something else."""
    before, following = trouble.at(-1), trouble.at(1)
    choose = trouble.keyword == "choose" and trouble.in_block
    if got.text == "," and choose and before is not None:
        if following is not None and following.kind == "number":
            return _Ours("|", "put `|` between the values of an edit")
        return _Ours("", "alternatives need nothing between them")
    if got.text in ("=", ":") and trouble.index < 3 and trouble.keyword in _WISHES:
        return _Ours("", "what is wished for follows directly")
    if got.text == "," and not trouble.open and trouble.accepts("$END"):
        return _Ours("", "statements need nothing between them")
    if got.text in ("-", "*", "\u2022") and trouble.in_block and _dashed(trouble, trouble.index):
        return _Ours("", "what stands in a block has no dash in front")
    return None


def _dashed(trouble: Trouble, n: int) -> bool:
    """Whether a mark begins its line and something to read follows."""
    following = n + 1 < len(trouble.lexemes) and trouble.lexemes[n + 1].kind == "word"
    return trouble.first_on_line(n) and following


def swallowed_dash(trouble: Trouble) -> Diagnostic | None:
    """`- decode = 4` after `prefill = 3`: the dash was taken for a minus."""
    if not trouble.in_block or trouble.text(0) != "=" or trouble.text(-2) != "-":
        return None
    dash = trouble.at(-2)
    if dash is None or not trouble.first_on_line(trouble.index - 2):
        return None
    ours = _Ours("", "what stands in a block has no dash in front")
    return _instead(trouble, trouble.span(dash), ours)


def _word(trouble: Trouble, got: Lexeme) -> _Ours | None:
    """Words that other languages have for our marks and words."""
    accepts = trouble.failure.accepts
    if got.text in ("elif", "elsif", "elseif") and "ELSE" in accepts:
        return _Ours("else if", "go on with `else if`")
    following = trouble.at(1)
    beside = following is not None and following.start == got.end and following.kind == "word"
    if got.text == "$" and beside and trouble.accepts("NAME"):
        return _Ours("", "names are written as they are")
    if got.text == "isnt" and "IS" in accepts:
        return _Ours("is not", "negate it with `is not`")
    if got.text == "unless" and "WHEN" in accepts:
        return _Ours("when not", "state a condition with `when`")
    if got.text in ("if", "provided") and "WHEN" in accepts and trouble.keyword == "choose":
        return _Ours("when", "state a condition with `when`")
    if got.text == "equals" and accepts & {"CMP", "EQUAL"}:
        ours = "=" if "EQUAL" in accepts else "=="
        return _Ours(ours, f"write `{ours}`")
    return None


def order(trouble: Trouble) -> Diagnostic | None:
    """Conditional values and memberships as other languages write them."""
    got = trouble.at(0)
    if got is None or not trouble.accepts("ADD"):
        return None
    span = trouble.span(got)
    if got.text == "if" and trouble.keyword != "choose":
        message = "a condition stands before both of its values"
        helps = (Help("write `if condition then value else other`"),)
        return report(catalog.E0109, message, span, "expected no `if` here", helps=helps)
    if got.text == "?":
        message = "there is no operator `?`"
        helps = (Help("write `if condition then value else other`"),)
        return report(catalog.E0109, message, span, "not an operator", helps=helps)
    if got.text == "in":
        message = "there is no operator `in`"
        helps = (Help("compare with each value, and join the comparisons with `or`"),)
        return report(catalog.E0109, message, span, "not an operator", helps=helps)
    if got.text == ":" and trouble.opener is not None and trouble.opener.text == "[":
        return _slice(trouble, got)
    return None


def _slice(trouble: Trouble, got: Lexeme) -> Diagnostic:
    """`layers[0:3]`: with both ends or without the last, no one knows."""
    before, following = trouble.at(-1), trouble.at(1)
    span, helps = trouble.span(got), (Help("write ranges with `..`; they have both of their ends"),)
    if before is not None and following is not None and following.text.isdigit():
        span = trouble.span(before, following)
        fixes = [f"{before.text}..{following.text}", f"{before.text}..{int(following.text) - 1}"]
        says = (f"to include {following.text}, write", f"to stop before {following.text}, write")
        helps = tuple(
            Help(f"{say} `{text}`", Fix((Edit(span, text),), Safety.DISPLAY))
            for say, text in zip(says, fixes, strict=True)
        )
    message = "a range is not written with `:`"
    return report(catalog.E0109, message, span, "expected `..`", helps=helps)


def _named(trouble: Trouble) -> Iterator[Edit]:
    """`:` for the `=` of this argument and of those after it in the same call."""
    depth = 0
    for n in range(trouble.index, len(trouble.lexemes)):
        lexeme = trouble.lexemes[n]
        mark = lexeme.text if lexeme.kind == "mark" else ""
        depth += (mark in CLOSER) - (mark in CLOSER.values())
        if depth < 0 or (n > trouble.index and trouble.first_on_line(n)):
            return
        names = trouble.lexemes[n - 2].text in ("(", ",")
        if not depth and mark == "=" and names:
            span = _with_blanks_before(trouble.span(lexeme))
            blank = trouble.source.text[lexeme.end : lexeme.end + 1].isspace()
            yield Edit(span, ":" if blank else ": ")


def _names_an_argument(trouble: Trouble) -> bool:
    """Whether `name =` stands at the beginning of an argument."""
    return trouble.text(-2) in ("(", ",")


# ---- what may mean two things ----------------------------------------------------------------


def _ambiguous(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    span, before, following = trouble.span(got), trouble.at(-1), trouble.at(1)
    if got.text == "**":
        return _power(trouble, got, before, following)
    if got.text == "=>" and trouble.accepts("CMP"):
        compared = Help("compare values with `>=`", Fix((Edit(span, ">="),), Safety.SAFE))
        if not trouble.accepts("COLON"):
            return report(
                catalog.E0108, "`=>` is not used here", span, "expected `>=`", helps=(compared,)
            )
        return _either(span, ">=", "to compare, write `>=`", ":", "to name an argument, write `:`")
    if got.text == "=>" and trouble.accepts("EQUAL", "_ARROW"):
        return None
    if got.text == "//" and trouble.accepts("MUL"):
        return _either(span, "/", "to divide, write `/`", "#", "to begin a comment, write `#`")
    return None


def _either(span: Span, one: str, say_one: str, two: str, say_two: str) -> Diagnostic:
    helps = (
        Help(say_one, Fix((Edit(span, one),), Safety.DISPLAY)),
        Help(say_two, Fix((Edit(span, two),), Safety.DISPLAY)),
    )
    message = f"`{span.text}` is not used here"
    return report(catalog.E0109, message, span, f"expected `{one}` or `{two}`", helps=helps)


def _power(
    trouble: Trouble, got: Lexeme, before: Lexeme | None, following: Lexeme | None
) -> Diagnostic:
    span = trouble.span(got)
    helps: tuple[Help, ...] = (Help("multiply with `*`"),)
    plain = before is not None and before.kind in ("word", "number")
    exponent = following.text if following is not None else ""
    if plain and trouble.text(-2) not in (".", "-") and exponent in ("2", "3"):
        assert before is not None, trouble
        assert following is not None, trouble
        text = " * ".join([before.text] * int(exponent))
        edit = Edit(trouble.span(before, following), f"({text})")
        helps = (Help(f"write `{text}`", Fix((edit,), Safety.UNSAFE)),)
    return report(catalog.E0109, "there is no operator `**`", span, "not an operator", helps=helps)


# ---- blanks ----------------------------------------------------------------------------------


def _spaced(trouble: Trouble, span: Span, text: str) -> str:
    """A mark or word with blanks around it, where it has none yet."""
    before = trouble.source.text[span.start - 1 : span.start]
    after = trouble.source.text[span.end : span.end + 1]
    front = "" if before.isspace() or (text == "not" and before in "([") else " "
    return front + text + ("" if after.isspace() else " ")


def _leads(span: Span) -> bool:
    """Whether nothing stands before a span on its line."""
    text = span.source.text
    return not text[text.rfind("\n", 0, span.start) + 1 : span.start].strip()


def _with_blanks_before(span: Span) -> Span:
    before = span.source.text[: span.start]
    return Span(span.source, len(before.rstrip(" \t")), span.end)


def _with_blank_after(span: Span) -> Span:
    rest = span.source.text[span.end :]
    return Span(span.source, span.start, span.end + len(rest) - len(rest.lstrip(" \t")))
