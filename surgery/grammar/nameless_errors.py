"""Statements without a name, a type, a member or a call where one has to be (E0107, E0109).

In: `Trouble`. Out: a diagnostic that says what is missing from what, or nothing when a name is not
what is missing.
"""

from __future__ import annotations

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import expected, name_errors
from surgery.grammar.scan import RESERVED, STATEMENTS, Lexeme
from surgery.grammar.trouble import Trouble, insert, report
from surgery.source import Span

_NAMELESS = {
    "choose": "does not say what changes",
    "apply": "does not say what changes",
    "emit": "does not say what to write",
}
_MISSING = {
    ".": "there is no name after `.`",
    "on": "a scenario needs a machine after `on`",
    "as": "there is no name after `as`",
    "->": "the function does not say what type its result has",
}


def name(trouble: Trouble) -> Diagnostic | None:
    """A statement without a name, a point without a member, a type left out."""
    got, before = trouble.at(0), trouble.at(-1)
    skipped = _skipped_name(trouble)
    if skipped is not None or got is None or before is None:
        return skipped
    if trouble.only("NAME", "NOT") and before.text == "is":
        message = "`is` is followed by a word, such as `full`"
        return report(catalog.E0109, message, trouble.span(got), "expected a word before this")
    if trouble.accepts("COLON") and not trouble.accepts("ADD"):
        return _no_type(trouble, got, before)
    if not trouble.only("NAME") or got.kind == "word":
        return None
    return _no_name(trouble, got, before)


def extra_word(trouble: Trouble) -> Diagnostic | None:
    """`model let parent = ...`: a reserved word was taken for the name."""
    got, word, before = trouble.at(0), trouble.at(-1), trouble.at(-2)
    if got is None or word is None or before is None or word.text not in RESERVED:
        return None
    if trouble.index != 2 and not (trouble.keyword == "fn" and trouble.only("COLON")):
        return None
    edit = Edit(Span(trouble.source, before.end, word.end), "")
    if word.kind != "word" or not trouble.mends((edit,)):
        return None
    message = f"unexpected `{word.text}` after {expected.found(before)}"
    if word.text == before.text:
        message = f"`{word.text}` is written twice"
    helps = (Help("remove it", Fix((edit,), Safety.UNSAFE)),)
    return report(catalog.E0109, message, trouble.span(word), "a word too many", helps=helps)


def label(trouble: Trouble) -> Diagnostic | None:
    """`require size: params <= 3`."""
    got, name = trouble.at(0), trouble.at(-1)
    if trouble.index != 2 or got is None or name is None or got.text != ":":
        return None
    if trouble.keyword not in ("require", "expect") or name.kind != "word":
        return None
    text = "@" + name.text.replace("_", "-")
    span = trouble.span(name, got)
    helps = (Help(f"write `{text}`", Fix((Edit(span, text),), Safety.UNSAFE)),)
    return report(catalog.E0109, "a label begins with `@`", span, "not a label", helps=helps)


def _no_name(trouble: Trouble, got: Lexeme, before: Lexeme) -> Diagnostic | None:
    if before.text in STATEMENTS and trouble.index == 1:
        return _nameless(trouble, before, got)
    if before.text == "=":
        return _no_call(trouble, got)
    what = _MISSING.get(before.text)
    if before.text == ":":
        what = f"`{trouble.text(-2)}` has no type"
    if what is None:
        return None
    return report(catalog.E0109, what, trouble.span(got), "expected a name before this")


def _nameless(trouble: Trouble, keyword: Lexeme, got: Lexeme) -> Diagnostic:
    what = _NAMELESS.get(keyword.text, "has no name")
    label = Label(trouble.span(keyword), "after this")
    message = f"this `{keyword.text}` {what}"
    return report(catalog.E0109, message, trouble.span(got), "expected a name before this", label)


def _skipped_name(trouble: Trouble) -> Diagnostic | None:
    """`scenario on node`: the word that follows the name was taken for it."""
    word, keyword = trouble.at(-1), trouble.at(-2)
    if trouble.index != 2 or word is None or keyword is None:
        return None
    if word.text in ("on", "in") and trouble.accepts(word.text.upper()):
        return _nameless(trouble, keyword, word)
    if word.text in RESERVED and keyword.text in STATEMENTS and trouble.text(0) != "=":
        return name_errors.reserved(trouble.span(word))
    return None


def _no_type(trouble: Trouble, got: Lexeme, before: Lexeme) -> Diagnostic | None:
    if before.kind != "word" or trouble.keyword not in ("input", "fn"):
        return None
    if got.kind == "word" and trouble.same_line(before, got):
        helps = insert("put a `:` before the type", trouble.source, before.end, ":")
        message = f"expected `:` after `{before.text}`"
        return report(
            catalog.E0109, message, trouble.span(got), "expected `:` before this", helps=helps
        )
    what = "the input" if trouble.keyword == "input" else "the parameter"
    message = f"{what} `{before.text}` has no type"
    label = Label(trouble.span(before), "after this")
    helps = (Help(f"write it as `{before.text}: ratio`, or whatever it is"),)
    return report(
        catalog.E0109, message, trouble.span(got), "expected `:` and a type", label, helps=helps
    )


def _no_call(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    """`dataset text = "a.jsonl"`: these are made by functions."""
    keyword = trouble.keyword
    if keyword not in ("model", "dataset", "score"):
        return None
    message = f"what makes a {keyword} is a function"
    helps: tuple[Help, ...] = ()
    if got.kind == "string":
        span = trouble.span(got)
        helps = tuple(
            Help(say, Fix((Edit(span, f"{name}({got.text})"),), Safety.DISPLAY))
            for name, say in (("local", "for a file, write"), ("hf", "for a repository, write"))
        )
    return report(
        catalog.E0109, message, trouble.span(got), "expected a call before this", helps=helps
    )
