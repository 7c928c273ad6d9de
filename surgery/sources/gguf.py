"""`gguf("file.gguf")`: a GGUF file, imported once into a cached safetensors checkpoint.

In: a declaration, the folder of its spec, a cache. Out: `CACHE/imports/SHA256-vN`, a directory
with the dequantised BF16 weights, `config.json`, generation config and tokenizer. Keyed by the
content of the file, so a copy elsewhere is not imported again. Refuses files that are missing
(E0005), not what the spec pins (E0412), or no GGUF that can be imported (E0004, E0401).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import ModelDecl
from surgery.sources.fetched import REPIN, Fetched, build_once, relative_name, unfetchable
from surgery.untrusted import open_regular, shown, unreadable

VERSION = 1
"""Raised when the import changes, so that old results are not used."""


def fetch(decl: ModelDecl, folder: Path, cache: Path) -> Fetched:
    """The imported checkpoint of the file `decl.location`, which may be relative to `folder`."""
    path = folder / os.path.expanduser(decl.location)
    if not os.path.exists(path):
        help = "paths are relative to the folder of the spec"
        raise unfetchable(f"there is no file `{shown(decl.location)}` here", help=help)
    digest = file_sha256(path)
    check_pin(decl, digest)
    name = relative_name(folder, decl.location)
    return Fetched(imported(path, digest, cache), f"gguf:{name}")


def known(decl: ModelDecl, folder: Path, cache: Path) -> Fetched | None:
    """The import of a file (or member of a wheel) that is pinned, where the cache has it."""
    if decl.sha256 is None or not os.path.isdir(import_folder(decl.sha256, cache)):
        return None
    wheel = decl.kind == "wheel"
    name = decl.location if wheel else relative_name(folder, decl.location)
    return Fetched(import_folder(decl.sha256, cache), f"{decl.kind}:{name}")


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of the regular file `path`; raises `Stop` (E0001, E0004)."""
    # A link is fine here: the user names the file, no foreign data does.
    real = path.resolve()
    with open(open_regular(real, path.name), "rb") as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(path, error) from error


def check_pin(decl: ModelDecl, digest: str) -> None:
    """Raise E0412 where the declaration pins another content than `digest`."""
    if decl.sha256 not in (None, digest):
        message = f"the GGUF file of `{decl.name}` is not the one that the spec pins"
        notes = (f"pinned: {decl.sha256}", f"here:   {digest}")
        raise Stop(Diagnostic(catalog.E0412, message, notes=notes, helps=(Help(REPIN),)))


def import_folder(digest: str, cache: Path) -> Path:
    """Where the import of the file with this SHA-256 is, or will be."""
    return cache / "imports" / f"{digest}-v{VERSION}"


def imported(path: Path, digest: str, cache: Path) -> Path:
    """Import the GGUF file `path` unless the cache has it; the directory of the checkpoint."""
    folder = import_folder(digest, cache)
    if os.path.isdir(folder):
        return folder
    try:
        with build_once(folder) as scratch:
            if scratch is not None:
                from surgery.sources.gguf_convert import convert

                convert(path.resolve(), scratch)
    except ImportError as error:
        note = f"{error.name or 'a package'} is missing"
        help = "install the extra: pip install 'surgery[torch]'"
        raise unfetchable("a GGUF file needs torch to import", note, help=help) from error
    except OSError as error:
        note = f"{error.strerror or error}".lower()
        help = "set `XDG_CACHE_HOME` to a directory with room for the model"
        raise unfetchable(f"cannot import `{path.name}`", note, help=help) from error
    return folder
