"""Brackets that are not closed, not open, or of the wrong kind (E0102, and E0109 for strays).

In: `Trouble`. Out: a diagnostic whose fix closes, opens or removes the bracket; nothing when the
brackets around the failure are in order.
"""

from __future__ import annotations

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.scan import Lexeme
from surgery.grammar.trouble import CLOSER, Trouble, change, insert, report
from surgery.source import Span


def unclosed(trouble: Trouble) -> Diagnostic | None:
    """A bracket that is open where something else has to come."""
    got = trouble.at(0)
    if not trouble.open:
        return None
    opener = trouble.lexemes[trouble.open[-1]]
    if got is None:
        return _at_the_end(trouble, opener)
    return _inside(trouble, opener, got)


def _at_the_end(trouble: Trouble, opener: Lexeme) -> Diagnostic:
    blamed, before = _blamed(trouble)
    if blamed is not None:
        opener = blamed
    what = f"this `{opener.text}` is not closed"
    if opener.text == "{":
        what = f"the block of `{_owner(trouble, opener)}` is not closed"
    others: tuple[Label, ...] = ()
    text = "opened here, and the file ends"
    if blamed is not None and before is not None:
        text = "opened here"
        closer = trouble.lexemes[trouble.lexemes.index(before) + 1]
        others = (Label(trouble.span(closer), "this closes what is around it"),)
    elif trouble.after is not None:
        text = "opened here"
        others = (Label(trouble.after, "the next statement begins here"),)
    closing = CLOSER[opener.text]
    if before is not None:
        helps = closing_help(trouble, before, "\n" + indentation(trouble, opener) + "}", closing)
    else:
        helps = closing_help(trouble, trouble.lexemes[-1], _closers(trouble), closing)
    return report(catalog.E0102, what, trouble.span(opener), text, *others, helps=helps)


def _blamed(trouble: Trouble) -> tuple[Lexeme | None, Lexeme | None]:
    """A block whose closer has the indentation of a block around it, and what is last in it."""
    for n, m in sorted(trouble.pairs.items(), reverse=True):
        opener, closer = trouble.lexemes[n], trouble.lexemes[m]
        if opener.text != "{" or n not in range(trouble.open[-1] + 1, trouble.index):
            continue
        if not trouble.first_on_line(m) or m == n + 1:
            continue
        if len(indentation(trouble, closer)) < len(indentation(trouble, opener)):
            return opener, trouble.lexemes[m - 1]
    return None, None


def _owner(trouble: Trouble, opener: Lexeme) -> str:
    """The words that introduce a block."""
    n = trouble.lexemes.index(opener)
    if n == trouble.open[0]:
        end = 2 if trouble.keyword != "recover" else 1
        return " ".join(each.text for each in trouble.lexemes[:end])
    words = [trouble.lexemes[n - 1].text]
    if n > 1 and trouble.lexemes[n - 2].kind == "word" and not trouble.first_on_line(n - 1):
        words.insert(0, trouble.lexemes[n - 2].text)
    return " ".join(words)


def indentation(trouble: Trouble, lexeme: Lexeme) -> str:
    """The blanks that begin the line of a lexeme."""
    text = trouble.source.text
    line = text.rfind("\n", 0, lexeme.start) + 1
    rest = text[line : lexeme.start].lstrip("\ufeff")
    return rest[: len(rest) - len(rest.lstrip(" \t"))]


def _closers(trouble: Trouble) -> str:
    """What closes everything that is open at the end; blocks of several lines on their own."""
    last = trouble.lexemes[-1]
    text = ""
    for n in reversed(trouble.open):
        opener = trouble.lexemes[n]
        if opener.text != "{":
            text += CLOSER[opener.text]
        elif "\n" in trouble.source.text[opener.start : last.end] or trouble.lexemes[n] is last:
            text += "\n" + indentation(trouble, opener) + "}"
        else:
            text += _beside(trouble, opener)
    return text


def _beside(trouble: Trouble, opener: Lexeme) -> str:
    """A closing brace on the line of its block, if the statement began there too."""
    first = trouble.source.text.rfind("\n", 0, opener.start)
    return " }" if first < trouble.lexemes[0].start or len(trouble.open) > 1 else "\n}"


