"""Links: imported files, datasets and plans on disk, models on the Hub.

In: an analysis. Out: the span of each path, without its quotes, and where it leads. Paths that
lead nowhere have no link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

from lsprotocol import types

from surgery.grammar import ast
from surgery.lsp.analysis import Analysis
from surgery.lsp.documents import uri_of
from surgery.lsp.workspace import Workspace
from surgery.source import Span


def document_links(workspace: Workspace, uri: str) -> list[types.DocumentLink]:
    """The answer to `textDocument/documentLink`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    return [
        types.DocumentLink(workspace.range(_inside(text.span)), target)
        for item in analysis.tree.items
        for text, target in _targets(workspace, analysis, item)
    ]


def _inside(span: Span) -> Span:
    return Span(span.source, span.start + 1, span.end - 1)


def _targets(
    workspace: Workspace, analysis: Analysis, item: ast.Item
) -> Iterator[tuple[ast.Str, str]]:
    match item:
        case ast.Import(path=path, name=name):
            inner = analysis.module.imports.get(name.text)
            uri = workspace.uri(inner.source) if inner is not None else None
            if uri is not None:
                yield path, uri
        case ast.Model(call=call) | ast.Dataset(call=call) if isinstance(call.func, ast.Name):
            for each in call.positional[:1]:
                if isinstance(each, ast.Str):
                    hub = "datasets/" if isinstance(item, ast.Dataset) else ""
                    target = _target(analysis, call.func.text, each.value, hub)
                    if target is not None:
                        yield each, target
        case ast.Let() | ast.Require() | ast.Fn():
            yield from _plans(analysis, item)
        case _:
            return


def _plans(analysis: Analysis, item: ast.Item) -> Iterator[tuple[ast.Str, str]]:
    """Plans that distances are taken from."""
    for node in ast.walk(item):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for each in node.positional[:1]:
                if isinstance(each, ast.Str) and node.func.text == "local":
                    target = _target(analysis, "local", each.value, "")
                    if target is not None:
                        yield each, target


def _target(analysis: Analysis, maker: str, text: str, hub: str) -> str | None:
    if maker == "hf" and text:
        return f"https://huggingface.co/{hub}{quote(text)}"
    folder = os.path.dirname(analysis.source.name)
    path = os.path.join(folder, text)
    if maker in ("local", "gguf") and os.path.isabs(path) and os.path.isfile(path):
        return uri_of(path)
    return None
