"""Definition, references and highlights of names.

In: an analysis and an offset. Out: places, in this file and in others: what it imports, what is
open, and the specs in the client's folders that mention the name. Not here: renaming.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from surgery.checking.modules import Module
from surgery.grammar import ast
from surgery.lsp.analysis import Analysis
from surgery.lsp.ask import path_to
from surgery.lsp.hover_names import module_of
from surgery.lsp.occurrences import Occurrence, Symbol, occurrences
from surgery.lsp.workspace import Workspace
from surgery.source import Span


def definition(workspace: Workspace, uri: str, position: types.Position) -> types.Location | None:
    """The answer to `textDocument/definition`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    offset = analysis.document.places.offset(position)
    occurrence = analysis.occurrence(offset)
    span = defined(analysis, occurrence.symbol) if occurrence else _imported(analysis, offset)
    return workspace.location(span) if span is not None else None


def _imported(analysis: Analysis, offset: int) -> Span | None:
    """The beginning of the file whose path stands here."""
    item = analysis.item_at(offset)
    if not isinstance(item, ast.Import) or path_to(item, offset)[-1] is not item.path:
        return None
    inner = analysis.module.imports.get(item.name.text)
    return None if inner is None else Span(inner.source, 0, 0)


def defined(analysis: Analysis, symbol: Symbol) -> Span | None:
    """Where a symbol is defined."""
    module = module_of(analysis, symbol)
    if module is None:
        return None
    found = analysis.occurrences if module is analysis.module else occurrences(module)
    return next((each.span for each in found if each.defines and each.symbol == symbol), None)


def references(
    workspace: Workspace, uri: str, position: types.Position, *, declaration: bool
) -> list[types.Location]:
    """The answer to `textDocument/references`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    occurrence = analysis.occurrence(analysis.document.places.offset(position))
    if occurrence is None:
        return []
    found = [
        workspace.location(each.span)
        for each in everywhere(workspace, analysis, occurrence.symbol)
        if declaration or not each.defines
    ]
    return [each for each in found if each is not None]


def everywhere(workspace: Workspace, analysis: Analysis, symbol: Symbol) -> tuple[Occurrence, ...]:
    """Every place of a symbol, by file and offset; each place once."""
    found: dict[tuple[str, int], Occurrence] = {}
    for module in _files(workspace, analysis, symbol):
        places = analysis.occurrences if module is analysis.module else occurrences(module)
        for each in places:
            if each.symbol == symbol:
                found.setdefault((each.span.source.name, each.span.start), each)
    return tuple(each for _, each in sorted(found.items(), key=lambda pair: pair[0]))


def _files(workspace: Workspace, analysis: Analysis, symbol: Symbol) -> Iterator[Module]:
    """Files that may use a symbol; labels and steps have no life outside of theirs."""
    yield analysis.module
    if symbol.kind in ("label", "step"):
        return
    home = module_of(analysis, symbol)
    if home is not None and home is not analysis.module:
        yield home
    for uri in workspace.all_uris():
        if uri != analysis.document.uri:
            module = workspace.module(uri, symbol.name)
            if module is not None:
                yield module


def highlights(
    workspace: Workspace, uri: str, position: types.Position
) -> list[types.DocumentHighlight]:
    """The answer to `textDocument/documentHighlight`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    occurrence = analysis.occurrence(analysis.document.places.offset(position))
    if occurrence is None:
        return []
    kinds = types.DocumentHighlightKind
    return [
        types.DocumentHighlight(
            workspace.range(each.span), kinds.Write if each.defines else kinds.Read
        )
        for each in analysis.occurrences
        if each.symbol == occurrence.symbol
    ]
