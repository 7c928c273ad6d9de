"""Blocks that do not open, or hold what does not belong into them (E0102, E0109).

In: `Trouble`. Out: a diagnostic whose fix opens or closes the block, or nothing when the block
around the failure is in order. Brackets that are merely not closed are in `bracket_errors.py`.
"""

from __future__ import annotations

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.bracket_errors import closing_help, indentation
from surgery.grammar.scan import FUTURE, STATEMENTS
from surgery.grammar.trouble import CLOSER, Trouble, begins_statement, insert, report
from surgery.source import Span


def statement_inside(trouble: Trouble) -> Diagnostic | None:
    """`let x = 5` between the fields of a block that is closed further down."""
    if not trouble.in_block:
        return None
    for n in range(trouble.index, trouble.open[-1], -1):
        if n < len(trouble.lexemes) and begins_statement(trouble.source.text, trouble.lexemes, n):
            got, opener = trouble.lexemes[n], trouble.lexemes[trouble.open[-1]]
            return report(
                catalog.E0109,
                f"`{got.text}` begins a statement, and a block cannot contain one",
                trouble.span(got),
                "this belongs outside of the block",
                Label(trouble.span(opener), "the block begins here"),
                helps=(Help("move it before or after the block"),),
            )
        if n < trouble.index and trouble.first_on_line(n):
            return None
    return None


def step_inside(trouble: Trouble) -> Diagnostic | None:
    """`reinforce deep {` inside of another step, which is therefore not closed."""
    if trouble.keyword != "recover" or len(trouble.open) < 2 or not trouble.in_block:
        return None
    got = trouble.at(0)
    start = trouble.index - 1
    if got is None or not (got.text == "{" or (got.kind == "word" and trouble.text(1) == "{")):
        return None
    if not trouble.first_on_line(start) or start <= trouble.open[-1]:
        return None
    head, opener = trouble.lexemes[start], trouble.lexemes[trouble.open[-1]]
    before = trouble.lexemes[start - 1]
    return report(
        catalog.E0102,
        f"the block of `{trouble.lexemes[trouble.open[-1] - 1].text}` is not closed",
        trouble.span(opener),
        "opened here",
        Label(trouble.span(head), "the next step begins here"),
        helps=closing_help(trouble, before, "\n" + indentation(trouble, opener) + "}", "}"),
    )


def unopened_block(trouble: Trouble) -> Diagnostic | None:
    """Fields or alternatives without the `{` that has to come before them."""
    got, before = trouble.at(0), trouble.at(-1)
    if got is None or before is None or got.text in CLOSER.values():
        return None
    if trouble.open and (trouble.keyword != "recover" or trouble.index < 3):
        return None
    if not trouble.accepts("LBRACE") or got.text in {*STATEMENTS, *FUTURE}:
        return None
    edit = Edit(Span(trouble.source, before.end, before.end), " {")
    if got.kind in ("mark", "other"):
        # Another mark stands where the brace belongs.
        edit = Edit(Span(trouble.source, before.end, got.end), " {")
    edits: tuple[Edit, ...] = (edit,)
    close = trouble.pairs.get(trouble.index)
    if got.text in ("(", "[") and close is not None:
        edits = (edit, Edit(trouble.span(trouble.lexemes[close]), "}"))
        if not trouble.mends(edits):
            return None
    elif not any(each.text == "}" for each in trouble.lexemes[trouble.index :]):
        last = trouble.lexemes[-1].end
        edits = (edit, Edit(Span(trouble.source, last, last), "\n}"))
        if got is trouble.lexemes[-1] or not trouble.mends(edits):
            return None
    if trouble.gets_further(edits) <= trouble.failure.start:
        return None
    words = " ".join(each.text for each in trouble.lexemes[: 2 if trouble.index > 1 else 1])
    words = before.text if trouble.open else words
    return report(
        catalog.E0109,
        f"the block of `{words}` is not opened",
        trouble.span(got),
        "expected a block `{`",
        Label(trouble.span(before), "after this"),
        helps=(Help("open it with `{`", Fix(edits, Safety.UNSAFE)),),
    )


def unopened_step(trouble: Trouble) -> Diagnostic | None:
    """A step of a recovery without its `{`: its first field was taken for its name."""
    got, field, step = trouble.at(0), trouble.at(-1), trouble.at(-2)
    if trouble.keyword != "recover" or len(trouble.open) != 1 or field is None or step is None:
        return None
    if got is None or got.text != "=" or step.kind != "word":
        return None
    if not trouble.first_on_line(trouble.index - 1):
        return None
    return report(
        catalog.E0109,
        f"the block of `{step.text}` is not opened",
        trouble.span(field),
        "expected a block `{` before this",
        Label(trouble.span(step), "after this"),
        helps=insert("open it with `{`", trouble.source, step.end, " {"),
    )


def other_brackets(trouble: Trouble) -> Diagnostic | None:
    """`machine m = device ( memory = 80GB )`: a block in the brackets of a list or call."""
    got, opener = trouble.at(0), trouble.opener
    if got is None or opener is None or got.text not in ("=", ":") or opener.text == "{":
        return None
    close = trouble.pairs.get(trouble.open[-1])
    if close is None or trouble.open[-1] + 2 != trouble.index or opener.start == 0:
        return None
    if trouble.source.text[opener.start - 1] not in " \t\n" or len(trouble.open) > 1:
        return None
    edits = (
        Edit(trouble.span(opener), "{"),
        Edit(trouble.span(trouble.lexemes[close]), "}"),
    )
    if not trouble.mends(edits):
        return None
    message = "a block stands in `{` and `}`"
    helps = (Help("write `{` and `}`", Fix(edits, Safety.UNSAFE)),)
    return report(
        catalog.E0109, message, trouble.span(opener), "expected `{` instead of this", helps=helps
    )
