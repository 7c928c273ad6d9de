"""What a place in an expression wants: its dimension, and whether a layer is at hand.

In: a place. Out: the dimension that would make the expression right, by what stands on the other
side of the nearest comparison, sum or difference; `None` where anything could stand. What stands
there is worked out by the check, not here.
"""

from __future__ import annotations

from surgery import units
from surgery.checking.scope import Scope
from surgery.checking.values import Entity, is_condition, is_expr
from surgery.grammar.scan import Lexeme
from surgery.lsp.analysis import Analysis
from surgery.lsp.context import Spot, outside
from surgery.units import Dimension

_SAME = frozenset(("<=", ">=", "==", "!=", "<", ">", "+", "-"))
_FOLDS = frozenset(("count", "sum", "min", "max", "every", "some"))
_STARTS = frozenset(
    [
        "and",
        "or",
        "not",
        "if",
        "then",
        "else",
        "require",
        "expect",
        "minimize",
        "maximize",
        "=",
        ",",
        ":",
    ]
)


def at_layer(at: Spot) -> bool:
    """Whether a layer is at hand: after `where` or `when`, or in the body of a fold."""
    for depth in range(len(at.opened) + 1):
        last = at.opened[-depth] if depth else len(at.before)
        first = at.opened[-depth - 1] + 1 if depth < len(at.opened) else 0
        words = [each.text for each in outside(at.before[first:last])]
        if "where" in words and "except" not in words[words.index("where") :]:
            return True
        if "when" in words:
            return True
        fold = first > 1 and at.before[first - 2].text in _FOLDS and "layers" in words
        if fold and ":" in words:
            return True
        if depth < len(at.opened) and at.before[at.opened[-depth - 1]].text == "{":
            return False
    return False


def expected(analysis: Analysis, at: Spot) -> Dimension | None:
    """The dimension that is wanted at a place."""
    inner = at.inner
    start, op, depth = 0, -1, 0
    for n in range(len(inner) - 1, -1, -1):
        each = inner[n]
        if each.text in (")", "]", "}"):
            depth += 1
        elif each.text in ("(", "[", "{"):
            depth -= 1
        elif depth == 0 and op < 0 and each.text in _SAME:
            op = n
        elif depth == 0 and (each.text in _STARTS or each.text.startswith("@")):
            start = n + 1
            break
    if op <= start:
        return None
    left = _dimension(analysis, at, inner[start:op])
    between = inner[op + 1 :]
    if left is None or not between:
        return left
    if between[-1].text == "*":
        factor = _dimension(analysis, at, between[:-1])
        return None if factor is None else left / factor
    return None


def _dimension(analysis: Analysis, at: Spot, part: tuple[Lexeme, ...]) -> Dimension | None:
    if not part:
        return None
    text = analysis.source.text[part[0].start : part[-1].end]
    value = analysis.ask.text(text, Scope(analysis.module, {}, at_layer(at)))
    if isinstance(value, Entity) and value.type == "score":
        return units.NUMBER
    if value is None or not is_expr(value) or is_condition(value):
        return None
    return value.dimension
