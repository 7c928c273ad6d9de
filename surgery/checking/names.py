"""What a name stands for.

In: a word and the scope it was used in. Out: the value of what it names, worked out once per
name; statements may come in any order, so definitions are looked into when they are first used.
Reports names that do not exist (E0201), members that do not exist (E0205) and definitions that
need themselves (E0204).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from surgery import catalog
from surgery.checking.modules import Module, standard_names
from surgery.checking.repairs import declared, importing, replacing, similar, through_import
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import (
    BUILT_IN,
    CONSTANTS,
    FACTS,
    FUNCTIONS,
    LAYER_FACTS,
    MACHINE_FACTS,
    METRICS,
    WORDS,
)
from surgery.checking.values import Entity, Failed, Made, Namespace, Value, at, noun
from surgery.diagnostics import Diagnostic, Help, Label, Safety, Stop
from surgery.expr import Expr, Fact, LayerFact, Metric, Number
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.ir import Machine
from surgery.source import Span

_KINDS: Mapping[type, str] = {
    ast.Import: "an import",
    ast.Model: "a model",
    ast.Input: "an input",
    ast.Let: "a `let`",
    ast.Fn: "a function",
    ast.Machine: "a machine",
    ast.Scenario: "a scenario",
    ast.Dataset: "a dataset",
    ast.Score: "a score",
}

MAX_WORK = 50_000
"""Expressions looked at in one run, inlined ones counted at every use."""


def quoted(names: Iterable[str], last: str = "and") -> str:
    """Names for a sentence: `` `a`, `b` and `c` ``."""
    words = [f"`{name}`" for name in names]
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# ---- definitions -----------------------------------------------------------------------------


def resolve(check: Check, module: Module, name: str, span: Span) -> Value:
    """The value of a name that a file defines, as seen at the place that uses it."""
    key = (module.source.name, name)
    if key in check.active:
        return _circular(check, module, key, span)
    if key not in check.values:
        check.active.append(key)
        before = check.work
        defined = check.define(check, module, module.items[name])
        check.values[key] = defined
        if isinstance(defined, Entity) and defined.name:
            check.entities[defined.type, defined.name] = defined
        folded = isinstance(defined, Number | Failed)
        check.price[key] = 1 if folded else check.work - before
        check.active.pop()
    else:
        spend(check, check.price[key], span)
    value = check.values[key]
    return Failed(span) if isinstance(value, Failed) else at(value, span)


def spend(check: Check, amount: int, span: Span) -> None:
    """Count work, and stop where names that use names that use names explode."""
    check.work += amount
    if check.work > MAX_WORK:
        label = Label(span, "one use too many", primary=True)
        message = "the definitions of this spec expand to more than a solver could read"
        raise Stop(Diagnostic(catalog.E0110, message, (label,)))


def _circular(check: Check, module: Module, key: tuple[str, str], span: Span) -> Failed:
    route = [name for _, name in check.active[check.active.index(key) :]]
    item = module.items[key[1]]
    verb = "calls" if isinstance(item, ast.Fn) else "needs"
    if len(route) == 1:
        message = f"`{key[1]}` {verb} itself and so has no value"
    else:
        steps = ", which needs ".join(f"`{name}`" for name in (*route[1:], key[1]))
        message = f"`{key[1]}` {verb} itself: it needs {steps}"
    also = Label(item.head, "defined here")
    # Every definition on the way is broken by this one mistake.
    return check.error(catalog.E0204, message, span, "needed again here", also)


# ---- words used as values --------------------------------------------------------------------


def named(check: Check, node: ast.Name, scope: Scope) -> Value:
    """The value of a name in an expression."""
    name, span = node.text, node.span
    module = scope.module
    if name in scope.locals:
        return at(scope.locals[name], span)
    if name in module.imports:
        return Namespace(span, name, module.imports[name])
    if name in module.items:
        return resolve(check, module, name, span)
    if name in module.lost:
        return Failed(span)
    return _built_in(check, name, span, scope)


def _built_in(check: Check, name: str, span: Span, scope: Scope) -> Value:
    if scope.layer and name in LAYER_FACTS:
        return LayerFact(span, name, LAYER_FACTS[name])
    if name in METRICS:
        return metric_name(check, name, span, scope.module)
    if name in CONSTANTS:
        return Made(span, CONSTANTS[name][0], name)
    return _undefined_value(check, name, span, scope)


def _undefined_value(check: Check, name: str, span: Span, scope: Scope) -> Failed:
    if name in FUNCTIONS:
        message = f"`{name}` is a function and needs its arguments"
        note = f"its signature is `{FUNCTIONS[name].signature}`"
        return check.error(catalog.E0303, message, span, "not called", notes=(note,))
    if name in LAYER_FACTS:
        message = f"`{name}` is a property of a layer, and no layer is at hand here"
        helps = _of_all_layers(name, span, scope.module)
        return check.error(catalog.E0201, message, span, "of which layer", helps=helps)
    if name in WORDS:
        words = quoted((f"{name} is {word}" for word in WORDS[name]), "or")
        message = f"`{name}` is a part of a layer and has no value of its own"
        help = Help(f"test it: {words}")
        return check.error(catalog.E0201, message, span, "not a value", helps=(help,))
    builtin = {*METRICS, *CONSTANTS, *(LAYER_FACTS if scope.layer else ())}
    return undefined(check, name, span, scope, builtin)


def metric_name(check: Check, name: str, span: Span, module: Module) -> Expr | Failed:
    """A metric that was not called."""
    rule = METRICS[name]
    if not rule.takes:
        return Metric(span, name, rule.dimension)
    if rule.takes == "tok":
        message = f"`{name}` needs a length"
        text = f"{name}(64K tok)"
        help = replacing(f"say for how many tokens: `{text}`", span, text, Safety.DISPLAY)
        return check.error(catalog.E0303, message, span, "at what length", helps=(help,))
    return needs_scenario(check, name, span, module)


def _of_all_layers(name: str, span: Span, module: Module) -> tuple[Help, ...]:
    """What can be said about all layers, or about the model, with a property of a layer."""
    largest = f"max(layers: {name})"
    helps = [replacing(f"ask all layers: `{largest}`", span, largest, Safety.DISPLAY)]
    if name in FACTS:
        facts = [f"{model}.{name}" for model in declared(module, "model")]
        helps += [replacing(f"ask the model: `{f}`", span, f, Safety.DISPLAY) for f in facts]
    return tuple(helps)


def needs_scenario(check: Check, name: str, span: Span, module: Module) -> Failed:
    """E0507, with the scenarios that could be meant; `span` covers the name or the empty call."""
    metric = span.text.partition("(")[0].rstrip()
    helps = tuple(
        replacing(
            f"measure it in the scenario `{scenario}`",
            span,
            f"{metric}({scenario})",
            Safety.DISPLAY,
        )
        for scenario in declared(module, "scenario")
    ) or (Help("declare one: `scenario chat on ... { ... }`"),)
    message = f"`{name}` needs a scenario"
    return check.error(catalog.E0507, message, span, "in which one", helps=helps)


def undefined(
    check: Check, name: str, span: Span, scope: Scope, builtin: Iterable[str] = ()
) -> Failed:
    """E0201, with similar names and where they are defined."""
    items = scope.module.items
    near = similar(name, sorted({*items, *scope.locals, *builtin}))
    also: list[Label] = []
    helps: list[Help] = []
    for other in near:
        item = items.get(other)
        kind = _KINDS[type(item)] if item else "a parameter" if other in scope.locals else "a name"
        if item:
            also.append(Label(item.head, f"{kind} with a similar name is defined here"))
        helps.append(replacing(f"use the {kind.split(' ', 1)[1]} `{other}`", span, other))
    helps += through_import(scope.module, span, name)
    if not helps and name in standard_names():
        helps.append(importing(scope.module, name))
    message = f"there is no name `{name}` here"
    return check.error(catalog.E0201, message, span, "not defined", *also, helps=tuple(helps))


def unknown(check: Check, what: str, ident: ast.Ident, names: Iterable[str], notes: str) -> Failed:
    """E0201 for a word from a fixed list: a site, an edit, a type, a kind of step."""
    known = tuple(names)
    near = similar(ident.text, known)
    helps = tuple(replacing(f"use `{other}`", ident.span, other) for other in near)
    message = f"there is no {what} `{ident.text}`"
    note = f"{notes} {quoted(known)}" if known else f"no {what} has been named"
    return check.error(catalog.E0201, message, ident.span, "unknown", notes=(note,), helps=helps)


# ---- members ---------------------------------------------------------------------------------


def member(check: Check, value: Value, name: ast.Ident, span: Span, module: Module) -> Value:
    """`value.name`, not called."""
    match value:
        case Failed():
            return Failed(span)
        case Namespace(module=inner):
            return _exported(check, value, inner, name, span)
        case Entity(type="model", name=model):
            return _model_fact(check, model, name, span, module)
        case Entity(decl=Machine() as machine):
            return _machine_fact(check, machine, name, span)
        case _:
            message = f"`{value.span.text}` has no member `{name.text}`"
            label = f"{noun(value)} has no members"
            return check.error(catalog.E0205, message, name.span, label)


def _model_fact(check: Check, model: str, name: ast.Ident, span: Span, module: Module) -> Value:
    if name.text in FACTS:
        return Fact(span, name.text, FACTS[name.text])
    if name.text not in METRICS:
        label = "no fact or metric of a model"
        return no_member(check, f"the model `{model}`", name, (*FACTS, *METRICS), label)
    # A metric that needs an argument; what it says is about its name alone.
    metric_name(check, name.text, name.span, module)
    return Failed(span)


def _exported(
    check: Check, namespace: Namespace, inner: Module, name: ast.Ident, span: Span
) -> Value:
    item = inner.items.get(name.text)
    if item is not None and not isinstance(item, ast.Import):
        return resolve(check, inner, name.text, span)
    if name.text in inner.lost:
        return Failed(span)
    names = [key for key, each in inner.items.items() if not isinstance(each, ast.Import)]
    label = f"not defined in `{inner.source.name}`"
    return no_member(check, f"`{namespace.name}`", name, names, label)


def _machine_fact(check: Check, machine: Machine, name: ast.Ident, span: Span) -> Value:
    """A constant of a machine; its memory is that of all its GPUs."""
    fields = dict(machine.fields)
    names = ("gpus", *fields)
    if name.text not in names:
        what = f"the machine `{machine.name or machine.device}`"
        return no_member(check, what, name, names, "not among what it declares")
    dimension = MACHINE_FACTS[name.text]
    if name.text == "gpus":
        return Number(span, Fraction(machine.gpus), dimension)
    count = machine.gpus if name.text == "memory" else 1
    return Number(span, fields[name.text] * count, dimension)


def no_member(check: Check, what: str, name: ast.Ident, names: Iterable[str], label: str) -> Failed:
    """E0205, with the similar member if there is one."""
    known = tuple(dict.fromkeys(names))
    safety = Safety.SAFE if len(nearest(name.text, known)) == 1 else Safety.UNSAFE
    near = similar(name.text, known)
    helps = tuple(replacing(f"use `{other}`", name.span, other, safety) for other in near)
    note = f"it has {quoted(known)}" if known else "it defines nothing"
    message = f"{what} has no member `{name.text}`"
    return check.error(catalog.E0205, message, name.span, label, notes=(note,), helps=helps)


def shadows(check: Check, ident: ast.Ident) -> bool:
    """Report a definition whose name means something already (E0202)."""
    if ident.text not in BUILT_IN:
        return False
    message = f"`{ident.text}` is a built-in name and cannot be defined again"
    helps = (Help("use another name"),)
    check.error(catalog.E0202, message, ident.span, "means something already", helps=helps)
    return True
