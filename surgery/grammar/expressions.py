"""The abstract syntax of expressions and selectors, and what every node has.

In: nothing (`build.py` makes these). Out: frozen nodes whose first field is the span that they
were read from. Statements are in `ast.py`, which also exports everything here.

A node's span leaves out parentheses around the node itself and includes those of its parts, so
the text of an expression's span is an expression.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Literal, TypeAlias, cast

from surgery.source import Span

Magnitude: TypeAlias = Literal["", "K", "M", "B", "T"]
FoldKind: TypeAlias = Literal["count", "sum", "min", "max", "every", "some"]
BinaryOp: TypeAlias = Literal["+", "-", "*", "/", "%"]
CompareOp: TypeAlias = Literal["<=", ">=", "==", "!=", "<", ">"]


@dataclass(frozen=True, slots=True)
class Node:
    """Anything that was written at a place."""

    span: Span


@dataclass(frozen=True, slots=True)
class Ident(Node):
    """A word that names something without being an expression: of a field, a statement, a label.

    The span of a label includes its `@`, the text does not.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Comment(Node):
    """One `#` or `##` comment; `text` is what follows the marks, without one leading space."""

    text: str
    doc: bool
    trailing: bool
    """Whether code stands before it on its line."""


def children(node: Node) -> Iterator[Node]:
    """The nodes directly inside a node, in the order of its fields."""
    for each in fields(node):
        value: object = getattr(node, each.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            parts = cast("tuple[object, ...]", value)
            yield from (part for part in parts if isinstance(part, Node))


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it, each before what it contains."""
    yield node
    for child in children(node):
        yield from walk(child)


# ---- expressions -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantity(Node):
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


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A name used as a value."""

    text: str


@dataclass(frozen=True, slots=True)
class Str(Node):
    """A string; `value` is what stands between the quotes."""

    value: str


@dataclass(frozen=True, slots=True)
class ListExpr(Node):
    """`[a, b, c]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Range(Node):
    """`low..high`, inclusive at both ends."""

    low: Quantity
    high: Quantity


@dataclass(frozen=True, slots=True)
class Attr(Node):
    """`value.name`."""

    value: Expr
    name: Ident


@dataclass(frozen=True, slots=True)
class Arg(Node):
    """One argument of a call, positional when it has no name."""

    name: Ident | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
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


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`value[index]`."""

    value: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Neg(Node):
    """`-operand`."""

    operand: Expr


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`not operand`."""

    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`left op right` for the operators of arithmetic."""

    op: BinaryOp
    op_span: Span
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """One link `op value` of a chain of comparisons."""

    op: CompareOp
    op_span: Span
    value: Expr


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """`first op value op value ...`: true when every neighbouring pair compares true."""

    first: Expr
    rest: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Is(Node):
    """`value is word` or `value is not word`."""

    value: Expr
    word: Ident
    negated: bool


@dataclass(frozen=True, slots=True)
class And(Node):
    """`left and right`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Or(Node):
    """`left or right`."""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class If(Node):
    """`if condition then then else otherwise`."""

    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Fold(Node):
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


@dataclass(frozen=True, slots=True)
class LayerSet(Node):
    """`layers[picks] where ...`; no picks means every layer."""

    picks: tuple[Expr, ...]
    where: Expr | None


@dataclass(frozen=True, slots=True)
class Selector(Node):
    """`include except a except b`."""

    include: LayerSet
    excludes: tuple[LayerSet, ...]


@dataclass(frozen=True, slots=True)
class Field(Node):
    """`name = value` in a block."""

    name: Ident
    value: Expr
