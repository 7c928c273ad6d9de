"""Literals, and what to say when dimensions do not agree.

In: literals, or two operands with their syntax. Out: `Number`s in base units, and E0301 with both
operands labelled and the ways out that suggest themselves; E0306 for a percentage without its `%`.
"""

from __future__ import annotations

from typing import TypeAlias

from surgery import catalog, units
from surgery.checking.scope import Check
from surgery.checking.types import in_dimension, percent
from surgery.checking.values import Entity, Failed, Value
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.expr import Expr, Fact, Metric, Number
from surgery.grammar import ast
from surgery.source import Span

Operand: TypeAlias = tuple[ast.Expr, Expr]
"""An operand as it was written, and what it means."""


def quantity(check: Check, node: ast.Quantity) -> Value:
    """A literal in base units."""
    if node.unit and node.unit not in units.UNITS:
        message = f"there is no unit `{node.unit}`"
        return check.error(catalog.E0104, message, node.span, "unknown unit")
    value = node.value
    if node.magnitude or node.unit:
        value *= units.factor(node.magnitude, node.unit)
    if not node.unit:
        return Number(node.span, value)
    unit = units.UNITS[node.unit]
    return Number(node.span, value, unit.dimension, unit.name)


def mixed(check: Check, verb: str, left: Operand, right: Operand) -> Failed:
    """E0301. What was written as a literal is more likely wrong than what was named."""
    culprit, other = (left, right) if _literal(left) and not _literal(right) else (right, left)
    labels = tuple(
        Label(node.span, f"this is {value.dimension.noun}", primary=node is culprit[0])
        for node, value in (culprit, other)
    )
    first, second = left[1].dimension.noun, right[1].dimension.noun
    if verb == "subtract":
        first, second = second, first
    message = f"cannot {verb} {first} {_JOINTS[verb]} {second}"
    helps = (*_rewritten(culprit, other), *_other_metric(other, culprit))
    check.report(Diagnostic(catalog.E0301, message, labels, helps=helps))
    return Failed(left[0].span.to(right[0].span))


_JOINTS = {
    "add": "and",
    "subtract": "from",
    "divide": "by",
    "compare": "with",
    "choose between": "and",
}


def _literal(operand: Operand) -> bool:
    return isinstance(operand[0], ast.Quantity)


def _rewritten(culprit: Operand, other: Operand) -> tuple[Help, ...]:
    """Give the literal the unit that the other operand has."""
    node, value = culprit
    if not isinstance(node, ast.Quantity) or not isinstance(value, Number):
        return ()
    text = in_dimension(value, other[1].dimension)
    if text is None:
        return ()
    return (_shown(f"write `{text}`, which is {other[1].dimension.noun}", node.span, text),)


_RELATED = {("params", units.BYTES): "weights", ("weights", units.PARAMS): "params"}


def _other_metric(named: Operand, literal: Operand) -> tuple[Help, ...]:
    """Compare another metric, one that has the dimension of the literal."""
    node, value = named
    if not isinstance(value, Metric | Fact):
        return ()
    other = _RELATED.get((value.name, literal[1].dimension))
    if other is None or not isinstance(node, ast.Name | ast.Attr):
        return ()
    span = node.span if isinstance(node, ast.Name) else node.name.span
    noun = literal[1].dimension.noun
    return (_shown(f"compare `{other}`, which is {noun}", span, other),)


def _shown(text: str, span: Span, new: str) -> Help:
    return Help(text, Fix((Edit(span, new),), Safety.DISPLAY))


def percentage(check: Check, left: tuple[ast.Expr, Value], right: tuple[ast.Expr, Value]) -> None:
    """E0306 for `92 * parent.params`: nobody wants 92 times the parent."""
    for (node, value), (other, _) in ((left, right), (right, left)):
        if not isinstance(node, ast.Quantity) or not isinstance(value, Number):
            continue
        if value.unit or node.magnitude or not 10 < value.value <= 100:
            continue
        whole = _whole(check, other)
        if whole:
            message = f"{value.span.text} times {whole} is {node.number}00% of it"
            helps = (percent(value),)
            check.error(
                catalog.E0306, message, node.span, "a percentage without its `%`", helps=helps
            )


def _whole(check: Check, node: ast.Expr) -> str | None:
    """The thing whose share is taken: a metric of the parent, or the memory of a machine."""
    if isinstance(node, ast.Call):
        node = node.func
    if not isinstance(node, ast.Attr) or not isinstance(node.value, ast.Name):
        return None
    owner = check.values.get((node.span.source.name, node.value.text))
    if not isinstance(owner, Entity):
        return None
    if owner.type == "model" or (owner.type == "machine" and node.name.text == "memory"):
        return f"`{node.value.text}.{node.name.text}`"
    return None
