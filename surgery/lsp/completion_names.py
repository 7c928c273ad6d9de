"""Completion of names: members, arguments, and what can stand in an expression.

In: an analysis and what is wanted. Out: items. Names of the wanted type or dimension come first;
others follow, because an expression can make anything of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from lsprotocol import types

from surgery import units
from surgery.checking.modules import Named
from surgery.checking.tables import (
    CONSTANTS,
    FACTS,
    FUNCTIONS,
    LAYER_FACTS,
    METRICS,
    WORDS,
    MetricRule,
    Parameter,
)
from surgery.checking.values import (
    DIMENSIONS,
    Entity,
    Value,
    is_condition,
    is_expr,
)
from surgery.grammar import ast
from surgery.ir import Machine
from surgery.lsp import describe
from surgery.lsp.analysis import Analysis
from surgery.lsp.context import Spot
from surgery.lsp.expected import at_layer, expected
from surgery.lsp.items import KIND, Items
from surgery.units import Dimension

_KINDS: Mapping[type[ast.Statement], types.CompletionItemKind] = {
    ast.Import: KIND.Module,
    ast.Model: KIND.Class,
    ast.Input: KIND.Variable,
    ast.Let: KIND.Constant,
    ast.Fn: KIND.Function,
    ast.Machine: KIND.Struct,
    ast.Scenario: KIND.Event,
    ast.Dataset: KIND.File,
    ast.Score: KIND.Property,
}


def typed(analysis: Analysis) -> Iterator[tuple[str, ast.Statement, str, Dimension | None]]:
    """Every name of the file with its statement, its type, and its dimension if it has one."""
    module = analysis.module
    for name, item in module.items.items():
        if isinstance(item, ast.Import):
            yield name, item, "import", None
            continue
        if isinstance(item, ast.Fn):
            result = item.result.text
            yield name, item, result, DIMENSIONS.get(result)
            continue
        value = analysis.ask.named(module, name, item.head)
        yield name, item, _type(value, item), _dimension(value)


def _type(value: Value | None, item: ast.Statement) -> str:
    if value is not None:
        return describe.kind(value)
    return item.type.text if isinstance(item, ast.Input) else ""


def _dimension(value: Value | None) -> Dimension | None:
    if isinstance(value, Entity) and value.type == "score":
        return units.NUMBER
    if value is None or not is_expr(value) or is_condition(value):
        return None
    return value.dimension


def _name(items: Items, name: str, item: ast.Statement, detail: str, rank: int) -> None:
    insert = None
    if isinstance(item, ast.Fn):
        stops = ", ".join(f"${{{n}:{p.name.text}}}" for n, p in enumerate(item.params, 1))
        insert = f"{name}({stops})"
    # Declaration and value are told when the client asks for this one item.
    data = {"uri": items.uri, "file": item.span.source.name, "name": item_name(item)}
    items.add(name, _KINDS[type(item)], detail, "", insert, rank, data=data)


def item_name(item: ast.Statement) -> str:
    """The name that a statement defines."""
    return item.name.text if isinstance(item, Named) else ""


def origin(item: types.CompletionItem) -> tuple[str, str, str] | None:
    """Document, file and name of an item that `_name` made; clients send `data` back."""
    data = cast("object", item.data)
    if not isinstance(data, dict):
        return None
    found = cast("dict[object, object]", data)
    parts = tuple(found.get(key) for key in ("uri", "file", "name"))
    uri, file, name = parts
    if isinstance(uri, str) and isinstance(file, str) and isinstance(name, str):
        return uri, file, name
    return None


# ---- by type ---------------------------------------------------------------------------------


def of_type(analysis: Analysis, items: Items, wanted: str, *, imported: bool = True) -> None:
    """Names of one type, and what makes values of it."""
    for name, item, kind, _ in typed(analysis):
        if kind == wanted or (wanted == "machine" and isinstance(item, ast.Machine)):
            _name(items, name, item, kind, 1)
    if imported:
        for name, module in analysis.module.imports.items():
            for inner, item in module.items.items():
                makes = item.result.text if isinstance(item, ast.Fn) else ""
                if makes == wanted or (wanted == "machine" and isinstance(item, ast.Machine)):
                    _name(items, f"{name}.{inner}", item, wanted, 2)
        makers(items, wanted)


def makers(items: Items, wanted: str) -> None:
    """Built-in functions and constants of one type."""
    for name, function in FUNCTIONS.items():
        if function.result == wanted:
            items.add(
                name, KIND.Function, str(function.signature), function.doc, _call(name), rank=3
            )
    for name, (kind, doc) in CONSTANTS.items():
        if kind == wanted:
            items.add(name, KIND.Constant, kind, doc, rank=3)


def _call(name: str) -> str:
    params = FUNCTIONS[name].params
    stops = (
        f'"${n}"' if p.type == "text" else f"${{{n}:{p.name}}}" for n, p in enumerate(params, 1)
    )
    return f"{name}({', '.join(stops)})"


def arguments(analysis: Analysis, items: Items, callee: str, index: int, given: str | None) -> bool:
    """Values for one argument of a call; `False` when nothing is known of the callee."""
    rule = METRICS.get(callee.rpartition(".")[2])
    owner = callee.rpartition(".")[0]
    if callee in FUNCTIONS:
        params = FUNCTIONS[callee].params
    elif rule is not None and (not owner or _is_model(analysis, owner)):
        params = (Parameter("", rule.takes),)
    else:
        function = _function(analysis, callee)
        if function is None:
            return False
        params = tuple(Parameter(p.name.text, p.type.text) for p in function.params)
    param = next((p for p in params if p.name == given), None)
    if param is None and index < len(params):
        param = params[index]
    if param is None:
        return True
    if param.type in DIMENSIONS or param.type == "number":
        numbers(analysis, items, DIMENSIONS.get(param.type))
    else:
        of_type(analysis, items, param.type)
    return True


def _is_model(analysis: Analysis, name: str) -> bool:
    return isinstance(analysis.module.items.get(name), ast.Model)


def _function(analysis: Analysis, callee: str) -> ast.Fn | None:
    owner, _, name = callee.rpartition(".")
    module = analysis.module.imports.get(owner) if owner else analysis.module
    item = module.items.get(name) if module is not None else None
    return item if isinstance(item, ast.Fn) else None


# ---- members ---------------------------------------------------------------------------------


def members(analysis: Analysis, owner: str, items: Items) -> None:
    """What can follow `owner.`."""
    inner = analysis.module.imports.get(owner)
    if inner is not None:
        for name, item in inner.items.items():
            if not isinstance(item, ast.Import):
                _name(items, name, item, item.head.text.split()[0], 1)
        return
    item = analysis.module.items.get(owner)
    if item is None:
        return
    value = analysis.ask.named(analysis.module, owner, item.head)
    if isinstance(item, ast.Model):
        for name in FACTS:
            items.add(name, KIND.Field, "of the unmodified model", rank=1)
        for name, rule in METRICS.items():
            items.add(name, KIND.Method, rule.doc, insert=_metric(name, rule), rank=2)
    elif isinstance(value, Entity) and isinstance(value.decl, Machine):
        for name in ("gpus", *(field for field, _ in value.decl.fields)):
            items.add(name, KIND.Field, describe.machine_member(name) or "")


def _metric(name: str, rule: MetricRule) -> str | None:
    return f"{name}(${{1:{rule.takes}}})" if rule.takes else None


# ---- expressions -----------------------------------------------------------------------------


def expression(analysis: Analysis, at: Spot, items: Items) -> None:
    """Anything that an expression can hold, what fits best first."""
    if at_layer(at):
        for name in LAYER_FACTS:
            items.add(name, KIND.Field, "of the layer at hand", rank=1)
        for part, words in WORDS.items():
            items.add(part, KIND.EnumMember, f"is {', '.join(words)}", insert=f"{part} is ", rank=1)
        for word in ("and", "or", "not"):
            items.add(word, KIND.Keyword, rank=8)
    numbers(analysis, items, expected(analysis, at))


def numbers(analysis: Analysis, items: Items, wanted: Dimension | None) -> None:
    """Names, metrics and folds; those of the wanted dimension before the others."""

    def rank(dimension: Dimension | None) -> int:
        return 2 if wanted is not None and dimension == wanted else 5

    for name, item, kind, dimension in typed(analysis):
        if kind in ("machine", "model", "import"):
            _name(items, name, item, kind, 4)
        else:
            _name(items, name, item, kind, rank(dimension))
    for name, rule in METRICS.items():
        first = rank(rule.dimension)
        items.add(name, KIND.Method, rule.doc, insert=_metric(name, rule), rank=first)
    count = rank(units.NUMBER)
    items.add("count", KIND.Method, "how many layers", insert="count(layers where $0)", rank=count)
    for fold in ("sum", "min", "max"):
        items.add(fold, KIND.Method, f"{fold} over layers", insert=f"{fold}(layers: $0)", rank=6)
    for fold in ("every", "some"):
        items.add(fold, KIND.Method, f"{fold} layer", insert=f"{fold}(layers: $0)", rank=6)
