"""Exact linear forms over the columns of the problem, and the requirements made of them.

In: coefficients as `Fraction`s. Out: `Linear`, `Ratio`, `Extreme` (what a formula is worth for
given choices) and `Clause` (one comparison of a requirement as rows `body <= 0`). A column is a
0/1 variable: first the candidates in canonical order, then products of two candidates of one
layer. Columns come in groups of which exactly one is active. Not here: formulas (`lower.py`) or
floating point (`standard.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import TypeAlias

from msgspec import Struct

from surgery.expr import Fold
from surgery.ir import Evidence
from surgery.source import Span
from surgery.units import NUMBER, Dimension, format_quantity

ZERO = Fraction(0)
Groups: TypeAlias = Sequence[Sequence[int]]
"""Columns of which exactly one is active, group by group."""


class Linear(Struct, frozen=True):
    """`constant` plus the coefficients of the active columns."""

    constant: Fraction
    terms: Mapping[int, Fraction]

    def at(self, active: Collection[int]) -> Fraction:
        """The value when exactly the columns in `active` are 1."""
        return self.constant + sum((self.terms.get(j, ZERO) for j in active), ZERO)

    def plus(self, other: Linear, factor: Fraction | int = 1) -> Linear:
        """`self + factor * other`."""
        terms = dict(self.terms)
        for column, coefficient in other.terms.items():
            terms[column] = terms.get(column, ZERO) + factor * coefficient
        kept = {column: value for column, value in sorted(terms.items()) if value}
        return Linear(self.constant + factor * other.constant, kept)

    def times(self, factor: Fraction | int) -> Linear:
        """`factor * self`."""
        return constant(0).plus(self, factor)

    def settled(self, groups: Groups) -> Linear:
        """The same values with the least coefficient of every group moved to the constant.

        All coefficients are then >= 0 and the constant is a lower bound; a form that does not
        depend on the choices has no terms.
        """
        total, terms = self.constant, dict[int, Fraction]()
        for group in groups:
            if self.terms.keys().isdisjoint(group):
                continue
            values = [self.terms.get(column, ZERO) for column in group]
            least = min(values)
            total += least
            terms.update((j, v - least) for j, v in zip(group, values, strict=True) if v != least)
        return Linear(total, terms)


def constant(value: Fraction | int) -> Linear:
    """The form that is `value` whatever is chosen."""
    return Linear(Fraction(value), {})


def granularity(linear: Linear) -> Fraction:
    """The greatest step that divides every coefficient: values differ by multiples of it."""
    bottom = lcm(*(value.denominator for value in linear.terms.values()))
    return Fraction(gcd(*(int(value * bottom) for value in linear.terms.values())), bottom)


class Ratio(Struct, frozen=True):
    """`top / bottom`, where `bottom` is positive for every choice."""

    top: Linear
    bottom: Linear

    def at(self, active: Collection[int]) -> Fraction:
        """The value for given choices."""
        return self.top.at(active) / self.bottom.at(active)


class Extreme(Struct, frozen=True):
    """The least or greatest value of a fold over layers."""

    fold: Fold
    members: tuple[tuple[frozenset[int], Fraction], ...]
    """(columns that must all be active, value) of every layer and choice in the selection."""

    def at(self, active: Collection[int]) -> Fraction | None:
        """The value for given choices, `None` over no layers."""
        on = set(active)
        values = [value for columns, value in self.members if columns <= on]
        if not values:
            return None
        return min(values) if self.fold.kind == "min" else max(values)


Value: TypeAlias = Linear | Ratio | Extreme


class Clause(Struct, frozen=True):
    """One comparison of a requirement: what is compared, how it prints, and its exact rows.

    Every row is a form that must be <= 0; an equality has two. `requirement` is the index of the
    requirement in the spec, `label` its name in plans (`@size`, or `@1` when it has none), `span`
    the comparison, `bound` the number in it that limits the value, where that is written out.
    """

    requirement: int
    label: str
    span: Span
    value: Value
    op: str
    limit: Value
    rows: tuple[Linear, ...]
    dimension: Dimension = NUMBER
    unit: str = ""
    bound: Span | None = None

    def evidence(self, active: Collection[int]) -> Evidence:
        """What the comparison comes to for given choices, as printed."""
        value, limit = self.shown(self.value.at(active)), self.shown(self.limit.at(active))
        return Evidence(self.label, value, self.op, limit)

    def shown(self, value: Fraction | None) -> str:
        """A value as plans print it, in the unit that the spec uses."""
        if value is None:
            return "none"
        text = format_quantity(value, self.dimension, self.unit)
        if self.unit != "exceptions":
            return text
        return f"{text} exception" if value == 1 else f"{text} exceptions"

    def holds(self, active: Collection[int]) -> bool:
        """Whether every row holds exactly."""
        return all(row.at(active) <= 0 for row in self.rows)
