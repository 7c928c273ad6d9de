"""Everything that is open, and what is known of it.

In: documents as they open, change and close. Out: the analysis of any URI (open or on disk), and
places of spans in the units of the client. One analysis is made of each version, when somebody
first asks. Refuses nothing: a URI that cannot be read has no analysis.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from lsprotocol import types

from surgery.checking.modules import Module, load
from surgery.diagnostics import Sink
from surgery.grammar.parse import parse, read_source
from surgery.lsp.analysis import Analysis, analyse
from surgery.lsp.documents import Document, name_of, path_of, uri_of
from surgery.lsp.occurrences import Occurrence, occurrences
from surgery.lsp.parents import Known, Parents
from surgery.lsp.positions import Encoding, Places
from surgery.source import Source, Span

_MOST_FILES = 400
"""How many specs of the client's folders a search for references reads."""


class Workspace:
    """Open documents by URI, analyses, and what has been learnt of parents."""

    def __init__(self, encoding: Encoding = "utf-16", roots: tuple[str, ...] = ()) -> None:
        self.encoding: Encoding = encoding
        self.roots = roots
        self.versioned_edits = False
        self.documents: dict[str, Document] = {}
        self.parents = Parents(roots)
        self._analyses: dict[str, Analysis] = {}
        self._places: dict[Source, Places] = {}

    # ---- documents ---------------------------------------------------------------------------

    def put(self, document: Document) -> None:
        """A document was opened, or has another version."""
        self.documents[document.uri] = document
        self.forget()

    def drop(self, uri: str) -> None:
        """A document was closed."""
        self.documents.pop(uri, None)
        self._analyses.pop(uri, None)
        self.parents.drop(uri)
        self.forget()

    def forget(self) -> None:
        """Analyses of documents that import something else now are no longer true."""
        self._places.clear()
        texts = self.texts()
        for uri, analysis in list(self._analyses.items()):
            changed = any(texts.get(n) != analysis.texts.get(n) for n in analysis.imported)
            if uri not in self.documents or changed:
                del self._analyses[uri]

    def reread(self) -> None:
        """Files on disk have changed."""
        self._places.clear()
        self._analyses.clear()

    def texts(self) -> dict[str, str]:
        """Open documents that are files, by path."""
        found = ((path_of(uri), document.text) for uri, document in self.documents.items())
        return {path: text for path, text in found if path is not None}

    # ---- analyses ----------------------------------------------------------------------------

    def analysis(self, uri: str) -> Analysis | None:
        """What is known of a document, open or on disk."""
        document = self.documents.get(uri) or self._on_disk(uri)
        if document is None:
            return None
        known = self._analyses.get(uri)
        if known is not None and known.document == document:
            return known
        found = analyse(document, self.texts())
        self._analyses[uri] = found
        return found

    def _on_disk(self, uri: str) -> Document | None:
        path = path_of(uri)
        if path is None:
            return None
        source = read_source(path, Sink())
        return None if source is None else Document(uri, None, source.text, self.encoding)

    def importers(self, uri: str) -> tuple[str, ...]:
        """Open documents that import this one."""
        name = name_of(uri)
        return tuple(
            sorted(
                key
                for key, analysis in self._analyses.items()
                if key != uri and key in self.documents and name in analysis.imported
            )
        )

    def module(self, uri: str, mentioned: str = "") -> Module | None:
        """A file with what it imports, where its text has a word; others are not looked at."""
        document = self.documents.get(uri) or self._on_disk(uri)
        if document is None or mentioned not in document.text:
            return None
        known = self._analyses.get(uri)
        if known is not None and known.document == document:
            return known.module
        return load(parse(Source(name_of(uri), document.text), Sink()), Sink(), self.texts())

    def occurrences(self, source: Source) -> tuple[Occurrence, ...]:
        """Where names stand in a file, as it is open or on disk."""
        return occurrences(load(parse(source, Sink()), Sink(), self.texts()))

    def known(self, analysis: Analysis) -> Known | None:
        """What has been learnt of the parent of this very version."""
        return self.parents.known(analysis)

    def all_uris(self) -> tuple[str, ...]:
        """Open documents, then other specs in the client's folders."""
        uris = dict.fromkeys(sorted(self.documents))
        for path in _specs(self.roots):
            if (uri := uri_of(path)) is not None:
                uris.setdefault(uri)
        return tuple(uris)

    # ---- places ------------------------------------------------------------------------------

    def places(self, source: Source) -> Places:
        """Places in a text, in the units of the client."""
        if source not in self._places:
            self._places[source] = Places(source.text, self.encoding)
        return self._places[source]

    def uri(self, source: Source) -> str | None:
        """The URI of a source: that of an open document of this name, else that of its file."""
        for uri in self.documents:
            if name_of(uri) == source.name:
                return uri
        return uri_of(source.name)

    def range(self, span: Span) -> types.Range:
        """A span in the units of the client."""
        return self.places(span.source).range(span.start, span.end)

    def location(self, span: Span) -> types.Location | None:
        """A span with its document; `None` for what is in no document."""
        uri = self.uri(span.source)
        return None if uri is None else types.Location(uri, self.range(span))


def _specs(roots: tuple[str, ...]) -> Iterator[str]:
    """Specs below some folders, hidden folders apart, at most `_MOST_FILES`."""
    count = 0
    for root in roots:
        for folder, inner, names in os.walk(root):
            inner[:] = sorted(name for name in inner if not name.startswith((".", "node_modules")))
            for name in sorted(names):
                if name.endswith(".surg"):
                    yield os.path.join(folder, name)
                    count += 1
                    if count >= _MOST_FILES:
                        return
