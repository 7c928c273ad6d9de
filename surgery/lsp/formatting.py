"""Formatting of a document, or of some of its lines.

In: an analysis. Out: the lines that change, as edits. A text that does not parse is left alone.
The layout is that of `surgery fmt`.
"""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types

from surgery.diagnostics import Sink
from surgery.formatting import Replacement, format_range, format_text, minimal_edits
from surgery.lsp.analysis import Analysis
from surgery.lsp.edits import of_replacements, text_edit
from surgery.lsp.workspace import Workspace


def document(workspace: Workspace, uri: str) -> list[types.TextEdit] | None:
    """The answer to `textDocument/formatting`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    text = format_text(analysis.source, Sink())
    if text is None:
        return None
    return _edits(workspace, analysis, minimal_edits(analysis.source.text, text))


def lines(workspace: Workspace, uri: str, range: types.Range) -> list[types.TextEdit] | None:
    """The answer to `textDocument/rangeFormatting`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    start, end = analysis.document.places.offsets(range)
    found = format_range(analysis.source, start, end, Sink())
    return None if found is None else _edits(workspace, analysis, found)


def _edits(
    workspace: Workspace, analysis: Analysis, found: Sequence[Replacement]
) -> list[types.TextEdit]:
    changes = of_replacements(analysis.source, found)
    return [text_edit(workspace, change) for change in changes]