def closing_help(trouble: Trouble, last: Lexeme, text: str, closing: str) -> tuple[Help, ...]:
    """The help that closes after a lexeme; what begins a new line goes after its comment."""
    at = last.end
    if text.startswith("\n"):
        end = trouble.source.text.find("\n", at)
        rest = trouble.source.text[at : end if end >= 0 else len(trouble.source.text)]
        at += len(rest.rstrip()) if rest.lstrip().startswith("#") else 0
    return insert(f"close it with `{closing}`", trouble.source, at, text)


def _inside(trouble: Trouble, opener: Lexeme, got: Lexeme) -> Diagnostic | None:
    """A call or list that runs into the next line, or into a closer of another kind."""
    if opener.text == "{":
        return _block_inside(trouble, opener, got)
    closer = CLOSER[opener.text]
    wrong = got.text in CLOSER.values() and got.text != closer
    before = _last_inside(trouble, wrong=wrong)
    if before is None or not (wrong or trouble.open[-1] not in trouble.pairs):
        return None
    beside = trouble.same_line(before, got) or before.text in (",", opener.text)
    if not wrong and before is trouble.at(-1) and got.text != "{" and beside:
        return None
    edit = _closing(trouble, before, got)
    # `[1, 2)` needs another closer, `f([1, 2)` one more.
    if wrong and not trouble.mends((edit,)):
        edit = Edit(trouble.span(got), closer)
    follows = trouble.lexemes[trouble.lexemes.index(before) + 1]
    return report(
        catalog.E0102,
        f"this `{opener.text}` is not closed",
        trouble.span(opener),
        "opened here",
        Label(trouble.span(follows), f"expected `{closer}` before this"),
        helps=(Help(f"close it with `{closer}`", Fix((edit,), Safety.UNSAFE)),),
    )


def _closing(trouble: Trouble, before: Lexeme, got: Lexeme) -> Edit:
    """What closes the innermost bracket, or as many of them as it takes to go on."""
    at = Span(trouble.source, before.end, before.end)
    closers = ""
    for n in reversed(trouble.open):
        if trouble.lexemes[n].text == "{" or CLOSER[trouble.lexemes[n].text] == got.text:
            break
        closers += CLOSER[trouble.lexemes[n].text]
        if trouble.mends((Edit(at, closers),)):
            return Edit(at, closers)
    return Edit(at, CLOSER[trouble.lexemes[trouble.open[-1]].text])


def _last_inside(trouble: Trouble, *, wrong: bool) -> Lexeme | None:
    """The last lexeme before the failure that still belongs to the open bracket."""
    got, n = trouble.at(0), trouble.index - 1
    if n <= trouble.open[-1] and not wrong:
        return trouble.at(-1)
    # The name of the next field was taken for part of the value: `b = f(x,` and then `c = 3`.
    taken = got is not None and got.text == "=" and trouble.first_on_line(n)
    if taken and n - 1 >= trouble.open[-1]:
        n -= 1
    return trouble.lexemes[n]


def _block_inside(trouble: Trouble, opener: Lexeme, got: Lexeme) -> Diagnostic | None:
    """A block that ends with a closer of another kind."""
    if got.text not in (")", "]"):
        return None
    alone = trouble.mends((Edit(trouble.span(got), ""),))
    if not alone and trouble.mends((Edit(trouble.span(got), "}"),)):
        helps = change("close it with `}`", trouble.span(got), "}")
        return report(
            catalog.E0102,
            f"the block of `{_owner(trouble, opener)}` is not closed",
            trouble.span(opener),
            "opened here",
            Label(trouble.span(got), "expected `}` instead of this"),
            helps=helps,
        )
    return _unopened(trouble, got) or _stray(trouble, got)


def stray(trouble: Trouble) -> Diagnostic | None:
    """A closer that closes nothing."""
    got = trouble.at(0)
    if got is None or got.kind != "mark" or got.text not in CLOSER.values() or trouble.open:
        return None
    return _unopened(trouble, got) or _stray(trouble, got)


