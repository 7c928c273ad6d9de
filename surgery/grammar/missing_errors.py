"""Something is missing: `=`, a value, a name, a word, a comma (E0101, E0109).

In: `Trouble`. Out: a diagnostic that says what is missing from what, or nothing when it is not
clear. A fix puts it there when there is only one thing to put.
"""

from __future__ import annotations

from collections.abc import Sequence

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import expected
from surgery.grammar.scan import FOLDS, OPERATOR_WORDS, RESERVED, STATEMENTS, Lexeme
from surgery.grammar.trouble import Trouble, change, insert, report
from surgery.source import Span

_VALUE = frozenset({"QUANTITY", "STRING", "NAME", "MINUS", "LPAR", "LSQB"})
_WORDS = {
    "IN": "in",
    "ON": "on",
    "AS": "as",
    "LAYERS": "layers",
    "THEN": "then",
    "_ARROW": "->",
}
_CLOSERS = (")", "]", "}", ",")


def equals(trouble: Trouble) -> Diagnostic | None:
    """`let x 5`, or the field `decode 64K tok`."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or not trouble.accepts("EQUAL") or got.text in RESERVED:
        return None
    if not trouble.same_line(before, got) or (not trouble.open and before.text in RESERVED):
        return None
    if got.kind not in ("number", "string", "word") and got.text not in ("(", "[", "-"):
        return _other_mark(trouble, before, got)
    field = trouble.only("EQUAL") and trouble.at(-2) is not None
    in_block = field and bool(trouble.open)
    what = f"the field name `{before.text}`" if in_block else f"`{before.text}`"
    gap = Span(trouble.source, before.end, got.start)
    new = gap.text[:-2] + "= " if len(gap.text) > 2 else " = "
    say = "write the field as `name = value`" if in_block else "put a `=` before the value"
    return report(
        catalog.E0101,
        f"expected `=` after {what}",
        trouble.span(got),
        "expected `=` before this value",
        Label(trouble.span(before), "this field" if in_block else "after this"),
        helps=change(say, gap, new, Safety.SAFE),
    )


def _other_mark(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic | None:
    """`loss , kl(logits)`: something else stands where the `=` belongs."""
    if not trouble.mends((Edit(trouble.span(got), "="),)) or got.text == ":":
        return None
    what = f"the field name `{before.text}`" if trouble.open else f"`{before.text}`"
    helps = change("write `=`", trouble.span(got), "=", Safety.SAFE)
    label = Label(trouble.span(before), "this field" if trouble.open else "after this")
    message = f"expected `=` after {what}"
    text = "expected `=` instead of this"
    return report(catalog.E0101, message, trouble.span(got), text, label, helps=helps)


def swallowed(trouble: Trouble) -> Diagnostic | None:
    """A field without a value: the name of the next field was taken for it."""
    got, name, before = trouble.at(0), trouble.at(-1), trouble.at(-2)
    if got is None or name is None or before is None or got.text not in ("=", "{"):
        return None
    if not trouble.first_on_line(trouble.index - 1) or not trouble.in_block:
        return None
    if name.kind != "word" or before.kind != "mark" or before.text in "])}{":
        return None
    if before.text == "=":
        field = trouble.at(-3)
        assert field is not None, trouble
        return _no_value(trouble, field, before)
    message = f"there is no value after {expected.found(before)}"
    return report(catalog.E0109, message, trouble.span(before), "expected a value after this")


def _no_value(trouble: Trouble, field: Lexeme, equals: Lexeme) -> Diagnostic:
    what = "the field " if trouble.open else ""
    message = f"{what}`{field.text}` has no value"
    label = "expected a value after this"
    return report(catalog.E0109, message, trouble.span(field, equals), label)


def value(trouble: Trouble) -> Diagnostic | None:
    """Something else stands where a value has to."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None:
        return None
    if ".." in (got.text, before.text):
        message = "a range is written between two numbers"
        label = "expected a number on both sides"
        return report(catalog.E0109, message, trouble.span(got), label)
    if not trouble.failure.accepts >= _VALUE:
        return None
    if before.kind not in ("mark", "word") or trouble.accepts("RPAR", "RSQB"):
        return _empty(trouble, got, before)
    return _instead_of_a_value(trouble, got, before)


