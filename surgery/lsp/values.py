"""What expressions and selectors are worth on the parent.

In: an analysis, a node of its tree, the parent model. Out: layers and values, exact; choices
count as not made, so metrics are those of the unmodified model and damage is 0. Refuses nothing:
what has no value on the parent is `None`.
"""

from __future__ import annotations

from fractions import Fraction

from msgspec.structs import replace

from surgery import affine, evaluate, ir, units
from surgery.checking.scope import Scope
from surgery.checking.values import is_truth
from surgery.diagnostics import Stop
from surgery.expr import Expr, Fold, Metric, Number, Selector
from surgery.facts import Context, parent_context
from surgery.lsp.analysis import Analysis


def context(analysis: Analysis, model: ir.Model) -> Context:
    """The parent as its own result."""
    spec = analysis.spec
    found = Context(model.layers, model) if spec is None else parent_context(spec, model)
    scores = {score.name: Fraction(0) for score in spec.scores} if spec is not None else {}
    return replace(found, result=found.parent, scores=scores)


def layers(analysis: Analysis, model: ir.Model, selector: Selector) -> tuple[int, ...] | None:
    """The layers that a selector picks in the parent."""
    try:
        return evaluate.layers_of(selector, model.layers, context(analysis, model))
    except Stop:
        return None


def layers_text(found: tuple[int, ...], model: ir.Model) -> str:
    """`18 of 36 layers: 1, 3-5, 35`."""
    total = len(model.layers)
    if not found:
        return f"none of {total} layers"
    if len(found) == total:
        return f"all {total} layers"
    return f"{len(found)} of {total} layers: {units.format_layers(found)}"


def value(analysis: Analysis, model: ir.Model, expr: Expr, scope: Scope) -> Fraction | bool | None:
    """The value of an expression on the parent.

    There is none inside a `fn`, whose parameters stand for anything, nor of a layer that is not
    at hand.
    """
    if scope.locals or scope.layer or not _knowable(analysis, expr):
        return None
    try:
        return evaluate.value(expr, context(analysis, model))
    except Stop:
        return None


def _knowable(analysis: Analysis, expr: Expr) -> bool:
    metrics = any(isinstance(part, Metric) for part in affine.walk(expr))
    scores = bool(affine.global_choices(expr))
    return analysis.spec is not None or not (metrics or scores)


def text(found: Fraction | bool, expr: Expr) -> str:
    """A value as it would be printed for this expression."""
    if isinstance(found, bool):
        return "true" if found else "false"
    unit = expr.unit if isinstance(expr, Number) else ""
    return units.format_quantity(found, expr.dimension, unit)


def constant(expr: Expr) -> bool:
    """Whether the expression is a number or test that says its own value."""
    return isinstance(expr, Number) or (is_truth(expr) and not isinstance(expr, Fold))
