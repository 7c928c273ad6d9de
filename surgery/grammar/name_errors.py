"""Words that cannot be names: reserved ones (E0107), and what is spelt unlike a name (E0109).

In: `Trouble`, or a name that is a reserved word. Out: a diagnostic that renames it: everywhere in
the file where that is clear, only where it is defined otherwise.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import scan
from surgery.grammar.scan import FUTURE, OPERATOR_WORDS, RESERVED, STATEMENTS, Lexeme
from surgery.grammar.trouble import Trouble, begins_statement, change, report
from surgery.source import Source, Span

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_NAMING = {"model", "input", "let", "fn", "machine", "scenario", "dataset", "score"}


def reserved(name: Span) -> Diagnostic:
    """A reserved word was given as a name; the fix gives it and its uses a `_`."""
    word = name.text
    spans = [Span(name.source, at, at + len(word)) for at in _uses(name.source, name, word)]
    edits = tuple(Edit(span, word + "_") for span in spans)
    message = f"`{word}` is a reserved word and cannot name anything"
    helps = (Help(f"name it `{word}_`", Fix(edits, Safety.UNSAFE) if edits else None),)
    return report(catalog.E0107, message, name, "reserved", helps=helps)


def _uses(source: Source, name: Span, word: str) -> Iterator[int]:
    """Where a name stands, and where it is used, as far as that is certain."""
    found = _lexemes(source)
    sure = word in STATEMENTS or word in FUTURE
    for n, lexeme in enumerate(found):
        use = sure and lexeme.text == word and _is_use(source.text, found, n)
        if use or lexeme.start == name.start:
            yield lexeme.start


@functools.lru_cache(maxsize=1)
def _lexemes(source: Source) -> tuple[Lexeme, ...]:
    return tuple(each for each in scan.lexemes(source.text) if each.kind != "comment")


def _is_use(text: str, found: Sequence[Lexeme], n: int) -> bool:
    before = found[n - 1].text if n else ""
    following = found[n + 1] if n + 1 < len(found) else None
    if before == "." or begins_statement(text, found, n):
        return False
    # A field, a named argument, the type of an input, or a definition of its own.
    if following is not None and following.text in ("=", ":"):
        return False
    return before not in (":", "->", *_NAMING) or (before == ":" and _is_argument(found, n))


def _is_argument(found: Sequence[Lexeme], n: int) -> bool:
    return n > 2 and found[n - 3].text in ("(", ",")


def reserved_here(trouble: Trouble) -> Diagnostic | None:
    """A reserved word where only a name can stand."""
    got = trouble.at(0)
    if got is None or got.text not in RESERVED or not trouble.only("NAME"):
        return None
    return reserved(trouble.span(got))


def future(source: Source, lexemes: tuple[Lexeme, ...]) -> Diagnostic:
    """A statement that a later edition may have."""
    first, last = lexemes[0], lexemes[-1]
    span = Span(source, first.start, first.end)
    lines = Span(source, first.start, last.end).text.split("\n")
    edits: list[Edit] = []
    at = first.start
    for line in lines:
        edits.append(Edit(Span(source, at, at), "# "))
        at += len(line) + 1
    helps = (Help("make it a comment until then", Fix(tuple(edits), Safety.UNSAFE)),)
    message = f"`{span.text}` is reserved for a later edition of the language"
    return report(catalog.E0107, message, span, "there is no such statement yet", helps=helps)


def label(trouble: Trouble) -> Diagnostic | None:
    """`@Size` or `@my_label`."""
    for offset in (0, -1):
        sign, word = trouble.at(offset), trouble.at(offset + 1)
        if sign is None or word is None or not sign.text.startswith("@"):
            continue
        if word.start != sign.end or word.kind not in ("word", "number"):
            continue
        span = trouble.span(sign, word)
        name = re.sub(r"[^a-z0-9]+", "-", span.text[1:].lower()).strip("-")
        message = f"`{span.text}` cannot be a label"
        notes = ("labels have lower-case letters a to z, digits and `-`",)
        helps = change(f"write `@{name}`", span, f"@{name}") if name[:1].isalpha() else ()
        return report(catalog.E0109, message, span, "not a label", helps=helps, notes=notes)
    return None


# ---- spelling --------------------------------------------------------------------------------


def spelling(trouble: Trouble) -> Diagnostic | None:
    """Capitals, letters outside of a to z, a hyphen, a digit in front."""
    got = trouble.at(0)
    if got is None:
        return None
    if got.kind == "word" and not _NAME.fullmatch(got.text):
        return _word(trouble, got)
    return _hyphen(trouble, got) or _digit(trouble, got)


def _word(trouble: Trouble, got: Lexeme) -> Diagnostic:
    lower = got.text.lower()
    if lower in OPERATOR_WORDS or (lower in RESERVED and not trouble.only("NAME")):
        message = f"the words of the language are lower-case: `{got.text}` is not one"
        helps = change(f"write `{lower}`", trouble.span(got), lower, Safety.SAFE)
        return report(catalog.E0108, message, trouble.span(got), f"expected `{lower}`", helps=helps)
    if lower in ("true", "false", "none", "null", "nil"):
        return _truth(trouble, got)
    helps: tuple[Help, ...] = ()
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", got.text).lower()
    if _NAME.fullmatch(name) and name not in RESERVED:
        edits = tuple(Edit(span, name) for span in _same_words(trouble.source, got.text))
        # Nothing is found where an invisible character divides the word.
        helps = (Help(f"write `{name}`", Fix(edits, Safety.UNSAFE)),) if edits else ()
    label = Label(trouble.span(got), "not a name", primary=True)
    notes = ("names have lower-case letters a to z, digits and `_`",)
    message = f"`{got.text}` cannot be a name"
    return Diagnostic(catalog.E0109, message, (label,), notes=notes, helps=helps)


def _same_words(source: Source, word: str) -> Iterator[Span]:
    for lexeme in _lexemes(source):
        if lexeme.kind == "word" and lexeme.text == word:
            yield Span(source, lexeme.start, lexeme.end)


def _truth(trouble: Trouble, got: Lexeme) -> Diagnostic:
    message = f"there is no value `{got.text}`"
    helps = (Help("leave out what has no value, or compare two values"),)
    return report(catalog.E0109, message, trouble.span(got), "not a value here", helps=helps)


def _hyphen(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    """`let my-share = 3`, or the field `tensor-parallel = 8`."""
    before = trouble.at(-1)
    minus, last = (got, trouble.at(1)) if got.text == "-" else (before, got)
    first = trouble.at(-1) if got.text == "-" else trouble.at(-2)
    if minus is None or first is None or last is None or minus.text != "-":
        return None
    if not (first.end == minus.start and minus.end == last.start):
        return None
    if not trouble.accepts("EQUAL", "COLON", "ON", "LPAR") or trouble.accepts("ADD", "MINUS"):
        return None
    end = trouble.lexemes.index(last)
    while (
        end + 2 < len(trouble.lexemes)
        and trouble.lexemes[end + 1].text == "-"
        and trouble.lexemes[end + 2].start == trouble.lexemes[end].end + 1
    ):
        end += 2
    span = trouble.span(first, trouble.lexemes[end])
    name = span.text.replace("-", "_").lower()
    if not _NAME.fullmatch(name):
        return None
    message = f"`{span.text}` cannot be a name"
    notes = ("names have lower-case letters a to z, digits and `_`",)
    helps = change(f"write `{name}`", span, name)
    return report(catalog.E0109, message, span, "not a name", helps=helps, notes=notes)


def _digit(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    before = trouble.at(-1)
    if got.kind != "number" or not trouble.only("NAME") or before is None or before.text == ".":
        return None
    following = trouble.at(1)
    span = trouble.span(got)
    if following is not None and following.kind == "word" and following.start == got.end:
        span = trouble.span(got, following)
    message = f"`{span.text}` cannot be a name"
    notes = ("names begin with a lower-case letter or `_`",)
    return report(catalog.E0109, message, span, "not a name", notes=notes)
