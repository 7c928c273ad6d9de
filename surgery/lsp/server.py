"""The server: which request goes where, when to look again, what to publish.

In: messages of a client on stdin. Out: answers on stdout, the log on stderr. The one file that
knows pygls. Documents are kept by `workspace.py`, not by pygls, because its own lines end at marks
that end no line in the protocol. A handler that raises is a bug: pygls logs it and answers with an
error, and the server goes on.

A change is looked at once no other follows for a moment, and what is published names the version
that it is about: a result of an older version is dropped. Rules, and what needs the parent, are
worked out on another thread, so that requests need not wait; they are published together, or one
after the other where the parent took long the last time, so that findings do not flicker.
"""

from __future__ import annotations

import asyncio
import gc
import time
import typing
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, TypeVar, cast

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.language_server import lsp_method

from surgery.lsp.analysis import Analysis
from surgery.lsp.documents import Document, path_of
from surgery.lsp.positions import Encoding
from surgery.lsp.publish import by_document, findings
from surgery.lsp.workspace import Workspace

PAUSE = 0.002
"""Seconds without another change before a text is looked at."""
PATIENCE = 0.06
"""Seconds that what needs the parent may take to be waited for; else the rest comes first."""

_T = TypeVar("_T")

_ENCODINGS: Mapping[str, Encoding] = {"utf-8": "utf-8", "utf-16": "utf-16", "utf-32": "utf-32"}


class _Features(typing.Protocol):
    @property
    def features(self) -> Mapping[str, Callable[..., object]]: ...


def _own(manager: object, method: str) -> Callable[..., object]:
    """The server's own handler of a notification."""
    return cast("_Features", manager).features[method]


