"""Rewrites that no finding asks for: a `let` for a literal, a label for a wish.

In: an analysis and a range. Out: what can be done there, as kind, title and changes. Not here:
fixes of findings (`actions.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lsprotocol import types

from surgery.grammar import ast
from surgery.lsp.analysis import Analysis
from surgery.lsp.ask import path_to
from surgery.lsp.edits import Change
from surgery.lsp.workspace import Workspace
from surgery.rules.places import above, free, taken
from surgery.rules.unlabelled_requirement import suggested

_Rewrite: TypeAlias = tuple[types.CodeActionKind, str, tuple[Change, ...]]
_NAMES = {"tok": "length", "params": "size", "%": "share", "x": "factor", "layers": "depth"}


def rewrites(_workspace: Workspace, analysis: Analysis, start: int, end: int) -> Iterator[_Rewrite]:
    """Everything that can be rewritten at a range."""
    item = analysis.item_at(start)
    if item is None:
        return
    yield from _label(analysis, item)
    yield from _let(analysis, item, start, end)


def _label(analysis: Analysis, item: ast.Item) -> Iterator[_Rewrite]:
    """Name an `expect` or `require` after what it is about."""
    if not isinstance(item, ast.Expect | ast.Require) or item.label is not None:
        return
    wishes = [i for i in analysis.tree.items if isinstance(i, ast.Expect | ast.Require)]
    used = {wish.label.text for wish in wishes if wish.label is not None}
    label = free(suggested(item.condition), used, "-")
    keyword = "expect" if isinstance(item, ast.Expect) else "require"
    at = item.head.start + len(keyword)
    change = Change(analysis.source, at, at, f" @{label}")
    title = f"Label this {keyword} `@{label}`"
    yield types.CodeActionKind.RefactorRewrite, title, (change,)


def _let(analysis: Analysis, item: ast.Item, start: int, end: int) -> Iterator[_Rewrite]:
    """Give the literal under the cursor a name."""
    path = path_to(item, start)
    node, parent = path[-1], path[-2] if len(path) > 1 else None
    if not isinstance(node, ast.Quantity) or end > node.span.end:
        return
    if isinstance(parent, ast.Range | ast.Let):
        return
    name = free(_NAMES.get(node.unit, "limit"), taken(analysis.tree))
    used = f"({name})" if isinstance(parent, ast.Edit) else name
    at = above(item, analysis.tree).start
    changes = (
        Change(analysis.source, at, at, f"let {name} = {node.span.text}\n\n"),
        Change(analysis.source, node.span.start, node.span.end, used),
    )
    title = f"Name `{node.span.text}` with a `let`"
    yield types.CodeActionKind.RefactorExtract, title, changes