def _instead_of_a_value(trouble: Trouble, got: Lexeme, before: Lexeme) -> Diagnostic | None:
    span, label = trouble.span(got), "expected a value before this"
    if got.text == "=" and before.text in ("<", ">"):
        return _split_mark(trouble, before, got)
    if got.text == before.text and got.kind == "mark":
        return _twice(trouble, before, got)
    if before.text == "=" and (got.text in "})],|" or got.text in STATEMENTS):
        field = trouble.at(-2)
        return _no_value(trouble, field, before) if field is not None else None
    if got.text == "{" and before.text in ("=", ":", ",", "(", "["):
        helps = (Help("write a list in `[` and `]`"),)
        return report(catalog.E0109, "a value cannot be a block", span, "not a value", helps=helps)
    if (got.kind == "mark" and got.text in "{})],:|.=") or got.text in RESERVED:
        message = f"there is no value after {expected.found(before)}"
        return report(catalog.E0109, message, span, label)
    if got.kind == "mark" and before.kind == "mark":
        message = f"there is no value between `{before.text}` and `{got.text}`"
        return report(catalog.E0109, message, span, label)
    return None


def _split_mark(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic:
    """`< =`."""
    text = before.text + got.text
    span = trouble.span(before, got)
    helps = change(f"write `{text}`", span, text, Safety.SAFE)
    return report(catalog.E0109, f"`{text}` is one mark", span, "no blank in between", helps=helps)


def _empty(trouble: Trouble, got: Lexeme, before: Lexeme) -> Diagnostic | None:
    """`f(, a)`: a comma that separates nothing."""
    if got.text != "," or before.text not in ("(", "[", ","):
        return None
    if before.text == ",":
        return _twice(trouble, before, got)
    message = f"there is nothing between `{before.text}` and `,`"
    helps = change("remove the `,`", trouble.span(got), "")
    return report(catalog.E0109, message, trouble.span(got), "separates nothing", helps=helps)


def twice(trouble: Trouble) -> Diagnostic | None:
    """The same word, mark or value two times in a row."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or got.text != before.text:
        return None
    if got.text in ("(", ")", "[", "]", "{", "}") and got.text not in ("{",):
        return None
    edits = (Edit(Span(trouble.source, before.end, got.end), ""),)
    following = trouble.at(1)
    if trouble.gets_further(edits) < (following.start if following else got.end):
        return None
    return _twice(trouble, before, got)


def _twice(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic:
    edit = Edit(Span(trouble.source, before.end, got.end), "")
    helps = (Help("write it once", Fix((edit,), Safety.UNSAFE)),)
    label = Label(trouble.span(before), "the first one")
    message = f"{expected.found(got)} is written twice"
    return report(catalog.E0109, message, trouble.span(got), "again", label, helps=helps)


def word(trouble: Trouble) -> Diagnostic | None:
    """`choose experts layers`: one word of the statement is missing."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or len(trouble.failure.accepts) != 1:
        return None
    (kind,) = trouble.failure.accepts
    needed = _WORDS.get(kind)
    if needed is None:
        return None
    new = f" {needed}" if needed != "in" or got.text != "{" else " in layers"
    if needed == "in" and got.text in ("where", "except", "["):
        new = " in layers"
    edits = (Edit(Span(trouble.source, before.end, before.end), new),)
    helps: tuple[Help, ...] = ()
    if trouble.gets_further(edits) > got.start:
        helps = insert(f"insert `{new.strip()}`", trouble.source, before.end, new)
    message = f"expected `{needed}` after {expected.found(before)}"
    return report(catalog.E0109, message, trouble.span(got), f"expected `{needed}`", helps=helps)


def pick(trouble: Trouble) -> Diagnostic | None:
    """`layers 0..3` for `layers[0..3]`."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or before.text != "layers" or not trouble.accepts("LSQB"):
        return None
    if got.kind not in ("number", "word") or got.text in RESERVED:
        return None
    last = got
    n = trouble.index
    while n + 2 < len(trouble.lexemes) and trouble.lexemes[n + 1].text in ("..", ","):
        n += 2
        last = trouble.lexemes[n]
    start = Span(trouble.source, before.end, got.start)
    edits = (Edit(start, "["), Edit(Span(trouble.source, last.end, last.end), "]"))
    if not trouble.mends(edits):
        return None
    helps = (Help("put them in `[` and `]`", Fix(edits, Safety.UNSAFE)),)
    message = "the layers that are meant stand in brackets"
    return report(
        catalog.E0109, message, trouble.span(got, last), "expected `[` before this", helps=helps
    )


def then(trouble: Trouble) -> Diagnostic | None:
    """`if a b else c`."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or not trouble.accepts("THEN"):
        return None
    if not trouble.mends((Edit(Span(trouble.source, before.end, before.end), " then"),)):
        return None
    message = f"expected `then` after {expected.found(before)}"
    helps = insert("insert `then`", trouble.source, before.end, " then")
    return report(
        catalog.E0109, message, trouble.span(got), "expected `then` before this", helps=helps
    )


def colon(trouble: Trouble) -> Diagnostic | None:
    """`every(layers experts > 3)`: which layers, and what about them."""
    got, before, opener = trouble.at(0), trouble.at(-1), trouble.open
    if got is None or before is None or not opener or not trouble.accepts("COLON"):
        return None
    if trouble.lexemes[opener[-1] - 1].text not in FOLDS:
        return None
    if not trouble.mends((Edit(Span(trouble.source, before.end, before.end), ":"),)):
        return None
    message = "the layers and what is said of each are not separated"
    helps = insert("put a `:` between them", trouble.source, before.end, ":")
    return report(
        catalog.E0109, message, trouble.span(got), "expected `:` before this", helps=helps
    )


def comma(trouble: Trouble) -> Diagnostic | None:
    """`[a b]`, or `f(a b)`: two values in a row."""
    got, before, opener = trouble.at(0), trouble.at(-1), trouble.opener
    if got is None or before is None or opener is None or opener.text == "{":
        return None
    if not trouble.accepts("COMMA") or got.text in OPERATOR_WORDS:
        return None
    if got.kind not in ("word", "number", "string") and got.text not in ("(", "["):
        return None
    message = f"there is nothing between {expected.found(before)} and {expected.found(got)}"
    # The name of an argument, or an argument of its own.
    others = trouble.lexemes[trouble.open[-1] : trouble.index]
    named = trouble.accepts("COLON") and trouble.text(-2) == "," and _has_colon(others)
    mark = ":" if named else ","
    say = "name the argument with `:`" if named else "separate them with `,`"
    edits = (Edit(Span(trouble.source, before.end, before.end), mark),)
    helps: tuple[Help, ...] = ()
    if trouble.gets_further(edits) > got.start:
        helps = insert(say, trouble.source, before.end, mark)
    words = expected.words(trouble.failure.accepts)
    return report(catalog.E0109, message, trouble.span(got), f"expected {words}", helps=helps)


def _has_colon(lexemes: Sequence[Lexeme]) -> bool:
    return any(each.text == ":" for each in lexemes)


def operator(trouble: Trouble) -> Diagnostic | None:
    """`let x = 3 3`: a second value where the statement could end."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or not trouble.accepts("ADD"):
        return None
    if trouble.accepts("COMMA") and not trouble.in_block:
        return None
    if got.kind not in ("word", "number", "string") or got.text in RESERVED:
        return None
    if not trouble.same_line(before, got):
        return None
    words = expected.words(trouble.failure.accepts)
    message = f"there is no operator between {expected.found(before)} and {expected.found(got)}"
    return report(catalog.E0109, message, trouble.span(got), f"expected {words}")


def otherwise(trouble: Trouble) -> Diagnostic | None:
    """`if a then b`: a condition without its other value, or without any."""
    got, before = trouble.at(0), trouble.at(-1)
    if before is None or trouble.accepts("$END") or not trouble.accepts("ELSE", "THEN"):
        return None
    if got is not None and got.text not in _CLOSERS and trouble.same_line(before, got):
        return None
    word = "else" if trouble.accepts("ELSE") else "then"
    n = next((n for n in range(trouble.index - 1, -1, -1) if trouble.lexemes[n].text == "if"), 0)
    message = "this `if` does not say what holds otherwise"
    if word == "then":
        message = "this `if` does not say what holds then"
    label = Label(trouble.span(before), f"expected `{word}` and a value after this")
    return report(
        catalog.E0109, message, trouble.span(trouble.lexemes[n]), f"has no `{word}`", label
    )


def operand(trouble: Trouble) -> Diagnostic | None:
    """`where is full`: the operator was taken for a name."""
    got, word, before = trouble.at(0), trouble.at(-1), trouble.at(-2)
    if got is None or word is None or before is None or word.text not in ("is", "and", "or"):
        return None
    if before.text not in ("=", "(", "[", ",", "where", "when", "by", "if", "and", "or", "not"):
        return None
    message = f"there is no value before `{word.text}`"
    return report(catalog.E0109, message, trouble.span(word), "expected a value before this")


def edit(trouble: Trouble) -> Diagnostic | None:
    """An alternative without its edit, or without a value after `|`."""
    got, before = trouble.at(0), trouble.at(-1)
    if trouble.keyword != "choose" or not trouble.in_block or got is None or before is None:
        return None
    if before.text == "|":
        message = "there is no value after `|`"
        return report(catalog.E0109, message, trouble.span(got), "expected a value before this")
    if got.kind != "number" or not trouble.accepts("KEEP") or before.kind == "number":
        return None
    message = f"there is no edit before {expected.found(got)}"
    label = "expected the name of an edit before this"
    return report(catalog.E0109, message, trouble.span(got), label)