def _stray(trouble: Trouble, got: Lexeme) -> Diagnostic:
    message = f"this `{got.text}` closes nothing"
    helps = change("remove it", trouble.span(got), "")
    label = "nothing is open here" if not trouble.open else "no such bracket is open here"
    return report(catalog.E0109, message, trouble.span(got), label, helps=helps)


def _unopened(trouble: Trouble, got: Lexeme) -> Diagnostic | None:
    """`hf "a")`: the bracket that is closed was never opened."""
    if got.text == "}":
        return None
    bracket = "(" if got.text == ")" else "["
    for n in range(trouble.index - 1, 0, -1):
        lexeme = trouble.lexemes[n]
        if lexeme.kind not in ("word", "string", "number"):
            continue
        before = trouble.lexemes[n - 1]
        called = bracket == "(" and before.kind == "word" and trouble.same_line(before, lexeme)
        if before.text != "=" and not called:
            continue
        # `a = 5)` rather has a bracket too many.
        if got.text == ")" and not called and trouble.index - n < 2:
            return None
        at = before.end if called else lexeme.start
        edit = Edit(Span(trouble.source, at, lexeme.start), bracket)
        if trouble.gets_further((edit,)) <= got.end:
            return None
        return report(
            catalog.E0109,
            f"this `{got.text}` closes nothing",
            trouble.span(got),
            "nothing is open here",
            Label(trouble.span(lexeme), f"expected `{bracket}` before this"),
            helps=(Help(f"open it with `{bracket}`", Fix((edit,), Safety.UNSAFE)),),
        )
    return None


def unopened_call(trouble: Trouble) -> Diagnostic | None:
    """`kl logits)`: the arguments begin without a `(`."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or before.kind != "word" or not trouble.accepts("LPAR"):
        return None
    if got.kind not in ("word", "string", "number") or not trouble.same_line(before, got):
        return None
    edit = Edit(Span(trouble.source, before.end, got.start), "(")
    matched = {*trouble.pairs.values()}
    alone = [
        each
        for n, each in enumerate(trouble.lexemes)
        if n > trouble.index and each.text == ")" and n not in matched
    ]
    if not alone:
        return _bare_call(trouble, before, got)
    if trouble.gets_further((edit,)) <= alone[0].end:
        return None
    return report(
        catalog.E0109,
        f"the arguments of `{before.text}` are not opened",
        trouble.span(got),
        "expected `(` before this",
        helps=(Help("open them with `(`", Fix((edit,), Safety.UNSAFE)),),
    )


def _bare_call(trouble: Trouble, before: Lexeme, got: Lexeme) -> Diagnostic | None:
    """`hf "a"`: one argument without brackets."""
    edits = (
        Edit(Span(trouble.source, before.end, got.start), "("),
        Edit(Span(trouble.source, got.end, got.end), ")"),
    )
    if got.kind != "string" or not trouble.mends(edits):
        return None
    return report(
        catalog.E0109,
        f"the arguments of `{before.text}` stand in parentheses",
        trouble.span(got),
        "expected `(` before this",
        helps=(Help(f"write `{before.text}({got.text})`", Fix(edits, Safety.UNSAFE)),),
    )


def grouped_list(trouble: Trouble) -> Diagnostic | None:
    """`(1, 2)` for `[1, 2]`."""
    got, opener = trouble.at(0), trouble.opener
    if got is None or opener is None or got.text != "," or opener.text != "(":
        return None
    n = trouble.open[-1]
    depth = 1
    close = n
    while depth and close + 1 < len(trouble.lexemes):
        close += 1
        depth += (trouble.lexemes[close].text in CLOSER) - (
            trouble.lexemes[close].text in CLOSER.values()
        )
    edits = (
        Edit(trouble.span(opener), "["),
        Edit(trouble.span(trouble.lexemes[close]), "]"),
    )
    if depth or not trouble.mends(edits):
        return None
    message = "a list stands in `[` and `]`"
    helps = (Help("write `[` and `]`", Fix(edits, Safety.UNSAFE)),)
    return report(
        catalog.E0109, message, trouble.span(opener), "expected `[` instead of this", helps=helps
    )
