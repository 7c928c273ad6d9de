"""The outline of a spec, and what can be folded.

In: an analysis. Out: a symbol for each statement with its alternatives, steps or parameters below
it; folding ranges of blocks, runs of comment lines, and sections (from one `# ----` line to the
next). Statements that do not parse are missing from the outline, not from the folding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from lsprotocol import types

from surgery.grammar import ast
from surgery.grammar.scan import Lexeme
from surgery.lsp.analysis import Analysis
from surgery.lsp.keywords import KEYWORDS
from surgery.lsp.workspace import Workspace
from surgery.source import Span

_KIND = types.SymbolKind
_KINDS: dict[type[ast.Statement], types.SymbolKind] = {
    ast.Import: _KIND.Module,
    ast.Model: _KIND.Class,
    ast.Input: _KIND.Variable,
    ast.Let: _KIND.Constant,
    ast.Fn: _KIND.Function,
    ast.Machine: _KIND.Struct,
    ast.Scenario: _KIND.Event,
    ast.Dataset: _KIND.File,
    ast.Score: _KIND.Property,
    ast.Apply: _KIND.Operator,
    ast.Choose: _KIND.Enum,
    ast.Expect: _KIND.Boolean,
    ast.Require: _KIND.Boolean,
    ast.Objective: _KIND.Key,
    ast.Recover: _KIND.Package,
    ast.Emit: _KIND.Interface,
}
_SECTION = re.compile(r"#\s?-{3,}")


def document_symbols(workspace: Workspace, uri: str) -> list[types.DocumentSymbol]:
    """The answer to `textDocument/documentSymbol`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    return [_symbol(workspace, item) for item in analysis.tree.items]


def _symbol(workspace: Workspace, item: ast.Item) -> types.DocumentSymbol:
    keyword = item.head.text.split()[0].partition("@")[0]
    act = KEYWORDS[keyword].act if keyword in KEYWORDS else ""
    return types.DocumentSymbol(
        name=title(item),
        kind=_KINDS[type(item)],
        range=workspace.range(item.span),
        selection_range=workspace.range(item.head),
        detail=f"{keyword}, {act}",
        children=[_child(workspace, node, name, kind) for node, name, kind in _below(item)],
    )


def title(item: ast.Item) -> str:
    """What a statement is called."""
    match item:
        case ast.Choose(site=site) | ast.Apply(site=site):
            return site.text
        case ast.Expect(label=label) | ast.Require(label=label):
            text = f"@{label.text}" if label is not None else item.condition.span.text
        case ast.Objective():
            text = f"{item.sense} {item.value.span.text}"
        case ast.Recover():
            return "recover"
        case ast.Emit():
            text = f"{item.kind.text} {item.path.value}"
        case _:
            return item.name.text
    return " ".join(text.split())[:80] or item.head.text


def _below(item: ast.Item) -> Iterator[tuple[ast.Node, str, types.SymbolKind]]:
    match item:
        case ast.Choose():
            for each in item.alternatives:
                name = "keep" if isinstance(each, ast.Keep) else _edit(each)
                yield each, name, _KIND.EnumMember
        case ast.Recover():
            for step in item.steps:
                name = step.kind.text + (f" {step.name.text}" if step.name else "")
                yield step, name, _KIND.Method
        case _:
            return


def _edit(node: ast.Edit) -> str:
    return " ".join([node.name.text, " | ".join(arg.span.text for arg in node.args)]).strip()


def _child(
    workspace: Workspace, node: ast.Node, name: str, kind: types.SymbolKind
) -> types.DocumentSymbol:
    place = workspace.range(node.span)
    return types.DocumentSymbol(name=name, kind=kind, range=place, selection_range=place)


# ---- folding ---------------------------------------------------------------------------------


def folding_ranges(workspace: Workspace, uri: str) -> list[types.FoldingRange]:
    """The answer to `textDocument/foldingRange`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    found = [*_blocks(analysis), *_comments(analysis), *_sections(analysis)]
    ranges: list[types.FoldingRange] = []
    for start, end, kind in sorted(found, key=lambda each: (each[0], -each[1])):
        place = workspace.range(Span(analysis.source, start, end))
        if place.end.line > place.start.line:
            ranges.append(types.FoldingRange(place.start.line, place.end.line, kind=kind))
    return ranges


def _blocks(analysis: Analysis) -> Iterator[tuple[int, int, types.FoldingRangeKind | None]]:
    for chunk in analysis.chunks:
        opened: list[Lexeme] = []
        for each in chunk.lexemes:
            if each.text == "{":
                opened.append(each)
            elif each.text == "}" and opened:
                yield opened.pop().start, each.start, None


def _lines(analysis: Analysis) -> Iterator[Lexeme]:
    """Comments that have their line for themselves."""
    for comment in analysis.tree.comments:
        if not comment.trailing:
            yield Lexeme("comment", comment.span.text, comment.span.start, comment.span.end)


def _comments(analysis: Analysis) -> Iterator[tuple[int, int, types.FoldingRangeKind]]:
    run: list[Lexeme] = []
    text = analysis.source.text
    for each in _lines(analysis):
        between = text[run[-1].end : each.start] if run else ""
        if run and (between.count("\n") != 1 or _SECTION.match(each.text)):
            yield run[0].start, run[-1].end, types.FoldingRangeKind.Comment
            run = []
        run.append(each)
    if run:
        yield run[0].start, run[-1].end, types.FoldingRangeKind.Comment


def _sections(analysis: Analysis) -> Iterator[tuple[int, int, types.FoldingRangeKind]]:
    heads = [each.start for each in _lines(analysis) if _SECTION.match(each.text)]
    text = analysis.source.text
    for start, end in pairwise([*heads, len(text)] if heads else ()):
        until = start + len(text[start:end].rstrip())
        yield start, until, types.FoldingRangeKind.Region
