"""Which value may stand where: types of parameters, inputs and fields.

In: a value and the name of a type. Out: the value as that type has it (a score in the place of a
number is its total), or a `Misfit` that says why not, for whoever asked to report. Reports nothing
itself, because the same rule serves fields (E0302), arguments (E0302) and `--set` (E0208).
"""

from __future__ import annotations

import re
from fractions import Fraction

from msgspec import Struct

from surgery import catalog, units
from surgery.checking.repairs import replacing
from surgery.checking.values import (
    DIMENSIONS,
    OTHER_TYPES,
    TYPES,
    Entity,
    Failed,
    Made,
    Text,
    Value,
    is_condition,
    is_expr,
    is_truth,
    noun,
)
from surgery.diagnostics import Code, Help
from surgery.expr import Number, ScoreTotal
from surgery.units import Dimension


class Misfit(Struct, frozen=True):
    """Why a value does not have a type: `problem` completes "`name` ...", `label` says more."""

    code: Code
    problem: str
    label: str
    helps: tuple[Help, ...] = ()


def wanted(type_name: str) -> str:
    """What a message calls any value of a type."""
    if type_name == "number":
        return "a number"
    return TYPES.get(type_name) or OTHER_TYPES[type_name]


def fit(value: Value, type_name: str) -> Value | Misfit:
    """A value as the type has it."""
    if isinstance(value, Failed):
        return value
    if isinstance(value, Entity) and value.type == "score" and type_name in ("ratio", "number"):
        return ScoreTotal(value.span, value.name)
    if type_name == "number" or type_name in DIMENSIONS:
        return _number(value, type_name)
    if type_name == "truth":
        given = is_condition(value)
    elif type_name == "text":
        given = isinstance(value, Text)
    else:
        given = isinstance(value, Entity | Made) and value.type == type_name
    return value if given else _mismatch(value, type_name)


def _mismatch(value: Value, type_name: str, *helps: Help) -> Misfit:
    label = f"wants {wanted(type_name)}"
    return Misfit(catalog.E0302, f"cannot be {noun(value)}", label, helps)


def _number(value: Value, type_name: str) -> Value | Misfit:
    if not is_expr(value) or is_truth(value):
        return _mismatch(value, type_name)
    if type_name == "number":
        return value
    if value.dimension != DIMENSIONS[type_name]:
        return _mismatch(value, type_name, *_with_unit(value, DIMENSIONS[type_name]))
    return _constant(value, type_name) if isinstance(value, Number) else value


def _constant(value: Number, type_name: str) -> Value | Misfit:
    """A number that is known now, of the right dimension."""
    if type_name == "ratio":
        return _ratio(value)
    if type_name == "count" and value.unit in ("%", "x"):
        return _mismatch(value, type_name)
    if type_name in ("count", "tok") and value.value.denominator != 1:
        problem = f"must be whole, and `{value.span.text}` is not"
        return Misfit(catalog.E0309, problem, "not whole")
    return value


def _ratio(value: Number) -> Value | Misfit:
    if value.unit == "layers":
        return _mismatch(value, "ratio")
    if value.unit == "" and 2 < value.value <= 100:
        given = _plain(value)
        problem = f"wants a ratio, and {given} is {units.significant(value.value * 100)}%"
        return Misfit(catalog.E0306, problem, "a percentage without its `%`", (percent(value),))
    return value


def percent(value: Number) -> Help:
    """The suggestion to write `92` as `92%`."""
    text = f"{_plain(value)}%"
    return replacing(f"if a percentage is meant, write `{text}`", value.span, text)


def _plain(value: Number) -> str:
    """A number without a unit as it was written, or what it is where a name stands for it."""
    text = value.span.text
    return text if _DIGITS.fullmatch(text) else units.significant(value.value)


# ---- literals in another unit ----------------------------------------------------------------

_DIGITS = re.compile(r"[0-9][0-9_]*(\.[0-9]+)?")
_LETTERS = {"k": "K", "K": "K", "M": "M", "G": "B", "T": "T"}
_BYTE_UNITS = {"K": "kB", "M": "MB", "B": "GB", "T": "TB"}
_SUFFIX = {
    units.PARAMS: " params",
    units.TOK: " tok",
    units.TIME: " s",
    units.TOK_PER_S: " tok/s",
    units.REQ_PER_S: " req/s",
    units.WATT: " W",
    units.J_PER_TOK: " J/tok",
}


def in_dimension(value: Number, dimension: Dimension) -> str | None:
    """The text of a literal with a unit of another dimension, or `None` if none suggests itself.

    `88.5GB` as a count of parameters is `88.5B params`: the magnitude stays.
    """
    text = value.span.text
    number = text.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/ ")
    if not number or not number[-1].isdigit() or not number[0].isdigit():
        return None
    letter = _letter(text[len(number) :].strip())
    if dimension == units.BYTES:
        return f"{number}{_BYTE_UNITS.get(letter, 'GiB')}"
    if dimension == units.NUMBER:
        return f"{number}{letter}"
    suffix = _SUFFIX.get(dimension)
    return f"{number}{letter}{suffix}" if suffix else None


def _letter(unit: str) -> str:
    """The magnitude of a unit as written: of `GB` it is B, of `K tok` K."""
    if unit in units.UNITS:
        return _LETTERS[unit[0]] if units.UNITS[unit].dimension == units.BYTES else ""
    return unit[:1] if unit[:1] in _LETTERS or unit[:1] == "B" else ""


def _with_unit(value: Value, dimension: Dimension) -> tuple[Help, ...]:
    """How to give a plain literal the unit that is wanted, or take one away that is not."""
    if not isinstance(value, Number) or value.dimension == units.BYTES:
        return ()
    plain = value.dimension == units.NUMBER and not value.unit
    text = in_dimension(value, dimension) if plain or dimension == units.NUMBER else None
    say = "write the unit" if plain else "write it without a unit"
    return (replacing(f"{say}: `{text}`", value.span, text),) if text else ()


def whole(value: Value) -> int:
    """The number of a field that was checked to be a whole constant."""
    assert isinstance(value, Number), value
    return int(value.value)


def exact(value: Value) -> Fraction:
    """The number of a field that was checked to be a constant."""
    assert isinstance(value, Number), value
    return value.value
