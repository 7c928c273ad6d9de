"""Hover: what stands under the pointer, in a few lines of Markdown.

In: an analysis and an offset. Out: text and the span that it is about, or `None`. Names show
their declaration, documentation and value; numbers their base units; selectors their layers;
alternatives their cost; other expressions their type and affinity.
"""

from __future__ import annotations

import re

from lsprotocol import types
from msgspec import Struct

from surgery import catalog
from surgery.checking.blocks import BLOCKS
from surgery.checking.tables import EDITS, EditRule
from surgery.checking.types import wanted
from surgery.checking.values import TYPES, Value, is_expr
from surgery.grammar import ast
from surgery.lsp import blocks, costs, describe, values
from surgery.lsp.analysis import Analysis
from surgery.lsp.ask import path_to
from surgery.lsp.hover_names import named
from surgery.lsp.keywords import KEYWORDS
from surgery.lsp.workspace import Workspace
from surgery.source import Span

_ALLOW = re.compile(r"[a-z][a-z0-9-]*")


class Note(Struct, frozen=True):
    """What is said about a span."""

    span: Span
    text: str


def hover(workspace: Workspace, uri: str, position: types.Position) -> types.Hover | None:
    """The answer to `textDocument/hover`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    note = note_at(workspace, analysis, analysis.document.places.offset(position))
    if note is None:
        return None
    content = types.MarkupContent(types.MarkupKind.Markdown, note.text)
    return types.Hover(content, workspace.range(note.span))


def note_at(workspace: Workspace, analysis: Analysis, offset: int) -> Note | None:
    """What there is to say at an offset."""
    lexeme = next((each for each in analysis.lexemes if each.start <= offset < each.end), None)
    if lexeme is not None and lexeme.kind == "comment":
        return _allowed(analysis, offset)
    starts = {chunk.start for chunk in analysis.chunks}
    if lexeme is not None and lexeme.start in starts and lexeme.text in KEYWORDS:
        keyword = KEYWORDS[lexeme.text]
        span = Span(analysis.source, lexeme.start, lexeme.end)
        return Note(span, f"`{lexeme.text}` ({keyword.act}): {keyword.doc}")
    item = analysis.item_at(offset)
    if item is None:
        return None
    occurrence = analysis.occurrence(offset)
    if occurrence is not None:
        text = named(workspace, analysis, occurrence)
        return Note(occurrence.span, text) if text else None
    return _Describer(workspace, analysis, path_to(item, offset)).note()


def _allowed(analysis: Analysis, offset: int) -> Note | None:
    """The lint that an `allow` comment names."""
    text = analysis.source.text
    for match in _ALLOW.finditer(text, max(0, text.rfind("\n", 0, offset))):
        if match.start() <= offset <= match.end():
            code = catalog.BY_NAME.get(match[0])
            if code is not None:
                span = Span(analysis.source, match.start(), match.end())
                return Note(span, f"{code.id} `{code.name}`: {code.summary}")
        if match.start() > offset:
            break
    return None


class _Describer:
    """What to say about the end of one path."""

    def __init__(
        self, workspace: Workspace, analysis: Analysis, path: tuple[ast.Node, ...]
    ) -> None:
        self.workspace = workspace
        self.analysis = analysis
        self.path = path
        self.model = workspace.parents.model(analysis)

    def note(self) -> Note | None:
        """The innermost node that has something to say."""
        for depth in range(len(self.path), 0, -1):
            path = self.path[:depth]
            text = self._text(path)
            if text is not None:
                return Note(path[-1].span, text)
            if not isinstance(path[-1], ast.Ident | ast.Arg | ast.Comparison):
                return None
        return None

    def _text(self, path: tuple[ast.Node, ...]) -> str | None:
        node, parent = path[-1], path[-2] if len(path) > 1 else None
        match node:
            case ast.Ident():
                return self._ident(node, path)
            case ast.Selector() | ast.LayerSet():
                return self._layers(path)
            case ast.Keep():
                return "`keep`: the parent's own block, unchanged"
            case ast.Edit():
                return self._edit(node, path)
            case ast.Str() if isinstance(parent, ast.Import):
                return self._import(parent)
            case _:
                return self._value(node, path)

    def _value(self, node: ast.Node, path: tuple[ast.Node, ...]) -> str | None:
        match node:
            case ast.Quantity():
                return self._quantity(node, path)
            case ast.Name():
                return self._name(node, path)
            case ast.Attr():
                return self._attribute(node, path)
            case _:
                return self._expression(node, path)

    # ---- words -------------------------------------------------------------------------------

    def _ident(self, node: ast.Ident, path: tuple[ast.Node, ...]) -> str | None:
        match path[-2] if len(path) > 1 else None:
            case ast.Field() if len(path) > 2:
                rule = blocks.rule_of(blocks.kind_of(path[-3]), node.text)
                if rule is None:
                    return None
                types_of = {"": [], "step": ["names of steps"]}.get(rule.type)
                kinds = types_of if types_of is not None else [wanted(rule.type)]
                kind = " or ".join((*kinds, *rule.words))
                needed = ", required" if rule.required else ""
                return f"`{rule.name}`: {rule.doc}\n\n{kind}{needed}"
            case ast.Choose(site=site) if site is node and node.text in EDITS:
                edits = "\n".join(f"- `{r.signature}`: {r.doc}" for r in EDITS[node.text])
                return f"what a `choose {node.text}` can do:\n{edits}"
            case ast.Input() | ast.Param() | ast.Fn() if node.text in TYPES:
                return f"`{node.text}`: {TYPES[node.text]}"
            case ast.Emit() | ast.Apply() | ast.Step() as owner:
                kind = blocks.kind_of(owner)
                fields = "\n".join(f"- `{r.name}`: {r.doc}" for r in BLOCKS.get(kind or "", ()))
                return f"`{kind}` has the fields\n{fields}" if fields else None
            case _:
                return None

    def _name(self, node: ast.Name, path: tuple[ast.Node, ...]) -> str | None:
        if len(path) > 1 and isinstance(path[-2], ast.Is):
            return describe.built_in(node.text)
        for owner in path[-2:-4:-1]:
            if isinstance(owner, ast.Field):
                rule = blocks.rule_of(_block_of(path), owner.name.text)
                if rule is not None and node.text in rule.words:
                    return f"`{node.text}`: one of {', '.join(rule.words)}"
        text = describe.built_in(node.text)
        if text is None or (len(path) > 1 and isinstance(path[-2], ast.Call)):
            return text
        return self._expression(node, path, text)

    def _attribute(self, node: ast.Attr, path: tuple[ast.Node, ...]) -> str | None:
        parent = path[-2] if len(path) > 1 else None
        if isinstance(parent, ast.Call) and parent.func is node:
            return describe.model_member(node.name.text)
        return self._expression(node, path, self._member(node, path))

    def _member(self, node: ast.Attr, path: tuple[ast.Node, ...]) -> str | None:
        owner = self.analysis.ask.value(node.value, self.analysis.ask.scope(path))
        if owner is None:
            return None
        if describe.kind(owner) == "model":
            return describe.model_member(node.name.text)
        return describe.machine_member(node.name.text)

    def _import(self, item: ast.Import) -> str | None:
        inner = self.analysis.module.imports.get(item.name.text)
        if inner is None:
            return None
        names = ", ".join(f"`{name}`" for name in inner.items)
        return f"{inner.tree.description}\n\ndefines {names}".strip()

    # ---- layers, alternatives, numbers -------------------------------------------------------

    def _layers(self, path: tuple[ast.Node, ...]) -> str | None:
        selector = next((n for n in reversed(path) if isinstance(n, ast.Selector)), None)
        if selector is None:
            return None
        found = self.analysis.ask.layers(selector, self.analysis.ask.scope(path))
        if found is None or self.model is None:
            return None
        chosen = values.layers(self.analysis, self.model, found)
        return None if chosen is None else values.layers_text(chosen, self.model)

    def _rule(self, path: tuple[ast.Node, ...]) -> EditRule | None:
        choose = next((n for n in path if isinstance(n, ast.Choose)), None)
        edit = next((n for n in path if isinstance(n, ast.Edit)), None)
        if choose is None or edit is None:
            return None
        rules = EDITS.get(choose.site.text, ())
        return next((rule for rule in rules if rule.name == edit.name.text), None)

    def _edit(self, node: ast.Edit, path: tuple[ast.Node, ...]) -> str | None:
        rule = self._rule(path)
        if rule is None:
            return None
        lines = [describe.code(rule.signature), rule.doc]
        known = self.workspace.known(self.analysis)
        for span in (arg.span for arg in node.args) if node.args else (node.name.span,):
            cost = costs.of_alternative(known, span) if known is not None else None
            if cost is not None:
                lines += ["", f"`{rule.name} {span.text}`" if node.args else "", cost]
        return "\n".join(lines)

    def _quantity(self, node: ast.Quantity, path: tuple[ast.Node, ...]) -> str:
        text = describe.literal(node)
        known = self.workspace.known(self.analysis)
        if known is not None and self._rule(path) is not None:
            cost = costs.of_alternative(known, node.span)
            return f"{text}\n\n{cost}" if cost is not None else text
        return text

    # ---- expressions -------------------------------------------------------------------------

    def _expression(
        self, node: ast.Node, path: tuple[ast.Node, ...], doc: str | None = None
    ) -> str | None:
        if not isinstance(node, ast.Expr):
            return doc
        scope = self.analysis.ask.scope(path)
        value = self.analysis.ask.value(node, scope)
        if value is None:
            return doc
        lines = [doc if doc is not None else f"`{' '.join(node.span.text.split())}`", ""]
        lines += self._facts(value, path)
        return "\n".join(lines)

    def _facts(self, value: Value, path: tuple[ast.Node, ...]) -> list[str]:
        """Type, affinity and value, one line each."""
        if not is_expr(value):
            return [f"{wanted(describe.kind(value))}" if describe.kind(value) in TYPES else ""]
        lines = [f"- type: {describe.kind(value)}"]
        scope = self.analysis.ask.scope(path)
        if not scope.layer and not any(isinstance(n, ast.Expect) for n in path):
            lines.append(f"- {describe.affinity(value)}")
        if text := describe.value_text(value):
            lines.append(f"- value: {text}")
        elif self.model is not None:
            found = values.value(self.analysis, self.model, value, scope)
            if found is not None:
                lines.append(f"- on the parent: {values.text(found, value)}")
        return lines


def _block_of(path: tuple[ast.Node, ...]) -> str | None:
    owner = next((n for n in reversed(path) if blocks.kind_of(n) is not None), None)
    return blocks.kind_of(owner) if owner is not None else None
