"""The parser proper: the kinds of the lexemes of a statement -> its `Shape`, or where it stops.

In: for each lexeme the terminals that it can be. Out: a tree of lexemes by number. It runs the
tables that `generate.py` has made of the grammar, an LALR(1) automaton: no step back, one lexeme
ahead. Not here: texts and places (`front.py`).

What a word is depends on the place: a keyword where one can stand, a name everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from surgery.grammar.tables import END, Rule, tables

Kinds: TypeAlias = tuple[str, ...]
"""The terminals that a lexeme can be, the likeliest first; none for what means nothing."""


class Shape(Struct, frozen=True, gc=False):
    """What one rule of the grammar matched, from the first to the last of its lexemes."""

    rule: str
    first: int
    last: int
    parts: tuple[Shape | int, ...]


class Stopped(Struct, frozen=True):
    """The first lexeme that makes no sense; their number is that of the end.

    `kind` is the terminal that was found: `END`, or empty when it is nothing that the language
    knows. `accepts` are the terminals that would have been accepted.
    """

    at: int
    kind: str
    accepts: frozenset[str]


_Value: TypeAlias = Shape | int | list[Shape | int]


def shape_of(kinds: Iterable[Kinds]) -> Shape | Stopped:
    """The shape of statements; there must be a lexeme. Looks no further than it can read."""
    stack = _Stack()
    for each in kinds:
        if not stack.take(each):
            return Stopped(stack.count, each[0] if each else "", stack.accepts())
    return stack.finish() or Stopped(stack.count, END, stack.accepts())


def accepts(kinds: Iterable[Kinds]) -> frozenset[str]:
    """The terminals that could come after these, of which none is wrong."""
    stack = _Stack()
    for each in kinds:
        stack.take(each)
    return stack.accepts()


class _Stack:
    """The automaton at work: its states, and what has been read to reach each but the first.

    A value is one part, or several for a rule that makes no branch. Where it begins is kept apart:
    parentheses belong to the place of a value, but not to that of its branch.
    """

    def __init__(self) -> None:
        known = tables()
        self.end: int = known.end
        self.rules: tuple[Rule, ...] = known.rules
        self.rows: tuple[dict[str, int], ...] = known.rows
        self.count = 0
        self.states: list[int] = [0]
        self.values: list[_Value] = []
        self.starts: list[int] = []

    def take(self, kinds: Kinds) -> bool:
        """Go on by one lexeme, as the first of its kinds that the state knows; whether it can."""
        row = self.rows[self.states[-1]]
        for kind in kinds:
            if kind in row:
                break
        else:
            return False
        state = self._reduced(kind)
        if state:
            self.states.append(state)
            self.values.append(self.count)
            self.starts.append(self.count)
            self.count += 1
        return state > 0

    def finish(self) -> Shape | None:
        """The shape of everything, if the text may end here."""
        self._reduced(END)
        if self.states[-1] != self.end:
            return None
        (shape,) = self.values
        assert isinstance(shape, Shape), shape
        return shape

    def accepts(self) -> frozenset[str]:
        """The terminals that could come next."""
        known = self.rows[self.states[-1]]
        return frozenset(kind for kind in known if kind.isupper() and self._accepted(kind))

    def _accepted(self, kind: str) -> bool:
        """Whether reducing leads to a state that takes a token: not every row says so at once."""
        rows, rules = self.rows, self.rules
        kept, above = len(self.states), list[int]()
        while (action := rows[above[-1] if above else self.states[kept - 1]].get(kind, 0)) < 0:
            rule = rules[~action]
            kept -= max(0, rule.size - len(above))
            del above[max(0, len(above) - rule.size) :]
            above.append(rows[above[-1] if above else self.states[kept - 1]][rule.origin])
            if kind == END and above[-1] == self.end:
                return True
        return action > 0

    def _reduced(self, kind: str) -> int:
        """Reduce until a token can be taken; the state that it leads to, or 0 if it cannot be."""
        rows, rules, states = self.rows, self.rules, self.states
        while (action := rows[states[-1]].get(kind, 0)) < 0:
            rule = rules[~action]
            if rule.size > 1:
                self._reduce(rule)
            elif rule.tree:
                self.values[-1] = self._made(rule, self.values[-1:])
            # By far the most rules only give another name to what stands on top.
            states[-1] = rows[states[-2]][rule.origin]
        return action

    def _reduce(self, rule: Rule) -> None:
        """Replace the topmost values by what the rule makes of them."""
        size = rule.size
        made = self._made(rule, self.values[-size:])
        del self.values[1 - size :], self.starts[1 - size :], self.states[1 - size :]
        self.values[-1] = made

    def _made(self, rule: Rule, values: list[_Value]) -> _Value:
        parts: list[Shape | int] = []
        for n in rule.kept:
            value = values[n]
            if isinstance(value, list):
                # Only the first can be long, and what it was is needed no more.
                parts = parts + value if parts else value
            else:
                parts.append(value)
        if rule.tree:
            return Shape(rule.tree, self.starts[-rule.size], self.count - 1, tuple(parts))
        return parts[0] if len(parts) == 1 else parts
