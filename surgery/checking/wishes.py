"""Wishes: `expect`, `require`, and the objective.

In: their statements. Out: `ir.Requirement`s and the `ir.Objective`. Reports what is no condition
(E0304), what asks for the result before there is one (E0508), what is not linear in the choices
(E0502), strict comparisons of what the solver chooses (E0505), and an objective that is missing or
given twice (E0504) or constant (E0509).
"""

from __future__ import annotations

from collections.abc import Sequence

from surgery import affine, catalog, ir
from surgery.affine import Affinity, Offence
from surgery.checking.operands import condition, number
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import METRICS
from surgery.diagnostics import Edit, Fix, Help, Label, Safety
from surgery.expr import Arith, Compare, Expr, Fact, If, Logic, Metric, ScoreTotal
from surgery.grammar import ast
from surgery.source import Span


def expect(check: Check, node: ast.Expect) -> ir.Requirement | None:
    """`expect @label condition`: about the parent, so nothing in it may depend on the choices."""
    found = condition(check, node.condition, Scope(check.main), "`expect`")
    if found is None:
        return None
    beyond = affine.global_choices(found)
    if beyond:
        part = beyond[0]
        message = "an `expect` is checked before anything is chosen"
        helps: tuple[Help, ...] = (Help("state it with `require`"),)
        if isinstance(part, Metric):
            text = f"parent.{part.span.text}"
            fix = Fix((Edit(part.span, text),), Safety.DISPLAY)
            helps = (*helps, Help(f"or ask for the parent's: `{text}`", fix))
        check.error(catalog.E0508, message, part.span, "depends on the choices", helps=helps)
        return None
    return _requirement(node, found)


def require(check: Check, node: ast.Require) -> ir.Requirement | None:
    """`require @label condition`: about the result, so it must become rows."""
    found = condition(check, node.condition, Scope(check.main), "`require`")
    if found is None:
        return None
    if not _no_strict(check, found):
        return None
    offence = affine.offence(found)
    if offence:
        _not_linear(check, offence)
        return None
    return _requirement(node, found)


def _requirement(node: ast.Expect | ast.Require, found: Expr) -> ir.Requirement:
    label = node.label.text if node.label else None
    return ir.Requirement(node.span, label, found, node.message.value if node.message else None)


def labels(check: Check, nodes: Sequence[ast.Expect | ast.Require]) -> None:
    """Report labels that are used twice: they name requirements in plans."""
    seen: dict[str, ast.Ident] = {}
    for node in nodes:
        if node.label is None:
            continue
        first = seen.setdefault(node.label.text, node.label)
        if first is not node.label:
            message = f"the label `@{node.label.text}` is used twice"
            also = Label(first.span, "first used here")
            check.error(catalog.E0202, message, node.label.span, "used again", also)


def objective(check: Check, nodes: Sequence[ast.Objective], start: Span) -> ir.Objective | None:
    """The one objective."""
    if not nodes:
        message = "this spec has no objective"
        fix = Help("say what is best: `minimize damage`")
        check.error(catalog.E0504, message, start, "no `minimize` or `maximize`", helps=(fix,))
        return None
    if len(nodes) > 1:
        first, second = nodes[0], nodes[1]
        message = (
            "this spec has two objectives"
            if len(nodes) == 2
            else (f"this spec has {len(nodes)} objectives")
        )
        helps = (Help("add them up with weights, or turn one into a `require`"),)
        also = Label(first.head, "the first one")
        check.error(catalog.E0504, message, second.head, "another one", also, helps=helps)
    found = [_objective(check, node) for node in nodes]
    return found[0]


def _objective(check: Check, node: ast.Objective) -> ir.Objective | None:
    found = number(check, node.value, Scope(check.main))
    if found is None:
        return None
    offence = affine.offence(found)
    if offence is None and affine.classify(found) is Affinity.RATIO:
        label = "a ratio cannot be an objective"
        offence = Offence(found, "ratio", label)
    if offence:
        _not_linear(check, offence, objective=True)
        return None
    if affine.classify(found) is Affinity.CONSTANT:
        message = "this objective does not depend on the choices"
        label = "the same for every child"
        helps = (_childs(found),)
        check.error(catalog.E0509, message, found.span, label, helps=helps)
        return None
    return ir.Objective(node.span, node.sense, found)


def _childs(asked: Expr) -> Help:
    """What a constant objective was probably meant to be."""
    if isinstance(asked, Fact | Metric) and asked.name in METRICS:
        text = asked.span.text.rpartition(".")[2]
        fix = Fix((Edit(asked.span, text),), Safety.DISPLAY)
        return Help(f"ask for the child's: `{text}`", fix)
    return Help("say what is best: `minimize damage`")


