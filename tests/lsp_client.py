"""A real client of the language server: pygls' own, over stdio, in step with the test."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from surgery.lsp.documents import uri_of

_T = TypeVar("_T")
_START = "start_io"
PATIENCE = 20.0
"""Seconds after which a test stops waiting; nothing takes a tenth of it."""


def capabilities(
    *encodings: types.PositionEncodingKind, pulls: bool = False
) -> types.ClientCapabilities:
    """What a usual editor can do; `pulls`: one that asks for diagnostics."""
    asks = types.DiagnosticClientCapabilities() if pulls else None
    refreshed = types.DiagnosticWorkspaceClientCapabilities(refresh_support=pulls)
    return types.ClientCapabilities(
        workspace=types.WorkspaceClientCapabilities(diagnostics=refreshed),
        general=types.GeneralClientCapabilities(position_encodings=list(encodings) or None),
        text_document=types.TextDocumentClientCapabilities(
            diagnostic=asks,
            completion=types.CompletionClientCapabilities(
                completion_item=types.ClientCompletionItemOptions(snippet_support=True)
            ),
        ),
    )


class _Client(LanguageClient):
    """Keeps what the server wrote to stderr."""

    stderr = ""

    async def server_exit(self, server: asyncio.subprocess.Process) -> None:
        if server.stderr is not None:
            self.stderr = (await server.stderr.read()).decode("utf-8", "replace")


class Editor:
    """One server process and what it has published."""

    def __init__(
        self, folder: Path, *encodings: types.PositionEncodingKind, pulls: bool = False
    ) -> None:
        self.folder = folder
        self.published: dict[str, types.PublishDiagnosticsParams] = {}
        self.log: list[str] = []
        self.refreshes = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client = _Client("test", "1")
        self._register()
        self._do(self._start())
        asked = types.InitializeParams(
            capabilities=capabilities(*encodings, pulls=pulls),
            workspace_folders=[types.WorkspaceFolder(self.root, "test")],
        )
        self.server = self._do(self.client.initialize_async(asked))
        self.client.initialized(types.InitializedParams())

    def _register(self) -> None:
        def published(params: types.PublishDiagnosticsParams) -> None:
            with self._changed:
                self.published[params.uri] = params
                self._changed.notify_all()

        def message(params: types.ShowMessageParams) -> None:
            self.log.append(params.message)

        def refresh(_: None) -> None:
            with self._changed:
                self.refreshes += 1
                self._changed.notify_all()

        listen = cast("Callable[[str], Callable[[object], object]]", self.client.feature)
        listen(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(published)
        listen(types.WINDOW_SHOW_MESSAGE)(message)
        listen(types.WORKSPACE_DIAGNOSTIC_REFRESH)(refresh)

    async def _start(self) -> None:
        environment = {**os.environ, "PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "surgery", "lsp"]
        start = cast("Callable[..., Coroutine[Any, Any, None]]", getattr(self.client, _START))
        await start(*command, env=environment, cwd=self.folder)

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def ask(self, request: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Send a request and wait for its answer."""
        return self._do(request())

    def tell(self, send: Callable[[], None]) -> None:
        """Send a notification."""

        async def work() -> None:
            send()

        self._do(work())

    @property
    def root(self) -> str:
        return str(uri_of(str(self.folder)))

    # ---- documents -----------------------------------------------------------------------

    def uri(self, name: str) -> str:
        return str(uri_of(str(self.folder / name)))

    def open(self, name: str, text: str, version: int = 1, uri: str | None = None) -> str:
        """Open a document under a new text; returns its URI."""
        uri = uri or self.uri(name)
        item = types.TextDocumentItem(uri, "surg", version, text)
        self.tell(lambda: self.client.text_document_did_open(types.DidOpenTextDocumentParams(item)))
        return uri

    def change(
        self, uri: str, version: int, *changes: types.TextDocumentContentChangeEvent
    ) -> None:
        document = types.VersionedTextDocumentIdentifier(version, uri)
        params = types.DidChangeTextDocumentParams(document, list(changes))
        self.tell(lambda: self.client.text_document_did_change(params))

    def rewrite(self, uri: str, version: int, text: str) -> None:
        self.change(uri, version, types.TextDocumentContentChangeWholeDocument(text))

    def close(self, uri: str) -> None:
        params = types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri))
        self.tell(lambda: self.client.text_document_did_close(params))

    def diagnostics(
        self,
        uri: str,
        version: int | None = 1,
        until: Callable[[list[types.Diagnostic]], bool] = lambda found: True,
    ) -> list[types.Diagnostic]:
        """The findings of a version, once published and as awaited."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                found = self.published.get(uri)
                if found is not None and found.version == version and until([*found.diagnostics]):
                    return [*found.diagnostics]
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"version {version} of {uri}: {found}")

    def refreshed(self) -> None:
        """Wait until the server has asked to be asked again."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.refreshes > 0, PATIENCE)

    # ---- the end -------------------------------------------------------------------------

    def stop(self) -> str:
        """Shut the server down; returns what it wrote to stderr."""

        async def work() -> str:
            await self.client.shutdown_async(None)
            self.client.exit(None)
            while not self.client.stopped:
                await asyncio.sleep(0.01)
            await self.client.stop()
            return self.client.stderr

        text = self._do(work())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        return text
