"""Misspelt words of the language: `wher`, `excep`, `els`, `inot` (E0109).

In: `Trouble`, or the alternatives of a `choose` that parse because a misspelt clause reads as one
more of them. Out: a diagnostic with the word that is meant, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import unit_errors
from surgery.grammar.near import nearest
from surgery.grammar.scan import OPERATOR_WORDS, RESERVED, Lexeme
from surgery.grammar.trouble import Trouble, report
from surgery.source import Source, Span

_CLAUSES = ("by", "init", "when")
_SYNONYMS = {
    "if": "when",
    "where": "when",
    "ranked": "by",
    "using": "by",
    "per": "by",
    "from": "init",
    "initialised": "init",
    "initialized": "init",
}
_OTHER = {
    "with": ("where", "on"),
    "at": ("on", "in"),
    "for": ("in", "on"),
    "of": ("in",),
    "without": ("except",),
    "but": ("except",),
    "minus": ("except",),
    "having": ("where",),
    "if": ("where",),
    "when": ("where",),
    "such": ("where",),
    "to": ("as",),
    "otherwise": ("else",),
    "because": ("else",),
}


def misspelt(trouble: Trouble) -> Diagnostic | None:
    """A word at the failure that resembles one that could stand there."""
    got = trouble.at(0)
    if got is None or got.kind != "word":
        return None
    words = tuple(k.lower() for k in trouble.failure.accepts if k.lower() in RESERVED)
    if got.text in words:
        return None
    near = tuple(w for w in _OTHER.get(got.text, ()) if w in words)[:1]
    near = near or nearest(got.text, words)
    if not near or (trouble.accepts("NAME") and got.text not in RESERVED):
        return None
    # Only what lets the parse go on was meant: `let x = a b` is no misspelt `by`.
    good = tuple(w for w in near if _helps(trouble, got, w))
    return _instead(trouble, got, good) if good else None


def _helps(trouble: Trouble, got: Lexeme, word: str) -> bool:
    edits = (Edit(trouble.span(got), word),)
    following = trouble.at(1)
    return trouble.gets_further(edits) > (following.start if following else got.end)


def _instead(trouble: Trouble, got: Lexeme, words: Sequence[str]) -> Diagnostic:
    span = trouble.span(got)
    safety = Safety.SAFE if len(words) == 1 else Safety.UNSAFE
    helps = tuple(Help(f"write `{w}`", Fix((Edit(span, w),), safety)) for w in words)
    message = f"`{got.text}` has no meaning here"
    return report(catalog.E0109, message, span, f"expected `{words[0]}`", helps=helps)


def layers(trouble: Trouble) -> Diagnostic | None:
    """`count(layer where ...)`: without `layers` it is a call like any other."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or got.text not in ("where", "except", ":", "["):
        return None
    if before.kind != "word" or not nearest(before.text, ("layers",)):
        return None
    return _instead(trouble, before, ("layers",)) if _goes_on(trouble, before) else None


def _goes_on(trouble: Trouble, before: Lexeme) -> bool:
    edits = (Edit(trouble.span(before), "layers"),)
    return trouble.gets_further(edits) > trouble.failure.start


def clause(trouble: Trouble) -> Diagnostic | None:
    """A misspelt clause that was taken for the next alternative, before the failure."""
    if trouble.keyword != "choose" or not trouble.in_block:
        return None
    for n in range(trouble.index, trouble.open[-1] + 1, -1):
        if n < len(trouble.lexemes):
            word = _clause(trouble.source, trouble.lexemes, n)
            if word:
                return _instead(trouble, trouble.lexemes[n], (word,))
            if trouble.first_on_line(n):
                return None
    return None


def _clause(source: Source, lexemes: Sequence[Lexeme], n: int) -> str:
    """The clause that a word on the line of an alternative stands for, or nothing."""
    lexeme, before = lexemes[n], lexemes[n - 1]
    if lexeme.kind != "word" or lexeme.text in _CLAUSES or before.kind == "mark":
        return ""
    if before.text in RESERVED and before.text != "keep":
        return ""
    if n + 1 >= len(lexemes) or "\n" in source.text[before.end : lexeme.start]:
        return ""
    if lexeme.text in _SYNONYMS:
        return _SYNONYMS[lexeme.text]
    near = nearest(lexeme.text, _CLAUSES)
    return near[0] if len(near) == 1 and len(lexeme.text) > 1 else ""


def hidden(source: Source, lexemes: Sequence[Lexeme]) -> Diagnostic | None:
    """What is wrong with a `choose` that parses: units and clauses that read as alternatives."""
    if not lexemes or lexemes[0].text != "choose":
        return None
    start = next((n for n, each in enumerate(lexemes) if each.text == "{"), len(lexemes))
    depth = 0
    for n in range(start + 2, len(lexemes)):
        lexeme, before = lexemes[n], lexemes[n - 1]
        depth += (before.text in ("(", "[")) - (before.text in (")", "]"))
        if lexeme.kind != "word" or depth or "\n" in source.text[before.end : lexeme.start]:
            continue
        if lexeme.text in (*_CLAUSES, *OPERATOR_WORDS, "keep") or before.kind == "mark":
            continue
        if before.kind == "number" and unit_errors.meant(lexeme.text):
            number = Span(source, before.start, before.end)
            return unit_errors.unknown_unit(number, Span(source, lexeme.start, lexeme.end))
        word = _clause(source, lexemes, n)
        if word and _begun(lexemes, n, source):
            span = Span(source, lexeme.start, lexeme.end)
            fix = Fix((Edit(span, word),), Safety.SAFE)
            label = Label(span, f"expected `{word}`", primary=True)
            message = f"`{lexeme.text}` has no meaning here"
            return Diagnostic(
                catalog.E0109, message, (label,), helps=(Help(f"write `{word}`", fix),)
            )
    return None


def _begun(lexemes: Sequence[Lexeme], n: int, source: Source) -> bool:
    """Whether something that a clause can follow and something that can follow it stand there."""
    following = lexemes[n + 1]
    gap = source.text[lexemes[n].end : following.start]
    return following.kind == "word" and "\n" not in gap and following.text not in _CLAUSES
