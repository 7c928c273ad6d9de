"""Statements that do not exist, and where in a broken text they begin (E0103, E0107).

In: lexemes of a text that does not parse. Out: where it has to be cut so that one broken statement
does not hide the next, and what is wrong with a word that begins no statement.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Safety
from surgery.grammar import expected
from surgery.grammar.front import Failure
from surgery.grammar.near import nearest
from surgery.grammar.scan import CLAUSE_WORDS, FUTURE, RESERVED, STATEMENTS, Lexeme, in_column_0
from surgery.grammar.trouble import (
    CLOSER,
    Trouble,
    begins_statement,
    insert,
    paired,
    report,
)
from surgery.source import Source, Span

_MEANT = {
    **dict.fromkeys(("var", "const", "val", "define", "local", "locals", "alias"), ("let",)),
    **dict.fromkeys(("def", "func", "function", "fun", "lambda", "macro", "proc"), ("fn",)),
    **dict.fromkeys(("include", "using", "use", "from"), ("import",)),
    **dict.fromkeys(("assert", "check", "ensure"), ("require", "expect")),
    **dict.fromkeys(("constraint", "constrain", "limit", "must", "subject"), ("require",)),
    **dict.fromkeys(("param", "parameter", "arg", "argument", "option", "variable"), ("input",)),
    **dict.fromkeys(("device", "gpu", "hardware", "node"), ("machine",)),
    **dict.fromkeys(("workload", "traffic"), ("scenario",)),
    **dict.fromkeys(("data", "corpus"), ("dataset",)),
    **dict.fromkeys(("metric", "measure", "loss"), ("score",)),
    **dict.fromkeys(("output", "export", "write", "save"), ("emit",)),
    **dict.fromkeys(("select", "pick", "decide"), ("choose",)),
    **dict.fromkeys(("edit", "change"), ("apply", "choose")),
    **dict.fromkeys(("min", "minimise"), ("minimize",)),
    **dict.fromkeys(("max", "maximise"), ("maximize",)),
    **dict.fromkeys(("objective", "goal", "optimize", "optimise"), ("minimize", "maximize")),
    **dict.fromkeys(("train", "finetune", "heal"), ("recover",)),
    "parent": ("model",),
}
"""Words that other languages, and people, have for our statements."""

_ACTIONS = ("if", "else", "elif", "while", "return", "class", "with", "try", "print", "echo")


def cuts(source: Source, lexemes: Sequence[Lexeme]) -> tuple[int, ...]:
    """The numbers of the lexemes, the first apart, at which another statement begins.

    That is a keyword at the beginning of a line, or a word in column 0 that looks like one. What
    stands in brackets that are closed behind it begins none: it is the mistake itself.
    """
    pairs = paired(lexemes)
    found: list[int] = []
    stack: list[int] = []
    for n, lexeme in enumerate(lexemes):
        if lexeme.kind == "mark":
            if lexeme.text in CLOSER:
                stack.append(n)
            elif lexeme.text in CLOSER.values() and stack:
                stack.pop()
        if n == 0 or lexeme.kind != "word" or any(pairs.get(m, -1) > n for m in stack[-2:]):
            continue
        if begins_statement(source.text, lexemes, n) or (
            in_column_0(source.text, lexeme.start)
            and _looks_like_one(lexemes, n)
            and _near(lexeme.text)
            and _heads(lexemes, n)
        ):
            found.append(n)
            stack.clear()
    return tuple(found)


def cut_at(source: Source, lexemes: Sequence[Lexeme], failure: Failure) -> int | None:
    """The number of the lexeme at which a text has to be cut that does not parse.

    A word in column 0 outside of all brackets begins a statement, though no one knows which.
    Behind the word of a statement that does not exist, such a word does after an empty line, or
    when a `=` follows.
    """
    strange = meant_by(lexemes) == ""
    depth = 0
    for n, lexeme in enumerate(lexemes):
        if lexeme.start > failure.start and not strange:
            return None
        if n and depth <= 0 and in_column_0(source.text, lexeme.start):
            if lexeme.start == failure.start and not _goes_on(lexeme, failure):
                return n
            if strange and _another(source, lexemes, n):
                return n
        if lexeme.kind == "mark":
            depth = max(0, depth + (lexeme.text in CLOSER) - (lexeme.text in CLOSER.values()))
    return None


def _another(source: Source, lexemes: Sequence[Lexeme], n: int) -> bool:
    following = lexemes[n + 1].text if n + 1 < len(lexemes) else ""
    if lexemes[n].kind == "word" and following == "=":
        return True
    apart = source.text.count("\n", lexemes[n - 1].end, lexemes[n].start) > 1
    return apart and _looks_like_one(lexemes, n)


def _goes_on(lexeme: Lexeme, failure: Failure) -> bool:
    """Whether what stands in column 0 is rather a part of the statement before it."""
    if lexeme.text in (*CLOSER.values(), "//", ";"):
        return True
    # Fields in column 0, and no `{` before them.
    return lexeme.kind == "word" and "LBRACE" in failure.accepts and "CMP" not in failure.accepts


def _looks_like_one(lexemes: Sequence[Lexeme], n: int) -> bool:
    lexeme = lexemes[n]
    if lexeme.kind != "word":
        return lexeme.text not in (*CLOSER.values(), "//", ";")
    following = lexemes[n + 1].text if n + 1 < len(lexemes) else ""
    return lexeme.text not in RESERVED and following != "="


def _heads(lexemes: Sequence[Lexeme], n: int) -> bool:
    if n + 1 >= len(lexemes):
        return False
    following = lexemes[n + 1]
    return following.kind in ("word", "string") or following.text[0] in "@{"


@functools.lru_cache(maxsize=1024)
def _near(word: str) -> tuple[str, ...]:
    return _MEANT.get(word) or nearest(word, STATEMENTS[1:])


def unknown(trouble: Trouble) -> Diagnostic:
    """A text begins with something that begins no statement."""
    first = trouble.lexemes[0]
    span = trouble.span(first)
    if first.kind != "word":
        return _no_word(span, first)
    near = _near(first.text)
    named = trouble.text(1) in ("=", ":=") and trouble.text(2) not in STATEMENTS
    if named and (not near or first.text not in _MEANT):
        return _no_let(trouble, span)
    message = f"there is no statement `{first.text}`"
    whole = _rewritten(trouble)
    if whole is not None:
        return report(catalog.E0103, message, span, "not a statement", helps=(whole,))
    edits = (Edit(span, near[0]),) if near else ()
    # A word of another language may come with the shape of a statement there.
    sure = len(near) == 1 and (first.text not in _MEANT or trouble.mends(edits))
    safety = Safety.SAFE if sure else Safety.DISPLAY
    helps = tuple(
        Help(f"use the statement `{word}`", Fix((Edit(span, word),), safety)) for word in near
    )
    return report(
        catalog.E0103, message, span, "not a statement", helps=helps, notes=_notes(first, near)
    )


def _rewritten(trouble: Trouble) -> Help | None:
    """`from "a" import b` and `objective: minimize c` are ours in another order."""
    words = [each.text for each in trouble.lexemes[:4]]
    first = trouble.lexemes[0]
    if len(words) == 4 and (words[0], words[2]) == ("from", "import"):
        text = f"import {words[1]} as {words[3]}"
        edit = Edit(trouble.span(first, trouble.lexemes[3]), text)
        return Help(f"write `{text}`", Fix((edit,), Safety.SAFE))
    if words[1:2] in (["="], [":"]) and words[2:3] and words[2] in ("minimize", "maximize"):
        third = trouble.lexemes[2]
        edit = Edit(Span(trouble.source, first.start, third.start), "")
        return Help(f"begin with `{third.text}`", Fix((edit,), Safety.SAFE))
    return None


def _notes(first: Lexeme, near: tuple[str, ...]) -> tuple[str, ...]:
    if first.text in CLAUSE_WORDS:
        return (f"`{first.text}` belongs inside of a statement",)
    if first.text in _ACTIONS:
        return ("a spec says what is wanted, not what to do: nothing runs in order",)
    return () if near else (f"the statements are {', '.join(STATEMENTS[1:])}",)


def _no_let(trouble: Trouble, span: Span) -> Diagnostic:
    """`x = 5`."""
    message = f"`{span.text}` begins no statement: only `let` gives a value to a name"
    helps = insert(f"write `let {span.text} = ...`", trouble.source, span.start, "let ")
    return report(catalog.E0109, message, span, "not a statement", helps=helps)


def _no_word(span: Span, first: Lexeme) -> Diagnostic:
    if span.text.startswith("@") and len(span.text) > 1:
        message = f"the label `{span.text}` belongs to no statement"
        helps = (Help("write it after `require` or `expect`"),)
        return report(catalog.E0109, message, span, "not after `require`", helps=helps)
    if span.text == "}":
        helps = (Help("remove it", Fix((Edit(span, ""),), Safety.UNSAFE)),)
        return report(
            catalog.E0109, "this `}` closes nothing", span, "nothing is open here", helps=helps
        )
    message = f"expected a statement, found {expected.found(first)}"
    return report(catalog.E0109, message, span, "no statement begins like this")


def meant_by(lexemes: Sequence[Lexeme]) -> str:
    """The keyword of the statement that these lexemes probably are, or nothing."""
    word = lexemes[0].text
    if word in STATEMENTS or word in FUTURE:
        return word
    near = _near(word)
    return near[0] if len(near) == 1 else ""
