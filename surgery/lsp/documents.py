"""Open documents: their text as the client has it, and how URIs and paths belong together.

In: URIs, and changes in the client's units. Out: `Document`s, one for every version. Refuses
nothing: a URI that is no file (`untitled:`) names a document without a path, and a change of an
unknown document is the caller's to ignore.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files

from lsprotocol import types
from msgspec import Struct
from pygls import uris

from surgery.lsp.positions import Encoding, Places


class Document(Struct, frozen=True, dict=True):
    """One version of a text that the client has open, or that was read from disk."""

    uri: str
    version: int | None
    text: str
    encoding: Encoding = "utf-16"

    @cached_property
    def places(self) -> Places:
        """Places in this version."""
        return Places(self.text, self.encoding)

    def changed(
        self, version: int, changes: Sequence[types.TextDocumentContentChangeEvent]
    ) -> Document:
        """The next version. Changes apply one after the other, each to what the last one made."""
        text = self.text
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                start, end = Places(text, self.encoding).offsets(change.range)
                text = text[:start] + change.text + text[end:]
            else:
                text = change.text
        return Document(self.uri, version, text, self.encoding)


STANDARD = str(files("surgery").joinpath("std"))
"""The folder of the standard files."""


def path_of(uri: str) -> str | None:
    """The path of a `file:` URI, or `None`."""
    try:
        path = uris.to_fs_path(uri)
    except ValueError:
        # Not even a URI: an unclosed bracket in the host, for example.
        return None
    if not path or "\0" in path:
        return None
    return os.path.normpath(path)


def name_of(uri: str) -> str:
    """The name under which the passes know a document: its path, `std/...`, or the URI itself."""
    path = path_of(uri)
    if path is None:
        return uri
    if os.path.dirname(path) == STANDARD:
        return f"std/{os.path.basename(path)}"
    return path


def uri_of(name: str) -> str | None:
    """The URI of a source that is a file, by its name; `None` for what is none."""
    if name.startswith("std/"):
        return uris.from_fs_path(os.path.join(STANDARD, name.removeprefix("std/")))
    if os.path.isabs(name):
        return uris.from_fs_path(os.path.normpath(name))
    return None
