"""W0702 selection-covers-everything: a `where` that holds whatever the model is.

Here are conditions that need no model to be judged, such as `index >= 0`. Those that only happen
to hold in every layer of this parent are in `covering_selection.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TypeAlias

from surgery import affine, catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.expr import Arith, Compare, Expr, Fold, LayerFact, LayerSet, Logic, Number
from surgery.grammar import ast
from surgery.ir import Spec
from surgery.rules import places
from surgery.rules.rule import Rule, Subject
from surgery.source import Span


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every `where` of this file that is always true."""
    if subject.spec is None:
        return
    true = {
        (layers.span.source.name, layers.span.start)
        for layers in _layer_sets(subject.spec)
        if layers.where is not None and always(layers.where)
    }
    for item in subject.tree.items if true else ():
        for node in ast.walk(item):
            if not isinstance(node, ast.LayerSet) or node.where is None:
                continue
            if (node.span.source.name, node.span.start) in true:
                yield _covers_everything(node, node.where)


def _covers_everything(node: ast.LayerSet, where: ast.Expr) -> Diagnostic:
    label = Label(where.span, "always true", primary=True)
    fix = Fix((Edit(clause(node), ""),), Safety.SAFE)
    message = "this `where` is true of every layer of every model"
    helps = (Help("remove the condition", fix),)
    return Diagnostic(catalog.W0702, message, (label,), helps=helps)


def clause(node: ast.LayerSet) -> Span:
    """The `where` and its condition, with the blanks before; raises `ValueError` without one."""
    if node.where is None:
        raise ValueError(f"no `where` at {node.span}")
    return places.clause("where", node.where, node.span.start)


def _layer_sets(spec: Spec) -> Iterator[LayerSet]:
    exprs = [each.expr for each in (*spec.expects, *spec.requirements)]
    selectors = [offer.selector for offer in (*spec.choices, *spec.facets) if offer.selector]
    selectors += [
        part.selector
        for root in (*selectors, *exprs, spec.objective.expr)
        for part in affine.walk(root)
        if isinstance(part, Fold)
    ]
    for selector in selectors:
        yield from (selector.include, *selector.excludes)


# ---- what is certain -------------------------------------------------------------------------


def always(expr: Expr) -> bool:
    """Whether a condition on layers holds in every layer of every model."""
    return _verdict(expr) is True


def _verdict(expr: Expr) -> bool | None:
    match expr:
        case Logic(op="not", operands=(inner,)):
            known = _verdict(inner)
            return None if known is None else not known
        case Logic(op=op):
            decisive = op == "or"
            verdicts = [_verdict(each) for each in expr.operands]
            if decisive in verdicts:
                return decisive
            return None if None in verdicts else not decisive
        case Compare():
            return _compare(expr)
        case _:
            return None


def _compare(expr: Compare) -> bool | None:
    left, verdicts = expr.first, list[bool | None]()
    for op, right in expr.rest:
        verdicts.append(_link(op, _bounds(left), _bounds(right)))
        left = right
    if False in verdicts:
        return False
    return None if None in verdicts else True


_Bounds: TypeAlias = "tuple[Fraction, Fraction | None] | None"
"""Least and greatest value; `None` where nothing is known, or for no greatest."""


def _link(op: str, left: _Bounds, right: _Bounds) -> bool | None:
    """Whether `left op right` holds for all values, for none (`False`), or that is open."""
    if left is None or right is None:
        return None
    below = _at_most(left, right)
    above = _at_most(right, left)
    match op:
        case "<=":
            return True if below else False if _under(right, left) else None
        case ">=":
            return True if above else False if _under(left, right) else None
        case "<":
            return True if _under(left, right) else False if above else None
        case ">":
            return True if _under(right, left) else False if below else None
        case _:
            apart = _under(left, right) or _under(right, left)
            equal = True if below and above else False if apart else None
            return equal if op == "==" or equal is None else not equal


def _at_most(a: tuple[Fraction, Fraction | None], b: tuple[Fraction, Fraction | None]) -> bool:
    return a[1] is not None and a[1] <= b[0]


def _under(a: tuple[Fraction, Fraction | None], b: tuple[Fraction, Fraction | None]) -> bool:
    return a[1] is not None and a[1] < b[0]


def _bounds(expr: Expr) -> _Bounds:
    match expr:
        case Number(value=value):
            return value, value
        case LayerFact(name="index") | Arith(op="%", left=LayerFact(name="index")):
            return Fraction(0), None
        case _:
            return None


RULE = Rule(catalog.W0702, check)
