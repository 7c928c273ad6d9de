"""Files that a string can name.

In: an analysis, what the string is for, and what has been typed. Out: paths relative to the
folder of the spec. Reads folders, at most one below the typed one; refuses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from surgery.lsp.analysis import Analysis
from surgery.lsp.documents import STANDARD

_ENDINGS = {
    "import": (".surg",),
    "gguf": (".gguf",),
    "local": (".jsonl", ".txt"),
}
_MOST = 200


def offered(analysis: Analysis, what: str, keyword: str, typed: str) -> Iterator[tuple[str, str]]:
    """Paths with a word about each: standard files, then files beside the spec."""
    if what == "import":
        names = sorted(name for name in os.listdir(STANDARD) if name.endswith(".surg"))
        yield from ((f"std/{name}", "standard file") for name in names)
    home = os.path.dirname(analysis.source.name)
    if what in _ENDINGS and os.path.isabs(home) and not typed.startswith(("/", "std/")):
        folder = typed.rpartition("/")[0]
        for entry in _entries(os.path.join(home, folder)):
            path = f"{folder}/{entry.name}" if folder else entry.name
            detail = _detail(entry, what, keyword)
            if detail and entry.path != analysis.source.name:
                yield (f"{path}/" if detail == "folder" else path), detail


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)[:_MOST]
    except (OSError, ValueError):
        return []


def _detail(entry: os.DirEntry[str], what: str, keyword: str) -> str:
    """What a path is, or nothing when it cannot be meant."""
    if entry.name.startswith("."):
        return ""
    if entry.is_dir():
        model = keyword == "model" and os.path.exists(os.path.join(entry.path, "config.json"))
        return "model" if model else "folder"
    data = what == "local" and keyword == "model"
    return "file" if entry.name.endswith(_ENDINGS[what]) and not data else ""
