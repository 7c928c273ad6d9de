"""Syntax -> values: what an expression means, with its dimension.

In: an `ast.Expr` and a scope. Out: a `Value`; `Failed` where a mistake was reported, and silence
from whatever contains it. Literals are folded to exact base units, arithmetic on constants is
done, `let`, `fn` and `input` are inlined. Reports mixed dimensions (E0301) and divisions by zero
(E0308); the parts that it delegates to report theirs.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import assert_never

from msgspec.structs import replace

from surgery import catalog
from surgery.checking import calls, layers, names, units
from surgery.checking.operands import as_number, condition, expression, number
from surgery.checking.scope import Check, Scope
from surgery.checking.types import fit, is_condition
from surgery.checking.values import Entity, Failed, Items, Text, Value
from surgery.expr import Arith, Compare, Expr, If, Logic, Number
from surgery.grammar import ast
from surgery.ir import Machine
from surgery.source import Span
from surgery.units import NUMBER, Dimension

_MAX_BITS = 4096
"""Longest exact constant: beyond it, arithmetic on constants is a way to hang."""


def elaborate(check: Check, node: ast.Expr, scope: Scope) -> Value:
    """What an expression means."""
    names.spend(check, 1, node.span)
    match node:
        # The most frequent kinds first: this is the inner loop of an editor.
        case ast.Name() | ast.Attr() | ast.Call() | ast.Index():
            value = _reference(check, node, scope)
        case ast.Quantity() | ast.Str() | ast.ListExpr() | ast.Range():
            value = _literal(check, node, scope)
        case ast.Neg() | ast.Binary():
            value = _arithmetic(check, node, scope)
        case ast.Compare():
            value = _compare(check, node, scope)
        case ast.And() | ast.Or() | ast.Not():
            value = _logic(check, node, scope)
        case ast.If():
            value = _if(check, node, scope)
        case ast.Is():
            value = layers.is_test(check, node, scope)
        case ast.Fold():
            value = layers.fold(check, node, scope)
        case _:
            assert_never(node)
    return value


def _literal(
    check: Check, node: ast.Quantity | ast.Str | ast.ListExpr | ast.Range, scope: Scope
) -> Value:
    match node:
        case ast.Quantity():
            return units.quantity(check, node)
        case ast.Str():
            return Text(node.span, node.value)
        case ast.ListExpr():
            return Items(node.span, tuple(check.value(item, scope) for item in node.items))
        case ast.Range():
            return layers.layer_range(check, node)


def _reference(
    check: Check, node: ast.Name | ast.Attr | ast.Call | ast.Index, scope: Scope
) -> Value:
    match node:
        case ast.Name():
            return names.named(check, node, scope)
        case ast.Attr():
            owner = check.value(node.value, scope)
            return names.member(check, owner, node.name, node.span, scope.module)
        case ast.Call():
            return calls.call(check, node, scope)
        case ast.Index():
            message = f"`{node.value.span.text}` cannot be indexed"
            return check.error(catalog.E0302, message, node.span, "only `layers` takes `[...]`")


# ---- operators -------------------------------------------------------------------------------


def _arithmetic(check: Check, node: ast.Neg | ast.Binary, scope: Scope) -> Value:
    if isinstance(node, ast.Neg):
        return _negative(check, node, scope)
    return _binary(check, node, scope)


def _negative(check: Check, node: ast.Neg, scope: Scope) -> Value:
    value = number(check, node.operand, scope)
    if value is None:
        return Failed(node.span)
    if isinstance(value, Number):
        return replace(value, span=node.span, value=-value.value)
    zero = Number(node.span, Fraction(0), value.dimension)
    return Arith(node.span, "-", zero, value, value.dimension)


def _binary(check: Check, node: ast.Binary, scope: Scope) -> Value:
    left, right = check.value(node.left, scope), check.value(node.right, scope)
    if node.op == "*" and (machine := _several(check, left, right, node.span)):
        return machine
    a, b = as_number(check, left), as_number(check, right)
    if a is None or b is None:
        return Failed(node.span)
    if node.op in ("+", "-", "%"):
        if a.dimension != b.dimension:
            verb = {"+": "add", "-": "subtract", "%": "divide"}[node.op]
            return units.mixed(check, verb, (node.left, a), (node.right, b))
        dimension = a.dimension
    else:
        dimension = a.dimension * b.dimension if node.op == "*" else a.dimension / b.dimension
    if node.op == "*":
        units.percentage(check, (node.left, left), (node.right, right))
    return _arith(check, node, a, b, dimension)


def _several(check: Check, left: Value, right: Value, span: Span) -> Value | None:
    """`8 * machine`: as many GPUs."""
    if isinstance(left, Entity) and isinstance(left.decl, Machine):
        left, right = right, left
    if not isinstance(right, Entity) or not isinstance(right.decl, Machine):
        return None
    count = fit(left, "count")
    if isinstance(count, Failed):
        return Failed(span)
    if isinstance(count, Number) and count.value >= 1:
        gpus = right.decl.gpus * int(count.value)
        return replace(right, span=span, name="", decl=replace(right.decl, gpus=gpus))
    message = f"a machine cannot have `{left.span.text}` times the GPUs of another"
    return check.error(catalog.E0309, message, left.span, "wants a whole number, at least 1")


def _arith(check: Check, node: ast.Binary, a: Expr, b: Expr, dimension: Dimension) -> Value:
    if node.op in ("/", "%") and isinstance(b, Number) and b.value == 0:
        message = f"`{node.left.span.text}` is divided by zero"
        return check.error(catalog.E0308, message, b.span, "this is 0")
    if not isinstance(a, Number) or not isinstance(b, Number):
        return Arith(node.span, node.op, a, b, dimension)
    value = _folded(node.op, a.value, b.value)
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        message = "this constant has more digits than any sensible number"
        return check.error(catalog.E0110, message, node.span, "too large")
    same = [operand.unit for operand in (a, b) if operand.dimension == dimension and operand.unit]
    return Number(node.span, value, dimension, same[0] if same else "")


def _folded(op: ast.BinaryOp, a: Fraction, b: Fraction) -> Fraction:
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b
        case "%":
            return a % b


def _compare(check: Check, node: ast.Compare, scope: Scope) -> Value:
    nodes = (node.first, *(link.value for link in node.rest))
    sides = [number(check, each, scope) for each in nodes]
    good = [side for side in sides if side is not None]
    if len(good) < len(sides):
        return Failed(node.span)
    pairs = list(zip(nodes, good, strict=True))
    for left, right in pairwise(pairs):
        if left[1].dimension != right[1].dimension:
            return units.mixed(check, "compare", left, right)
    links = tuple((link.op, side) for link, side in zip(node.rest, good[1:], strict=True))
    return Compare(node.span, good[0], links)


def _logic(check: Check, node: ast.And | ast.Or | ast.Not, scope: Scope) -> Value:
    match node:
        case ast.Not(operand=operand):
            op, parts = "not", (operand,)
        case ast.And():
            op, parts = "and", _flat(node, ast.And)
        case ast.Or():
            op, parts = "or", _flat(node, ast.Or)
    found = [condition(check, part, scope, f"`{op}`") for part in parts]
    good = tuple(part for part in found if part is not None)
    if len(good) < len(found):
        return Failed(node.span)
    return Logic(node.span, op, good)


def _flat(node: ast.Expr, kind: type[ast.And] | type[ast.Or]) -> tuple[ast.Expr, ...]:
    """The operands of a chain of one operator, in order."""
    if isinstance(node, kind):
        return (*_flat(node.left, kind), *_flat(node.right, kind))
    return (node,)


def _if(check: Check, node: ast.If, scope: Scope) -> Value:
    test = condition(check, node.condition, scope, "`if`")
    then, otherwise = check.value(node.then, scope), check.value(node.otherwise, scope)
    if test is None or isinstance(then, Failed) or isinstance(otherwise, Failed):
        return Failed(node.span)
    if is_condition(then) and is_condition(otherwise):
        yes, no = expression(then), expression(otherwise)
        return If(node.span, test, yes, no, NUMBER)
    yes, no = as_number(check, then), as_number(check, otherwise)
    if yes is None or no is None:
        return Failed(node.span)
    if yes.dimension != no.dimension:
        return units.mixed(check, "choose between", (node.then, yes), (node.otherwise, no))
    return If(node.span, test, yes, no, yes.dimension)
