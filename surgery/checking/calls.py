"""Calls: built-in functions, metrics, and `fn`s, which are inlined.

In: an `ast.Call` and a scope. Out: the value. Reports wrong arguments (E0303 with the signature),
arguments of the wrong type (E0302), and metrics without their scenario (E0507).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from surgery import catalog
from surgery.checking import plans
from surgery.checking.names import needs_scenario, no_member, quoted, resolve, undefined
from surgery.checking.operands import expression
from surgery.checking.repairs import of_type, one_of, only, removing, replacing
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
    noun,
)
from surgery.diagnostics import Help, Label
from surgery.expr import Compare, If, Metric, Number, Pick
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.source import Span


class MetricOf(Struct, frozen=True):
    """A metric that is being called: of the result, or of the parent."""

    name: str
    parent: bool


_RESULTS = {
    "kv": "bytes",
    "memory": "bytes",
    "throughput": "tok/s",
    "requests": "req/s",
    "cost": "number",
    "energy": "J/tok",
}
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
            return (
                Failed(node.span) if given is None else _built_in(check, node, scope, callee, given)
            )
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
            label = "no metric of a model"
            return no_member(check, f"the model `{name}`", func.name, METRICS, label)
        case _:
            return None


def _imported(check: Check, owner: Namespace, func: ast.Attr) -> _Callee:
    items = owner.module.items
    if func.name.text in owner.module.lost:
        return Failed(func.span)
    if func.name.text not in items:
        names = [key for key, each in items.items() if not isinstance(each, ast.Import)]
        label = f"not defined in `{owner.module.source.name}`"
        return no_member(check, f"`{owner.name}`", func.name, names, label)
    return _function(check, func, resolve(check, owner.module, func.name.text, func.span))


def _no_function(check: Check, func: ast.Name, scope: Scope) -> Failed:
    if func.text in scope.module.lost:
        return Failed(func.span)
    return undefined(check, func.text, func.span, scope, (*FUNCTIONS, *METRICS))


def _function(check: Check, node: ast.Expr, value: Value) -> _Callee:
    if isinstance(value, Function | Failed):
        return value
    message = f"`{node.span.text}` is not a function and cannot be called"
    return check.error(catalog.E0303, message, node.span, f"this is {noun(value)}")


# ---- arguments -------------------------------------------------------------------------------


def _bind(
    check: Check, node: ast.Call, scope: Scope, signature: Signature
) -> dict[str, Value] | None:
    """Arguments by parameter, each of the right type, or `None` after a report."""
    name, params = signature.name, signature.params
    given = _assigned(check, node, scope, signature)
    if given is None:
        return None
    said = {p.name: f"`{p.name}` of `{name}`" for p in params}
    if len(params) == 1:
        said = {params[0].name: f"the argument of `{name}`"}
    values = {p.name: _argument(check, given[p.name], scope, said[p.name], p) for p in params}
    if any(isinstance(value, Failed) for value in values.values()):
        return None
    return values


def _assigned(
    check: Check, node: ast.Call, scope: Scope, signature: Signature
) -> dict[str, ast.Arg] | None:
    """Which argument goes to which parameter, or `None` after a report."""
    name, params = signature.name, signature.params
    given: dict[str, ast.Arg] = {}
    free = [p.name for p in params]
    for arg in node.args:
        key = arg.name.text if arg.name else next((n for n in free if n not in given), None)
        span = arg.name.span if arg.name else arg.span
        if key is None:
            takes = f"{len(params)} argument{'s' if len(params) != 1 else ''}"
            message = f"`{name}` takes {takes}, and {len(node.args)} are given"
            helps = (_without(node, arg),)
            check.error(
                catalog.E0303, message, span, "one too many", notes=_signed(signature), helps=helps
            )
            return None
        if key not in free:
            message = f"`{name}` has no parameter `{key}`"
            helps = one_of(span, nearest(key, free))
            label = "unknown parameter"
            check.error(catalog.E0303, message, span, label, notes=_signed(signature), helps=helps)
            return None
        if key in given:
            also = Label(given[key].span, "first given here")
            message = f"`{name}` is given `{key}` twice"
            check.error(catalog.E0303, message, span, "given again", also, notes=_signed(signature))
            return None
        given[key] = arg
    missing = [n for n in free if n not in given]
    if missing:
        message = f"`{name}` needs {quoted(missing)}"
        lacking = tuple(p for p in params if p.name in missing)
        helps = _completed(node, lacking, scope)
        label = "too few arguments"
        check.error(catalog.E0303, message, node.span, label, notes=_signed(signature), helps=helps)
        return None
    return given


def _signed(signature: Signature) -> tuple[str, ...]:
    return (f"its signature is `{signature}`",)


def _without(node: ast.Call, extra: ast.Arg) -> Help:
    """The call up to the first argument too many."""
    place = node.args.index(extra)
    start = node.args[place - 1].span.end if place else extra.span.start
    rest = Span(node.span.source, start, node.args[-1].span.end)
    what = "it" if node.args[-1] is extra else "the rest"
    return replacing(f"leave {what} out", rest, "")


def _completed(node: ast.Call, missing: tuple[Parameter, ...], scope: Scope) -> tuple[Help, ...]:
    """The call with what it lacks, where there is only one thing that each can be."""
    values = [(p.name, only(scope.module, p.type)) for p in missing]
    given = [f"{name}: {value}" for name, value in values if value]
    if len(given) < len(values) or not node.span.text.endswith(")"):
        return ()
    at = node.args[-1].span.end if node.args else node.span.end - 1
    text = "".join(f", {each}" for each in given) if node.args else ", ".join(given)
    said = quoted(given)
    return (replacing(f"add {said}", Span(node.span.source, at, at), text),)


def _argument(check: Check, arg: ast.Arg, scope: Scope, what: str, param: Parameter) -> Value:
    value = check.value(arg.value, scope)
    found = fit(value, param.type)
    if isinstance(found, Misfit):
        message = f"{what} {found.problem}"
        helps = found.helps or of_type(value.span, scope.module, param.type)
        return check.error(found.code, message, value.span, found.label, helps=helps)
    return found


# ---- results ---------------------------------------------------------------------------------


def _built_in(
    check: Check, node: ast.Call, scope: Scope, builtin: Builtin, given: Mapping[str, Value]
) -> Value:
    match builtin.name:
        case "last":
            return _last(check, node, given["n"])
        case "min" | "max":
            return _extreme(check, node, builtin.name, given)
        case "distance":
            return plans.distance(check, node.span, scope.module, given["plan"])
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
    near = nearest(given.text, known)
    helps = one_of(given.span, (f'"{name}"' for name in near))
    note = f"it has {quoted(known)}"
    return check.error(catalog.E0201, message, given.span, "unknown", notes=(note,), helps=helps)


def _last(check: Check, node: ast.Call, count: Value) -> Value:
    if not isinstance(count, Number) or count.value < 1:
        message = f"`last` cannot count `{count.span.text}` layers from the end"
        return check.error(catalog.E0309, message, count.span, "wants a whole number, at least 1")
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
        rest = Span(node.span.source, node.func.span.end, node.span.end)
        helps = (removing(f"write `{node.func.span.text}`", rest),)
        return check.error(catalog.E0303, message, span, "not needed", helps=helps)
    parameter = Parameter("length" if rule.takes == "tok" else "s", rule.takes)
    result = _RESULTS.get(metric.name, "time")
    signature = Signature(metric.name, (parameter,), result)
    if not node.args and rule.takes == "scenario":
        return needs_scenario(check, metric.name, node.span, scope.module)
    given = _bind(check, node, scope, signature)
    if given is None:
        return Failed(node.span)
    value = given[parameter.name]
    if isinstance(value, Entity):
        return Metric(node.span, metric.name, rule.dimension, value.name, None, metric.parent)
    if not isinstance(value, Number) or value.value < 1:
        message = f"`{metric.name}` cannot be asked for `{value.span.text}`"
        label = "wants a length that is known now, at least 1 tok"
        return check.error(catalog.E0309, message, value.span, label)
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