class Protocol(LanguageServerProtocol):
    """pygls' protocol without its own copies of documents."""

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(
        self, params: types.DidOpenTextDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand over to the server's own handler."""
        yield _own(self.fm, types.TEXT_DOCUMENT_DID_OPEN), (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(
        self, params: types.DidChangeTextDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand over to the server's own handler."""
        yield _own(self.fm, types.TEXT_DOCUMENT_DID_CHANGE), (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(
        self, params: types.DidCloseTextDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand over to the server's own handler."""
        yield _own(self.fm, types.TEXT_DOCUMENT_DID_CLOSE), (params,), None


class Session:
    """The state of one session: the workspace, and what waits to be looked at."""

    def __init__(self) -> None:
        self.wire = LanguageServer("surgery", version("surgery"), protocol_cls=Protocol)
        self.specs = Workspace()
        self.snippets = False
        self.pulls = False
        # One at a time: what is asked for last counts, and answers must stay quick.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._quick: set[str] = set()
        self._settled = False
        self._newest: dict[str, Analysis] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._shown: dict[str, dict[str, tuple[types.Diagnostic, ...]]] = {}

    def begin(self, params: types.InitializeParams) -> None:
        """The client has said what it can do."""
        capabilities = params.capabilities
        folders = [folder.uri for folder in params.workspace_folders or ()]
        folders = folders or [uri for uri in (params.root_uri,) if uri]
        roots = tuple(path for uri in folders if (path := path_of(uri)) is not None)
        # One of the enumeration, or a plain word.
        chosen = self.wire.workspace.position_encoding or "utf-16"
        word = chosen.value if isinstance(chosen, types.PositionEncodingKind) else chosen
        self.specs = Workspace(_ENCODINGS.get(word, "utf-16"), roots)
        edits = capabilities.workspace.workspace_edit if capabilities.workspace else None
        self.specs.versioned_edits = bool(edits and edits.document_changes)
        shown = capabilities.workspace.diagnostics if capabilities.workspace else None
        text = capabilities.text_document
        self.pulls = bool(text and text.diagnostic and shown and shown.refresh_support)
        item = text.completion.completion_item if text and text.completion else None
        self.snippets = bool(item and item.snippet_support)

    # ---- documents ---------------------------------------------------------------------------

    def put(self, document: Document) -> None:
        """A document is open, or has another version."""
        affected = self.specs.importers(document.uri)
        self.specs.put(document)
        for uri in (document.uri, *affected):
            self.look_soon(uri)

    def drop(self, uri: str) -> None:
        """A document was closed: nothing is shown of it any more."""
        affected = self.specs.importers(uri)
        self.specs.drop(uri)
        self._newest.pop(uri, None)
        self._quick.discard(uri)
        task = self._waiting.pop(uri, None)
        if task is not None:
            task.cancel()
        self._show(uri, {})
        for other in affected:
            self.look_soon(other)

    def look_again(self) -> None:
        """Files on disk have changed: what is open may mean something else."""
        self.specs.reread()
        for uri in sorted(self.specs.documents):
            self.look_soon(uri)

    def look_soon(self, uri: str) -> None:
        """Look at a document once no other change follows."""
        waiting = self._waiting.pop(uri, None)
        if waiting is not None:
            waiting.cancel()
        task = asyncio.get_running_loop().create_task(self._look(uri))
        self._waiting[uri] = task
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """Errors of tasks are errors of the server: they go to the loop's handler, and the log."""
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "a document could not be looked at"
            task.get_loop().call_exception_handler({"message": message, "exception": error})

    async def _look(self, uri: str) -> None:
        await asyncio.sleep(PAUSE)
        analysis = self.specs.analysis(uri)
        if analysis is None or uri not in self.specs.documents:
            return
        self._newest[uri] = analysis
        if uri not in self._quick:
            await self._aside(analysis, lambda: analysis.findings)
            self._publish(analysis)
        began = time.monotonic()
        known = await self._aside(analysis, lambda: self.specs.parents.learn(analysis))
        quick = known is not None and time.monotonic() - began < PATIENCE
        if known is None and uri in self._quick:
            await self._aside(analysis, lambda: analysis.findings)
        (self._quick.add if quick else self._quick.discard)(uri)
        if known is not None and self._current(analysis):
            self.specs.parents.keep(known)
            self._refresh()
        self._publish(analysis)
        self._settle()

    def _settle(self) -> None:
        """Spare the collector what never goes away: looking at it took a tenth of a keystroke."""
        if not self._settled:
            self._settled = True
            gc.collect()
            gc.freeze()

    async def _aside(self, analysis: Analysis, work: Callable[[], _T]) -> _T | None:
        """Work on the other thread, unless there is a newer version by the time it begins."""

        def wanted() -> _T | None:
            newest = self._newest.get(analysis.document.uri) is analysis
            return work() if newest else None

        return await asyncio.get_running_loop().run_in_executor(self._thread, wanted)

    def _current(self, analysis: Analysis) -> bool:
        """Whether nothing has changed since an analysis was made."""
        uri = analysis.document.uri
        return uri in self.specs.documents and self.specs.analysis(uri) is analysis

    # ---- diagnostics -------------------------------------------------------------------------

    def _publish(self, analysis: Analysis) -> None:
        if self._current(analysis):
            found = findings(self.specs, analysis)
            self._show(analysis.document.uri, by_document(self.specs, analysis, found))

    def _show(self, home: str, found: Mapping[str, tuple[types.Diagnostic, ...]]) -> None:
        """Publish what one document says of itself and of others, where that is news."""
        before = self._shown.pop(home, {})
        if found:
            self._shown[home] = dict(found)
        for uri in sorted({*before, *found}):
            if uri != home and before.get(uri, ()) == found.get(uri, ()):
                continue
            self._send(uri)

    def _send(self, uri: str) -> None:
        document = self.specs.documents.get(uri)
        if self.pulls and document is not None:
            return
        shown: list[types.Diagnostic] = []
        for home in sorted(self._shown):
            shown += [each for each in self._shown[home].get(uri, ()) if each not in shown]
        self.wire.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(
                uri, shown, version=document.version if document is not None else None
            )
        )

    def pulled(self, uri: str) -> types.RelatedFullDocumentDiagnosticReport:
        """What a client that asks for diagnostics gets: all that is known of the newest version."""
        analysis = self.specs.analysis(uri)
        if analysis is None:
            return types.RelatedFullDocumentDiagnosticReport(items=[])
        found = by_document(self.specs, analysis, findings(self.specs, analysis))
        return types.RelatedFullDocumentDiagnosticReport(items=list(found[analysis.document.uri]))

    def _refresh(self) -> None:
        """What was learnt of the parent shows in hints: ask the client to ask again."""
        workspace = self.wire.client_capabilities.workspace
        hints = workspace.inlay_hint if workspace is not None else None
        if hints is not None and hints.refresh_support:
            self.wire.workspace_inlay_hint_refresh(None)
        if self.pulls:
            self.wire.workspace_diagnostic_refresh(None)
