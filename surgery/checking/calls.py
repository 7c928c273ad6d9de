"""Calls: built-in functions, metrics, and `fn`s, which are inlined.

In: an `ast.Call` and a scope. Out: the value. Reports wrong arguments (E0303 with the signature),
arguments of the wrong type (E0302), and metrics without their scenario (E0507).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from surgery import catalog
from surgery.checking.names import no_member, quoted, resolve, undefined
from surgery.checking.operands import expression
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import (
    CRITERIA,
    FUNCTIONS,
    METRICS,
    Builtin,
    Parameter,
    Signature,
)
from surgery.checking.types import Misfit, fit, whole
from surgery.checking.units import mixed
from surgery.checking.values import (
    ANY_TEXT,
    Entity,
    Failed,
    Function,
    Made,
    Namespace,
    Text,
    Value,
    at,
)
from surgery.diagnostics import Label
from surgery.expr import Compare, If, Metric, Number, Pick
from surgery.grammar import ast
from surgery.grammar.near import nearest


class MetricOf(Struct, frozen=True):
    """A metric that is being called: of the result, or of the parent."""

    name: str
    parent: bool


_Callee: TypeAlias = Builtin | Function | MetricOf | Failed


def call(check: Check, node: ast.Call, scope: Scope) -> Value:
    """What a call returns."""
    callee = _callee(check, node, scope)
    if isinstance(callee, Failed):
        # The arguments may hold mistakes of their own.
        for arg in node.args:
            check.value(arg.value, scope)
        return Failed(node.span)
    match callee:
        case Builtin():
            given = _bind(check, node, scope, callee.signature)
            return Failed(node.span) if given is None else _built_in(check, node, callee, given)
        case MetricOf():
            return _metric(check, node, scope, callee)
        case Function():
            return _inlined(check, node, scope, callee)


# ---- what is called --------------------------------------------------------------------------


def _callee(check: Check, node: ast.Call, scope: Scope) -> _Callee:
    func = node.func
    if isinstance(func, ast.Name):
        found = _called_name(check, func, scope)
    elif isinstance(func, ast.Attr):
        found = _called_member(check, func, scope)
    else:
        found = None
    return found or _function(check, func, check.value(func, scope))


def _called_name(check: Check, func: ast.Name, scope: Scope) -> _Callee | None:
    """A built-in function or metric, unless the spec means something else by its name.

    An import may share the name of a metric (`kv`), because only one of them can be called.
    """
    name = func.text
    item = scope.module.items.get(name)
    if name in scope.locals or not (item is None or isinstance(item, ast.Import)):
        return None
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if name in METRICS:
        return MetricOf(name, parent=False)
    return _no_function(check, func, scope) if item is None else None


def _called_member(check: Check, func: ast.Attr, scope: Scope) -> _Callee | None:
    """A metric of the model, or a function of an imported file."""
    match check.value(func.value, scope):
        case Failed() as failed:
            return failed
        case Namespace() as namespace:
            return _imported(check, namespace, func)
        case Entity(type="model", name=name):
            if func.name.text in METRICS:
                return MetricOf(func.name.text, parent=True)
            return no_member(check, f"the model `{name}`", func.name, METRICS)
        case _:
            return None


def _imported(check: Check, owner: Namespace, func: ast.Attr) -> _Callee:
    items = owner.module.items
    if func.name.text in owner.module.lost:
        return Failed(func.span)
    if func.name.text not in items:
        names = [key for key, each in items.items() if not isinstance(each, ast.Import)]
        return no_member(check, f"`{owner.name}`", func.name, names)
    return _function(check, func, resolve(check, owner.module, func.name.text, func.span))


def _no_function(check: Check, func: ast.Name, scope: Scope) -> Failed:
    if func.text in scope.module.lost:
        return Failed(func.span)
    return undefined(check, func.text, func.span, scope, (*FUNCTIONS, *METRICS))


def _function(check: Check, node: ast.Expr, value: Value) -> _Callee:
    if isinstance(value, Function | Failed):
        return value
    message = f"`{node.span.text}` is no function"
    return check.error(catalog.E0303, message, node.span, "cannot be called")


# ---- arguments -------------------------------------------------------------------------------


def _bind(
    check: Check, node: ast.Call, scope: Scope, signature: Signature
) -> dict[str, Value] | None:
    """Arguments by parameter, each of the right type, or `None` after a report."""
    name, params = signature.name, signature.params
    given = _assigned(check, node, signature)
    if given is None:
        return None
    values = {p.name: _argument(check, given[p.name], scope, name, p) for p in params}
    if any(isinstance(value, Failed) for value in values.values()):
        return None
    return values


def _assigned(check: Check, node: ast.Call, signature: Signature) -> dict[str, ast.Arg] | None:
    """Which argument goes to which parameter, or `None` after a report."""
    name, params = signature.name, signature.params
    notes = (f"its signature is `{signature}`",)
    given: dict[str, ast.Arg] = {}
    free = [p.name for p in params]
    for arg in node.args:
        key = arg.name.text if arg.name else next((n for n in free if n not in given), None)
        span = arg.name.span if arg.name else arg.span
        if key is None:
            takes = f"{len(params)} argument{'s' if len(params) != 1 else ''}"
            message = f"`{name}` takes {takes}, and {len(node.args)} are given"
            check.error(catalog.E0303, message, span, "one too many", notes=notes)
            return None
        if key not in free:
            message = f"`{name}` has no parameter `{key}`"
            check.error(catalog.E0303, message, span, "unknown parameter", notes=notes)
            return None
        if key in given:
            also = Label(given[key].span, "first given here")
            message = f"`{name}` is given `{key}` twice"
            check.error(catalog.E0303, message, span, "given again", also, notes=notes)
            return None
        given[key] = arg
    missing = [n for n in free if n not in given]
    if missing:
        message = f"`{name}` needs {quoted(missing)}"
        check.error(catalog.E0303, message, node.span, "too few arguments", notes=notes)
        return None
    return given


def _argument(check: Check, arg: ast.Arg, scope: Scope, name: str, param: Parameter) -> Value:
    value = check.value(arg.value, scope)
    found = fit(value, param.type)
    if isinstance(found, Misfit):
        message = f"`{param.name}` of `{name}` {found.problem}"
        return check.error(found.code, message, value.span, found.label, helps=found.helps)
    return found


# ---- results ---------------------------------------------------------------------------------


def _built_in(check: Check, node: ast.Call, builtin: Builtin, given: Mapping[str, Value]) -> Value:
    match builtin.name:
        case "last":
            return _last(check, node, given["n"])
        case "min" | "max":
            return _extreme(check, node, builtin.name, given)
        case name if name in CRITERIA:
            first = given[builtin.params[0].name]
            if isinstance(first, Text) and first.text not in (*CRITERIA[name], ANY_TEXT):
                return _no_criterion(check, name, builtin.params[0].name, first)
        case _:
            pass
    return Made(node.span, builtin.result, builtin.name, tuple(given.items()))


def _no_criterion(check: Check, function: str, parameter: str, given: Text) -> Failed:
    known = CRITERIA[function]
    message = f"`{function}` has no {parameter} `{given.text}`"
    similar = nearest(given.text, known)
    note = f"it has {quoted(known)}"
    label = "a similar one exists" if similar else "unknown"
    return check.error(catalog.E0201, message, given.span, label, notes=(note,))


def _last(check: Check, node: ast.Call, count: Value) -> Value:
    if not isinstance(count, Number) or count.value < 1:
        message = "`last` counts layers from the end: it needs a whole number of at least 1"
        return check.error(catalog.E0309, message, count.span, "not a count of layers")
    return Pick(node.span, -whole(count), -1)


def _extreme(check: Check, node: ast.Call, name: str, given: Mapping[str, Value]) -> Value:
    a, b = (expression(value) for value in given.values())
    if a.dimension != b.dimension:
        first, second = (arg.value for arg in node.args)
        return mixed(check, "compare", (first, a), (second, b))
    if isinstance(a, Number) and isinstance(b, Number):
        smaller, larger = (a, b) if a.value <= b.value else (b, a)
        return at(smaller if name == "min" else larger, node.span)
    op = "<=" if name == "min" else ">="
    return If(node.span, Compare(node.span, a, ((op, b),)), a, b, a.dimension)


def _metric(check: Check, node: ast.Call, scope: Scope, metric: MetricOf) -> Value:
    rule = METRICS[metric.name]
    if not rule.takes:
        message = f"`{metric.name}` takes no arguments"
        span = node.args[0].span if node.args else node.span
        return check.error(catalog.E0303, message, span, "not needed")
    parameter = Parameter("length" if rule.takes == "tok" else "s", rule.takes)
    result = {"kv": "bytes", "memory": "bytes", "throughput": "tok/s"}.get(metric.name, "time")
    signature = Signature(metric.name, (parameter,), result)
    if not node.args and rule.takes == "scenario":
        message = f"`{metric.name}` needs a scenario"
        notes = (f"its signature is `{signature}`",)
        return check.error(catalog.E0507, message, node.span, "in which one", notes=notes)
    given = _bind(check, node, scope, signature)
    if given is None:
        return Failed(node.span)
    value = given[parameter.name]
    if isinstance(value, Entity):
        return Metric(node.span, metric.name, rule.dimension, value.name, None, metric.parent)
    if not isinstance(value, Number) or value.value < 1:
        message = f"`{metric.name}` needs a length that is known now, of at least 1 tok"
        return check.error(catalog.E0309, message, value.span, "not such a length")
    return Metric(node.span, metric.name, rule.dimension, None, value.value, metric.parent)


def _inlined(check: Check, node: ast.Call, scope: Scope, function: Function) -> Value:
    item = function.item
    params = tuple(Parameter(p.name.text, p.type.text) for p in item.params)
    given = _bind(check, node, scope, Signature(item.name.text, params, item.result.text))
    if given is None:
        return Failed(node.span)
    value = check.value(item.body, Scope(function.module, given))
    found = fit(value, item.result.text)
    return Failed(node.span) if isinstance(found, Misfit | Failed) else at(found, node.span)
