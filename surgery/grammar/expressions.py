"""The abstract syntax of expressions and selectors, and what every node has.

In: nothing (`build.py` makes these). Out: frozen nodes whose first field is the span that they
were read from. Statements are in `ast.py`, which also exports everything here.

A node's span leaves out parentheses around the node itself and includes those of its parts, so
the text of an expression's span is an expression.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal, TypeAlias, cast

from msgspec import Struct

from surgery.source import Span

Magnitude: TypeAlias = Literal["", "K", "M", "B", "T"]
FoldKind: TypeAlias = Literal["count", "sum", "min", "max", "every", "some"]
BinaryOp: TypeAlias = Literal["+", "-", "*", "/", "%"]
CompareOp: TypeAlias = Literal["<=", ">=", "==", "!=", "<", ">"]


class Node(Struct, frozen=True, gc=False):
    """Anything that was written at a place.

    A spec has tens of thousands of them, and no circle; so the garbage collector passes them by.
    """

    span: Span


class Ident(Node, frozen=True):
    """A word that names something without being an expression: of a field, a statement, a label.

    The span of a label includes its `@`, the text does not.
    """

    text: str


class Comment(Node, frozen=True):
    """One `#` or `##` comment; `text` is what follows the marks, without one leading space."""

    text: str
    doc: bool
    trailing: bool
    """Whether code stands before it on its line."""


def children(node: Node) -> Iterator[Node]:
    """The nodes directly inside a node, in the order of its fields."""
    return iter(_inside(node))


def _inside(node: Node) -> list[Node]:
    found: list[Node] = []
    for name in _parts(type(node)):
        value: Node | tuple[Node, ...] | None = getattr(node, name)
        if type(value) is tuple:
            found += value
        elif value is not None:
            found.append(cast("Node", value))
    return found


@functools.cache
def _parts(kind: type[Node]) -> tuple[str, ...]:
    """The fields of a type of node that hold nodes: the others are text, numbers and places."""
    hints = {key: hint for each in kind.__mro__ for key, hint in _hints(each)}
    return tuple(name for name in kind.__struct_fields__ if hints[name] not in _PLAIN)


def _hints(kind: type[object]) -> Iterable[tuple[str, object]]:
    return vars(kind).get("__annotations__", {}).items()


_PLAIN = frozenset(
    (
        *("Span", "str", "int", "bool", "Fraction"),
        *("Magnitude", "BinaryOp", "CompareOp", "FoldKind", "Sense", "tuple[Span, ...]"),
    )
)
"""Types of fields that hold no node, as they are written."""


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it, each before what it contains."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        yield each
        inside = _inside(each)
        inside.reverse()
        waiting += inside


# ---- expressions -----------------------------------------------------------------------------


class Quantity(Node, frozen=True):
    """A literal number such as `64K tok`, `92%` or `1.60x`.

    `value` is the number alone, exactly: neither magnitude nor unit is applied, because what `K`
    means depends on the unit.
    """

    number: str
    magnitude: Magnitude
    unit: str
    value: Fraction

    @property
    def unit_span(self) -> Span:
        """Where the unit stands; empty, at the end, when there is none."""
        return Span(self.span.source, self.span.end - len(self.unit), self.span.end)


class Name(Node, frozen=True):
    """A name used as a value."""

    text: str


class Str(Node, frozen=True):
    """A string; `value` is what stands between the quotes."""

    value: str


class ListExpr(Node, frozen=True):
    """`[a, b, c]`."""

    items: tuple[Expr, ...]


class Range(Node, frozen=True):
    """`low..high`, inclusive at both ends."""

    low: Quantity
    high: Quantity


class Attr(Node, frozen=True):
    """`value.name`."""

    value: Expr
    name: Ident


class Arg(Node, frozen=True):
    """One argument of a call, positional when it has no name."""

    name: Ident | None
    value: Expr


class Call(Node, frozen=True):
    """`func(a, name: b)`; arguments in the order in which they were written."""

    func: Expr
    args: tuple[Arg, ...]

    @property
    def positional(self) -> tuple[Expr, ...]:
        """The values of the arguments without a name."""
        return tuple(arg.value for arg in self.args if arg.name is None)

    @property
    def named(self) -> tuple[tuple[Ident, Expr], ...]:
        """The arguments with a name."""
        return tuple((arg.name, arg.value) for arg in self.args if arg.name is not None)


class Index(Node, frozen=True):
    """`value[index]`."""

    value: Expr
    index: Expr


class Neg(Node, frozen=True):
    """`-operand`."""

    operand: Expr


class Not(Node, frozen=True):
    """`not operand`."""

    operand: Expr


class Binary(Node, frozen=True):
    """`left op right` for the operators of arithmetic."""

    op: BinaryOp
    op_span: Span
    left: Expr
    right: Expr


class Comparison(Node, frozen=True):
    """One link `op value` of a chain of comparisons."""

    op: CompareOp
    op_span: Span
    value: Expr


class Compare(Node, frozen=True):
    """`first op value op value ...`: true when every neighbouring pair compares true."""

    first: Expr
    rest: tuple[Comparison, ...]


class Is(Node, frozen=True):
    """`value is word` or `value is not word`."""

    value: Expr
    word: Ident
    negated: bool


class And(Node, frozen=True):
    """`left and right`."""

    left: Expr
    right: Expr


class Or(Node, frozen=True):
    """`left or right`."""

    left: Expr
    right: Expr


class If(Node, frozen=True):
    """`if condition then then else otherwise`."""

    condition: Expr
    then: Expr
    otherwise: Expr


class Fold(Node, frozen=True):
    """`count(layers where ...)`, `sum(layers: body)` and their like."""

    kind: FoldKind
    selector: Selector
    body: Expr | None


Expr: TypeAlias = (
    Quantity
    | Name
    | Str
    | ListExpr
    | Range
    | Attr
    | Call
    | Index
    | Neg
    | Not
    | Binary
    | Compare
    | Is
    | And
    | Or
    | If
    | Fold
)


# ---- selectors and fields --------------------------------------------------------------------


class LayerSet(Node, frozen=True):
    """`layers[picks] where ...`; no picks means every layer."""

    picks: tuple[Expr, ...]
    where: Expr | None


class Selector(Node, frozen=True):
    """`include except a except b`."""

    include: LayerSet
    excludes: tuple[LayerSet, ...]


class Field(Node, frozen=True):
    """`name = value` in a block."""

    name: Ident
    value: Expr
