"""Formulas of requirements and of the objective, lowered to exact linear forms.

In: nodes of `expr.py` about the result. Out: `Linear` forms and `Clause`s over the columns. What
does not depend on the choices is evaluated (`evaluate.py`); metrics add over blocks, so a
candidate's coefficient is the metric of its cost alone; folds over layers become sums of
per-layer tables.

Raises `Stop`: E0502 for what is not linear (at the smallest such part), E0503 for a requirement
that is false whatever is chosen, E0505 for a strict comparison of a score, E0011 for metrics
without a cost model, E0701 and E0702 for missing and non-finite scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, evaluate, facts
from surgery.affine import RATIOS, walk
from surgery.expr import (
    Arith,
    Compare,
    Distance,
    Expr,
    Fold,
    If,
    Is,
    LayerFact,
    Logic,
    Metric,
    Number,
    ScoreTotal,
)
from surgery.facts import Context, stop
from surgery.ir import Cost, Measured
from surgery.solving import folds
from surgery.solving.columns import Columns
from surgery.solving.linear import (
    ZERO,
    Clause,
    Extreme,
    Linear,
    Ratio,
    Value,
    constant,
    granularity,
)
from surgery.solving.refusals import constant_false, disjunction, not_linear, product
from surgery.source import Span
from surgery.units import NUMBER, Dimension

_FLIPPED: Mapping[str, str] = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "==", "!=": "!="}
_LINKS: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}
_DENIED: Mapping[str, str] = {"<=": ">", ">=": "<", "<": ">=", ">": "<=", "==": "!=", "!=": "=="}


class Lowering(Struct, frozen=True):
    """Lowers formulas over one space; grids of pairs are added to `columns` as they are needed.

    `context` is that of the parent model (`evaluate.parent_context`).
    """

    columns: Columns
    context: Context
    measured: Measured

    # ---- numbers -----------------------------------------------------------------------------

    def number(self, expr: Expr) -> Value:
        """The value of a formula as a function of the choices."""
        if not depends(expr):
            return constant(evaluate.number(expr, self.context))
        match expr:
            case Metric():
                return self._metric(expr)
            case ScoreTotal():
                return self._score(expr)
            case Distance():
                return self._settled(folds.apart(expr, self.columns))
            case Arith():
                return self._arith(expr)
            case Fold():
                return self._fold(expr)
            case If() if not depends(expr.test):
                return self.number(expr.yes if evaluate.holds(expr.test, self.context) else expr.no)
            case _:
                raise not_linear(expr.span, "this is not linear in the choices")

    def linear(self, expr: Expr) -> Linear:
        """The value of a formula that must be linear; E0502 otherwise."""
        value = self.number(expr)
        if isinstance(value, Linear):
            return value
        what = "a ratio" if isinstance(value, Ratio) else "a least or greatest value"
        raise not_linear(expr.span, f"{what} of choice-dependent values is not linear")

    def _settled(self, linear: Linear) -> Linear:
        return linear.settled(self.columns.groups)

    def _metric(self, expr: Metric) -> Linear | Ratio:
        facts.require_batch(expr, self.context)
        if expr.name in RATIOS:
            # What is served in the time of one request by that time, which adds over blocks.
            context = facts.rates(self.context)
            at = facts.setting(expr, (), context)
            bottom = replace(self, context=context)._metric(replace(expr, name="service"))
            assert isinstance(bottom, Linear)
            return Ratio(constant(facts.served(expr, at)), bottom)
        space = self.columns.space

        # Layers are alike: a few hundred candidates have a dozen different costs.
        @cache
        def worth(cost: Cost) -> Fraction:
            return facts.metric(expr, replace(self.context, result=(cost,)))

        terms = {j: worth(c.cost) for j, c in enumerate(self.columns.candidates)}
        return self._settled(Linear(worth(space.fixed), terms))

    def _score(self, expr: ScoreTotal) -> Linear:
        damage = self.measured.damage.get(expr.score, {})
        terms: dict[int, Fraction] = {}
        for column, candidate in enumerate(self.columns.candidates):
            found = damage.get(candidate.address)
            if found is None:
                message = f"the score `{expr.score}` of `{candidate.address}` is not measured"
                raise stop(catalog.E0701, expr.span, message, "needs it")
            if not math.isfinite(found):
                message = f"the score `{expr.score}` of `{candidate.address}` is {found}"
                raise stop(catalog.E0702, expr.span, message, "needs it")
            terms[column] = Fraction(found)
        return self._settled(Linear(ZERO, terms))

    # ---- arithmetic --------------------------------------------------------------------------

    def _arith(self, expr: Arith) -> Value:
        left, right = self.number(expr.left), self.number(expr.right)
        match expr.op:
            case "+" | "-":
                return self._sum(expr, left, right)
            case "*":
                if (factor := _fixed(right)) is not None:
                    return self._scaled(expr, left, factor)
                if (factor := _fixed(left)) is not None:
                    return self._scaled(expr, right, factor)
                raise product(expr)
            case "/":
                return self._quotient(expr, left, right)
            case _:
                raise not_linear(expr.span, "a remainder of a choice-dependent value")

    def _sum(self, expr: Arith, left: Value, right: Value) -> Value:
        sign = 1 if expr.op == "+" else -1
        match left, right:
            case Linear(), Linear():
                return self._settled(left.plus(right, sign))
            case Ratio(), Linear() if not right.terms:
                return Ratio(left.top.plus(left.bottom, sign * right.constant), left.bottom)
            case Linear(), Ratio() if not left.terms:
                top = right.bottom.times(left.constant).plus(right.top, sign)
                return Ratio(top, right.bottom)
            case _:
                raise not_linear(expr.span, "this sum has no common linear form")

    def _scaled(self, expr: Arith, value: Value, factor: Fraction) -> Value:
        match value:
            case Linear():
                return self._settled(value.times(factor))
            case Ratio():
                return Ratio(self._settled(value.top.times(factor)), value.bottom)
            case Extreme():
                raise not_linear(expr.span, "a multiple of a least or greatest value")

    def _quotient(self, expr: Arith, left: Value, right: Value) -> Value:
        if (divisor := _fixed(right)) is not None:
            if divisor == 0:
                raise stop(catalog.E0308, expr.right.span, "this divides by zero", "this is 0")
            return self._scaled(expr, left, 1 / divisor)
        if not (isinstance(left, Linear) and isinstance(right, Linear)):
            raise not_linear(expr.span, "this quotient is not a ratio of linear values")
        if right.settled(self.columns.groups).constant > 0:
            return Ratio(left, right)
        if self._settled(right.times(-1)).constant > 0:
            return Ratio(left.times(-1), right.times(-1))
        raise not_linear(expr.right.span, "this denominator may be zero")

    # ---- folds -------------------------------------------------------------------------------

    def _fold(self, expr: Fold) -> Value:
        body = expr.body
        match expr.kind:
            case "count":
                return self._tally(expr, lambda c: body is None or evaluate.holds(body, c))
            case "sum" if body is not None:
                form = folds.total(expr, self.columns, self.context, _number_of(body))
                return self._settled(form)
            case "min" | "max" if body is not None:
                return folds.extreme(expr, self.columns, self.context, _number_of(body))
            case _:
                raise ValueError(f"no number: {expr.span.text}")

    def _tally(self, expr: Fold, test: Callable[[Context], bool]) -> Linear:
        """In how many of the selected layers of the result a test holds."""
        form = folds.total(expr, self.columns, self.context, lambda c: Fraction(test(c)))
        return self._settled(form)

    # ---- tests -------------------------------------------------------------------------------

    def clauses(self, index: int, label: str, expr: Expr) -> tuple[Clause, ...]:
        """The comparisons that a requirement comes to, all of which must hold."""
        found = tuple(self._test(expr, True))
        return tuple(replace(clause, requirement=index, label=label) for clause in found)

    def _test(self, expr: Expr, wanted: bool) -> Iterator[Clause]:
        """The clauses that say `expr is wanted`."""
        if not depends(expr):
            if evaluate.holds(expr, self.context) is not wanted:
                raise constant_false(
                    expr.span, evaluate.sides(expr, self.context) if wanted else ()
                )
            return
        match expr:
            case Compare():
                yield from self._compare(expr, wanted)
            case Logic():
                yield from self._logic(expr, wanted)
            case If() if not depends(expr.test):
                truth = evaluate.holds(expr.test, self.context)
                yield from self._test(expr.yes if truth else expr.no, wanted)
            case Fold(kind="every" | "some"):
                yield self._quantified(expr, wanted)
            case _:
                raise not_linear(expr.span, "this test is not linear in the choices")

    def _logic(self, expr: Logic, wanted: bool) -> Iterator[Clause]:
        if expr.op == "not":
            yield from self._test(expr.operands[0], not wanted)
            return
        # What is known drops out: only what depends on the choices must be a conjunction.
        known = [o for o in expr.operands if not depends(o)]
        open_ = [o for o in expr.operands if depends(o)]
        absorbing = expr.op == "or"
        if any(evaluate.holds(o, self.context) is absorbing for o in known):
            if absorbing is not wanted:
                raise constant_false(expr.span)
            return
        if len(open_) > 1 and absorbing is wanted:
            raise disjunction(expr)
        for operand in open_:
            yield from self._test(operand, wanted)

    def _quantified(self, expr: Fold, wanted: bool) -> Clause:
        """`every` has no exceptions, `some` has an example; denied, the other way round."""
        body, every = expr.body, expr.kind == "every"
        hits = self._tally(expr, lambda c: body is None or evaluate.holds(body, c) is not every)
        op, limit = ("==", 0) if every is wanted else (">=", 1)
        unit = "exceptions" if every else "layers"
        return self._clause(expr.span, (hits, constant(limit)), op, (NUMBER, unit))

    def _compare(self, expr: Compare, wanted: bool) -> Iterator[Clause]:
        if not wanted and len(expr.rest) > 1:
            raise not_linear(expr.span, "the denial of a chain is a choice between rows")
        left = expr.first
        for written, right in expr.rest:
            span = left.span.to(right.span) if left.span.source is right.span.source else expr.span
            op = written if wanted else _DENIED[written]
            if op == "!=":
                raise not_linear(span, "`!=` is a choice between two rows")
            if op in "<>" and any(isinstance(n, ScoreTotal) for n in walk(expr)):
                message = "a strict comparison means nothing between measured values"
                raise stop(catalog.E0505, span, message, f"write `{op}=`")
            sides, bound = (self.number(left), self.number(right)), right
            if _fixed(sides[0]) is not None and _fixed(sides[1]) is None:
                op, sides, bound = _FLIPPED[op], (sides[1], sides[0]), left
            clause = self._clause(span, sides, op, (left.dimension, _unit(left, right)))
            yield replace(clause, bound=bound.span if isinstance(bound, Number) else None)
            left = right

    def _clause(
        self, span: Span, sides: tuple[Value, Value], op: str, printed: tuple[Dimension, str]
    ) -> Clause:
        """`value op limit` with its rows; E0503 if no choice can change that it is false."""
        value, limit = sides
        match value, limit:
            case Extreme(), Linear() if not limit.terms:
                rows = self._extreme_rows(value, op, limit.constant)
            case Linear(), Linear():
                rows = self._rows(value.plus(limit, -1), op)
            case Ratio(), Linear() if not limit.terms:
                rows = self._rows(value.top.plus(value.bottom, -limit.constant), op)
            case _:
                raise not_linear(span, "these two are not comparable by a linear row")
        clause = Clause(0, "", span, value, op, limit, rows, *printed)
        if any(not row.terms and row.constant > 0 for row in rows):
            shown = clause.evidence(())
            text = " ".join(span.text.split())
            raise constant_false(span, ((text, f"{shown.value} {shown.op} {shown.limit}"),))
        return clause

    def _rows(self, difference: Linear, op: str) -> tuple[Linear, ...]:
        """`difference op 0` as forms that must be <= 0."""
        row = self._settled(difference.times(-1) if op in (">=", ">") else difference)
        match op:
            case "==":
                return (row, self._settled(difference.times(-1)))
            case "<" | ">":
                return (_strict(row),)
            case _:
                return (row,)

    def _extreme_rows(self, value: Extreme, op: str, limit: Fraction) -> tuple[Linear, ...]:
        """Bounds on a least or greatest value: none, or at least one, lies beyond the limit."""
        if op == "==":
            both = (self._extreme_rows(value, side, limit) for side in ("<=", ">="))
            return tuple(row for rows in both for row in rows)
        fold, worth = value.fold, _number_of(value.fold.body)

        def test(c: Context) -> bool:
            return _LINKS[op](worth(c), limit)

        if (fold.kind == "min") is (op in (">=", ">")):
            return self._rows(self._tally(fold, lambda c: not test(c)), "<=")
        hits = self._tally(fold, test)
        return self._rows(hits.plus(constant(1), -1), ">=")


# ---- helpers -------------------------------------------------------------------------------


def _number_of(body: Expr | None) -> Callable[[Context], Fraction]:
    """Evaluates the body of a fold on the layer at hand."""
    if body is None:
        raise ValueError("this fold needs a body")
    return lambda context: evaluate.number(body, context)


def depends(expr: Expr) -> bool:
    """Whether a formula about the result depends on what is chosen."""
    return any(
        isinstance(node, ScoreTotal | Distance | Fold | LayerFact | Is)
        or (isinstance(node, Metric) and not node.parent)
        for node in walk(expr)
    )


def _fixed(value: Value) -> Fraction | None:
    """The number that a form is whatever is chosen, if it is one."""
    return value.constant if isinstance(value, Linear) and not value.terms else None


def _strict(row: Linear) -> Linear:
    """`row < 0` as a form that must be <= 0: values differ by whole steps."""
    if not row.terms:
        return row if row.constant else constant(1)
    step = granularity(row)
    # The largest attainable value below 0 is (constant mod step) - step, or -step when aligned.
    return Linear(row.constant - (row.constant % step) + step, row.terms)


def _unit(left: Expr, right: Expr) -> str:
    """The unit that the user wrote on either side of a comparison."""
    numbers = [n for side in (right, left) for n in walk(side) if isinstance(n, Number)]
    plain = [side for side in (right, left) if isinstance(side, Number)]
    for node in (*plain, *numbers):
        if node.unit and node.dimension == left.dimension and (node in plain or node.unit == "x"):
            return node.unit
    return ""
