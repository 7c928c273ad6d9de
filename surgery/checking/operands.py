"""Operands: values where a number or a condition is needed.

In: an `ast.Expr` and a scope, or a value. Out: a typed expression, or `None` after a report:
E0302 for what is no number, E0304 for what is no condition.
"""

from __future__ import annotations

from typing import cast

from surgery import catalog
from surgery.checking.scope import Check, Scope
from surgery.checking.types import Misfit, fit, is_condition
from surgery.checking.values import Failed, Value, noun
from surgery.expr import Expr
from surgery.grammar import ast


def expression(value: Value) -> Expr:
    """A value that was found to be a number or a condition."""
    return cast("Expr", value)


def number(check: Check, node: ast.Expr, scope: Scope) -> Expr | None:
    """An operand that must be a number; `None` when it is not, which has been reported."""
    return as_number(check, check.value(node, scope))


def as_number(check: Check, value: Value) -> Expr | None:
    """A value as a number: a score stands for its total."""
    found = fit(value, "number")
    if isinstance(found, Misfit):
        message = f"{noun(value)} cannot be used as a number"
        check.error(catalog.E0302, message, value.span, "a number is needed here")
        return None
    return None if isinstance(found, Failed) else expression(found)


def condition(check: Check, node: ast.Expr, scope: Scope, where: str) -> Expr | None:
    """An operand that must be a condition; `where` says what needs it."""
    value = check.value(node, scope)
    if isinstance(value, Failed):
        return None
    if is_condition(value):
        return expression(value)
    message = f"{where} needs a condition, not {noun(value)}"
    note = "a comparison such as `a <= b` is a condition, and so is a test such as `a is b`"
    check.error(catalog.E0304, message, value.span, "neither true nor false", notes=(note,))
    return None
