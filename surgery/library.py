"""A content-addressed store of measurements on disk: measure once, never again.

In: a key (what exactly was measured, as JSON) and a value (JSON numbers, lists, maps). Out: the
value, in this run and in every later one. An entry is a file named by the SHA-256 of its key's
canonical JSON, written whole or not at all and verified when read; an entry that does not verify
is reported in `damaged` and treated as missing. Refuses keys and values that JSON cannot hold
(NaN and infinities included). Not here: what a key is made of (`scoring/identity.py`) and
measuring.

Why keys and not names: whatever could change a measurement is part of its key, so a stale score
cannot be found, and a renamed `let` or score invalidates nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from surgery import atomic, catalog
from surgery.diagnostics import Diagnostic, Help, Stop

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""What keys and values are made of."""

_FORMAT = 1


def canonical(value: Json) -> str:
    """The one JSON text of a value: sorted keys, no blanks, ASCII, finite numbers.

    Raises `ValueError` for NaN and infinities: they would make equal keys unequal.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Json) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits: the name of an entry, the root of keys."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def entry_file(key: Mapping[str, Json]) -> Path:
    """Where the entry of a key lies below the root."""
    name = digest(key)
    return Path(name[:2]) / f"{name[2:]}.json"


class Library:
    """The store under one folder. Made on the first `put`; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._damaged: dict[str, str] = {}

    @property
    def damaged(self) -> tuple[tuple[str, str], ...]:
        """Entries that did not verify when they were read: (file below the root, its fault)."""
        return tuple(sorted(self._damaged.items()))

    def get(self, key: Mapping[str, Json]) -> Json:
        """The stored value, or `None` when there is none that verifies.

        Raises `Stop` (E0001) when the file is there and cannot be read.
        """
        path = self.root / entry_file(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Stop(_unreadable(path, error)) from error
        entry = _parse(data)
        why = "is not an entry" if entry is None else _fault(entry, key)
        if entry is None or why is not None:
            self._damaged[str(path.relative_to(self.root))] = why or ""
            return None
        return entry.get("value")

    def put(self, key: Mapping[str, Json], value: Json) -> None:
        """Store a value: temporary file, fsync, rename, so that no reader sees half of it.

        Raises `Stop` (E0806) when the folder cannot be written, `ValueError` for NaN.
        """
        path = self.root / entry_file(key)
        entry: Json = {"format": _FORMAT, "key": key, "value": value, "check": _check(key, value)}
        text = canonical(entry) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(path, text.encode("ascii"))
        except OSError as error:
            raise Stop(_unwritable(self.root, error)) from error


def _parse(data: bytes) -> dict[str, Json] | None:
    try:
        entry = cast("object", json.loads(data))
    except (ValueError, RecursionError):  # not UTF-8, not JSON, nested without end
        return None
    return cast("dict[str, Json]", entry) if isinstance(entry, dict) else None


def _fault(entry: Mapping[str, Json], key: Mapping[str, Json]) -> str | None:
    if entry.get("format") != _FORMAT:
        return "has another format"
    if entry.get("key") != json.loads(canonical(key)):
        return "holds another key than its name says"
    if entry.get("check") != _check(key, entry.get("value")):
        return "does not match its own checksum"
    return None


def _check(key: Mapping[str, Json], value: Json) -> str:
    try:
        return digest([key, value])
    except ValueError:  # a value with NaN, which `put` refuses: not ours
        return ""


def _unreadable(path: Path, error: OSError) -> Diagnostic:
    return Diagnostic(
        catalog.E0001,
        f"cannot read a library entry: {error.strerror or error}",
        subject=str(path),
    )


def _unwritable(root: Path, error: OSError) -> Diagnostic:
    return Diagnostic(
        catalog.E0806,
        f"cannot write the library: {error.strerror or error}",
        subject=str(root),
        helps=(Help("choose another folder for the library, or free the disk"),),
    )
