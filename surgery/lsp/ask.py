"""Questions about one place of a spec: what stands there, what it means, what type it has.

In: a module and offsets. Out: nodes with what contains them, and values as `checking/` makes them.
Whatever the check would report about them it has reported already, so findings made here are
dropped. Refuses nothing: what has no value is `None`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from surgery.checking.define import anything, define
from surgery.checking.exprs import elaborate
from surgery.checking.layers import selector as selector_of
from surgery.checking.modules import Module
from surgery.checking.names import resolve
from surgery.checking.scope import Check, Scope
from surgery.checking.values import TYPES, Failed, Value
from surgery.diagnostics import Sink, Stop
from surgery.expr import Selector
from surgery.grammar import ast
from surgery.grammar.parse import parse
from surgery.source import Source, Span


def path_to(node: ast.Node, offset: int) -> tuple[ast.Node, ...]:
    """The nodes that contain an offset, outermost first.

    Of two that touch there, the one that begins there counts: `8K tok|]` is at the bracket.
    """
    path: list[ast.Node] = [node]
    while True:
        inside = [
            child
            for child in ast.children(path[-1])
            if not isinstance(child, ast.Comment) and child.span.start <= offset <= child.span.end
        ]
        if not inside:
            return tuple(path)
        path.append(max(inside, key=lambda child: (child.span.start, -child.span.end)))


class Asker:
    """Asks one module; what it has worked out once it remembers."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._check = Check(Sink(), {}, module, elaborate, define)

    def value(self, node: ast.Expr, scope: Scope) -> Value | None:
        """What an expression means, or `None` where it means nothing."""
        try:
            found = self._fresh().value(node, scope)
        except Stop:
            return None
        return None if isinstance(found, Failed) else found

    def named(self, module: Module, name: str, at: Span) -> Value | None:
        """The value of a name that a file defines."""
        try:
            found = resolve(self._fresh(), module, name, at)
        except Stop:
            return None
        return None if isinstance(found, Failed) else found

    def layers(self, node: ast.Selector, scope: Scope) -> Selector | None:
        """The layers that a selector is about."""
        try:
            return selector_of(self._fresh(), node, scope)
        except Stop:
            return None

    def text(self, text: str, scope: Scope) -> Value | None:
        """What a piece of text would mean as an expression."""
        items = parse(Source("<text>", f"surg 1\nlet value = {text}\n"), Sink()).items
        if len(items) != 1 or not isinstance(items[0], ast.Let):
            return None
        return self.value(items[0].value, scope)

    def _fresh(self) -> Check:
        # Each question may take as much work as a whole check; none is charged to another.
        self._check.work = 0
        self._check.active.clear()
        self._check.sink.found.clear()
        return self._check

    # ---- scopes ------------------------------------------------------------------------------

    def scope(self, path: tuple[ast.Node, ...]) -> Scope:
        """The scope at the end of a path: parameters of its `fn`, and whether a layer is there."""
        given: Mapping[str, Value] = {}
        for node in path:
            if isinstance(node, ast.Fn):
                given = {p.name.text: anything(p) for p in node.params if p.type.text in TYPES}
        return Scope(self.module, given, _at_layer(path))


def _at_layer(path: tuple[ast.Node, ...]) -> bool:
    for outer, inner in pairwise(path):
        match outer:
            case ast.LayerSet(where=where) if inner is where:
                return True
            case ast.Edit(when=when) if inner is when:
                return True
            case ast.Fold(body=body) if inner is body:
                return True
            case _:
                pass
    return False
