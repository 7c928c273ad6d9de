"""W0705: a requirement that no choice can break.

In: the spec and its space. Out: one finding per comparison that every choice satisfies, with the
worst value that it can come to. Silent about what cannot be bounded (times, unmeasured scores),
about specs whose space is not whole yet, and about `every`: that states a rule for alternatives
to come, it is no limit with slack.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.expr import Expr, Fold, If, Logic
from surgery.ir import Requirement
from surgery.rules.rule import Rule, Subject
from surgery.scoring.blind import scores_in
from surgery.solving.linear import Clause, Linear
from surgery.solving.rows import Rows, least, most
from surgery.source import Span

_KEYWORD = "require"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding per comparison without effect."""
    spec, rows = subject.spec, subject.rows
    if spec is None or rows is None:
        return
    for index, clauses in sorted(rows.clauses.items()):
        requirement = spec.requirements[index]
        if scores_in(requirement.expr) and not rows.measured:
            continue
        if not clauses and not _universal(requirement.expr):
            yield _constant(requirement)
        for clause in clauses:
            if clause.unit != "exceptions" and _idle(clause, rows):
                yield _slack(requirement, clause, rows)


def _universal(expr: Expr) -> bool:
    """Whether a test is about every layer of the result, at least in part."""
    match expr:
        case Fold(kind="every"):
            return True
        case Logic():
            return any(_universal(operand) for operand in expr.operands)
        case If():
            return _universal(expr.yes) or _universal(expr.no)
        case _:
            return False


def _idle(clause: Clause, rows: Rows) -> bool:
    return all(most(row, rows.columns) <= 0 for row in clause.rows)


def _name(requirement: Requirement) -> str:
    return f"`@{requirement.label}`" if requirement.label else "this requirement"


def _slack(requirement: Requirement, clause: Clause, rows: Rows) -> Diagnostic:
    here = "true of every choice"
    if bound := _bound(clause, rows):
        here = f"{bound}, whatever is chosen"
    return Diagnostic(
        catalog.W0705,
        f"{_name(requirement)} cannot bind: every choice satisfies it",
        (Label(clause.span, here, primary=True),),
        helps=(Help("make the limit tighter, or remove the requirement"),),
    )


def _bound(clause: Clause, rows: Rows) -> str:
    """The worst value that a linear side can come to, where the other side is a number."""
    value, limit = clause.value, clause.limit
    if not isinstance(value, Linear) or not isinstance(limit, Linear) or limit.terms:
        return ""
    low = least(value, rows.columns)
    high = most(value, rows.columns)
    if low == high:
        return f"always {clause.shown(low)}"
    match clause.op:
        case "<=" | "<":
            return f"at most {clause.shown(high)}"
        case ">=" | ">":
            return f"at least {clause.shown(low)}"
        case _:
            return ""


def _constant(requirement: Requirement) -> Diagnostic:
    """A truth about the parent or the machine: nothing that is chosen can change it."""
    span = requirement.span
    word = Span(span.source, span.start, span.start + len(_KEYWORD))
    fix = None
    if word.text == _KEYWORD:
        fix = Fix((Edit(word, "expect"),), Safety.UNSAFE)
    return Diagnostic(
        catalog.W0705,
        f"{_name(requirement)} does not depend on what is chosen, and it holds",
        (Label(requirement.expr.span, "true whatever is chosen", primary=True),),
        helps=(Help("state it with `expect`, which is checked before anything is measured", fix),),
    )


RULE = Rule(catalog.W0705, check)
