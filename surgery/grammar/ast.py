"""The abstract syntax of a spec: what was written, and where.

In: nothing (`build.py` makes these). Out: frozen nodes whose first field is the span that they
were read from. Spelling is kept (`64K tok` stays a number, a magnitude and a unit); meaning is
not here: names are not resolved, units not scaled, fields not checked (`surgery/checking/`).

Expressions are defined in `expressions.py` and exported from here too: write `ast.Call`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
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
    "Unread",
    "children",
    "walk",
]

Sense: TypeAlias = Literal["minimize", "maximize"]


# ---- statements ------------------------------------------------------------------------------


class Statement(Node, frozen=True, kw_only=True):
    """What all statements have.

    `head` covers the keyword and the name: the part to mark when the statement as a whole is
    meant. `doc` is the text of the `##` comment directly above, or empty.
    """

    head: Span
    doc: str = ""


class Import(Statement, frozen=True):
    """`import "path" as name`."""

    path: Str
    name: Ident


class Model(Statement, frozen=True):
    """`model name = call { fields }`."""

    name: Ident
    call: Call
    fields: tuple[Field, ...]


class Input(Statement, frozen=True):
    """`input name: type = default`."""

    name: Ident
    type: Ident
    default: Expr | None


class Let(Statement, frozen=True):
    """`let name = value`."""

    name: Ident
    value: Expr


class Param(Node, frozen=True):
    """`name: type` of a function."""

    name: Ident
    type: Ident


class Fn(Statement, frozen=True):
    """`fn name(params) -> result = body`."""

    name: Ident
    params: tuple[Param, ...]
    result: Ident
    body: Expr


class Machine(Statement, frozen=True):
    """`machine name = value { fields }`."""

    name: Ident
    value: Expr
    fields: tuple[Field, ...]


class Scenario(Statement, frozen=True):
    """`scenario name on machine { fields }`."""

    name: Ident
    machine: Ident
    fields: tuple[Field, ...]


class Dataset(Statement, frozen=True):
    """`dataset name = call { fields }`."""

    name: Ident
    call: Call
    fields: tuple[Field, ...]


class Score(Statement, frozen=True):
    """`score name = call { fields }`."""

    name: Ident
    call: Call
    fields: tuple[Field, ...]


class Apply(Statement, frozen=True):
    """`apply site in selector { fields }`; without a selector, everywhere."""

    site: Ident
    where: Selector | None
    fields: tuple[Field, ...]


class Keep(Node, frozen=True):
    """The alternative that changes nothing."""


class Edit(Node, frozen=True):
    """`name a | b by ranking init method when condition`: one alternative per argument.

    Without arguments it is one alternative.
    """

    name: Ident
    args: tuple[Expr, ...]
    by: Expr | None
    init: Expr | None
    when: Expr | None


Alternative: TypeAlias = Keep | Edit


class Choose(Statement, frozen=True):
    """`choose site in selector { alternatives }`."""

    site: Ident
    where: Selector
    alternatives: tuple[Alternative, ...]


class Expect(Statement, frozen=True):
    """`expect @label condition else message`: about the inputs, checked before any work."""

    label: Ident | None
    condition: Expr
    message: Str | None


class Require(Statement, frozen=True):
    """`require @label condition else message`: about the result."""

    label: Ident | None
    condition: Expr
    message: Str | None


class Objective(Statement, frozen=True):
    """`minimize value` or `maximize value`."""

    sense: Sense
    value: Expr


class Step(Node, frozen=True):
    """`kind name { fields }` of a recovery; the name is optional."""

    kind: Ident
    name: Ident | None
    fields: tuple[Field, ...]


class Recover(Statement, frozen=True):
    """`recover { steps }`."""

    steps: tuple[Step, ...]


class Emit(Statement, frozen=True):
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


class Unread(Node, frozen=True):
    """A statement with a syntax error: its keyword and the name that it would have defined.

    Each is empty when there is none.
    """

    keyword: str
    name: str


class Spec(Node, frozen=True, gc=True, dict=True):
    """One file. What could not be read is in `unread` and missing from `items`.

    `holes` are parts of statements in `items` that could not be read, or are in doubt: whoever
    misses something in a statement with a hole should not complain.
    """

    edition: int
    items: tuple[Item, ...]
    description: str
    comments: tuple[Comment, ...]
    unread: tuple[Unread, ...] = ()
    holes: tuple[Span, ...] = ()

    @cached_property
    def walked(self) -> tuple[tuple[Item, tuple[Node, ...]], ...]:
        """Each statement with all its nodes, for those who look at every one, such as lints."""
        return tuple([(item, tuple(walk(item))) for item in self.items])

    @cached_property
    def alone(self) -> Mapping[int, Comment]:
        """The comments that have a line to themselves, by its number."""
        return {each.span.first.line: each for each in self.comments if not each.trailing}

    def has_hole(self, part: Span) -> bool:
        """Whether something is missing from a part of the text, or in doubt."""
        return any(part.start <= each.start and each.end <= part.end for each in self.holes)

    def in_doubt(self, part: Span) -> bool:
        """Whether a part of the text begins on a line with a hole."""
        text = self.span.source.text
        return any(
            text.rfind("\n", 0, each.start) < part.start and "\n" not in text[each.end : part.start]
            for each in self.holes
        )
