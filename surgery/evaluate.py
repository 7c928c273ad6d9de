"""Exact evaluation of formulas on data: selectors, predicates, `expect`.

In: nodes of `expr.py` and a `facts.Context`. Out: `Fraction`s and truth values, layer indices,
and E0501 for an `expect` that does not hold. Everything is exact; `and`, `or` and `if` look at no
more than they need, so `attention is window and window < 1K tok` is safe on full attention.

Refuses, with `Stop`: layers that the model does not have (E0402), picks that run backwards
(E0307), expressions without a value such as a division by zero (E0308), and what `facts.py`
refuses. Not here: requirements on the result as rows (`passes/constrain.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import assert_never

from msgspec.structs import replace

from surgery import catalog, facts
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.expr import (
    Arith,
    Compare,
    Distance,
    Expr,
    Fact,
    Fold,
    If,
    Is,
    LayerFact,
    LayerSet,
    Logic,
    MachineFact,
    Metric,
    Number,
    Pick,
    ScoreTotal,
    Selector,
)
from surgery.facts import Context, parent_context, stop
from surgery.ir import Layer, Model, Requirement, Spec
from surgery.units import format_layers, format_quantity

__all__ = ["Context", "expects", "holds", "layers_of", "number", "parent_context", "sides", "value"]

_LINKS: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
}


def value(expr: Expr, context: Context) -> Fraction | bool:
    """The value of an expression in base units; a truth value where it is a test."""
    match expr:
        case Is() | Compare() | Logic():
            return _test(expr, context)
        case If():
            return value(expr.yes if holds(expr.test, context) else expr.no, context)
        case Fold():
            return _fold(expr, context)
        case Arith():
            return _arith(expr, context)
        case _:
            return _leaf(expr, context)


def _leaf(
    expr: Number | Fact | MachineFact | Metric | ScoreTotal | Distance | LayerFact,
    context: Context,
) -> Fraction:
    match expr:
        case Number():
            return expr.value
        case Fact():
            return facts.model_fact(expr, context)
        case MachineFact():
            return facts.machine_fact(expr, context)
        case Metric():
            return facts.metric(expr, context)
        case ScoreTotal():
            return facts.score_total(expr, context)
        case Distance():
            return _distance(expr, context)
        case LayerFact():
            return facts.layer_fact(expr, context)
        case _:
            assert_never(expr)


def _distance(wanted: Distance, context: Context) -> Fraction:
    """In how many layers a plan and the result are decided otherwise."""
    if context.decided is None:
        raise ValueError("a distance of something that was not decided")
    return Fraction(len({layer for layer, *_ in context.decided ^ frozenset(wanted.decided)}))


def _test(expr: Is | Compare | Logic, context: Context) -> bool:
    match expr:
        case Is():
            return facts.is_test(expr, context)
        case Compare():
            return _compare(expr, context)
        case Logic():
            return _logic(expr, context)
        case _:
            assert_never(expr)


def number(expr: Expr, context: Context) -> Fraction:
    """The value of an expression that is a number; a test here is a bug of `check`."""
    result = value(expr, context)
    if isinstance(result, bool):
        raise TypeError(f"a number is needed at {expr.span}")
    return result


def holds(expr: Expr, context: Context) -> bool:
    """Whether a test holds; a number here is a bug of `check`."""
    result = value(expr, context)
    if not isinstance(result, bool):
        raise TypeError(f"a truth value is needed at {expr.span}")
    return result


def _arith(expr: Arith, context: Context) -> Fraction:
    left, right = number(expr.left, context), number(expr.right, context)
    if expr.op in "/%" and right == 0:
        message = "this divides by zero"
        raise stop(catalog.E0308, expr.right.span, message, "this is 0")
    match expr.op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case "%":
            return left % right
        case _:
            assert_never(expr.op)


def _compare(expr: Compare, context: Context) -> bool:
    left = number(expr.first, context)
    for op, operand in expr.rest:
        right = number(operand, context)
        if not _LINKS[op](left, right):
            return False
        left = right
    return True


def _logic(expr: Logic, context: Context) -> bool:
    match expr.op:
        case "and":
            return all(holds(operand, context) for operand in expr.operands)
        case "or":
            return any(holds(operand, context) for operand in expr.operands)
        case "not":
            return not holds(expr.operands[0], context)
        case _:
            assert_never(expr.op)


# ---- layers ----------------------------------------------------------------------------------


def layers_of(
    selector: Selector, layers: tuple[Layer, ...], context: Context | None = None
) -> tuple[int, ...]:
    """The indices that a selector picks among `layers`, ascending.

    Predicates see these layers; `context` supplies what else they mention. With a sink in it, an
    empty selection is reported (W0701). Raises `Stop`: E0402, E0307.
    """
    context = Context(layers) if context is None else replace(context, layers=layers)
    chosen = _members(selector.include, context)
    for excluded in selector.excludes:
        chosen -= _members(excluded, context)
    if not chosen and context.sink is not None:
        message = "this selection has no layers"
        label = Label(selector.span, f"none of {len(layers)} layers", primary=True)
        context.sink.report(Diagnostic(catalog.W0701, message, (label,)))
    return tuple(sorted(chosen))


def _members(layer_set: LayerSet, context: Context) -> set[int]:
    layers = context.layers
    if layer_set.picks is None:
        positions = set(range(len(layers)))
    else:
        positions = {n for pick in layer_set.picks for n in _positions(pick, len(layers))}
    where = layer_set.where
    return {
        layers[n].index
        for n in sorted(positions)
        if where is None or holds(where, replace(context, layer=layers[n]))
    }


def _positions(pick: Pick, count: int) -> range:
    low, high = (n if n >= 0 else count + n for n in (pick.low, pick.high))
    for asked, resolved in ((pick.low, low), (pick.high, high)):
        if not 0 <= resolved < count:
            what = f"there is no layer {asked}" if asked >= 0 else f"there is no last({-asked})"
            here = f"{count} layers: 0..{count - 1}"
            help = f"the last layer is `layers[{count - 1}]`, or `layers[last(1)]`"
            raise stop(catalog.E0402, pick.span, what, here, help)
    if low > high:
        message = f"layers {low} to {high} run backwards"
        raise stop(catalog.E0307, pick.span, message, f"{high} comes before {low}")
    return range(low, high + 1)


def _fold(expr: Fold, context: Context) -> Fraction | bool:
    inside = _inside(expr, context)
    body = expr.body
    match expr.kind:
        case "every":
            return all(body is None or holds(body, each) for each in inside)
        case "some":
            return any(body is None or holds(body, each) for each in inside)
        case "count":
            return Fraction(sum(body is None or holds(body, each) for each in inside))
        case "sum" | "min" | "max":
            if body is None:
                raise ValueError(f"`{expr.kind}` of nothing at {expr.span}")
            return _reduce(expr, [number(body, each) for each in inside])
        case _:
            assert_never(expr.kind)


def _inside(expr: Fold, context: Context) -> tuple[Context, ...]:
    """One context per layer that the fold runs over."""
    # Counting nothing is an answer; any other fold over nothing is likely a mistake.
    quiet = replace(context, sink=None) if expr.kind in ("count", "some") else context
    indices = set(layers_of(expr.selector, context.layers, quiet))
    return tuple(replace(context, layer=n) for n in context.layers if n.index in indices)


def _reduce(expr: Fold, numbers: list[Fraction]) -> Fraction:
    if expr.kind == "sum":
        return sum(numbers, Fraction(0))
    if not numbers:
        message = f"the {expr.kind} of no layers has no value"
        raise stop(catalog.E0308, expr.span, message, "selects no layer")
    return min(numbers) if expr.kind == "min" else max(numbers)


# ---- expect ----------------------------------------------------------------------------------


def expects(spec: Spec, model: Model, sink: Sink) -> None:
    """Report every `expect` that does not hold of the parent (E0501), with both sides' values."""
    context = parent_context(spec, model, sink)
    for expect in spec.expects:
        try:
            if not holds(expect.expr, context):
                sink.report(_failed(expect, context))
        except Stop as why:
            sink.report(why.diagnostic)