def _inside(inner: Span, outer: Span) -> bool:
    return inner.source is outer.source and outer.start <= inner.start and inner.end <= outer.end


# ---- affinity --------------------------------------------------------------------------------


_SUMS = "the solver handles sums of choice-dependent values, each times a constant"
_BOTH = "requirements hold together: the solver can be asked for both of two, not for either"


def _not_linear(check: Check, found: Offence, *, objective: bool = False) -> None:
    """E0502 at the smallest guilty part."""
    culprit = found.culprit
    here = _operator(culprit)
    also = [
        Label(part.span, "depends on the choices")
        for part in found.parts
        if part.span != (here or culprit.span)
    ]
    notes = (_BOTH if isinstance(culprit, Logic) else _SUMS,)
    message = f"this {found.kind} is not linear in the choices"
    check.error(
        catalog.E0502,
        message,
        here or culprit.span,
        found.label,
        *also,
        notes=notes,
        helps=_ways_out(found, objective=objective, written=here is not None),
    )


def _operator(culprit: Expr) -> Span | None:
    """Where the operator of an operation stands, if it was written here and not inlined."""
    match culprit:
        case Arith():
            found = _between(culprit.left, culprit.right, culprit.op)
        case Logic(operands=(left, right)):
            found = _between(left, right, culprit.op)
        case _:
            return None
    return found if found and _inside(found, culprit.span) else None


def _ways_out(found: Offence, *, objective: bool, written: bool) -> tuple[Help, ...]:
    """What else to ask for; `written` says that the guilty part stands in the text as it is."""
    if isinstance(found.culprit, Logic):
        return (Help("state what must hold in any case"),)
    if found.kind == "ratio":
        return (Help("bound it with `require` and minimize a score"),)
    if found.kind != "product" or len(found.parts) != 2:
        return ()
    a, b = (part.span.text for part in found.parts)
    if all(isinstance(part, ScoreTotal) for part in found.parts) and objective:
        bound = f"`require @{b.replace('_', '-')} {b} <= 0.020` and `minimize {a}`"
        total = f"{a} + 0.5 * {b}"
        fix = Fix((Edit(found.culprit.span, total),), Safety.DISPLAY) if written else None
        return (Help(f"bound one: {bound}"), Help(f"or weigh them: `{total}`", fix))
    return (Help("bound them one by one"),)


# ---- strict comparisons ----------------------------------------------------------------------

_LOOSE = {"<": "<=", ">": ">="}


def _no_strict(check: Check, found: Expr) -> bool:
    """Whether no comparison of measured values is strict (E0505).

    Sizes and counts are exact, so `<` has a meaning for them; inside a fold, it is a question to
    one layer. `!=` is not linear in the choices, which is told elsewhere.
    """
    if isinstance(found, Logic):
        return all([_no_strict(check, operand) for operand in found.operands])
    if isinstance(found, If):
        return all([_no_strict(check, branch) for branch in (found.yes, found.no)])
    if not isinstance(found, Compare):
        return True
    good = True
    left = found.first
    for op, right in found.rest:
        if op in _LOOSE and (_measured(left) or _measured(right)):
            _strict(check, op, left, right)
            good = False
        left = right
    return good


def _measured(side: Expr) -> bool:
    """Whether a value comes from measuring the result: damage or time."""
    return any(
        isinstance(part, ScoreTotal) or (isinstance(part, Metric) and METRICS[part.name].timed)
        for part in affine.global_choices(side)
    )


def _strict(check: Check, op: str, left: Expr, right: Expr) -> None:
    place = _between(left, right, op)
    message = f"`{op}` has no meaning for measured values: it is the same as `{_LOOSE[op]}`"
    fix = Fix((Edit(place, _LOOSE[op]),), Safety.SAFE) if place else None
    helps = (Help(f"write `{_LOOSE[op]}`", fix),)
    check.error(catalog.E0505, message, place or left.span, "a strict comparison", helps=helps)


def _between(left: Expr, right: Expr, op: str) -> Span | None:
    """Where the operator between two operands stands, if they were written side by side."""
    if left.span.source is not right.span.source:
        return None
    source, start = left.span.source, left.span.end
    between = source.text[start : right.span.start]
    at = between.find(op)
    # What a function was given stands somewhere else than what it does with it.
    beside = at >= 0 and not (between[:at] + between[at + len(op) :]).strip("() \t\r\n")
    return Span(source, start + at, start + at + len(op)) if beside else None
