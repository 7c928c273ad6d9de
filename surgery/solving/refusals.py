"""What `lower.py` says when a formula cannot become rows.

In: the offending part. Out: `Stop` with E0502 or E0503.
"""

from __future__ import annotations

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Label, Stop
from surgery.expr import Arith, Logic
from surgery.source import Span

_NOTE = "the solver handles sums of choice-dependent values, each times a constant"


def not_linear(span: Span, message: str) -> Stop:
    """E0502 at the smallest part that is not linear."""
    label = Label(span, "not linear in the choices", primary=True)
    return Stop(Diagnostic(catalog.E0502, message, (label,), notes=(_NOTE,)))


def product(expr: Arith) -> Stop:
    """E0502 for a product of two values that both depend on the choices."""
    labels = (
        Label(expr.span, "product of two choice-dependent values", primary=True),
        Label(expr.left.span, "depends on the choices"),
        Label(expr.right.span, "depends on the choices"),
    )
    left, right = expr.left.span.text, expr.right.span.text
    helps = (Help(f"weigh them instead: `{left} + 0.5 * {right}`"),)
    message = "this product is not linear in the choices"
    return Stop(Diagnostic(catalog.E0502, message, labels, notes=(_NOTE,), helps=helps))


def disjunction(expr: Logic) -> Stop:
    """E0502 for a requirement of which either part would do."""
    word = "or" if expr.op == "or" else "and"
    message = "a choice between requirements is not linear in the choices"
    label = Label(expr.span, f"`{word}` makes this a choice", primary=True)
    helps = (Help("write one `require` for what must hold"),)
    return Stop(Diagnostic(catalog.E0502, message, (label,), helps=helps))


def constant_false(span: Span, values: tuple[tuple[str, str], ...] = ()) -> Stop:
    """E0503; `values` are texts of the requirement and what they come to."""
    message = "this requirement does not depend on the choices and is false"
    label = Label(span, "false", primary=True)
    helps = (Help("correct the limit, or remove the requirement"),)
    return Stop(Diagnostic(catalog.E0503, message, (label,), values=values, helps=helps))
