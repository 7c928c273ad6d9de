"""Completion items: what is offered, in which order, and what it inserts.

In: labels with their kind, detail and documentation. Out: items of the protocol that replace the
word being typed. Snippets become plain text for a client that has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lsprotocol import types

from surgery.lsp.context import Spot

_STOP = re.compile(r"\$\{\d+:([^}]*)\}|\$\d+")

KIND = types.CompletionItemKind


class Items:
    """Collects items for one place; the first of a label counts."""

    def __init__(self, uri: str, at: Spot, place: types.Range, snippets: bool) -> None:
        self.uri = uri
        self.at = at
        self.place = place
        self._snippets = snippets
        self._found: dict[str, types.CompletionItem] = {}

    def add(
        self,
        label: str,
        kind: types.CompletionItemKind,
        detail: str = "",
        doc: str = "",
        insert: str | None = None,
        rank: int = 5,
        place: types.Range | None = None,
        data: Mapping[str, str] | None = None,
    ) -> None:
        """Offer something; a smaller `rank` comes first, then the order of adding."""
        if label in self._found:
            return
        text = label if insert is None else insert
        snippet = self._snippets and insert is not None and "$" in insert
        if not snippet:
            text = _STOP.sub(lambda match: match[1] or "", text)
        markup = types.MarkupContent(types.MarkupKind.Markdown, doc) if doc else None
        self._found[label] = types.CompletionItem(
            label=label,
            kind=kind,
            detail=detail or None,
            documentation=markup,
            sort_text=f"{rank}{len(self._found):04}",
            filter_text=label,
            insert_text_format=(
                types.InsertTextFormat.Snippet if snippet else types.InsertTextFormat.PlainText
            ),
            data=dict(data) if data is not None else None,
            text_edit=types.TextEdit(place or self.place, text),
        )

    @property
    def found(self) -> list[types.CompletionItem]:
        """Everything that was offered."""
        return list(self._found.values())
