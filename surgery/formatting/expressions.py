"""Expressions and selectors -> `Doc`s.

In: nodes, and a `Reader` that stands at their first token. Out: `Doc`s; the reader stands behind
their last token. What is too long breaks at its outermost level first: before every operator of a
chain, at every item between brackets.

The tree has no parentheses, the tokens have: a pair around an operation inside another is kept,
because it may help to read; a pair around a whole value or around a single thing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from surgery.formatting.document import (
    BLANK,
    HARD,
    LINE,
    NOTHING,
    SOFT,
    SPACE,
    Doc,
    Either,
    Line,
    Standing,
    Text,
    Trailing,
    concat,
    group,
    indent,
    joined,
)
from surgery.formatting.tokens import Gap, Reader
from surgery.grammar import ast
from surgery.grammar.scan import Lexeme

_SINGLE = (
    ast.Quantity,
    ast.Name,
    ast.Str,
    ast.ListExpr,
    ast.Range,
    ast.Attr,
    ast.Call,
    ast.Index,
    ast.Fold,
)
"""What needs no parentheses anywhere."""

_Item: TypeAlias = ast.Arg | ast.Param | ast.Expr
_Chain: TypeAlias = ast.Binary | ast.And | ast.Or | ast.Compare
_Operation: TypeAlias = ast.Neg | ast.Not | ast.Is | ast.If | _Chain


class ExpressionPrinter:
    """Prints the expressions of one text."""

    def __init__(self, text: str, lexemes: Sequence[Lexeme]) -> None:
        self.reader: Reader = Reader(text, lexemes)

    # ---- tokens and comments -----------------------------------------------------------------

    def token(self, expected: str | None = None) -> Doc:
        """The next token, after the comments before it."""
        before = self.comments()
        text = Text(self.reader.take(expected).replace("\t", " "))
        return text if before is NOTHING else concat(before, text)

    def comments(self) -> Doc:
        """The comments before the next token; `NOTHING` if there are none."""
        notes = self.reader.gap().notes
        if not notes:
            return NOTHING
        return joined(Trailing(n.text) if n.trailing else Standing(n.text) for n in notes)

    def lines(self, gap: Gap, line: Doc, *, first: bool = False, blanks: bool = True) -> Doc:
        """The way from one item to the next: `line`, or the lines of the comments between them.

        `blanks` keeps blank lines, except before what is `first`.
        """
        parts: list[Doc] = []
        for note in gap.notes:
            if note.trailing:
                parts.append(Trailing(note.text))
            else:
                parts += [_down(note.blank and blanks and not first), Standing(note.text)]
                first = False
        blank = gap.blank and blanks and not first
        if not parts and not blank:
            return line
        return concat(*parts, _down(blank))

    def closing(self, end: str, line: Doc, *, blanks: bool = False) -> Doc:
        """The bracket at the end; comments before it belong to what is inside."""
        notes = self.reader.gap().notes
        if not notes:
            return concat(line, self.token(end))
        inside: list[Doc] = []
        for note in notes:
            if note.trailing:
                inside.append(Trailing(note.text))
            else:
                inside += [_down(note.blank and blanks), Standing(note.text)]
        return concat(indent(*inside), HARD, self.token(end))

    # ---- expressions -------------------------------------------------------------------------

    def operand(self, node: ast.Expr) -> Doc:
        """A blank and a whole value; after a comment, the value on its own lines."""
        gap = self.reader.gap()
        if not gap.notes:
            return concat(SPACE, self.expr(node, whole=True))
        return indent(self.lines(gap, HARD, blanks=False), self.expr(node, whole=True))

    def expr(self, node: ast.Expr, *, whole: bool = False, callee: bool = False) -> Doc:
        """Any expression with its parentheses; `whole` says that it fills its place."""
        before = self.comments()
        pairs = self.reader.pairs(node.span)
        if pairs == 0:
            bare = self._bare(node)
            return bare if before is NOTHING else concat(before, bare)
        if self.reader.commented(node.span, pairs):
            # Without the parenthesis, the comment would be about something else.
            kept = pairs
        else:
            # `(count)(layers)` is a call, `count(layers)` is not.
            kept = 0 if whole or (isinstance(node, _SINGLE) and not callee) else 1
        return concat(before, self._parenthesised(node, pairs, kept))

    def _parenthesised(self, node: ast.Expr, pairs: int, kept: int) -> Doc:
        for _ in range(pairs - kept):
            self.reader.drop("(")
        opened = [self.token("(") for _ in range(kept)]
        body = concat(self.comments(), self._bare(node))
        closed = [self.closing(")", SOFT if n == 0 else NOTHING) for n in range(kept)]
        for _ in range(pairs - kept):
            self.reader.drop(")")
        return group(*opened, indent(SOFT, body), *closed) if kept else body

    def _bare(self, node: ast.Expr) -> Doc:
        match node:
            case ast.Quantity() | ast.Name() | ast.Str():
                return self.token()
            case ast.Range():
                return concat(self.token(), self.token(".."), self.token())
            case ast.ListExpr():
                return self.bracketed("[", node.items, "]")
            case ast.Attr():
                return concat(self.expr(node.value), self.token("."), self.token())
            case ast.Call():
                return self.call(node)
            case ast.Index():
                value = self.expr(node.value)
                return concat(value, self.bracketed("[", (node.index,), "]", comma=False))
            case ast.Fold():
                return self._fold(node)
            case _:
                return self._operation(node)

    def _operation(self, node: _Operation) -> Doc:
        match node:
            case ast.Neg():
                return concat(self.token("-"), self.expr(node.operand))
            case ast.Not():
                return concat(self.token("not"), SPACE, self.expr(node.operand))
            case ast.Is():
                return self._is(node)
            case ast.Binary() | ast.And() | ast.Or() | ast.Compare():
                return self._chain(node)
            case ast.If():
                return self._if(node)

    def call(self, node: ast.Call) -> Doc:
        """What is called, and its arguments: all on one line, or one on each."""
        return concat(self.expr(node.func, callee=True), self.bracketed("(", node.args, ")"))

    def bracketed(self, start: str, items: Sequence[_Item], end: str, *, comma: bool = True) -> Doc:
        """Items between brackets; broken, the last one has a comma too if `comma` says so."""
        opened = self.token(start)
        inside: list[Doc] = []
        for number, item in enumerate(items):
            line = LINE if number else SOFT
            inside += [self.lines(self.reader.gap(), line, blanks=False), self._item(item)]
            last = number == len(items) - 1
            if self.reader.next == ",":
                self.reader.drop(",")
            inside.append(Either("," if comma else "", "") if last else Text(","))
        return group(opened, indent(*inside), self.closing(end, SOFT if items else NOTHING))

    def _item(self, item: _Item) -> Doc:
        if isinstance(item, ast.Param):
            return concat(self.token(), self.token(":"), SPACE, self.token())
        if not isinstance(item, ast.Arg):
            return self.expr(item, whole=True)
        if item.name is None:
            return self.expr(item.value, whole=True)
        return concat(self.token(), self.token(":"), SPACE, self.expr(item.value, whole=True))

    def _is(self, node: ast.Is) -> Doc:
        parts = [self.expr(node.value), SPACE, self.token("is"), SPACE]
        if node.negated:
            parts += [self.token("not"), SPACE]
        return concat(*parts, self.token())

    def _chain(self, node: _Chain) -> Doc:
        """Operands at one level: on one line, or each operator at the start of a line."""
        first, *rest = _operands(node)
        bracketed = isinstance(first, _SINGLE) or self.reader.pairs(first.span) > 0
        begin = self.expr(first)
        links: list[Doc] = []
        for operand in rest:
            links += [LINE, self.token(), SPACE, self.expr(operand)]
        if bracketed:
            # Behind the bracket that closes a broken operand, the rest may still fit.
            return concat(begin, group(indent(*links)))
        return group(begin, indent(*links))

    def _if(self, node: ast.If) -> Doc:
        # Between `if` and `then`, another `if` needs its parentheses.
        bare = not isinstance(node.condition, ast.If)
        begin = concat(self.token("if"), SPACE, self.expr(node.condition, whole=bare))
        then = concat(LINE, self.token("then"), SPACE, self.expr(node.then, whole=True))
        other = concat(LINE, self.token("else"), SPACE, self.expr(node.otherwise, whole=True))
        return group(begin, indent(then, other))

    def _fold(self, node: ast.Fold) -> Doc:
        opened = concat(self.token(), self.token("("))
        inside = [self.lines(self.reader.gap(), SOFT, blanks=False), self.selector(node.selector)]
        if node.body is not None:
            inside += [self.token(":"), LINE, self.expr(node.body, whole=True)]
        return group(opened, indent(*inside), self.closing(")", SOFT))

    # ---- selectors ---------------------------------------------------------------------------

    def selector(self, node: ast.Selector) -> Doc:
        """A set of layers; too long, it breaks before each `where` and `except`."""
        begin, rest = self.selection(node)
        return group(begin, indent(rest))

    def selection(self, node: ast.Selector) -> tuple[Doc, Doc]:
        """The `layers[...]` of a selector, and its `where` and `except`s, each after a line."""
        begin, where = self._layer_set(node.include)
        rest = [where]
        for each in node.excludes:
            word = self.token("except")
            layers, where = self._layer_set(each)
            rest += [LINE, word, SPACE, layers, where]
        return begin, joined(rest)

    def _layer_set(self, node: ast.LayerSet) -> tuple[Doc, Doc]:
        layers = self.token("layers")
        if node.picks:
            layers = concat(layers, self.bracketed("[", node.picks, "]"))
        if node.where is None:
            return layers, NOTHING
        return layers, concat(LINE, self.token("where"), SPACE, self.expr(node.where, whole=True))


def _operands(node: _Chain) -> tuple[ast.Expr, ...]:
    """The operands of a chain, as far as it goes without parentheses."""
    if isinstance(node, ast.Compare):
        return (node.first, *(link.value for link in node.rest))
    found: list[ast.Expr] = []
    part: ast.Expr = node
    while isinstance(part, ast.Binary | ast.And | ast.Or) and _level(part) == _level(node):
        found.append(part.right)
        bare = part.left.span.start == part.span.start
        part = part.left
        if not bare:
            break
    return (part, *reversed(found))


def _level(node: ast.Binary | ast.And | ast.Or) -> str:
    match node:
        case ast.Binary():
            return "sum" if node.op in "+-" else "product"
        case ast.And():
            return "and"
        case ast.Or():
            return "or"


def _down(blank: bool) -> Line:
    return BLANK if blank else HARD
