"""Which formulas can be bounded over several batches at once.

In: an expression of the result, scenarios whose batch is open between two numbers. Out: whether
taking throughput, the price of tokens and the length of lines at the larger batch, and all other
times and bytes at the smaller one, makes it no harder to satisfy, and no worse to optimise, than
any batch between them. That is so where times, bytes and prices are asked to be small and
throughput to be large, as they nearly always are: for given blocks, times and bytes grow with the
batch, and the time that a token takes of the machine falls (`tests/test_cost_laws.py`), and so
do clients in line for one that is served. Refuses nothing: what it cannot tell is `False`. Not
here: the bounds themselves (`facts.py`), the search over batches (`passes/batches.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction

from msgspec import Struct

from surgery.affine import RATIOS, walk
from surgery.expr import Arith, Compare, Expr, Logic, Metric, Number
from surgery.solving.lower import depends


class Optimism(Struct, frozen=True):
    """`scenarios` have no batch yet; `number` evaluates what does not depend on the choices.

    Times that are measured for one batch would break the order of batches. No scenario with an
    open batch has any: tables are refused there (E0707), and other sources leave it out.
    """

    scenarios: Collection[str]
    number: Callable[[Expr], Fraction]

    def holds(self, test: Expr) -> bool:
        """Whether a test is no harder at the bounds."""
        if not self._touches(test):
            return True
        match test:
            case Logic(op="and", operands=operands):
                return all(self.holds(operand) for operand in operands)
            case Compare(first=first, rest=rest):
                left = first
                for op, right in rest:
                    if not self._link(left, op, right):
                        return False
                    left = right
                return True
            case _:
                return False

    def _link(self, left: Expr, op: str, right: Expr) -> bool:
        if op in ("<=", "<"):
            return self.least(left, 1) and self.least(right, -1)
        return op in (">=", ">") and self.least(left, -1) and self.least(right, 1)

    def least(self, value: Expr, sign: int) -> bool:
        """Whether `sign * value` is at the bounds no more than at any batch between them."""
        if not self._touches(value):
            return True
        match value:
            case Metric(name=name):
                return (sign > 0) is (name not in RATIOS)
            case Arith(op="+", left=left, right=right):
                return self.least(left, sign) and self.least(right, sign)
            case Arith(op="-", left=left, right=right):
                return self.least(left, sign) and self.least(right, -sign)
            case Arith(op="*" | "/", left=left, right=right) if not depends(right):
                return self.least(left, sign * self._sign(right))
            case Arith(op="*", left=left, right=right) if not depends(left):
                return self.least(right, sign * self._sign(left))
            case _:
                return False

    def _sign(self, factor: Expr) -> int:
        value = factor.value if isinstance(factor, Number) else self.number(factor)
        return 1 if value >= 0 else -1

    def _touches(self, node: Expr) -> bool:
        return any(
            isinstance(part, Metric) and not part.parent and part.scenario in self.scenarios
            for part in walk(node)
        )
