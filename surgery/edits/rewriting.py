"""How to change one alternative in the text of a spec.

In: an alternative of a `choose` and all that the choice offers. Out: `Edit`s of the text, for the
fixes of findings. Decides nothing about what is legal.
"""

from __future__ import annotations

from collections.abc import Collection

from surgery.diagnostics import Edit
from surgery.edits.attention import WINDOWS
from surgery.ir import Alternative
from surgery.source import Span
from surgery.units import format_tokens


def dropped(alternative: Alternative, offered: Collection[Alternative]) -> Edit:
    """Take `alternative` out of what is `offered`: its arm, or its clause when it has no other.

    The last alternative of all becomes `keep`, because a `choose` needs one.
    """
    clause = alternative.clause or alternative.span
    arms = [each for each in offered if each.clause == clause and each.span != alternative.span]
    if arms and alternative.clause is not None:
        return Edit(_arm(alternative.span, clause), "")
    if all(each is alternative for each in offered):
        return Edit(clause, "keep")
    return Edit(_lines(clause), "")


def replaced(alternative: Alternative, value: int) -> Edit:
    """Give `alternative` another argument."""
    tokens = alternative.edit in WINDOWS
    text = f"{format_tokens(value)} tok" if tokens else str(value)
    return Edit(alternative.span, text)


def _arm(arm: Span, clause: Span) -> Span:
    """The arm with its parentheses and the `|` that sets it apart."""
    text, start, end = arm.source.text, arm.start, arm.end
    while True:
        before = text[clause.start : start].rstrip()
        after = text[end : clause.end]
        following = after.lstrip()
        if not (before.endswith("(") and following.startswith(")")):
            break
        start = clause.start + len(before) - 1
        end += len(after) - len(following) + 1
    if following.startswith("|"):
        end += len(after) - len(following) + 1
        end += len(text[end : clause.end]) - len(text[end : clause.end].lstrip())
    elif before.endswith("|"):
        start = clause.start + len(before[:-1].rstrip())
    return Span(arm.source, start, end)


def _lines(clause: Span) -> Span:
    """The clause with its indentation and line ending where it has its lines for itself."""
    text, start, end = clause.source.text, clause.start, clause.end
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    if last < 0 or text[first:start].strip() or text[end:last].strip():
        return clause
    return Span(clause.source, first, last + 1)
