"""Inlay hints: layers behind selectors, candidates behind `choose`, slack behind `require`.

In: an analysis and a range. Out: hints. Layers need the parent, candidates the space, slack a plan
of this very spec beside it; what is not at hand has no hint.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types
from msgspec import Struct

from surgery import ir
from surgery.grammar import ast
from surgery.lsp import plans, values
from surgery.lsp.analysis import Analysis
from surgery.lsp.workspace import Workspace


class _Hint(Struct, frozen=True):
    offset: int
    text: str
    more: str = ""


def inlay_hints(workspace: Workspace, uri: str, range: types.Range) -> list[types.InlayHint]:
    """The answer to `textDocument/inlayHint`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    start, end = analysis.document.places.offsets(range)
    found = [*_selections(workspace, analysis, start, end), *_slack(analysis)]
    places = analysis.document.places
    return [
        types.InlayHint(
            position=places.position(each.offset),
            label=each.text,
            tooltip=each.more or None,
            padding_left=True,
        )
        for each in sorted(found, key=lambda hint: hint.offset)
        if start <= each.offset <= end
    ]


def _selections(workspace: Workspace, analysis: Analysis, start: int, end: int) -> Iterator[_Hint]:
    model = workspace.parents.model(analysis)
    if model is None:
        return
    known = workspace.known(analysis)
    space = known.space if known is not None else None
    for item in analysis.tree.items:
        if item.span.end < start or item.span.start > end:
            continue
        for path in _selectors((item,)):
            yield from _selection(analysis, model, space, path)


def _selectors(path: tuple[ast.Node, ...]) -> Iterator[tuple[ast.Node, ...]]:
    """The paths to all selectors below a node."""
    if isinstance(path[-1], ast.Selector):
        yield path
    for child in ast.children(path[-1]):
        yield from _selectors((*path, child))


def _selection(
    analysis: Analysis, model: ir.Model, space: ir.Space | None, path: tuple[ast.Node, ...]
) -> Iterator[_Hint]:
    node = path[-1]
    if not isinstance(node, ast.Selector):
        return
    selector = analysis.ask.layers(node, analysis.ask.scope(path[:-1]))
    chosen = values.layers(analysis, model, selector) if selector is not None else None
    if chosen is None:
        return
    text = f"{len(chosen)} layer" + "s" * (len(chosen) != 1)
    owner = path[0]
    if isinstance(owner, ast.Choose) and owner.where is node and space is not None:
        made = sum(
            len(option.candidates)
            for option in space.options
            if option.site.value == owner.site.text and option.layer in chosen
        )
        text += f", {made} candidates"
    yield _Hint(node.span.end, text, values.layers_text(chosen, model))


def _slack(analysis: Analysis) -> Iterator[_Hint]:
    proved = plans.evidence(analysis)
    for item in analysis.tree.items:
        if isinstance(item, ast.Require) and item.label is not None:
            found = proved.get(f"@{item.label.text}")
            if found is not None:
                text = f"{found.value} {found.op} {found.limit} in the last plan"
                yield _Hint(item.condition.span.end, plans.slack(found), text)
