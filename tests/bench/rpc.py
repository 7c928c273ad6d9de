"""A client of `surgery lsp`, as bare as can be: JSON-RPC over the pipes of a real process.

In: a folder and texts. Out: answers, and the diagnostics of the version that was sent last. What
the server takes is measured with nothing in between that takes time itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

_Message = dict[str, Any]


class Client:
    """One session; a context manager, so that no server is left behind."""

    def __init__(self, root: Path, folder: Path) -> None:
        command = [sys.executable, "-m", "surgery", "lsp"]
        self._server = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
        )
        self._number = 0
        self._version = 0
        can: _Message = {}
        params = {"processId": None, "rootUri": folder.as_uri(), "capabilities": can}
        self._ask("initialize", params)
        self._tell("initialized", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ask("shutdown", None)
        self._tell("exit", None)
        self._server.wait(10)

    def open(self, uri: str, text: str) -> list[_Message]:
        """Open a document; its diagnostics."""
        document = {"uri": uri, "languageId": "surg", "version": 0, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return self._published(uri, 0)

    def insert(self, uri: str, line: int, column: int, text: str) -> list[_Message]:
        """Type; the diagnostics of the text as it is then."""
        self._version += 1
        place = {"line": line, "character": column}
        change = {"range": {"start": place, "end": place}, "text": text}
        document = {"uri": uri, "version": self._version}
        params = {"textDocument": document, "contentChanges": [change]}
        self._tell("textDocument/didChange", params)
        return self._published(uri, self._version)

    def complete(self, uri: str, line: int, column: int) -> object:
        """What could be written at a place."""
        place = {"line": line, "character": column}
        return self._ask(
            "textDocument/completion", {"textDocument": {"uri": uri}, "position": place}
        )

    # ---- the wire ----------------------------------------------------------------------------

    def _published(self, uri: str, version: int) -> list[_Message]:
        while True:
            message = self._read()
            if message.get("method") == "textDocument/publishDiagnostics":
                params = cast("_Message", message["params"])
                if params["uri"] == uri and params.get("version") == version:
                    return cast("list[_Message]", params["diagnostics"])

    def _ask(self, method: str, params: object) -> object:
        self._number += 1
        self._write({"id": self._number, "method": method, "params": params})
        while True:
            message = self._read()
            if message.get("id") == self._number and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def _tell(self, method: str, params: object) -> None:
        self._write({"method": method, "params": params})

    def _write(self, message: _Message) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self._server.stdin.flush()

    def _read(self) -> _Message:
        assert self._server.stdout is not None
        length = 0
        while (line := self._server.stdout.readline().strip()) or not length:
            assert line or self._server.poll() is None, "the server is gone"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return cast("_Message", json.loads(self._server.stdout.read(length)))
