"""The abstract syntax of a spec: what was written, and where.

In: nothing (`build.py` makes these). Out: frozen nodes whose first field is the span that they
were read from. Spelling is kept (`64K tok` stays a number, a magnitude and a unit); meaning is
not here: names are not resolved, units not scaled, fields not checked (`surgery/checking/`).

Expressions are defined in `expressions.py` and exported from here too: write `ast.Call`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from surgery.grammar.expressions import (
    And,
    Arg,
    Attr,
    Binary,
    BinaryOp,
    Call,
    Comment,
    Compare,
    CompareOp,
    Comparison,
    Expr,
    Field,
    Fold,
    FoldKind,
    Ident,
    If,
    Index,
    Is,
    LayerSet,
    ListExpr,
    Magnitude,
    Name,
    Neg,
    Node,
    Not,
    Or,
    Quantity,
    Range,
    Selector,
    Str,
    children,
    walk,
)
from surgery.source import Span

__all__ = [
    "Alternative",
    "And",
    "Apply",
    "Arg",
    "Attr",
    "Binary",
    "BinaryOp",
    "Call",
    "Choose",
    "Comment",
    "Compare",
    "CompareOp",
    "Comparison",
    "Dataset",
    "Edit",
    "Emit",
    "Expect",
    "Expr",
    "Field",
    "Fn",
    "Fold",
    "FoldKind",
    "Ident",
    "If",
    "Import",
    "Index",
    "Input",
    "Is",
    "Item",
    "Keep",
    "LayerSet",
    "Let",
    "ListExpr",
    "Machine",
    "Magnitude",
    "Model",
    "Name",
    "Neg",
    "Node",
    "Not",
    "Objective",
    "Or",
    "Param",
    "Quantity",
    "Range",
    "Recover",
    "Require",
    "Scenario",
    "Score",
    "Selector",
    "Sense",
    "Spec",
    "Statement",
    "Step",
    "Str",
    "children",
    "walk",
]

Sense: TypeAlias = Literal["minimize", "maximize"]


# ---- statements ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement(Node):
    """What all statements have.

    `head` covers the keyword and the name: the part to mark when the statement as a whole is
    meant. `doc` is the text of the `##` comment directly above, or empty.
    """

    head: Span = field(kw_only=True)
    doc: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Import(Statement):
    """`import "path" as name`."""

    path: Str
    name: Ident


@dataclass(frozen=True, slots=True)
class Model(Statement):
    """`model name = call { fields }`."""

    name: Ident
    call: Call
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Input(Statement):
    """`input name: type = default`."""

    name: Ident
    type: Ident
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Let(Statement):
    """`let name = value`."""

    name: Ident
    value: Expr


@dataclass(frozen=True, slots=True)
class Param(Node):
    """`name: type` of a function."""

    name: Ident
    type: Ident


@dataclass(frozen=True, slots=True)
class Fn(Statement):
    """`fn name(params) -> result = body`."""

    name: Ident
    params: tuple[Param, ...]
    result: Ident
    body: Expr


@dataclass(frozen=True, slots=True)
class Machine(Statement):
    """`machine name = value { fields }`."""

    name: Ident
    value: Expr
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Scenario(Statement):
    """`scenario name on machine { fields }`."""

    name: Ident
    machine: Ident
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Dataset(Statement):
    """`dataset name = call { fields }`."""

    name: Ident
    call: Call
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Score(Statement):
    """`score name = call { fields }`."""

    name: Ident
    call: Call
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Apply(Statement):
    """`apply site in selector { fields }`; without a selector, everywhere."""

    site: Ident
    where: Selector | None
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Keep(Node):
    """The alternative that changes nothing."""


@dataclass(frozen=True, slots=True)
class Edit(Node):
    """`name a | b by ranking init method when condition`: one alternative per argument.

    Without arguments it is one alternative.
    """

    name: Ident
    args: tuple[Expr, ...]
    by: Expr | None
    init: Expr | None
    when: Expr | None


Alternative: TypeAlias = Keep | Edit


@dataclass(frozen=True, slots=True)
class Choose(Statement):
    """`choose site in selector { alternatives }`."""

    site: Ident
    where: Selector
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Expect(Statement):
    """`expect @label condition else message`: about the inputs, checked before any work."""

    label: Ident | None
    condition: Expr
    message: Str | None


@dataclass(frozen=True, slots=True)
class Require(Statement):
    """`require @label condition else message`: about the result."""

    label: Ident | None
    condition: Expr
    message: Str | None


@dataclass(frozen=True, slots=True)
class Objective(Statement):
    """`minimize value` or `maximize value`."""

    sense: Sense
    value: Expr


@dataclass(frozen=True, slots=True)
class Step(Node):
    """`kind name { fields }` of a recovery; the name is optional."""

    kind: Ident
    name: Ident | None
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Recover(Statement):
    """`recover { steps }`."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Emit(Statement):
    """`emit kind "path" { fields }`."""

    kind: Ident
    path: Str
    fields: tuple[Field, ...]


Item: TypeAlias = (
    Import
    | Model
    | Input
    | Let
    | Fn
    | Machine
    | Scenario
    | Dataset
    | Score
    | Apply
    | Choose
    | Expect
    | Require
    | Objective
    | Recover
    | Emit
)


@dataclass(frozen=True, slots=True)
class Spec(Node):
    """One file. A statement with a syntax error is missing from `items`."""

    edition: int
    items: tuple[Item, ...]
    description: str
    comments: tuple[Comment, ...]
