"""Changes of text as the protocol has them.

In: replacements in sources. Out: a `WorkspaceEdit` that names the version it was made for, where
the client can check that. Replacements of what is in no document are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from lsprotocol import types
from msgspec import Struct

from surgery.diagnostics import Edit
from surgery.formatting.changes import Replacement
from surgery.lsp.workspace import Workspace
from surgery.source import Source

_Edit: TypeAlias = types.TextEdit | types.AnnotatedTextEdit | types.SnippetTextEdit
_Change: TypeAlias = types.TextDocumentEdit | types.CreateFile | types.RenameFile | types.DeleteFile


class Change(Struct, frozen=True):
    """Characters [start, end) of a source become `text`."""

    source: Source
    start: int
    end: int
    text: str


def of_fix(edits: Iterable[Edit]) -> tuple[Change, ...]:
    """The edits of a fix."""
    return tuple(Change(e.span.source, e.span.start, e.span.end, e.text) for e in edits)


def of_replacements(source: Source, found: Iterable[Replacement]) -> tuple[Change, ...]:
    """What a formatter wants changed."""
    return tuple(Change(source, each.start, each.end, each.text) for each in found)


def text_edit(workspace: Workspace, change: Change) -> types.TextEdit:
    """One replacement."""
    place = workspace.places(change.source).range(change.start, change.end)
    return types.TextEdit(place, change.text)


def workspace_edit(workspace: Workspace, changes: Iterable[Change]) -> types.WorkspaceEdit | None:
    """All replacements by document; `None` when there is nothing to change."""
    by_uri: dict[str, list[types.TextEdit]] = {}
    for change in changes:
        uri = workspace.uri(change.source)
        if uri is not None:
            by_uri.setdefault(uri, []).append(text_edit(workspace, change))
    if not by_uri:
        return None
    if not workspace.versioned_edits:
        return types.WorkspaceEdit(changes=by_uri)
    edits: list[_Change] = []
    for uri, found in by_uri.items():
        document = workspace.documents.get(uri)
        version = document.version if document is not None else None
        named = types.OptionalVersionedTextDocumentIdentifier(uri=uri, version=version)
        inside: list[_Edit] = [*found]
        edits.append(types.TextDocumentEdit(named, inside))
    return types.WorkspaceEdit(document_changes=edits)
