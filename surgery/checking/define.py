"""Definitions: what each statement that has a name defines.

In: a statement and its file. Out: the value of its name, worked out once. A `fn` is checked where
it stands, with parameters that stand for anything of their type, so that its mistakes are reported
even if nobody calls it and only once if many do. `--set` replaces the default of an `input`, and
is read with the grammar of the language (E0208).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from surgery import catalog, ir
from surgery.checking import world
from surgery.checking.modules import Module, Named
from surgery.checking.names import shadows, unknown
from surgery.checking.repairs import replacing
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import MACHINE_FACTS
from surgery.checking.types import Misfit, fit
from surgery.checking.values import (
    ANY_TEXT,
    NUMBERS,
    TYPES,
    Decl,
    Entity,
    EntityType,
    Failed,
    Function,
    Made,
    Text,
    Value,
    at,
    noun,
)
from surgery.diagnostics import Diagnostic, Help, Label, Safety, Sink
from surgery.expr import Fact, Fold, Is, LayerSet, Number, Selector
from surgery.grammar import ast
from surgery.grammar.parse import parse
from surgery.source import Source, Span
from surgery.units import NUMBER


def define(check: Check, module: Module, item: Named) -> Value:
    """The value of a definition; `Failed` after a report."""
    if isinstance(item, ast.Import) or shadows(check, item.name):
        # Imported files are no values; `names` finds them by themselves.
        return Failed(item.span)
    if isinstance(item, ast.Model | ast.Input) and module is not check.main:
        word = item.head.text.split()[0]
        message = f"an imported file cannot say `{word}`"
        return check.error(catalog.E0210, message, item.head, "belongs into the spec itself")
    match item:
        case ast.Let():
            return check.value(item.value, Scope(module))
        case ast.Input():
            return _input(check, module, item)
        case ast.Fn():
            return _function(check, module, item)
        case _:
            return world.declare(check, module, item)


# ---- inputs ----------------------------------------------------------------------------------


def _input(check: Check, module: Module, item: ast.Input) -> Value:
    name, kind = item.name.text, item.type.text
    if kind not in TYPES:
        return unknown(check, "type", item.type, TYPES, "the types are")
    default: Value | None = None
    if item.default is not None:
        value = check.value(item.default, Scope(module))
        found = fit(value, kind)
        if isinstance(found, Misfit):
            also = Label(item.type.span, f"declared as `{kind}`")
            message = f"the input `{name}` {found.problem}"
            default = check.error(
                found.code, message, value.span, found.label, also, helps=found.helps
            )
        else:
            default = found
    if name in check.settings:
        return _setting(check, module, item, check.settings[name])
    if default is None:
        message = f"the input `{name}` has no default and is not set"
        set_it = Help(f"set it to {TYPES[kind]} with `--set {name}=...`")
        helps = (set_it, *_default(item))
        return check.error(catalog.E0208, message, item.head, "no value", helps=helps)
    return default


def _default(item: ast.Input) -> tuple[Help, ...]:
    """A default to start from, where its type has an example."""
    example = TYPES[item.type.text].partition(" such as `")[2].partition("`")[0]
    if not example:
        return ()
    end = Span(item.span.source, item.type.span.end, item.type.span.end)
    text = f" = {example}"
    return (replacing(f"give it a default, such as `{example}`", end, text, Safety.DISPLAY),)


def _setting(check: Check, module: Module, item: ast.Input, text: str) -> Value:
    """The value of `--set name=text`."""
    name = item.name.text
    also = Label(item.head, f"an input of type `{item.type.text}`", primary=True)
    source = Source(f"--set {name}", f"surg 1\nlet value = {text}\n")
    sink = Sink()
    items = parse(source, sink).items
    if sink.failed or len(items) != 1 or not isinstance(items[0], ast.Let):
        message = f"`--set {name}={text}` does not give a value"
        notes = tuple(found.message for found in sink.sorted()[:1])
        check.sink.report(Diagnostic(catalog.E0208, message, (also,), notes=notes))
        return Failed(item.span)
    before = len(check.sink.found)
    value = check.value(items[0].value, Scope(module))
    if isinstance(value, Failed):
        problems = tuple(found.message for found in check.sink.found[before:])
        del check.sink.found[before:]
        message = f"`--set {name}={text}` does not give a value"
        check.sink.report(Diagnostic(catalog.E0208, message, (also,), notes=problems))
        return value
    found = fit(value, item.type.text)
    if isinstance(found, Misfit):
        message = f"`--set {name}={text}`: the input {found.problem}"
        # A word of a label that says what is wanted is a fact here, where nothing is marked.
        told = (f"the input {found.label}",) if found.label.startswith("wants ") else ()
        notes = (*told, *(help.text for help in found.helps))
        check.sink.report(Diagnostic(catalog.E0208, message, (also,), notes=notes))
        return Failed(item.span)
    return at(found, item.head) if not isinstance(found, Failed) else found


def input_text(value: Value, type_name: str) -> str:
    """The value of an input as text that reads back: exact, however it was written."""
    match value:
        case Number(value=number):
            scale, unit = _WRITTEN.get(type_name, (Fraction(1), ""))
            text = _decimal(number / scale)
            return f"{text}{unit}" if text else f"{number.numerator} / {number.denominator}"
        case Text(text=text):
            return f'"{text}"'
        case Entity(name=name):
            return name
        case _:
            return value.span.text


_WRITTEN = {
    "ratio": (Fraction(1, 100), "%"),
    "bytes": (Fraction(1000), "kB"),
    "tok": (Fraction(1), " tok"),
    "params": (Fraction(1), " params"),
    "time": (Fraction(1), " s"),
}


def _decimal(value: Fraction) -> str:
    """An exact decimal number, or nothing where there is none of at most 40 digits."""
    for digits in range(40):
        scaled = value * 10**digits
        if scaled.denominator == 1:
            sign, text = "-" if value < 0 else "", f"{abs(scaled.numerator):0{digits + 1}d}"
            cut = len(text) - digits
            return f"{sign}{text[:cut]}.{text[cut:]}".removesuffix(".")
    return ""


# ---- functions -------------------------------------------------------------------------------


def _function(check: Check, module: Module, item: ast.Fn) -> Value:
    given: dict[str, Value] = {}
    good = True
    for param in item.params:
        if param.name.text in given:
            message = f"the parameter `{param.name.text}` is defined twice"
            also = Label(given[param.name.text].span, "first defined here")
            check.error(catalog.E0202, message, param.name.span, "defined again", also)
            good = False
        good = not shadows(check, param.name) and good
        if param.type.text not in TYPES:
            unknown(check, "type", param.type, TYPES, "the types are")
            good = False
        else:
            given[param.name.text] = anything(param)
    if item.result.text not in TYPES:
        unknown(check, "type", item.result, TYPES, "the types are")
        good = False
    if not good:
        return Failed(item.span)
    value = check.value(item.body, Scope(module, given))
    found = fit(value, item.result.text)
    if isinstance(found, Misfit):
        also = Label(item.result.span, "declared here")
        returns = TYPES[item.result.text].split(" such as ")[0]
        message = f"`{item.name.text}` returns {returns}, and its body is {noun(value)}"
        return check.error(found.code, message, item.body.span, found.label, also)
    return found if isinstance(found, Failed) else Function(item.head, module, item)


def anything(param: ast.Param) -> Value:
    """A value that stands for any argument: constants that nothing can be computed from."""
    kind, span = param.type.text, param.span
    if kind in NUMBERS:
        return Fact(span, "", NUMBERS[kind])
    if kind == "truth":
        every = Selector(span, LayerSet(span, None, None))
        return Fold(span, "every", every, Is(span, "layer", "first", False), NUMBER)
    if kind == "text":
        return Text(span, ANY_TEXT)
    decls: Mapping[EntityType, Decl] = {
        "model": ir.ModelDecl(span, "", "local", ""),
        "machine": _any_machine(span),
        "scenario": ir.Scenario(span, "", "", 1, 1, 1),
        "dataset": ir.Dataset(span, "", "local", "", 1, 1, 0),
        "score": ir.Score(span, "", "kl", ""),
    }
    for type_, decl in decls.items():
        if type_ == kind:
            return Entity(span, type_, "", decl)
    return Made(span, kind, "")


def _any_machine(span: Span) -> ir.Machine:
    # Odd numbers, so that no honest formula divides by zero.
    fields = tuple((name, Fraction(8191)) for name in MACHINE_FACTS if name != "gpus")
    return ir.Machine(span, "", "", 8191, fields)
