"""Semantic tokens: what a grammar of patterns cannot tell.

In: an analysis. Out: names by what they name, labels, fields, sites and edits, parts of layers
and their words, and units apart from their numbers, as the five numbers per token of the
protocol. Keywords, strings and comments are left to the client's own grammar.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from surgery.checking.tables import CONSTANTS, FUNCTIONS, LAYER_FACTS, METRICS
from surgery.grammar import ast
from surgery.lsp.analysis import Analysis
from surgery.lsp.hover_names import statement
from surgery.lsp.occurrences import Occurrence
from surgery.lsp.workspace import Workspace
from surgery.source import Span

TYPES = (
    *("namespace", "class", "variable", "function", "struct", "event", "property"),
    *("parameter", "decorator", "enumMember", "number", "type"),
)
MODIFIERS = ("declaration", "defaultLibrary")
LEGEND = types.SemanticTokensLegend(list(TYPES), list(MODIFIERS))

_OF: dict[type[ast.Statement], str] = {
    ast.Import: "namespace",
    ast.Model: "class",
    ast.Input: "variable",
    ast.Let: "variable",
    ast.Fn: "function",
    ast.Machine: "struct",
    ast.Scenario: "event",
    ast.Dataset: "class",
    ast.Score: "event",
}
_BUILT_IN = frozenset({*FUNCTIONS, *METRICS, *CONSTANTS})
_Token = tuple[int, int, str, int]


def semantic_tokens(workspace: Workspace, uri: str) -> types.SemanticTokens | None:
    """The answer to `textDocument/semanticTokens/full`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    found: dict[int, _Token] = {}
    for token in (*_names(analysis), *_words(analysis)):
        found.setdefault(token[0], token)
    data: list[int] = []
    line = character = 0
    end = 0
    for start, stop, kind, modifiers in sorted(found.values()):
        if start < end or stop <= start:
            continue
        end = stop
        place = workspace.range(Span(analysis.source, start, stop))
        delta = place.start.line - line
        first = place.start.character - (0 if delta else character)
        length = place.end.character - place.start.character
        data += [delta, first, length, TYPES.index(kind), modifiers]
        line, character = place.start.line, place.start.character
    return types.SemanticTokens(data)


def _names(analysis: Analysis) -> Iterator[_Token]:
    for each in analysis.occurrences:
        declared = 1 if each.defines else 0
        standard = 2 if each.symbol.file.startswith("std/") else 0
        kind = _kind(analysis, each)
        if kind is not None:
            start = each.span.start - (1 if kind == "decorator" else 0)
            yield start, each.span.end, kind, declared | standard


def _kind(analysis: Analysis, place: Occurrence) -> str | None:
    match place.symbol.kind:
        case "name":
            item = statement(analysis, place.symbol)
            return _OF[type(item)] if item is not None else None
        case "parameter":
            return "parameter"
        case "label":
            return "decorator"
        case "step":
            return "variable"


def _words(analysis: Analysis) -> Iterator[_Token]:
    for item in analysis.tree.items:
        for node in ast.walk(item):
            yield from _word(node)


def _word(node: ast.Node) -> Iterator[_Token]:
    match node:
        case ast.Field(name=name):
            yield name.span.start, name.span.end, "property", 0
        case ast.Choose(site=name) | ast.Apply(site=name):
            yield name.span.start, name.span.end, "type", 2
        case ast.Edit(name=name):
            yield name.span.start, name.span.end, "enumMember", 2
        case ast.Is(value=value, word=word):
            yield value.span.start, value.span.end, "property", 2
            yield word.span.start, word.span.end, "enumMember", 2
        case ast.Name(text=text) if text in _BUILT_IN:
            yield node.span.start, node.span.end, "function", 2
        case ast.Name(text=text) if text in LAYER_FACTS:
            yield node.span.start, node.span.end, "property", 2
        case ast.Quantity(unit=unit) if unit:
            number = node.span.end - len(unit)
            text = node.span.text[: -len(unit)].rstrip()
            yield node.span.start, node.span.start + len(text), "number", 0
            yield number, node.span.end, "type", 2
        case _:
            return
