"""Values, definitions and built-in names in words: what hover, completion and hints say.

In: values of the check, statements, names of the tables. Out: short Markdown without headings.
Numbers are exact, and grouped by thousands where they are counts.
"""

from __future__ import annotations

from fractions import Fraction

from surgery import affine, units
from surgery.affine import Affinity
from surgery.checking.tables import (
    CONSTANTS,
    FACTS,
    FUNCTIONS,
    LAYER_FACTS,
    MACHINE_FACTS,
    METRICS,
    WORDS,
)
from surgery.checking.types import wanted
from surgery.checking.values import (
    Entity,
    Function,
    Items,
    Made,
    Namespace,
    Text,
    Value,
    Word,
    is_expr,
    is_truth,
    noun,
)
from surgery.expr import Expr, Number, Pick
from surgery.grammar import ast
from surgery.units import Dimension

_BASE = {
    units.BYTES: "bytes",
    units.TOK: "tok",
    units.PARAMS: "params",
    units.TIME: "s",
    units.TOK_PER_S: "tok/s",
    units.REQ_PER_S: "req/s",
    units.WATT: "W",
    units.J_PER_TOK: "J/tok",
}


def code(text: str) -> str:
    """A block of spec text."""
    return f"```surg\n{text}\n```"


def grouped(value: Fraction) -> str:
    """A number with its thousands apart; exact when it is whole or has a short decimal form."""
    if value.denominator == 1:
        return f"{int(value):,}"
    return units.significant(value, 6)


def base_units(value: Fraction, dimension: Dimension, unit: str = "") -> str:
    """A quantity in base units: `65,536 tok`, `80,000,000,000 bytes = 74.51GiB`, `0.92`."""
    if dimension == units.NUMBER:
        return grouped(value)
    name = _BASE.get(dimension) or str(dimension)
    text = f"{grouped(value)} {name}"
    if dimension == units.BYTES and value >= 1024:
        decimal = _decimal_bytes(value)
        text += f" = {units.format_bytes(value)}"
        text += f" = {decimal}" if unit.endswith("iB") else ""
    elif dimension == units.PARAMS and value >= 1000:
        text += f" = {units.format_params(value)}"
    return text


def _decimal_bytes(value: Fraction) -> str:
    for name in ("TB", "GB", "MB", "kB"):
        scaled = value / units.UNITS[name].scale
        if scaled >= 1:
            return f"{units.significant(scaled)}{name}"
    return f"{int(value)} bytes"


def literal(node: ast.Quantity) -> str:
    """What a literal number is: `64K tok` is 65,536 tok."""
    unit = units.UNITS.get(node.unit)
    scale = unit.scale if unit else Fraction(1)
    value = node.value * units.magnitude(node.magnitude, node.unit) * scale
    dimension = unit.dimension if unit else units.NUMBER
    text = f"`{node.span.text}` = {base_units(value, dimension, node.unit)}"
    if node.unit in ("%", "x"):
        text += " (a ratio)"
    elif node.unit == "layers":
        text += " layers"
    return text


# ---- values ----------------------------------------------------------------------------------


def kind(value: Value) -> str:
    """The type of a value, without an article: `ratio`, `bytes`, `dataset`."""
    if is_expr(value):
        return "truth" if is_truth(value) else _number_kind(value)
    match value:
        case Entity(type=name) | Made(type=name):
            return name
        case Text():
            return "text"
        case Items():
            return "list"
        case Pick():
            return "layers"
        case Namespace():
            return "import"
        case Function():
            return "fn"
        case Word():
            return "word"
        case _:
            return noun(value)


def _number_kind(value: Expr) -> str:
    if value.dimension == units.NUMBER:
        unit = value.unit if isinstance(value, Number) else ""
        return "ratio" if unit in ("%", "x") else "number"
    return _BASE.get(value.dimension) or str(value.dimension)


def value_text(value: Value) -> str:
    """The value where it is known without the model, as it would be printed; else empty."""
    match value:
        case Number(value=number, dimension=dimension, unit=unit):
            return units.format_quantity(number, dimension, unit)
        case Text(text=text):
            return f'"{text}"'
        case Pick(low=low, high=high):
            return str(low) if low == high else f"{low}..{high}"
        case Items(items=items):
            return "[" + ", ".join(value_text(item) or "..." for item in items) + "]"
        case _:
            return ""


_AFFINITY = {
    Affinity.CONSTANT: "constant: the choices do not change it",
    Affinity.LINEAR: "linear in the choices",
    Affinity.RATIO: "a ratio: it can be compared with a constant",
    Affinity.OTHER: "not linear in the choices",
}


def affinity(value: Expr) -> str:
    """How an expression depends on the choices, in words."""
    return _AFFINITY[affine.classify(value)]


# ---- definitions -----------------------------------------------------------------------------


def declaration(item: ast.Statement) -> str:
    """The statement as far as it says what its name is: its first line, or all of a short one."""
    text = item.span.text
    if isinstance(item, ast.Scenario | ast.Dataset | ast.Machine | ast.Model | ast.Score):
        return text if text.count("\n") <= 8 else text.splitlines()[0]
    return " ".join(text.split()) if len(text) <= 200 else text.splitlines()[0]


def built_in(name: str) -> str | None:
    """What a name means that no spec defines, as Markdown; a function or metric comes first."""
    if name in FUNCTIONS:
        function = FUNCTIONS[name]
        return f"{code(str(function.signature))}\n{function.doc}"
    if name in METRICS:
        return metric(name)
    if name in CONSTANTS:
        type_name, doc = CONSTANTS[name]
        return f"{code(name)}\n{doc} ({wanted(type_name)})"
    if name in LAYER_FACTS:
        return f"{code(name)}\n{_of(LAYER_FACTS[name])} of the layer at hand"
    if name in WORDS:
        return f"`{name}` is a part of a layer: it can be {', '.join(WORDS[name])}"
    return None


def metric(name: str) -> str:
    """A cost of the result."""
    rule = METRICS[name]
    given = f"({rule.takes})" if rule.takes else ""
    return f"{code(f'{name}{given} -> {_of(rule.dimension)}')}\n{rule.doc}"


def model_member(name: str) -> str | None:
    """A member of the model: a fact or, with its argument, a metric of the parent."""
    if name in FACTS:
        return f"{code(name)}\n{_of(FACTS[name])} of the unmodified model"
    return f"{metric(name)}, of the unmodified model" if name in METRICS else None


def machine_member(name: str) -> str | None:
    """A member of a machine."""
    if name not in MACHINE_FACTS:
        return None
    whose = "of the machine" if name in ("gpus", "memory") else "of one GPU"
    return f"{code(name)}\n{_of(MACHINE_FACTS[name])} {whose}"


def _of(dimension: Dimension) -> str:
    return "number" if dimension == units.NUMBER else _BASE.get(dimension) or str(dimension)
