"""Why a statement cannot be parsed, said to a person.

In: `Trouble`. Out: exactly one diagnostic. The cases people run into are written by hand, in the
modules named here, each keyed on what stands around the failure. The first that knows an answer
gives it, but a fix that leaves the line broken is no answer as long as there is another. The rest
is E0109, with what would have been accepted there in words (`expected.py`).

A fix that is safe or unsafe is also what the reader takes for the text to go on (`recovery.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Help, Safety
from surgery.grammar import (
    block_errors,
    bracket_errors,
    expected,
    foreign,
    missing_errors,
    name_errors,
    nameless_errors,
    number_errors,
    statement_errors,
    string_errors,
    word_errors,
)
from surgery.grammar.front import Branch
from surgery.grammar.scan import FUTURE, STATEMENTS, Lexeme
from surgery.grammar.trouble import CLOSER, Trouble, change, report
from surgery.source import Span

_CASES: tuple[Callable[[Trouble], Diagnostic | None], ...] = (
    string_errors.unclosed,
    string_errors.foreign,
    number_errors.foreign,
    block_errors.statement_inside,
    block_errors.step_inside,
    block_errors.unopened_step,
    bracket_errors.grouped_list,
    foreign.swallowed_dash,
    word_errors.clause,
    number_errors.unit,
    bracket_errors.unclosed,
    missing_errors.swallowed,
    name_errors.label,
    name_errors.spelling,
    block_errors.other_brackets,
    nameless_errors.label,
    nameless_errors.extra_word,
    foreign.explain,
    foreign.order,
    word_errors.misspelt,
    word_errors.layers,
    missing_errors.pick,
    string_errors.needed,
    missing_errors.twice,
    bracket_errors.unopened_call,
    block_errors.unopened_block,
    nameless_errors.name,
    missing_errors.equals,
    bracket_errors.stray,
    name_errors.reserved_here,
    missing_errors.otherwise,
    missing_errors.operand,
    missing_errors.edit,
    missing_errors.value,
    missing_errors.then,
    missing_errors.colon,
    missing_errors.word,
    missing_errors.comma,
    missing_errors.operator,
)


_GUESSES = (bracket_errors.stray, block_errors.unopened_block, block_errors.unopened_step)
"""Cases that often are what an earlier mistake in the statement looks like."""


class Finding(Struct, frozen=True):
    """What is wrong, and whether that is beyond doubt: nothing that an earlier mistake caused.

    A `guess` often is just that.
    """

    diagnostic: Diagnostic
    certain: bool
    guess: bool = False


def explain(trouble: Trouble) -> Finding:
    """The one diagnostic for a statement that does not parse."""
    if trouble.keyword in FUTURE:
        return Finding(name_errors.future(trouble.source, trouble.lexemes), certain=True)
    if trouble.keyword not in STATEMENTS:
        return Finding(statement_errors.unknown(trouble), certain=True)
    second_best: Diagnostic | None = None
    for case in _CASES:
        found = case(trouble)
        if found is None:
            continue
        edits = fix_of(found)
        # Without its other quote, nothing on the line can be read anyway.
        if not edits or found.code is catalog.E0106 or trouble.mends(edits):
            guess = case in _GUESSES
            return Finding(found, certain=not guess, guess=guess)
        if second_best is None and trouble.gets_further(edits) > trouble.failure.start:
            second_best = found
    got = trouble.at(0)
    superfluous = got is not None and _superfluous(trouble, got)
    if second_best is None or superfluous:
        return Finding(_unexpected(trouble, superfluous=superfluous), certain=False)
    return Finding(_without_fix(second_best), certain=False, guess=True)


def _without_fix(found: Diagnostic) -> Diagnostic:
    """The finding as it is told where its fix does not mend the line, unless one is promised."""
    if found.code.fix is not None:
        return found
    return replace(found, helps=tuple(Help(each.text) for each in found.helps))


def _superfluous(trouble: Trouble, got: Lexeme) -> bool:
    """Whether the statement goes on when something is left out."""
    edits = (Edit(trouble.span(got), " "),)
    if got.text in CLOSER:
        return isinstance(trouble.attempt(edits), Branch)
    return trouble.mends(edits)


def _apart(trouble: Trouble, before: Lexeme, got: Lexeme) -> bool:
    """Whether the blanks before something go with it when it is removed."""
    after = trouble.source.text[got.end : got.end + 1]
    return trouble.same_line(before, got) and (after.isspace() or not after)


def fix_of(diagnostic: Diagnostic) -> tuple[Edit, ...]:
    """The edits of the first fix, unless it is one of several ways out."""
    fix = next((each.fix for each in diagnostic.helps if each.fix), None)
    return fix.edits if fix is not None and fix.safety is not Safety.DISPLAY else ()


def _unexpected(trouble: Trouble, *, superfluous: bool) -> Diagnostic:
    got, before = trouble.at(0), trouble.at(-1)
    words = expected.words(trouble.failure.accepts)
    if got is not None:
        where = f" after {expected.found(before)}" if before is not None else ""
        message = f"unexpected {expected.found(got)}{where}"
        helps: tuple[Help, ...] = ()
        span = trouble.span(got)
        if superfluous:
            start = before.end if before is not None and _apart(trouble, before, got) else got.start
            helps = change("remove it", Span(trouble.source, start, got.end), "")
        return report(catalog.E0109, message, span, f"expected {words}", helps=helps)
    assert before is not None, trouble
    end = "the next statement begins" if trouble.after else "the file ends"
    message = f"`{trouble.keyword}` is not complete: {end} after {expected.found(before)}"
    return report(catalog.E0109, message, trouble.span(before), f"expected {words} after this")
