"""Which expressions a linear solver can take: constant, linear, ratio or other.

In: typed expressions of `require` and the objective, as `surgery/checking/` made them. Out: their
`Affinity`, and for what no row can express the smallest guilty subexpression (E0502). The rules
follow disciplined convex programming: a sum of linear parts is linear, a product has at most one
factor that depends on the choices, a quotient by something linear is a ratio, which may stand on
one side of a comparison with a constant. Not here: messages (`checking/wishes.py`) or rows
(`passes/constrain.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import assert_never, cast, get_args

from msgspec import Struct

from surgery import expr as ir
from surgery.expr import Expr

RATIOS = frozenset({"throughput", "requests"})
"""Metrics that divide by a time; every other metric is a sum over the chosen blocks."""

_EXPRS = frozenset(get_args(Expr))
_LEAVES = frozenset(
    (
        ir.Number,
        ir.Fact,
        ir.MachineFact,
        ir.Metric,
        ir.ScoreTotal,
        ir.Distance,
        ir.LayerFact,
        ir.Is,
    )
)
_HOLDERS = frozenset((tuple, ir.Selector, ir.LayerSet))
"""What is no expression and may contain some."""
_PLAIN = ("span", "dimension", "op", "kind")
"""Fields that contain no expression."""


class Affinity(Enum):
    """How an expression depends on the choices."""

    CONSTANT = "constant"
    LINEAR = "linear"
    RATIO = "ratio"
    OTHER = "other"


class Offence(Struct, frozen=True):
    """The smallest part of an expression that no linear row can express.

    `parts` are the operands that depend on the choices; `reason` completes "this ... is not
    linear in the choices", `label` says what is wrong at `culprit`.
    """

    culprit: Expr
    kind: str
    label: str
    parts: tuple[Expr, ...] = ()


def classify(expr: Expr) -> Affinity:
    """How an expression depends on the choices; truth values count as linear when rows can say so.

    Folds are taken to range over the result, as they do in `require`.
    """
    return _visit(expr)[0]


def offence(expr: Expr) -> Offence | None:
    """The smallest guilty part of an expression of affinity `OTHER`, else `None`."""
    return _visit(expr)[1]


def children(node: object) -> Iterator[Expr]:
    """The expressions directly inside an expression, a selector or a tuple of these."""
    return iter(_inside(node))


def _inside(node: object) -> list[Expr]:
    if type(node) is tuple:
        parts = cast("tuple[object, ...]", node)
    else:
        parts = [cast("object", getattr(node, name)) for name in _fields(type(node))]
    found: list[Expr] = []
    for part in parts:
        kind = type(part)
        if kind in _EXPRS:
            found.append(cast("Expr", part))
        elif kind in _HOLDERS:
            found += _inside(part)
    return found


@functools.cache
def _fields(kind: type[object]) -> tuple[str, ...]:
    """The fields of a type of `expr.py` that can contain an expression."""
    if kind in _LEAVES or kind not in (*_EXPRS, *_HOLDERS):
        return ()
    names = cast("type[Struct]", kind).__struct_fields__
    return tuple(name for name in names if name not in _PLAIN)


def walk(node: object) -> Iterator[Expr]:
    """Every expression inside an expression or selector, each before its parts."""
    waiting = [cast("Expr", node)] if type(node) in _EXPRS else _inside(node)[::-1]
    while waiting:
        part = waiting.pop()
        yield part
        if type(part) not in _LEAVES:
            inside = _inside(part)
            inside.reverse()
            waiting += inside


def global_choices(node: object) -> tuple[Expr, ...]:
    """The parts that depend on the choices of the whole model: metrics, scores, distances."""
    return tuple(
        part
        for part in walk(node)
        if isinstance(part, ir.ScoreTotal | ir.Distance)
        or (isinstance(part, ir.Metric) and not part.parent)
    )


# ---- the visitor -----------------------------------------------------------------------------

_Result = tuple[Affinity, Offence | None]

_CONSTANT: _Result = (Affinity.CONSTANT, None)
_LINEAR: _Result = (Affinity.LINEAR, None)


def _visit(expr: Expr, wanted: bool = True) -> _Result:
    """Affinity and offence; `wanted` says whether a condition shall hold or shall not."""
    match expr:
        case ir.Arith():
            found = _arith(expr)
        case ir.Compare():
            found = _compare(expr, wanted)
        case ir.Logic():
            found = _logic(expr, wanted)
        case ir.If():
            found = _if(expr, wanted)
        case ir.Fold():
            found = _fold(expr)
        case _:
            found = _leaf(expr), None
    return found


def _leaf(
    leaf: ir.Number
    | ir.Fact
    | ir.MachineFact
    | ir.Metric
    | ir.ScoreTotal
    | ir.Distance
    | ir.LayerFact
    | ir.Is,
) -> Affinity:
    match leaf:
        case ir.Number() | ir.Fact() | ir.MachineFact() | ir.Metric(parent=True):
            return Affinity.CONSTANT
        case ir.LayerFact(name="index") | ir.Is(site="layer"):
            return Affinity.CONSTANT
        case ir.Metric(name=name) if name in RATIOS:
            return Affinity.RATIO
        case ir.Metric() | ir.ScoreTotal() | ir.Distance() | ir.LayerFact() | ir.Is():
            return Affinity.LINEAR
        case _:
            assert_never(leaf)


def _other(culprit: Expr, kind: str, label: str, *parts: Expr) -> _Result:
    return Affinity.OTHER, Offence(culprit, kind, label, parts)


def _worst(results: tuple[_Result, ...]) -> _Result | None:
    """The first result that is an offence already: it lies deeper, so it is smaller."""
    return next((r for r in results if r[0] is Affinity.OTHER), None)


def _arith(expr: ir.Arith) -> _Result:
    left, right = _visit(expr.left), _visit(expr.right)
    if guilty := _worst((left, right)):
        return guilty
    a, b = left[0], right[0]
    if a is Affinity.CONSTANT and b is Affinity.CONSTANT:
        return _CONSTANT
    both = (expr.left, expr.right)
    varying = tuple(
        part for part, kind in zip(both, (a, b), strict=True) if kind is not Affinity.CONSTANT
    )
    kind = _combined(expr.op, a, b)
    if kind is Affinity.OTHER:
        return _other(expr, *_REASONS[expr.op], *varying)
    return kind, None


_REASONS = {
    "+": ("sum", "adds a ratio to a choice-dependent value"),
    "-": ("difference", "subtracts a ratio and a choice-dependent value"),
    "*": ("product", "product of two choice-dependent values"),
    "/": ("quotient", "divides a ratio by a choice-dependent value"),
    "%": ("remainder", "remainder of a choice-dependent value"),
}


def _combined(op: str, a: Affinity, b: Affinity) -> Affinity:
    """The affinity of `a op b` where at least one of them depends on the choices."""
    one = Affinity.CONSTANT in (a, b)
    ratio = Affinity.RATIO in (a, b)
    if op in ("+", "-") and (one or not ratio):
        return Affinity.RATIO if ratio else Affinity.LINEAR
    if op == "*" and one:
        return b if a is Affinity.CONSTANT else a
    if op == "/" and b is Affinity.CONSTANT:
        return a
    if op == "/" and (one or not ratio):
        return Affinity.RATIO
    return Affinity.OTHER


def _compare(expr: ir.Compare, wanted: bool) -> _Result:
    sides = (expr.first, *(side for _, side in expr.rest))
    if len(sides) == 2 and _extreme(*sides):
        return _LINEAR
    results = tuple(_visit(side) for side in sides)
    if guilty := _worst(results):
        return guilty
    kinds = [kind for kind, _ in results]
    if all(kind is Affinity.CONSTANT for kind in kinds):
        return _CONSTANT
    for i, (a, b) in enumerate(pairwise(kinds)):
        if Affinity.RATIO in (a, b) and Affinity.CONSTANT not in (a, b):
            label = "compares a ratio with a choice-dependent value"
            return _other(expr, "comparison", label, sides[i], sides[i + 1])
    label = _either_or(expr, wanted)
    return _other(expr, "comparison", label) if label else _LINEAR


def _either_or(expr: ir.Compare, wanted: bool) -> str:
    """Why a comparison, or its denial, says that one row or another must hold."""
    if any(op == ("!=" if wanted else "==") for op, _ in expr.rest):
        return "to differ is to be less or to be more"
    if not wanted and len(expr.rest) > 1:
        return "to deny a chain is to deny one link or another"
    return ""


def _extreme(left: Expr, right: Expr) -> bool:
    """Whether this compares the least or greatest of a fold with a constant: rows can say that."""
    fold, limit = (left, right) if isinstance(left, ir.Fold) else (right, left)
    if not isinstance(fold, ir.Fold) or fold.kind not in ("min", "max"):
        return False
    return _visit(limit)[0] is Affinity.CONSTANT and _body(fold) is None


def _logic(expr: ir.Logic, wanted: bool) -> _Result:
    inner = wanted if expr.op != "not" else not wanted
    results = tuple(_visit(operand, inner) for operand in expr.operands)
    if guilty := _worst(results):
        return guilty
    varying = tuple(
        operand
        for operand, (kind, _) in zip(expr.operands, results, strict=True)
        if kind is not Affinity.CONSTANT
    )
    if not varying:
        return _CONSTANT
    # Known conditions drop out; of the others all must hold at once.
    if len(varying) == 1 or (expr.op == "and") is wanted:
        return _LINEAR
    return _other(expr, f"`{expr.op}`", "one or the other would do", *varying)


def _if(expr: ir.If, wanted: bool) -> _Result:
    test, yes, no = _visit(expr.test), _visit(expr.yes, wanted), _visit(expr.no, wanted)
    if guilty := _worst((test, yes, no)):
        return guilty
    if test[0] is not Affinity.CONSTANT:
        return _other(expr, "`if`", "the condition depends on the choices", expr.test)
    for kind in (Affinity.RATIO, Affinity.LINEAR):
        if kind in (yes[0], no[0]):
            return kind, None
    return _CONSTANT


def _fold(expr: ir.Fold) -> _Result:
    if guilty := _body(expr):
        return guilty
    inside = tuple(walk((expr.selector, expr.body)))
    if not any(
        isinstance(part, ir.LayerFact | ir.Is) and _visit(part)[0] is Affinity.LINEAR
        for part in inside
    ):
        return _CONSTANT
    if expr.kind in ("min", "max"):
        label = f"the {expr.kind} of the layers can only be compared with a constant"
        return _other(expr, f"`{expr.kind}`", label)
    return _LINEAR


def _body(expr: ir.Fold) -> _Result | None:
    """The offence of a fold that looks past the layer at hand."""
    beyond = global_choices((expr.selector, expr.body))
    if not beyond:
        return None
    label = "what is asked of a layer cannot depend on the whole model"
    return _other(expr, f"`{expr.kind}`", label, *beyond)