def _failed(expect: Requirement, context: Context) -> Diagnostic:
    name = f"`@{expect.label}`" if expect.label else "this expectation"
    quiet = replace(context, sink=None)
    return Diagnostic(
        catalog.E0501,
        f"{name} does not hold for the model",
        (Label(expect.expr.span, "false", primary=True),),
        values=sides(expect.expr, quiet),
        notes=(expect.message,) if expect.message else (),
        helps=(Help("name the model that the spec was written for, or correct the expectation"),),
    )


def sides(expr: Expr, context: Context) -> tuple[tuple[str, str], ...]:
    """What the comparisons inside a false test compare: each side's text and value."""
    return tuple(dict.fromkeys(_sides(expr, context)))


def _sides(expr: Expr, context: Context) -> Iterator[tuple[str, str]]:
    """Text and value of what the comparisons inside a false test compare."""
    match expr:
        case Compare():
            yield from _operands(expr, context)
        case Logic():
            for operand in expr.operands:
                # Of a conjunction only what is false explains anything.
                if expr.op != "and" or not holds(operand, context):
                    yield from _sides(operand, context)
        case If():
            yield from _sides(expr.yes if holds(expr.test, context) else expr.no, context)
        case Fold(kind="every", body=body) if body is not None:
            inside = (each.layer for each in _inside(expr, context) if not holds(body, each))
            bad = [layer.index for layer in inside if layer is not None]
            yield (body.span.text, f"false in layers {format_layers(bad)}")
        case _:
            yield (expr.span.text, "false")


def _operands(expr: Compare, context: Context) -> Iterator[tuple[str, str]]:
    operands = (expr.first, *(operand for _, operand in expr.rest))
    numbers = [number(operand, context) for operand in operands]
    unit = _ratio_unit(operands)
    texts = [
        format_quantity(n, operand.dimension, unit)
        for n, operand in zip(numbers, operands, strict=True)
    ]
    if len(set(texts)) < len(set(numbers)):
        texts = [str(n) for n in numbers]
    for operand, text in zip(operands, texts, strict=True):
        written = operand.span.text
        # A literal says its own value.
        if not isinstance(operand, Number) or written.replace(" ", "") != text.replace(" ", ""):
            yield (written, text)


def _ratio_unit(operands: Iterable[Expr]) -> str:
    """The ratio unit that the user wrote; other units follow from the dimension."""
    return next((n.unit for n in operands if isinstance(n, Number) and n.unit in ("%", "x")), "")
