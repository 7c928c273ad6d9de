"""What an expression of a spec can mean, and what kinds of value there are.

In: nothing. Out: the `Value`s that `exprs.py` makes of syntax (numbers and truth values are
the typed expressions of `expr.py`), the names of types, and the words for them in messages. Not
here: any rule about which value may stand where (`types.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeGuard, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from surgery import expr as ex
from surgery import ir, units
from surgery.checking.modules import Module
from surgery.expr import Expr, Pick
from surgery.grammar import ast
from surgery.source import Span
from surgery.units import Dimension


class Failed(Struct, frozen=True):
    """What a mistake leaves behind: whoever needs it keeps silent, for it has been reported."""

    span: Span


class Text(Struct, frozen=True):
    """A string."""

    span: Span
    text: str


class Word(Struct, frozen=True):
    """A word that only means something in its field, such as `fit` or `fp8_e4m3`.

    `step` marks the name of a recovery step.
    """

    span: Span
    text: str
    step: bool = False


class Items(Struct, frozen=True):
    """A list."""

    span: Span
    items: tuple[Value, ...]


class Made(Struct, frozen=True):
    """What a built-in function returns when that is no number: a ranking, an initialiser, ...

    `type` is the name of a type, `name` the function, `args` its arguments by parameter.
    """

    span: Span
    type: str
    name: str
    args: tuple[tuple[str, Value], ...] = ()

    def text(self, parameter: str) -> str | None:
        """The argument of a parameter of type `text`, if it was given."""
        found = dict(self.args).get(parameter)
        return found.text if isinstance(found, Text) else None

    def entity(self, parameter: str) -> str | None:
        """The name of the declared thing given for a parameter."""
        found = dict(self.args).get(parameter)
        return found.name if isinstance(found, Entity) else None


ANY_TEXT = "\0"
"""Stands for any text while a function is checked on its own; no spec can contain it."""

EntityType: TypeAlias = Literal["model", "machine", "scenario", "dataset", "score"]
Decl: TypeAlias = ir.ModelDecl | ir.Machine | ir.Scenario | ir.Dataset | ir.Score


class Entity(Struct, frozen=True):
    """A declared thing, under the name that plans give it. `span` is where it is used."""

    span: Span
    type: EntityType
    name: str
    decl: Decl


class Namespace(Struct, frozen=True):
    """An imported file."""

    span: Span
    name: str
    module: Module


class Function(Struct, frozen=True):
    """A `fn` whose body has been checked."""

    span: Span
    module: Module
    item: ast.Fn


Value: TypeAlias = Expr | Pick | Text | Word | Items | Made | Entity | Namespace | Function | Failed

_V = TypeVar(
    "_V",
    bound="Expr | Pick | Text | Word | Items | Made | Entity | Namespace | Function | Failed",
)


def at(value: _V, span: Span) -> _V:
    """The same value, seen at another place: where an inlined name was used."""
    return replace(value, span=span)


# ---- types -----------------------------------------------------------------------------------

NUMBERS: Mapping[str, Dimension] = {
    "ratio": units.NUMBER,
    "count": units.NUMBER,
    "bytes": units.BYTES,
    "tok": units.TOK,
    "params": units.PARAMS,
    "time": units.TIME,
}
"""Types of numbers, which differ by dimension; a `count` is whole, a `ratio` is no percentage
written without its `%`."""

TYPES: Mapping[str, str] = {
    "ratio": "a ratio such as `92%` or `1.6x`",
    "count": "a whole number",
    "bytes": "a size such as `46.5GiB`",
    "tok": "a number of tokens such as `64K tok`",
    "params": "a count of parameters such as `88B params`",
    "time": "a time such as `12.5 ms`",
    "truth": "a condition",
    "text": "a text in quotes",
    "model": "a model",
    "machine": "a machine",
    "scenario": "a scenario",
    "dataset": "a dataset",
    "score": "a score",
    "ranking": "a ranking such as `channel_contribution(data)`",
    "scales": "KV-cache scales",
}
"""Every type that `input` and `fn` can name, and what a message calls a value of it."""

OTHER_TYPES: Mapping[str, str] = {
    "source": 'a place such as `local("folder")`',
    "recipe": "a way to score such as `swap_one(...)`",
    "divergence": "a divergence such as `kl(logits)`",
    "outputs": "`logits`",
    "init": "an initialiser such as `mean`",
    "device": 'a device such as `device("...")`',
    "factor": "a number such as `1.5`",
    "rate": "a number of bytes per second such as `3.35TB / 1 s`",
    "compute": "a number of operations per second such as `989T / 1 s`",
    "price": "a plain number such as `2.5`",
    "power": "a power such as `700 W`",
}
"""Types of the built-in functions and fields that have no name in specs."""

DIMENSIONS: Mapping[str, Dimension] = {
    **NUMBERS,
    "factor": units.NUMBER,
    "rate": units.BYTES_PER_S,
    "compute": units.NUMBER / units.TIME,
    "price": units.NUMBER,
    "power": units.WATT,
}


_NUMBERS = frozenset(
    (ex.Number, ex.Arith, ex.Metric, ex.Fact, ex.ScoreTotal, ex.Distance, ex.LayerFact)
)


def is_truth(value: Expr) -> bool:
    """Whether an expression is a condition rather than a number."""
    if type(value) in _NUMBERS:
        return False
    match value:
        case ex.Compare() | ex.Logic() | ex.Is():
            return True
        case ex.Fold(kind=kind):
            return kind in ("every", "some")
        case ex.If(yes=yes):
            return is_truth(yes)
        case _:
            return False


_OTHERS = frozenset((Pick, Text, Word, Items, Made, Entity, Namespace, Function, Failed))


def is_expr(value: Value) -> TypeGuard[Expr]:
    """Whether a value is a typed expression: a number or a condition."""
    return type(value) not in _OTHERS


def is_condition(value: Value) -> TypeGuard[Expr]:
    """Whether a value is a condition."""
    return is_expr(value) and is_truth(value)


def noun(value: Value) -> str:
    """What a message calls a value, with its article."""
    if isinstance(value, ex.Number) and value.unit in _RATIOS:
        return _RATIOS[value.unit]
    if is_expr(value):
        return "a truth value" if is_truth(value) else value.dimension.noun
    match value:
        case Word(text=text):
            return f"the word `{text}`"
        case Made(type=kind) | Entity(type=kind):
            return (TYPES.get(kind) or OTHER_TYPES[kind]).split(" such as ")[0]
        case _:
            return _NOUNS[type(value)]


_RATIOS: Mapping[str, str] = {"%": "a percentage", "x": "a ratio", "layers": "a count of layers"}
"""What a plain number was written as."""

_NOUNS: Mapping[type, str] = {
    Text: "a text",
    Items: "a list",
    Pick: "a range of layers",
    Namespace: "an imported file",
    Function: "a function",
    Failed: "a mistake",
}
