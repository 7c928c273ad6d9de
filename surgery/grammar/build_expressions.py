"""Branches of the grammar -> expressions and selectors.

In: the `Branch` of an expression. Out: `ast` nodes with spans in one source. Reports a number too
large for anyone to mean (E0110), because its exact value would not fit in memory.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from fractions import Fraction
from typing import cast

from surgery import catalog
from surgery.diagnostics import Diagnostic, Label, Sink
from surgery.grammar import ast
from surgery.grammar.front import Branch, Part
from surgery.grammar.scan import Lexeme
from surgery.source import Source, Span

_NUMBER = re.compile(
    r"([0-9][0-9_]*(?:\.[0-9]+)?)([eE][-+]?[0-9]+)?([KMBT](?![A-Za-z]))?[ \t]?(.*)"
)
_MAX_DIGITS = 40
_MAX_EXPONENT = 30


def leaf(part: Part) -> Lexeme:
    """The part as the token that the grammar says it is."""
    assert isinstance(part, Lexeme), part
    return part


def branch(part: Part) -> Branch:
    """The part as the branch that the grammar says it is."""
    assert isinstance(part, Branch), part
    return part


@functools.lru_cache(maxsize=4096)
def _literal(text: str) -> tuple[str, ast.Magnitude, str, Fraction | None]:
    """Number, magnitude, unit and value of a literal; no value when it is too large to be meant."""
    match = _NUMBER.fullmatch(text)
    assert match is not None, text
    digits, exponent, magnitude, unit = (match[i] or "" for i in range(1, 5))
    value = None
    if len(digits) <= _MAX_DIGITS and abs(int(exponent[1:][:9] or "0")) <= _MAX_EXPONENT:
        value = Fraction(digits.replace("_", "") + exponent)
    return digits + exponent, cast("ast.Magnitude", magnitude), unit, value


class ExpressionBuilder:
    """Builds the nodes of one source; what it finds wrong goes to the sink."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self.source: Source = source
        self.sink: Sink = sink
        self._rules: dict[str, Callable[[Branch], ast.Expr]] = {
            "quantity": self.quantity,
            "string": self.string,
            "name": lambda b: ast.Name(self.span(b), leaf(b.parts[0]).text),
            "list": lambda b: ast.ListExpr(self.span(b), self.exprs(b.parts)),
            "range": self._range,
            "attr": lambda b: ast.Attr(self.span(b), self.expr(b.parts[0]), self.ident(b.parts[1])),
            "call": self.call,
            "index": lambda b: ast.Index(self.span(b), *self._two(b)),
            "neg": lambda b: ast.Neg(self.span(b), self.expr(b.parts[0])),
            "not": lambda b: ast.Not(self.span(b), self.expr(b.parts[0])),
            "binary": self._binary,
            "compare": self._compare,
            "is": lambda b: self._is(b, negated=False),
            "is_not": lambda b: self._is(b, negated=True),
            "and": lambda b: ast.And(self.span(b), *self._two(b)),
            "or": lambda b: ast.Or(self.span(b), *self._two(b)),
            "if": self._if,
            "fold": self._fold,
        }

    def span(self, part: Part) -> Span:
        """Where a part stands."""
        return Span(self.source, part.start, part.end)

    def ident(self, part: Part) -> ast.Ident:
        """A name that is no expression."""
        return ast.Ident(self.span(part), leaf(part).text)

    def expr(self, part: Part) -> ast.Expr:
        """Any expression."""
        found = branch(part)
        return self._rules[found.rule](found)

    def exprs(self, parts: tuple[Part, ...]) -> tuple[ast.Expr, ...]:
        """Several expressions."""
        return tuple(self.expr(part) for part in parts)

    def _two(self, found: Branch) -> tuple[ast.Expr, ast.Expr]:
        first, second = self.exprs(found.parts)
        return first, second

    def string(self, found: Branch) -> ast.Str:
        """A string without its quotes."""
        return ast.Str(self.span(found), leaf(found.parts[0]).text[1:-1])

    def quantity(self, found: Branch) -> ast.Quantity:
        """A literal with magnitude and unit."""
        number, magnitude, unit, value = _literal(leaf(found.parts[0]).text)
        if value is None:
            self._too_large(self.span(found))
            # Of all numbers the one that fields and counts refuse least: one mistake is enough.
            value = Fraction(1)
        return ast.Quantity(self.span(found), number, magnitude, unit, value)

    def _too_large(self, span: Span) -> None:
        label = Label(span, f"more than {_MAX_DIGITS} digits, or more than {_MAX_EXPONENT} zeros")
        message = "this number is too large, or too exact"
        self.sink.report(
            Diagnostic(catalog.E0110, message, (Label(label.span, label.text, primary=True),))
        )

    def _range(self, found: Branch) -> ast.Range:
        low, high = (self.quantity(branch(part)) for part in found.parts)
        return ast.Range(self.span(found), low, high)

    def call(self, found: Branch) -> ast.Call:
        """A call with its arguments in order."""
        args = tuple(self._arg(branch(part)) for part in found.parts[1:])
        return ast.Call(self.span(found), self.expr(found.parts[0]), args)

    def _arg(self, found: Branch) -> ast.Arg:
        if found.rule == "named":
            name, value = found.parts
            return ast.Arg(self.span(found), self.ident(name), self.expr(value))
        return ast.Arg(self.span(found), None, self.expr(found))

    def _binary(self, found: Branch) -> ast.Binary:
        left, op, right = found.parts
        word = cast("ast.BinaryOp", leaf(op).text)
        return ast.Binary(self.span(found), word, self.span(op), self.expr(left), self.expr(right))

    def _compare(self, found: Branch) -> ast.Compare:
        first, *rest = found.parts
        links = tuple(
            ast.Comparison(
                self.span(op).to(self.span(value)),
                cast("ast.CompareOp", leaf(op).text),
                self.span(op),
                self.expr(value),
            )
            for op, value in zip(rest[::2], rest[1::2], strict=True)
        )
        return ast.Compare(self.span(found), self.expr(first), links)

    def _is(self, found: Branch, *, negated: bool) -> ast.Is:
        value, word = found.parts
        return ast.Is(self.span(found), self.expr(value), self.ident(word), negated)

    def _if(self, found: Branch) -> ast.If:
        condition, then, otherwise = self.exprs(found.parts)
        return ast.If(self.span(found), condition, then, otherwise)

    def _fold(self, found: Branch) -> ast.Fold:
        kind, selector, *body = found.parts
        return ast.Fold(
            self.span(found),
            cast("ast.FoldKind", leaf(kind).text),
            self.selector(selector),
            self.expr(body[0]) if body else None,
        )

    def selector(self, part: Part) -> ast.Selector:
        """A set of layers and what is taken out of it."""
        include, *excludes = (self._layer_set(branch(each)) for each in branch(part).parts)
        return ast.Selector(self.span(part), include, tuple(excludes))

    def _layer_set(self, found: Branch) -> ast.LayerSet:
        clauses = {branch(part).rule: branch(part) for part in found.parts}
        picks = self.exprs(clauses["pick"].parts) if "pick" in clauses else ()
        where = self.expr(clauses["where"].parts[0]) if "where" in clauses else None
        return ast.LayerSet(self.span(found), picks, where)
