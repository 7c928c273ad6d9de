"""Where names are defined and used.

In: a module (a parsed file with what it imports). Out: every place in that file where a name of
the spec, a parameter, a label or a recovery step stands, and what it stands for, by the scoping
of `checking/names.py` and `checking/calls.py`. Not here: names in other files, built-in names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from surgery.checking.modules import Module
from surgery.checking.tables import FUNCTIONS, METRICS
from surgery.grammar import ast
from surgery.lsp import blocks
from surgery.source import Span

Kind: TypeAlias = Literal["name", "parameter", "label", "step"]


class Symbol(Struct, frozen=True):
    """What a place stands for. `file` is the name of the source that defines it; `owner` the
    function of a parameter, or the keyword of a labelled statement."""

    kind: Kind
    file: str
    name: str
    owner: str = ""


class Occurrence(Struct, frozen=True):
    """One place; the span is that of the name alone, without the `@` of a label."""

    span: Span
    symbol: Symbol
    defines: bool = False

    @property
    def first(self) -> int:
        """The first character that belongs to the place: the `@` of a label."""
        return self.span.start - (1 if self.symbol.kind == "label" else 0)


_Locals: TypeAlias = Mapping[str, Symbol]
_NONE: _Locals = {}


def occurrences(module: Module) -> tuple[Occurrence, ...]:
    """All occurrences in a file, in order."""
    reader = _Reader(module)
    found = [each for item in module.tree.items for each in reader.item(item)]
    return tuple(sorted(found, key=lambda each: (each.span.start, each.span.end)))


class _Reader:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.file = module.source.name

    def item(self, item: ast.Item) -> Iterator[Occurrence]:
        """Everything in one statement."""
        name = getattr(item, "name", None)
        if isinstance(name, ast.Ident):
            yield Occurrence(name.span, self._own(name.text), defines=True)
        match item:
            case ast.Fn():
                yield from self._function(item)
            case ast.Expect(label=label) | ast.Require(label=label):
                if label is not None:
                    owner = item.head.text.split()[0].partition("@")[0]
                    span = Span(label.span.source, label.span.start + 1, label.span.end)
                    yield Occurrence(span, Symbol("label", self.file, label.text, owner), True)
                yield from self._expr(item.condition, _NONE)
            case ast.Scenario(machine=machine):
                if machine.text in self.module.items:
                    yield Occurrence(machine.span, self._own(machine.text))
            case ast.Recover():
                yield from self._steps(item)
            case _:
                yield from self._inside(item, _NONE)
        for owner in blocks.owners(item):
            yield from self._fields(owner)

    def _own(self, name: str) -> Symbol:
        return Symbol("name", self.file, name)

    def _function(self, item: ast.Fn) -> Iterator[Occurrence]:
        known = {
            p.name.text: Symbol("parameter", self.file, p.name.text, item.name.text)
            for p in item.params
        }
        for param in item.params:
            yield Occurrence(param.name.span, known[param.name.text], defines=True)
        yield from self._expr(item.body, known)

    def _steps(self, item: ast.Recover) -> Iterator[Occurrence]:
        for step in item.steps:
            if step.name is not None:
                symbol = Symbol("step", self.file, step.name.text)
                yield Occurrence(step.name.span, symbol, defines=True)

    def _fields(self, owner: ast.Node) -> Iterator[Occurrence]:
        kind = blocks.kind_of(owner)
        for field in blocks.fields_of(owner):
            rule = blocks.rule_of(kind, field.name.text)
            values = field.value.items if isinstance(field.value, ast.ListExpr) else (field.value,)
            for value in values:
                if not blocks.is_word(rule, value):
                    yield from self._expr(value, _NONE)
                elif rule is not None and rule.type == "step" and isinstance(value, ast.Name):
                    yield Occurrence(value.span, Symbol("step", self.file, value.text))

    # ---- expressions -------------------------------------------------------------------------

    def _inside(self, node: ast.Node, known: _Locals) -> Iterator[Occurrence]:
        """Everything below a node except its fields, which have words of their own."""
        for child in ast.children(node):
            if not isinstance(child, ast.Field):
                yield from self._expr(child, known)

    def _expr(self, node: ast.Node, known: _Locals) -> Iterator[Occurrence]:
        match node:
            case ast.Name():
                yield from self._name(node, known, called=False)
            case ast.Attr(value=value, name=name):
                yield from self._expr(value, known)
                yield from self._member(value, name)
            case ast.Call():
                yield from self._call(node, known)
            case ast.Is():
                # `attention is full`: neither side is a name of the spec.
                pass
            case _:
                yield from self._inside(node, known)

    def _name(self, node: ast.Name, known: _Locals, *, called: bool) -> Iterator[Occurrence]:
        name = node.text
        if name in known:
            yield Occurrence(node.span, known[name])
            return
        item = self.module.items.get(name)
        # An import may share the name of a metric, because only one of them can be called.
        shared = isinstance(item, ast.Import) and (name in FUNCTIONS or name in METRICS)
        if item is not None and not (called and shared):
            yield Occurrence(node.span, self._own(name))

    def _member(self, owner: ast.Expr, name: ast.Ident) -> Iterator[Occurrence]:
        if isinstance(owner, ast.Name) and owner.text in self.module.imports:
            inner = self.module.imports[owner.text]
            if name.text in inner.items:
                yield Occurrence(name.span, Symbol("name", inner.source.name, name.text))

    def _call(self, node: ast.Call, known: _Locals) -> Iterator[Occurrence]:
        if isinstance(node.func, ast.Name):
            yield from self._name(node.func, known, called=True)
        else:
            yield from self._expr(node.func, known)
        function = self._called(node.func)
        for arg in node.args:
            if arg.name is not None and function is not None:
                file, name = function
                yield Occurrence(arg.name.span, Symbol("parameter", file, arg.name.text, name))
            yield from self._expr(arg.value, known)

    def _called(self, func: ast.Expr) -> tuple[str, str] | None:
        """File and name of the `fn` that is called."""
        match func:
            case ast.Name(text=name) if isinstance(self.module.items.get(name), ast.Fn):
                return self.file, name
            case ast.Attr(value=ast.Name(text=owner), name=ast.Ident(text=name)):
                inner = self.module.imports.get(owner)
                if inner is not None and isinstance(inner.items.get(name), ast.Fn):
                    return inner.source.name, name
            case _:
                pass
        return None
